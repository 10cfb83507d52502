"""The process that puts the questions: one loop over all sockets, with nobody else's work in it.

Orders come as lines of JSON on standard input, answers leave on standard output, so that a test in
another process (handle.Oracle) watches without disturbing. Started in the client's network
namespace; `python3 -m oracle.driver SPEC`, SPEC as handle.Oracle builds it.
"""

import json
import random
import select
import socket
import sys
import time
from collections import deque

from . import words
from .capture import Capture
from .clients import Registers, Writer, cast
from .journal import Journal
from .judges import Utterances, Violation, expect
from .speech import Speech
from .stream import RedisCounter, RedisEditor, RedisWriter, Stream

RESEND = 0.005  # seconds until a question is repeated for the first time; doubles
RESEND_MAX = 0.04
ORDERS_CLIENT = 63  # says and switches off
WRITER = 62
REDIS_PORT = 6379
KEPT = 4000  # answers kept for the post-mortem


class Asking:
    """A client of the datagram service, and its question under way."""

    def __init__(self, client):
        self.client = client
        self.bytes = None
        self.sequence = 0
        self.mark = None
        self.due = 0.0  # when to ask, or to repeat
        self.patience = RESEND
        self.answers = 0


class Driver:
    def __init__(self, spec):
        self.redis = spec.get("service") == "redis"
        self.guest = spec["guest"], spec.get("port", REDIS_PORT if self.redis else words.PORT)
        self.think = spec.get("think", 0.003)
        chance = random.Random(spec.get("seed", 0))
        self.chance = chance
        # Never below a number that an earlier process used: it would be an old question.
        self.sequence = time.time_ns()
        self.utterances = Utterances()
        editors, streams = spec.get("editors", 4), spec.get("streams", 1)
        if self.redis:
            clients = {}
            self.registers = Registers((0, 1), range(editors), chance)
            self.streams = [RedisEditor(n, self.guest, self.registers) for n in range(editors)]
            self.streams += [RedisCounter(n, self.guest) for n in range(streams)]
        else:
            clients, self.registers = cast(spec.get("adders", 3), editors, chance.getrandbits(32))
            self.streams = [Stream(1 + len(clients) + n, self.guest, self.utterances)
                            for n in range(streams)]
        self.journal = Journal(*spec["journal"]) if "journal" in spec else None
        if self.journal and self.redis:
            self.streams.append(RedisWriter(self.guest, self.journal,
                                            random.Random(chance.getrandbits(32))))
        elif self.journal:
            clients[WRITER] = Writer(self.journal, random.Random(chance.getrandbits(32)))
        self.asking = {number: Asking(client) for number, client in clients.items()}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        if "bind" in spec:
            self.socket.bind((spec["bind"], 0))
        self.speech = Speech()
        self.capture = Capture({host: socket.socket(fileno=fd)
                                for host, fd in spec.get("taps", {}).items()}, self.speech)
        self.settled = 0.0
        self.paused = False
        self.broken = None
        self.replies = 0
        self.asked = 0
        self.last_reply = time.monotonic()
        self.longest_silence = 0.0
        self.kept = deque(maxlen=KEPT)
        self.orders = b""

    # ---- questions

    def _send(self, data):
        try:
            self.socket.sendto(data, self.guest)
        except OSError:
            pass  # unreachable for a moment: the neighbour is being looked for

    def _ask(self, now):
        """Puts or repeats what is due; returns when something will be."""
        soonest = now + 0.05
        for number, asking in self.asking.items():
            if asking.due <= now:
                if asking.bytes is None:
                    question = asking.client.question(now)
                    if question is None:
                        continue  # an answer to another client will change that
                    self.sequence += 1
                    asking.bytes = words.request(self.sequence, number, *question)
                    asking.sequence = self.sequence
                    asking.mark = self.utterances.mark()
                    asking.patience = RESEND
                    self.asked += 1
                self._send(asking.bytes)
                asking.due = now + asking.patience
                asking.patience = min(2 * asking.patience, RESEND_MAX)
            soonest = min(soonest, asking.due)
        for stream in self.streams:
            if stream.socket is None and (self.replies or self.redis):
                self.sequence += 1 << 32  # the streams count for themselves
                stream.connect(self.sequence)
            stream.ask(now)
        return soonest

    # ---- answers

    def _heard(self, now, what):
        self.replies += 1
        self.longest_silence = max(self.longest_silence, now - self.last_reply)
        self.last_reply = now
        self.kept.append((now, what))

    def _hear_datagrams(self):
        while True:
            try:
                data, sender = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier question
            now = time.monotonic()
            expect(sender == self.guest, f"an answer from {sender}")
            reply = words.reply(data)
            expect(reply, f"{len(data)} bytes that are no answer: {data[:64].hex()}")
            expect(not reply.corrupt, "a page of the guest is of another moment")
            if reply.client == ORDERS_CLIENT:
                continue
            asking = self.asking.get(reply.client)
            expect(asking, f"an answer to client {reply.client}, who does not exist")
            self.kept.append((now, reply))
            if asking.bytes is None or reply.sequence != asking.sequence:
                expect(reply.sequence <= self.sequence, f"an answer to {reply.sequence}, never put")
                # Of a question that was repeated; but also a second answer must be a new utterance.
                self.utterances.hear(reply.utterance, reply.time_ns, (0, 0))
                continue
            self.utterances.hear(reply.utterance, reply.time_ns, asking.mark)
            asking.client.answer(now, reply.status, reply.value)
            asking.bytes = None
            asking.due = now + self.chance.uniform(0, 2 * self.think)
            asking.answers += 1
            self._heard(now, "")

    def _hear_streams(self, readable, writable):
        for index, stream in enumerate(self.streams):
            if stream.socket is None:
                continue
            if stream.socket in writable:
                stream.write()
            if stream.socket in readable and stream.connected:
                now = time.monotonic()
                for _ in range(stream.read(now)):
                    self._heard(now, f"stream {index}: answer {stream.answers}")

    # ---- orders

    def _state(self):
        return {
            "replies": self.replies, "asked": self.asked, "broken": self.broken,
            "last_reply": self.last_reply, "longest_silence": self.longest_silence,
            "answers": [c.answers for c in [*self.asking.values(), *self.streams]],
            "rounds": self.registers.rounds, "operations": self.registers.operations,
            "counters": {str(n): a.client.counters[n].value for n, a in self.asking.items()
                         if hasattr(a.client, "counters")},
            "journal": self.journal.acknowledged() if self.journal else 0,
            "streamed": [s.answers for s in self.streams],
            "frames": self.speech.frames, "moves": self.speech.moves, "settled": self.settled,
        }

    def _order(self, order):
        what = order["do"]
        if what == "pause":
            self.paused = True
        elif what == "resume":
            self.paused = False
            self.last_reply = time.monotonic()
        elif what == "reset":
            self.longest_silence = 0.0
        elif what in ("say", "off"):
            self.sequence += 1
            self._send(words.request(self.sequence, ORDERS_CLIENT,
                                     words.SAY if what == "say" else words.OFF,
                                     value=order.get("number", 0)))
        elif what == "keep":
            self._keep(order["folder"])
        return self._state()

    def _keep(self, folder):
        with open(f"{folder}/answers", "w") as file:
            for now, what in self.kept:
                if what:
                    file.write(f"{now:.6f} {what}\n")
        for host in self.capture.taps:
            self.capture.write_pcap(f"{folder}/tap-{host}.pcap", host)

    def _hear_orders(self):
        """False: the test has gone."""
        data = sys.stdin.buffer.raw.read(65536)
        if not data:
            return False
        *lines, self.orders = (self.orders + data).split(b"\n")
        for line in lines:
            sys.stdout.write(json.dumps(self._order(json.loads(line))) + "\n")
            sys.stdout.flush()
        return True

    # ---- loop

    def _turn(self):
        now = time.monotonic()
        if self.broken is None:
            lost = self.capture.lost()
            expect(not lost, f"{lost} frames went by unseen: the buffers of the captures are full")
            self.settled = self.capture.judge_settled()
        working = not self.paused and self.broken is None
        wake = self._ask(now) if working else now + 0.02
        streams = [s for s in self.streams if s.socket is not None and self.broken is None]
        readable, writable, _ = select.select(
            [sys.stdin, self.socket] + [s.socket for s in streams if s.connected],
            [s.socket for s in streams if s.wants_to_write()], [],
            max(0.0, min(wake, now + 0.02) - time.monotonic()))
        if self.broken is None:
            self._hear_datagrams()
            self._hear_streams(readable, writable)
        elif self.socket in readable:
            self.socket.recv(2048)
        return sys.stdin not in readable or self._hear_orders()

    def run(self):
        going = True
        while going:
            try:
                going = self._turn()
            except Violation as violation:
                self.broken = str(violation)


if __name__ == "__main__":
    Driver(json.loads(sys.argv[1])).run()
