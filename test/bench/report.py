#!/usr/bin/python3
"""usage: test/bench/report.py FILE.csv...

Prints what was measured and, at the end, the budgets of DESIGN §10 beside it. Nothing here fails:
a budget that was missed says by how much.
"""

import csv
import sys


def load(paths):
    rows = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = (row["scenario"], row["link"], row["policy"], int(row["vcpus"]),
                       int(row["memory_mib"]), int(row["dirty_pages"]))
                rows.setdefault(key, {})[row["metric"]] = {
                    name: float(row[name]) for name in ("p50", "p99", "max", "samples")}
    return rows


def table(heads, lines):
    widths = [max(len(str(line[i])) for line in [heads, *lines]) for i in range(len(heads))]
    for line in [heads, ["-" * width for width in widths], *lines]:
        print("  " + "  ".join(f"{cell!s:<{width}}" for cell, width in zip(line, widths)).rstrip())
    print()


def us(ns):
    return f"{ns / 1e3:.0f}" if ns < 1e7 else f"{ns / 1e3:,.0f}".replace(",", " ")


def pair(value):
    return f"{us(value['p50'])} / {us(value['p99'])}"


def reference(rows, key):
    """The same guest before it was protected."""
    scenario, _, _, *rest = key
    return rows[(scenario, "none", "none", *rest)]["round_trip"]


def print_measurements(rows):
    lines = []
    for key, m in rows.items():
        if "pause" not in m or key[0].startswith("machine-"):
            continue
        scenario, link, policy, vcpus, memory, dirty = key
        alone = reference(rows, key)
        lines.append([
            scenario, f"{link} {policy}", vcpus, memory, dirty, f"{m['epoch_pages']['p50']:.0f}",
            pair(m["pause"]), us(m["pause"]["max"]), us(m["memcpy"]["p50"]), pair(m["hold"]),
            us(m["commit"]["p50"]), f"{us(alone['p50'])} / {us(m['round_trip']['p50'])}",
            f"{m['round_trip']['p50'] / alone['p50']:.1f}",
            f"{m['bytes_per_epoch']['p50'] / 1024:.0f}", f"{m['bytes_per_dirty_byte']['p50']:.2f}"])
    if not lines:
        return
    print("Times in microseconds, p50 / p99. Round trip: unprotected / protected, and their ratio.\n")
    table(["", "link, policy", "vCPU", "MiB", "dirty", "epoch", "pause", "max", "memcpy", "hold",
           "commit", "round trip", "x", "KiB", "B/dirty B"], lines)


def print_failover(rows):
    for key, m in rows.items():
        if key[0] != "failover":
            continue
        print(f"SIGKILL of the primary, {m['reply']['samples']:.0f} times; ms since the kill:\n")
        steps = ["suspect", "grant", "drop", "apply", "load", "network", "run", "first_output",
                 "reply"]
        table(["until", "p50", "p99", "max"],
              [[s, *(f"{m[s][p] / 1e6:.2f}" for p in ("p50", "p99", "max"))] for s in steps])


def print_machines(rows):
    """The same things of both machines, beside each other."""
    machines = {name: {metric if link != "none" else "alone": value
                       for (scenario, link, *_), m in rows.items() if scenario == f"machine-{name}"
                       for metric, value in m.items()}
                for name in ("kvm", "qemu", "qemu-disk")}
    if not all(machines.values()):
        return
    print("Both machines, one after the other; us, p50 / p99 / max:\n")
    def cells(metric):
        return [" / ".join(us(m[metric][p]) for p in ("p50", "p99", "max"))
                for m in machines.values()]
    table(["", "kvm: our guest", "qemu: Linux in TCG", "512 MiB, with a disk"],
          [["pause", *cells("pause")], ["hold", *cells("hold")],
           ["round trip alone", *cells("alone")], ["round trip protected", *cells("round_trip")],
           *[[f"kill to {step}", *cells(step)]
             for step in ("suspect", "grant", "load", "run", "first_output", "reply")]])


DETECTED = {
    "killed": "process killed", "silent": "host silent (frozen, all links cut)",
    "cut": "link cut, both hosts live", "switchover": "planned switchover"}


