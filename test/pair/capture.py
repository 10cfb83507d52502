"""What the guests say, at the place where it leaves: a packet socket on the tap of either host.

The kernel stamps every frame when the daemon writes it, on one clock for both, so what matters can
be read off: who spoke, and in which order. The frames that go to the guest are not of interest.
"""

import itertools
import select
import socket
import struct
import threading
import time

from support import check, inside

ETH_P_ALL = 3
PACKET_OUTGOING = 4  # from the network to the guest
SOL_PACKET = 263
PACKET_STATISTICS = 6
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
BUFFER = 16 << 20


class Capture:
    """Listens on a thread of its own from the beginning to close()."""

    def __init__(self, world):
        self.sockets = {self._listen(world, side): side for side in "ab"}
        self.lock = threading.Lock()
        self.frames = []  # (ns since 1970, side, its first bytes)
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        world.clients.append(self)

    @staticmethod
    def _listen(world, side):
        with inside(world.network.names[side]):
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        listener.bind(("tap0", ETH_P_ALL))
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        listener.setblocking(False)
        return listener

    def close(self):
        self.stopping = True
        self.thread.join()
        for listener in self.sockets:
            listener.close()

    def _run(self):
        while not self.stopping:
            select.select(list(self.sockets), [], [], 0.05)
            self._drain()

    def _drain(self):
        """Everything that left before the call is in `frames` after it."""
        with self.lock:
            for listener, side in self.sockets.items():
                while self._take(listener, side):
                    pass

    def _take(self, listener, side):
        try:
            data, extra, _, sender = listener.recvmsg(64, socket.CMSG_SPACE(16))
        except BlockingIOError:
            return False
        if sender[2] != PACKET_OUTGOING:
            seconds, nanoseconds = struct.unpack("qq", extra[0][2])
            self.frames.append((seconds * 10**9 + nanoseconds, side, data))
        return True

    def mark(self):
        """This moment, for said_since()."""
        return time.time_ns()

    def said_since(self, mark):
        """(time, side, first bytes) of every frame since then, in the order in which they left."""
        self._drain()
        for listener in self.sockets:
            _, lost = struct.unpack("II", listener.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            check(lost == 0, f"the capture itself lost {lost} frames")
        with self.lock:
            return sorted(frame for frame in self.frames if frame[0] >= mark)

    def speakers(self, mark):
        """The sides that spoke since then, in turn: "aba" says that a interrupted b."""
        sides = [side for _, side, _ in self.said_since(mark)]
        return "".join(side for side, _ in itertools.groupby(sides))

    def describe(self, mark):
        """The last frame of each speech and the first of the next, for a failure's message."""
        said = self.said_since(mark)
        return "".join(f"\n  {(one[0] - mark) / 1e6:9.3f} ms {one[1]}: {one[2].hex()}"
                       for pair in itertools.pairwise(said) if pair[0][1] != pair[1][1]
                       for one in pair)

    def forget(self, mark):
        """What was said before is not asked for any more."""
        with self.lock:
            self.frames = [frame for frame in self.frames if frame[0] >= mark]
