#!/usr/bin/python3
"""usage: test/bench/failover_bench.py [--runs N] BUILD FILE.csv

Kills a primary kemarid and measures how long it takes until the promoted guest speaks, step by step,
N times (20): the echo guest on the local KVM, in the network of pair_bed.py. Rows as in
test/bench/bench_csv.h, durations from the kill on.
"""

import argparse
import contextlib
import os
import random
import signal
import time

import csv_rows
from pair_bed import GUEST, PAIR, Client, Network, Pair, tell, text_of, workplace

MEMORY_MIB = 64


def overhead_mib(pid, status):
    """Resident memory that is neither the guest's (shared) nor staging, as far as that is resident."""
    sizes = {}
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("Rss"):
                name, value, _ = line.split()
                sizes[name] = int(value) / 1024
    return sizes["RssAnon:"] + sizes["RssFile:"] - status["replication"]["staging_cap_bytes"] / 2**20


def one_run(network, build, work, client):
    with contextlib.ExitStack() as stack:
        machine = f"kernel = {build}/test/guest/echo\ncmdline = ip={GUEST[0]}"
        pair = Pair(stack, network, build, work, lambda role, own, other, work: text_of(
            role, work, MEMORY_MIB, machine) + PAIR.format(own=own, other=other, work=work))
        status = pair.wait("primary", lambda s: s["protected"], "a protected pair")
        while client.exchange(0.1) is None:  # the guest boots, bridges learn
            pair.status("primary")
        client.chat(random.uniform(0.1, 0.3))
        primary = pair.daemons["primary"]
        result = {"memory_primary": overhead_mib(primary.pid, status),
                  "memory_secondary": overhead_mib(pair.daemons["secondary"].pid,
                                                   pair.status("secondary"))}
        client.chat(0.05)
        killed, killed_wall = time.monotonic(), time.time()
        os.kill(primary.pid, signal.SIGKILL)
        seen = client.first_reply_after(killed)
        result.update(pair.takeover_steps(killed_wall))
        result["reply"] = (seen - killed) * 1e9
        client.counter = 0  # the next pair has a guest of its own
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("build")
    parser.add_argument("csv")
    arguments = parser.parse_args()
    results = []
    with workplace("failover") as (stack, work):
        network = Network(stack)
        client = Client(stack.enter_context(network.socket_outside()))
        for run in range(arguments.runs):
            results.append(one_run(network, os.path.abspath(arguments.build), work, client))
            tell(run + 1, results[-1])
    with open(arguments.csv, "w", encoding="utf-8") as file:
        file.write(csv_rows.HEAD)
        for metric in results[0]:
            file.write(csv_rows.row_of_samples(
                ("failover", "tcp", "pipelined", 1, MEMORY_MIB, 0), metric,
                "mib" if metric.startswith("memory") else "ns", [r[metric] for r in results]))


if __name__ == "__main__":
    main()
