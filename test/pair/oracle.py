"""The oracle: a client outside that believes nothing and remembers everything it saw.

It talks to the echo guest (test/guest/echo_protocol.h) and fails as soon as the guest contradicts
itself, which is what promises P1 and P3 look like from outside (DESIGN §1):

- no counter is ever seen twice, and none that is smaller than one seen before: a guest that went on
  from an older state than the one that spoke would count again from there
- `handled` never goes back: a request whose answer was seen stays handled
- the guest's clock never goes back, no page of its memory is of another moment

Datagrams may be lost, as on any network; so requests are sent again and again.
"""

import select
import socket
import struct
import threading
import time

from support import GUEST_IP, Failure, check, inside, wait_until

ECHO_PORT = 7
MAGIC = 0x4F48434543484F21
MAGIC_SAY = 0x2159415321594153
MAGIC_OFF = 0x2146464F2146464F
REQUEST = struct.Struct("<2Q")
REPLY = struct.Struct("<6Q")
RESEND = 0.01  # seconds without an answer


class Oracle:
    """Asks without pause on a thread of its own from start() to close()."""

    def __init__(self, world):
        with inside(world.network.names["c"]):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("10.88.0.1", 0))
        self.socket.setblocking(False)
        self.lock = threading.Lock()
        self.stopping = False
        self.paused = False
        self.sequence = 0
        self.replies = 0
        self.last_reply = time.monotonic()
        self.longest_silence = 0.0  # seconds between two answers
        self.counter = -1
        self.handled = -1
        self.time_ns = 0
        self.broken = None  # the first contradiction
        self.thread = threading.Thread(target=self._run, daemon=True)
        world.clients.append(self)

    def start(self):
        self.thread.start()
        return self

    def close(self):
        self.stopping = True
        if self.thread.is_alive():
            self.thread.join()
        self.socket.close()

    def verify(self):
        if self.broken:
            raise Failure(f"seen from outside: {self.broken}")

    def wait_answers(self, count=1, limit=20.0):
        """Until so many more have come; returns when the first did (monotonic)."""
        with self.lock:
            target = self.replies + count
        wait_until(lambda: self.broken or self.replies >= target,
                   f"{count} more answers of the guest", limit)
        self.verify()

    def silent_since(self, moment):
        self.verify()
        return self.last_reply < moment

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    def _order(self, magic, number):
        self.socket.sendto(REQUEST.pack(magic, number), (GUEST_IP, ECHO_PORT))

    def say(self, number):
        """The guest puts "say NUMBER" on its console."""
        self._order(MAGIC_SAY, number)

    def switch_off(self):
        self._order(MAGIC_OFF, 0)

    def _ask(self):
        self.sequence += 1
        try:
            self.socket.sendto(REQUEST.pack(MAGIC, self.sequence), (GUEST_IP, ECHO_PORT))
        except OSError:
            pass  # unreachable for a moment: the neighbour is being looked for

    def _run(self):
        while not self.stopping and not self.broken:
            if not self.paused:
                self._ask()
            # An answer to any earlier request counts too; only ours ends the wait.
            deadline = time.monotonic() + RESEND
            while not self.stopping and (left := deadline - time.monotonic()) > 0:
                if select.select([self.socket], [], [], left)[0] and self._hear():
                    break

    def _hear(self):
        """True when the newest request was answered."""
        try:
            data, sender = self.socket.recvfrom(2048)
        except OSError:
            return False
        try:
            check(sender == (GUEST_IP, ECHO_PORT), f"an answer from {sender}")
            check(len(data) >= REPLY.size, f"an answer of {len(data)} bytes")
            return self._judge(*REPLY.unpack_from(data)) == self.sequence
        except Failure as failure:
            self.broken = str(failure)
            return True

    def _judge(self, magic, sequence, counter, handled, time_ns, corrupt):
        check(magic == MAGIC, f"magic {magic:#x}")
        check(corrupt == 0, "a page of the guest is of another moment")
        check(sequence > 0, "an answer to request 0, never sent")
        check(counter > self.counter, f"counter {counter} after {self.counter}")
        check(handled > self.handled, f"{handled} handled after {self.handled}")
        check(time_ns >= self.time_ns, f"guest time {time_ns} after {self.time_ns}")
        with self.lock:
            self.counter, self.handled, self.time_ns = counter, handled, time_ns
            self.replies += 1
            now = time.monotonic()
            self.longest_silence = max(self.longest_silence, now - self.last_reply)
            self.last_reply = now
        return sequence
