"""Clients of the service guest, as state machines: what to ask next, and is the answer right?

A client has one question under way and repeats it until it is answered (the guest does each once).
None of them knows sockets or waits: the driver sends what `question()` gives, calls `answer()`, and
decides when to repeat.
"""

import random

from . import linear, words
from .judges import Counter, expect

OPERATIONS_PER_ROUND = 6


class Adder:
    """Adds to a counter of its own, and now and then reads its own or another's."""

    def __init__(self, number, counters, chance):
        self.number = number
        self.counters = counters  # number -> Counter, of all adders
        self.counters[number] = Counter(f"counter {number}")
        self.chance = chance
        self.reading = None  # (number of the counter, mark)

    def question(self, _now):
        """(operation, key, value, expected), or None: nothing to ask now."""
        if self.chance.random() < 0.2:
            number = self.chance.choice(sorted(self.counters))
            self.reading = number, self.counters[number].mark()
            return words.COUNT, number, 0, 0
        self.reading = None
        self.counters[self.number].ask()
        return words.ADD, self.number, 0, 0

    def answer(self, _now, status, value):
        expect(status == words.DONE, f"status {status} of an increment")
        if self.reading:
            number, mark = self.reading
            self.counters[number].read(value, mark)
        else:
            self.counters[self.number].acknowledge(value)


class Registers:
    """A few registers that several clients use at the same time, in rounds with a judgement.

    In a round each client does some operations; when all are answered the history of every
    register is checked, and the next round begins.
    """

    def __init__(self, keys, clients, chance):
        self.chance = chance
        self.keys = keys
        self.possible = {key: None for key in keys}  # values it may have; None: not known yet
        self.histories = {key: [] for key in keys}
        self.left = {client: OPERATIONS_PER_ROUND for client in clients}
        self.unanswered = 0
        self.fresh = 0  # no value is ever written twice
        self.rounds = 0
        self.operations = 0

    def choose(self, client):
        """The client's next operation, or None until the others have ended the round."""
        if not self.left[client]:
            return None
        self.left[client] -= 1
        self.unanswered += 1
        key = self.chance.choice(self.keys)
        kind = self.chance.choice((linear.READ, linear.WRITE, linear.SWAP))
        # At the very beginning reading is the only thing that teaches something.
        if self.possible[key] is None:
            kind = linear.READ
        self.fresh += 1
        likely = {op.value for op in self.histories[key][-3:] if op.kind != linear.READ}
        likely |= self.possible[key] or {0}
        return kind, key, self.fresh, self.chance.choice(sorted(likely))

    def record(self, key, operation):
        self.histories[key].append(operation)
        self.unanswered -= 1
        self.operations += 1
        if not self.unanswered and not any(self.left.values()):
            self._judge()

    def _judge(self):
        for key, history in self.histories.items():
            before = self.possible[key]
            if before is None:  # the first round reads only
                before = {op.found for op in history}
            after = linear.check(history, before)
            expect(after, f"register {key}: no order explains, from one of {sorted(before)}:\n  " +
                   "\n  ".join(str(op) for op in history))
            self.possible[key] = after if history or self.possible[key] else None
        self.histories = {key: [] for key in self.keys}
        self.left = {client: OPERATIONS_PER_ROUND for client in self.left}
        self.rounds += 1


class Editor:
    """One of the clients of Registers."""

    NUMBER_OF = {linear.READ: words.READ, linear.WRITE: words.WRITE, linear.SWAP: words.SWAP}

    def __init__(self, number, registers):
        self.number = number
        self.registers = registers
        self.doing = None

    def question(self, now):
        chosen = self.registers.choose(self.number)
        if not chosen:
            return None
        kind, key, value, expected = chosen
        self.doing = now, kind, key, value, expected
        return self.NUMBER_OF[kind], key, value, expected

    def answer(self, now, status, value):
        began, kind, key, written, expected = self.doing
        expect(status == words.DONE or (kind == linear.SWAP and status == words.DIFFERS),
               f"status {status} of a {kind}")
        self.registers.record(key, linear.Operation(
            began, now, kind, written, expected, value, status == words.DONE))


class Writer:
    """Appends to the journal, and now and then reads a record back."""

    def __init__(self, journal, chance):
        self.journal = journal
        self.chance = chance
        self.reading = None  # number of a record

    def question(self, _now):
        written = self.journal.acknowledged()
        if written and (self.journal.is_full() or self.chance.random() < 0.3):
            # The newest are the ones that a failover might lose.
            newest = self.chance.random() < 0.5
            self.reading = written if newest else self.chance.randint(1, written)
            return words.RECORD, 0, self.reading, 0
        self.reading = None
        return words.APPEND, 0, self.journal.next_token(), 0

    def answer(self, _now, status, value):
        expect(status == words.DONE, f"journal: status {status} of a "
               f"{'read' if self.reading else 'append'} after {self.journal.acknowledged()} records")
        if self.reading:
            self.journal.read(self.reading, value)
        else:
            self.journal.acknowledge(value)


def cast(adders, editors, seed):
    """The usual clients: (clients by number, registers). Numbers are those of the guest's protocol."""
    chance = random.Random(seed)
    counters = {}
    numbers = range(1, 1 + adders)
    clients = {n: Adder(n, counters, random.Random(chance.getrandbits(32))) for n in numbers}
    numbers = range(1 + adders, 1 + adders + editors)
    registers = Registers((0, 1), numbers, random.Random(chance.getrandbits(32)))
    clients.update({n: Editor(n, registers) for n in numbers})
    return clients, registers
