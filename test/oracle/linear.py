"""Is there an order of these operations that explains every answer?

A history of one register is linearizable if each operation can be given a moment between its call
and its return such that, one after the other, each gives what it gave (Herlihy and Wing 1990). The
search takes operations away one by one, always one that no other ended before it began, and
remembers which (rest, value) it was at, as Lowe's variant of Wing and Gong's algorithm does.

A long history is cut where no operation is under way: `check` turns the values the register may
have had before into those that it may have after.
"""

from typing import NamedTuple, Optional

READ, WRITE, SWAP = "read", "write", "swap"
STEPS_MAX = 500_000


class TooHard(Exception):
    """More steps than anyone wants to wait for; nothing was decided."""


class Operation(NamedTuple):
    """`found`: what a read or a swap saw. `done`: whether a swap wrote. `end`: None while there is
    no answer; then it may have happened at any time since, or never."""

    start: float
    end: Optional[float]
    kind: str
    value: int = 0
    expected: int = 0
    found: int = 0
    done: bool = False

    def __str__(self):
        end = "?" if self.end is None else f"{self.end:.6f}"
        what = {READ: f"read {self.found:#x}", WRITE: f"write {self.value:#x}",
                SWAP: f"swap {self.expected:#x} to {self.value:#x}, "
                      f"{'done' if self.done else f'found {self.found:#x}'}"}[self.kind]
        return f"[{self.start:.6f}, {end}] {what}"


def _after(operation, value):
    """The register after the operation found it at `value`, or None: its answer was another."""
    if operation.kind == WRITE:
        return operation.value
    if operation.end is None:
        wrote = operation.kind == SWAP and operation.expected == value
        return operation.value if wrote else value
    if operation.kind == READ:
        return value if operation.found == value else None
    if operation.done:
        return operation.value if operation.expected == value else None
    return value if operation.found == value != operation.expected else None


def check(history, before):
    """`history`: operations on one register. `before`: the set of values it may have at first.

    Returns the set of values that it may have at last; empty when no order explains the answers.
    """
    operations = sorted(history, key=lambda operation: operation.start)
    infinity = float("inf")
    ends = [infinity if op.end is None else op.end for op in operations]
    must = sum(1 << i for i, op in enumerate(operations) if op.end is not None)
    after, seen = set(), set()
    work = [((1 << len(operations)) - 1, value) for value in before]
    while work:
        rest, value = work.pop()
        if (rest, value) in seen:
            continue
        seen.add((rest, value))
        if len(seen) > STEPS_MAX:
            raise TooHard(f"{len(operations)} operations")
        if not rest & must:
            after.add(value)
        # Whatever begins after another one of the rest has ended can't be the next.
        limit = min((ends[i] for i in range(len(operations)) if rest >> i & 1), default=infinity)
        for i, operation in enumerate(operations):
            if operation.start > limit:
                break
            if rest >> i & 1:
                value_then = _after(operation, value)
                if value_then is not None:
                    work.append((rest & ~(1 << i), value_then))
    return after
