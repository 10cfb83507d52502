"""What a single guest that never forgets can say, as rules without sockets or clocks."""

WINDOW = 65536  # utterances that are remembered one by one


class Violation(Exception):
    """A promise was broken."""


def expect(condition, text):
    if not condition:
        raise Violation(text)


class Utterances:
    """Every reply bears a number that was never used before, and the guest's time.

    Datagrams may overtake each other on the way; but an answer to a question that was put after
    an utterance was heard comes after that utterance. So whoever asks takes a mark() first.
    """

    def __init__(self):
        self.highest = 0
        self.time_ns = 0
        self.seen = set()

    def mark(self):
        """When a question is put for the first time."""
        return self.highest, self.time_ns

    def hear(self, number, time_ns, mark):
        highest, latest = mark
        expect(number > highest,
               f"utterance {number} answers a question that was put after {highest} was heard")
        expect(number > self.highest - WINDOW, f"utterance {number} long after {self.highest}")
        expect(number not in self.seen, f"utterance {number} was heard twice")
        expect(time_ns >= latest,
               f"guest time {time_ns} in answer to a question put after {latest} was heard")
        self.seen.add(number)
        if len(self.seen) > 2 * WINDOW:
            self.seen = {n for n in self.seen if n > self.highest - WINDOW}
        self.highest = max(self.highest, number)
        self.time_ns = max(self.time_ns, time_ns)


class Counter:
    """A counter that one client alone adds to, one request after the other.

    So its first answer may be anything, and each further one is exactly one more. Readers may
    ask meanwhile: what was acknowledged before they asked must be in, what nobody asked for can't.
    """

    def __init__(self, name):
        self.name = name
        self.asked = 0
        self.acknowledged = 0
        self.value = None  # after the last acknowledged increment

    def ask(self):
        self.asked += 1

    def acknowledge(self, value):
        expect(self.acknowledged < self.asked, f"{self.name}: an increment that nobody asked for")
        if self.value is not None:
            wanted = self.value + 1
            expect(value >= wanted, f"{self.name}: {value} instead of {wanted}: "
                   f"{wanted - value} acknowledged increments were lost")
            expect(value <= wanted, f"{self.name}: {value} instead of {wanted}: "
                   f"{value - wanted} increments were done twice")
        self.acknowledged += 1
        self.value = value

    def mark(self):
        """When a reader asks."""
        return self.value

    def read(self, value, mark):
        if mark is None or self.value is None:
            return
        expect(value >= mark, f"{self.name}: read as {value} after {mark} was acknowledged")
        most = self.value + self.asked - self.acknowledged
        expect(value <= most, f"{self.name}: read as {value}, but nobody asked for more than {most}")
