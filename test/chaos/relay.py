"""A wire that an enemy holds: forwards TCP connections, and does what it is told to them.

`python3 -m chaos.relay FROM:PORT=TO:PORT...`; orders are lines on standard input, each answered by
a line on standard output when it is in force:

    delay MS          everything takes so much longer from now on, both ways
    corrupt SIDE N    flips a bit of the byte that is N bytes ahead on the way to SIDE
    stall SIDE        nothing arrives at SIDE any more
    flow              ends a stall
    reset             resets all connections

SIDE is connector or listener. The end of a connection, orderly or not, is passed on.
"""

import selectors
import socket
import struct
import sys
import time
from collections import deque

CHUNK = 1 << 18
HELD_MAX = 1 << 23  # bytes on their way before the sender has to wait


class Way:
    """One direction of a connection."""

    def __init__(self, source, sink, side):
        self.source, self.sink, self.side = source, sink, side
        self.held = deque()  # (due, bytes)
        self.size = 0
        self.ended = False


class Relay:
    def __init__(self, routes):
        self.selector = selectors.DefaultSelector()
        self.ways = []
        self.delay = 0.0
        self.stalled = set()
        self.corruption = {}  # side -> bytes until the one that is damaged
        self.orders = b""
        for route in routes:
            listen, target = route.split("=")
            self.selector.register(socket.create_server(self._address(listen)),
                                   selectors.EVENT_READ, self._address(target))
        self.selector.register(sys.stdin, selectors.EVENT_READ)

    @staticmethod
    def _address(text):
        host, port = text.rsplit(":", 1)
        return host, int(port)

    def _accept(self, listener, target):
        connector, _ = listener.accept()
        try:
            other = socket.create_connection(target, timeout=1)
        except OSError:
            self._abort(connector)
            return
        for end in (connector, other):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ways += [Way(connector, other, "listener"), Way(other, connector, "connector")]

    @staticmethod
    def _abort(end):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()

    def _abort_way(self, way):
        """Both directions, both ends."""
        for end in (way.source, way.sink):
            self._abort(end)
        self.ways = [w for w in self.ways if w.source not in (way.source, way.sink)]

    def _corrupted(self, side, data):
        left = self.corruption.get(side)
        if left is None:
            return data
        if left >= len(data):
            self.corruption[side] = left - len(data)
            return data
        del self.corruption[side]
        return data[:left] + bytes([data[left] ^ 0x10]) + data[left + 1:]

    def _take(self, way):
        try:
            data = way.source.recv(CHUNK)
        except BlockingIOError:
            return
        if data:
            way.held.append((time.monotonic() + self.delay, self._corrupted(way.side, data)))
            way.size += len(data)
        else:
            way.ended = True

    def _give(self, way, now):
        while way.held and way.held[0][0] <= now and way.side not in self.stalled:
            due, data = way.held[0]
            try:
                sent = way.sink.send(data)
            except BlockingIOError:
                return
            way.size -= sent
            if sent < len(data):
                way.held[0] = due, data[sent:]
                return
            way.held.popleft()
        if way.ended and not way.held:
            way.ended = None  # passed on
            way.sink.shutdown(socket.SHUT_WR)

    def _order(self, line):
        word, *rest = line.split()
        if word == "delay":
            self.delay = float(rest[0]) / 1000
        elif word == "corrupt":
            self.corruption[rest[0]] = int(rest[1])
        elif word == "stall":
            self.stalled.add(rest[0])
        elif word == "flow":
            self.stalled.clear()
            self.corruption.clear()
            self.delay = 0.0
        elif word == "reset":
            while self.ways:
                self._abort_way(self.ways[0])
        else:
            raise ValueError(line)
        print("done", flush=True)

    def _watch(self):
        """What may be read or written now; returns the time until something falls due."""
        now = time.monotonic()
        wanted, soonest = {}, None
        for way in self.ways:
            if way.ended is False and way.size < HELD_MAX:
                wanted[way.source] = wanted.get(way.source, 0) | selectors.EVENT_READ
            if way.held and way.side not in self.stalled:
                due = way.held[0][0]
                if due <= now:
                    wanted[way.sink] = wanted.get(way.sink, 0) | selectors.EVENT_WRITE
                else:
                    soonest = min(due, soonest or due)
        for end in [key.fileobj for key in list(self.selector.get_map().values())
                    if key.data == "end"]:
            self.selector.unregister(end)
        for end, events in wanted.items():
            self.selector.register(end, events, "end")
        return None if soonest is None else max(0.0, soonest - now)

    def run(self):
        while True:
            for key, _ in self.selector.select(self._watch()):
                if key.fileobj is sys.stdin:
                    data = sys.stdin.buffer.raw.read(65536)
                    if not data:
                        return
                    *lines, self.orders = (self.orders + data).split(b"\n")
                    for line in lines:
                        self._order(line.decode())
                elif key.data != "end":
                    self._accept(key.fileobj, key.data)
            self._move()

    def _move(self):
        for way in list(self.ways):
            if way not in self.ways:
                continue  # aborted meanwhile
            try:
                if way.ended is False and way.size < HELD_MAX:
                    self._take(way)
                self._give(way, time.monotonic())
            except OSError:
                self._abort_way(way)
        for way in [w for w in self.ways if w.ended is None]:
            back = next((w for w in self.ways if w.source is way.sink), None)
            if back is None or back.ended is None:
                self.ways = [w for w in self.ways if w is not way and w is not back]
                way.source.close()
                way.sink.close()


if __name__ == "__main__":
    Relay(sys.argv[1:]).run()
