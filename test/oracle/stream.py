"""Clients over TCP connections, each of which must outlive every failover.

A connection is not opened before connect(). Nothing here waits: the driver calls write() and read()
when the socket is ready, and ask() in between.
"""

import errno
import socket

from . import linear, words
from .judges import Counter, expect

TCP_RTO_MAX_MS = 44  # linux/tcp.h; kernels before 6.15 lack it
RTO_MAX_MS = 1000
PATIENCE_MS = 3_600_000  # how long TCP repeats itself; how long is too long is for the tests to say
DEPTH = 4  # requests under way

SWAP_SCRIPT = (b"local found = redis.call('get', KEYS[1]) or '0' "
               b"if found == ARGV[1] then redis.call('set', KEYS[1], ARGV[2]) end return found")


class Connection:
    """Bytes both ways. A subclass puts questions into `output` and judges what is in `input`."""

    def __init__(self, address):
        self.address = address
        self.socket = None
        self.connected = False
        self.input = b""
        self.output = b""
        self.answers = 0

    def connect(self, _sequence):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, RTO_MAX_MS)
        except OSError:
            pass  # it takes longer to come back after a long silence
        # Linux counts from the first retransmission that it remembers, which may be long over.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PATIENCE_MS)
        error = self.socket.connect_ex(self.address)
        expect(error in (0, errno.EINPROGRESS), f"TCP: {errno.errorcode.get(error, error)}")

    def wants_to_write(self):
        return self.socket is not None and (not self.connected or bool(self.output))

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

    def read(self, now):
        """Judges what has come; returns how many answers that were."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return 0
        except OSError as error:
            expect(False, f"TCP: the connection broke: {error.strerror}")
        expect(data, "TCP: the guest closed the connection")
        self.input += data
        before = self.answers
        while self._judge_one(now):
            self.answers += 1
        return self.answers - before


class Stream(Connection):
    """A counter of the service guest. `number`: of client and counter in its protocol."""

    def __init__(self, number, address, utterances):
        super().__init__(address)
        self.number = number
        self.utterances = utterances
        self.counter = Counter(f"counter {number} over TCP")
        self.first = self.sent = 0  # sequence numbers: of the last answered, of the last asked
        self.marks = []

    def connect(self, sequence):
        """`sequence` is one that this client has never used."""
        self.first = self.sent = sequence
        super().connect(sequence)

    def ask(self, _now):
        while self.connected and self.sent - self.first < DEPTH:
            self.sent += 1
            self.counter.ask()
            self.marks.append(self.utterances.mark())
            self.output += words.request(self.sent, self.number, words.ADD, self.number)

    def _judge_one(self, _now):
        if len(self.input) < words.REPLY.size:
            return False
        reply = words.reply(self.input)
        self.input = self.input[words.REPLY.size:]
        expect(reply is not None, "TCP: the stream lost its frame")
        expect(not reply.corrupt, "a page of the guest is of another moment")
        expect(reply.client == self.number and reply.sequence == self.first + 1 <= self.sent,
               f"TCP: answer {reply.sequence} to client {reply.client} instead of "
               f"{self.first + 1} to {self.number}")
        expect(reply.status == words.DONE, f"TCP: status {reply.status}")
        self.first += 1
        self.utterances.hear(reply.utterance, reply.time_ns, self.marks.pop(0))
        self.counter.acknowledge(reply.value)
        return True


class Redis(Connection):
    """Speaks RESP: commands are arrays of strings, and the answers numbers, strings or OK."""

    def _command(self, *parts):
        self.output += b"*%d\r\n" % len(parts) + b"".join(
            b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)

    def _answer(self):
        """The next complete answer as a number (nil and OK are 0), or None."""
        line, found, rest = self.input.partition(b"\r\n")
        if not found:
            return None
        kind, text = line[:1], line[1:]
        expect(kind in b":+$", f"redis says {line!r}")
        if kind == b"$" and text != b"-1":
            size = int(text)
            if len(rest) < size + 2:
                return None
            text, rest = rest[:size], rest[size + 2:]
        self.input = rest
        return int(text) if kind == b":" or (kind == b"$" and text != b"-1") else 0


class RedisCounter(Redis):
    """INCR without pause."""

    def __init__(self, number, address):
        super().__init__(address)
        self.key = b"counter-%d" % number
        self.counter = Counter(self.key.decode())

    def ask(self, _now):
        while self.connected and self.counter.asked - self.counter.acknowledged < DEPTH:
            self.counter.ask()
            self._command(b"INCR", self.key)

    def _judge_one(self, _now):
        value = self._answer()
        if value is None:
            return False
        self.counter.acknowledge(value)
        return True


class RedisEditor(Redis):
    """One of the clients of clients.Registers."""

    def __init__(self, number, address, registers):
        super().__init__(address)
        self.number = number
        self.registers = registers
        self.doing = None

    def ask(self, now):
        chosen = None if self.doing or not self.connected else self.registers.choose(self.number)
        if not chosen:
            return
        kind, key, value, expected = chosen
        self.doing = now, kind, key, value, expected
        name = b"register-%d" % key
        if kind == linear.READ:
            self._command(b"GET", name)
        elif kind == linear.WRITE:
            self._command(b"SET", name, b"%d" % value)
        else:
            self._command(b"EVAL", SWAP_SCRIPT, b"1", name, b"%d" % expected, b"%d" % value)

    def _judge_one(self, now):
        found = self._answer()
        if found is None:
            return False
        expect(self.doing, "redis answers what nobody asked")
        began, kind, key, value, expected = self.doing
        self.doing = None
        self.registers.record(key, linear.Operation(
            began, now, kind, value, expected, found, kind == linear.SWAP and found == expected))
        return True


class RedisWriter(Redis):
    """Appends records to a list, and now and then reads one back. The redis acknowledges what is
    durable in its file."""

    def __init__(self, address, journal, chance):
        super().__init__(address)
        self.journal = journal
        self.chance = chance
        self.asked = False
        self.reading = None  # number of a record

    def ask(self, _now):
        if not self.connected or self.asked:
            return
        written = self.journal.acknowledged()
        self.asked = True
        self.reading = None
        if written and (self.journal.is_full() or self.chance.random() < 0.3):
            # The newest are the ones that a failover might lose.
            newest = self.chance.random() < 0.5
            self.reading = written if newest else self.chance.randint(1, written)
            self._command(b"LINDEX", b"journal", b"%d" % (self.reading - 1))
        else:
            self._command(b"RPUSH", b"journal", b"%d" % self.journal.next_chain())

    def _judge_one(self, _now):
        found = self._answer()
        if found is None:
            return False
        expect(self.asked, "redis answers what nobody asked")
        self.asked = False
        if self.reading:
            self.journal.read(self.reading, found)
        else:
            self.journal.acknowledge(found)
        return True
