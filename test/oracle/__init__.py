"""The oracle: a client outside that believes nothing and remembers everything it saw.

It shares no code with the product and asks it nothing. It talks to the service guest
(test/guest/service_protocol.h) or to a redis, listens on both taps, and fails as soon as what it saw
contradicts promises P1 to P3 (DESIGN §1). Judges that know no sockets:

- `judges`: counters (an acknowledged increment is neither lost, nor undone, nor done twice), and
  utterances (a guest that went on from an older state than the one that spoke repeats itself)
- `linear`: a history of registers has an order that explains every answer
- `journal`: records on the guest's disk, chained, durable when acknowledged; read back from the guest
  after every failover and from the image in the end
- `speech`: of the two hosts one speaks at a time

`driver` is the process that puts the questions; `handle.Oracle` is what tests hold of it.
"""

from .handle import Oracle
from .judges import Violation

__all__ = ["Oracle", "Violation"]