def print_detection(rows):
    """Each kind of failure, with etcd as arbiter."""
    scenarios = {k[0].removeprefix("detect-"): m for k, m in rows.items()
                 if k[0].startswith("detect-")}
    if "etcd" in scenarios:
        write = scenarios["etcd"]["write"]
        print(f"A write to etcd by itself: p50 {write['p50'] / 1e6:.2f} ms, "
              f"p99 {write['p99'] / 1e6:.2f} ms.\n")
    for name, title in DETECTED.items():
        m = scenarios.get(name)
        if not m:
            continue
        print(f"{title}, {m['reply']['samples']:.0f} times; ms:\n")
        table(["until", "samples", "p50", "p99", "max"],
              [[step, f"{v['samples']:.0f}", *(f"{v[p] / 1e6:.2f}" for p in ("p50", "p99", "max"))]
               for step, v in m.items()])


def detection_budgets(rows, line):
    by_name = {k[0]: m for k, m in rows.items()}
    silent, etcd = by_name.get("detect-silent"), by_name.get("detect-etcd")
    if silent and etcd:
        allowed = 30 + 20 + etcd["write"]["p99"] / 1e6
        yield line("host silent -> first output, p99 (30 + 20 + etcd's p99)",
                   silent["first_output"]["p99"] / 1e6, round(allowed, 1), "ms")
        yield line("host silent -> suspicion, p99", silent["suspect"]["p99"] / 1e6, 30, "ms")
    if killed := by_name.get("detect-killed"):
        yield line("process killed -> first output with etcd, p99",
                   killed["first_output"]["p99"] / 1e6, 20, "ms")


def verdict(value, budget, unit):
    if value <= budget:
        return f"{value:.4g} {unit}".strip(), "met"
    return f"{value:.4g} {unit}".strip(), f"MISSED, {value / budget:.2f} times the budget"


def budgets(rows):
    """(what, budget, measured, verdict) of each line of DESIGN §10."""
    def line(what, value, budget, unit):
        measured, judged = verdict(value, budget, unit)
        return [what, f"{budget:g} {unit}".strip(), measured, judged]

    if not any(k[0] == "load" for k in rows):
        yield from detection_budgets(rows, line)
        return
    load_ = {(k[3], k[5]): m for k, m in rows.items() if k[0] == "load" and "pause" in m}
    failover = next((m for k, m in rows.items() if k[0] == "failover"), None)

    for point, budget in (("p50", 200), ("p99", 500)):
        yield line(f"pause, 256 dirty pages, 1 vCPU, {point}", load_[1, 256]["pause"][point] / 1e3,
                   budget, "us")
    # An epoch of the large set may be split: compare per page.
    large = load_[1, 10000]
    per_page = large["pause"]["p50"] / max(1, large["epoch_pages"]["p50"])
    yield line("pause, 10 000 dirty pages / memcpy of as many, p50",
               per_page / (large["memcpy"]["p50"] / 10000), 1.3, "")
    for point, budget in (("p50", 400), ("p99", 1000)):
        yield line(f"hold of a packet, small dirty set, {point}", load_[1, 1]["hold"][point] / 1e3,
                   budget, "us")
    growth = sorted((k[4], m["pause"]["p50"]) for k, m in rows.items()
                    if k[0] == "growth" and "pause" in m)
    if len(growth) > 1:
        yield line(f"growth of the pause, {growth[0][0] >> 10} -> {growth[-1][0] >> 10} GiB",
                   growth[-1][1] / growth[0][1], 1.5, "")
    if failover:
        for point in ("p50", "p99"):
            yield line(f"process killed -> first output, {point}",
                       failover["first_output"][point] / 1e6, 20, "ms")
        for side in ("primary", "secondary"):
            yield line(f"memory beyond guest and staging cap, {side}",
                       failover[f"memory_{side}"]["max"], 64, "MiB")
    yield from detection_budgets(rows, line)
    yield line("bytes sent / dirty bytes (our guest; DESIGN: a server)",
               load_[1, 2000]["bytes_per_dirty_byte"]["p50"], 0.25, "")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.splitlines()[0])
    rows = load(sys.argv[1:])
    print_measurements(rows)
    print_failover(rows)
    print_detection(rows)
    print_machines(rows)
    if judged := list(budgets(rows)):
        print("Budgets of DESIGN §10:\n")
        table(["what", "budget", "measured", "verdict"], judged)


if __name__ == "__main__":
    main()
