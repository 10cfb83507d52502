"""The table of faults survived."""

import time
from collections import defaultdict


def quantile(values, part):
    """Of a non-empty list: the smallest value that at least this part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-part * len(ordered) // 1) - 1))]


def spread(seconds):
    if not seconds:
        return "- | -"
    return " | ".join(f"{quantile(seconds, part) * 1e3:.0f}" for part in (0.5, 0.99))


class Results:
    def __init__(self, seed):
        self.seed = seed
        self.began = time.monotonic()
        self.failovers = self.violations = 0
        self.claims = self.unprotected = 0  # primaries killed while "protected" was said, or was not
        self.last = ""  # the last fault in words
        self.answers = self.operations = self.frames = self.records = 0
        self.faults = defaultdict(lambda: {"moved": [], "stayed": [], "healed": [], "took": []})

    def add(self, step, moved, silence, healed, took):
        """`silence`: the longest time without an answer; `healed`: until protected again; `took`:
        until every client was answered again. Seconds."""
        entry = self.faults[step.fault]
        entry["moved" if moved else "stayed"].append(silence)
        entry["healed"].append(healed)
        entry["took"].append(took)
        self.failovers += moved
        self.last = (f"{'moved' if moved else 'stayed'}; silence {silence * 1e3:.0f} ms, protected "
                     f"after {healed * 1e3:.0f} ms, all served after {took * 1e3:.0f} ms")

    def add_unprotected(self, step):
        """The guest may be lost, as every host had said; the life ends."""
        self.unprotected += 1
        self.last = "nobody said protected; the life ends"

    def table(self):
        """Markdown."""
        seconds = time.monotonic() - self.began
        count = sum(len(entry["healed"]) for entry in self.faults.values())
        lines = [
            f"{count} faults, {self.failovers} failovers, {self.violations} violations in "
            f"{seconds:.0f} s (seed {self.seed}); {self.answers} answers, {self.operations} register "
            f"operations, {self.records} journal records and {self.frames} frames judged; of the "
            f"primaries killed at any time {self.claims} were said to be protected, and survived, and "
            f"{self.unprotected} were not",
            "",
            "| fault | times | failovers | client's silence, ms: p50 | p99 | without failover: p50 | "
            "p99 | protected again, ms: p50 | p99 |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in sorted(self.faults):
            entry = self.faults[name]
            lines.append(f"| {name} | {len(entry['healed'])} | {len(entry['moved'])} | "
                         f"{spread(entry['moved'])} | {spread(entry['stayed'])} | "
                         f"{spread(entry['healed'])} |")
        moved = [silence for entry in self.faults.values() for silence in entry["moved"]]
        stayed = [silence for entry in self.faults.values() for silence in entry["stayed"]]
        healed = [silence for entry in self.faults.values() for silence in entry["healed"]]
        lines.append(f"| all | {count} | {len(moved)} | {spread(moved)} | {spread(stayed)} | "
                     f"{spread(healed)} |")
        return "\n".join(lines)
