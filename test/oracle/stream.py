"""A counter over one TCP connection, which must outlive every failover."""

import errno
import socket

from . import words
from .judges import Counter, expect

TCP_RTO_MAX_MS = 44  # linux/tcp.h; kernels before 6.15 lack it
RTO_MAX_MS = 1000
DEPTH = 4  # requests under way


class Stream:
    """`number`: of client and counter in the guest's protocol. Not connected before connect()."""

    def __init__(self, number, address):
        self.number = number
        self.address = address
        self.counter = Counter(f"counter {number} over TCP")
        self.socket = None
        self.connected = False
        self.first = self.sent = 0  # sequence numbers: of the last answered, of the last asked
        self.marks = []
        self.input = b""
        self.output = b""

    def connect(self, sequence):
        """Non-blocking; `sequence` is one that this client has never used."""
        self.first = self.sent = sequence
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, RTO_MAX_MS)
        except OSError:
            pass  # it takes longer to come back after a long silence
        error = self.socket.connect_ex(self.address)
        expect(error in (0, errno.EINPROGRESS), f"TCP: {errno.errorcode.get(error, error)}")

    def close(self):
        if self.socket:
            self.socket.close()

    def wants_to_write(self):
        return self.socket is not None and (not self.connected or bool(self.output))

    def waits(self):
        return self.sent > self.first

    def ask(self, mark):
        """Puts questions until enough are under way."""
        while self.connected and self.sent - self.first < DEPTH:
            self.sent += 1
            self.counter.ask()
            self.marks.append(mark())
            self.output += words.request(self.sent, self.number, words.ADD, self.number)

    def write(self):
        if not self.connected:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            expect(not error, f"TCP connect: {errno.errorcode.get(error, error)}")
            self.connected = True
        try:
            self.output = self.output[self.socket.send(self.output):] if self.output else b""
        except BlockingIOError:
            pass
        except OSError as error:
            expect(False, f"TCP: the connection broke: {error.strerror}")

    def read(self, utterances):
        """Judges what has come; returns how many answers that were."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return 0
        except OSError as error:
            expect(False, f"TCP: the connection broke: {error.strerror}")
        expect(data, "TCP: the guest closed the connection")
        self.input += data
        answers = 0
        while len(self.input) >= words.REPLY.size:
            reply = words.reply(self.input)
            self.input = self.input[words.REPLY.size:]
            self._judge(reply, utterances)
            answers += 1
        return answers

    def _judge(self, reply, utterances):
        expect(reply is not None, "TCP: the stream lost its frame")
        expect(not reply.corrupt, "a page of the guest is of another moment")
        expect(reply.client == self.number and reply.sequence == self.first + 1 <= self.sent,
               f"TCP: answer {reply.sequence} to client {reply.client} instead of "
               f"{self.first + 1} to {self.number}")
        expect(reply.status == words.DONE, f"TCP: status {reply.status}")
        self.first += 1
        utterances.hear(reply.utterance, reply.time_ns, self.marks.pop(0))
        self.counter.acknowledge(reply.value)
