"""What the daemons write to their taps, with the kernel's time of each frame."""

import heapq
import socket
import struct
import time
from collections import deque

from . import words

SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23
SO_TIMESTAMPNS = 35
ETH_P_ALL = 0x0003
SNAP = 160
BUFFER = 16 << 20
SETTLED = 0.2  # seconds after which no older frame turns up in another socket, on a busy machine
KEPT = 20000  # frames kept for the post-mortem
HEADERS = 14 + 20 + 8
TIMESPEC = struct.Struct("@ll")


def listen(interface):
    """A packet socket for what comes out of the tap, of this thread's network namespace."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, BUFFER)
    tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    tap.setblocking(False)
    tap.bind((interface, ETH_P_ALL))
    return tap


# Linux's socket module lacks it; include/uapi/asm-generic/socket.h
if not hasattr(socket, "SO_RCVBUFFORCE"):
    socket.SO_RCVBUFFORCE = 33


def utterance_of(frame):
    """Of a datagram of the service; None for other frames, and for TCP, which repeats itself."""
    if len(frame) < HEADERS or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_UDP:
        return None
    if frame[34:36] != words.PORT.to_bytes(2, "big"):
        return None
    reply = words.reply(frame[HEADERS:])
    return reply.utterance if reply else None


class Capture:
    """`taps`: host -> socket of listen(). Gives the judge all frames in the order of their times."""

    def __init__(self, taps, judge):
        self.taps = taps
        self.judge = judge
        self.waiting = []  # heap of (time, number, host, frame)
        self.number = 0
        self.kept = deque(maxlen=KEPT)

    def drain(self):
        for host, tap in self.taps.items():
            while True:
                try:
                    frame, ancillary, _, _ = tap.recvmsg(SNAP, 64)
                except BlockingIOError:
                    break
                self.number += 1
                heapq.heappush(self.waiting, (self._time(ancillary), self.number, host, frame))

    def _time(self, ancillary):
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = TIMESPEC.unpack(data[:TIMESPEC.size])
                return seconds + nanoseconds / 1e9
        return time.time()

    def judge_settled(self):
        """Those older than SETTLED. Returns the time of day until which everything is judged."""
        until = time.time() - SETTLED
        self.drain()
        while self.waiting and self.waiting[0][0] <= until:
            moment, _, host, frame = heapq.heappop(self.waiting)
            self.kept.append((moment, host, frame))
            self.judge.hear(moment, host, utterance_of(frame))
        return until

    def lost(self):
        """Frames that did not fit into a buffer since the last call: nothing can be said of them."""
        return sum(struct.unpack("@II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
                   for tap in self.taps.values())

    def write_pcap(self, path, host):
        """The last frames of a host (libpcap's format, nanoseconds)."""
        with open(path, "wb") as file:
            file.write(struct.pack("<IHHiIII", 0xa1b23c4d, 2, 4, 0, 0, SNAP, 1))
            for moment, speaker, frame in self.kept:
                if speaker == host:
                    seconds = int(moment)
                    file.write(struct.pack("<IIII", seconds, int((moment - seconds) * 1e9),
                                           len(frame), len(frame)) + frame)
