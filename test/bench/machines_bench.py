#!/usr/bin/python3
"""usage: test/bench/machines_bench.py [--runs N] [--requests N] BUILD FILE.csv

Both machines side by side: what a client sees of a guest alone and of the same guest protected, how long
it stands still and its output is held, and how long a failover takes (N times, 5). The machine of
kemarid's own runs the echo guest on the local KVM; stock QEMU a Linux with redis, in software emulation: all in
memory, and once more on an ext4 root on a replicated disk, with a redis that answers when its file is durable and with
fio beside it.
The network is that of pair_bed.py. Rows as in test/bench/bench_csv.h.
"""

import argparse
import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import csv_rows
from pair_bed import (DYING_WORDS_S, GUEST, PAIR, SIDES, STEPS, Client, Failed, Network, Pair, tell, text_of,
                      wait_until, workplace)

BOOT_LIMIT_S = 120  # a kernel in software emulation takes its time
ALONE = """
[replication]
peer-wait = 1s
[arbiter]
type = none
"""


class RedisClient:
    """As pair_bed.Client, over one TCP connection: it outlives the host, or the guest was lost."""

    def __init__(self, made):
        made.settimeout(BOOT_LIMIT_S)
        made.connect((GUEST[0], 6379))
        made.setblocking(False)
        self.socket = made
        self.sent = self.counter = 0
        self.heard = b""

    def exchange(self, timeout):
        """One INCR, or the answer to the last one; the time of the reply, or None."""
        if self.sent == self.counter:
            self.socket.send(b"INCR bench\r\n")
            self.sent += 1
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return None
            data = self.socket.recv(2048)
            now = time.monotonic()
            if not data:
                raise Failed("the guest closed the connection")
            self.heard += data
            if self.heard.endswith(b"\r\n"):
                self.counter += 1
                if self.heard != b":%d\r\n" % self.counter:
                    raise Failed(f"the guest said {self.heard!r} instead of {self.counter}")
                self.heard = b""
                return now
        return None


class Own:
    """Its client has no connection, and asks until it is answered."""

    name = "kvm"
    memory_mib = 256

    def __init__(self, build):
        self.build = build

    def lines(self, _folder):
        return f"kernel = {self.build}/test/guest/echo\ncmdline = ip={GUEST[0]}"

    def client(self, network, _work):
        client = Client(network.socket_outside())
        wait_until(lambda: client.exchange(0.1), "the echo guest", BOOT_LIMIT_S)
        return client


class Qemu:
    name = "qemu"
    memory_mib = 256
    kind = ("--with", "redis")
    ready = "ready redis"
    more_words = ""

    def __init__(self, _build):
        program = Path(__file__).resolve().parent.parent.parent / "scripts" / "guest-image"
        self.files = subprocess.run([program, *self.kind], check=True, text=True,
                                    capture_output=True).stdout.split()

    def lines(self, _folder):
        return (f"type = qemu\nqemu = qemu-system-x86_64 -machine q35 -accel tcg -cpu max\n"
                f"kernel = {self.files[0]}\ninitrd = {self.files[1]}\ncmdline = console=ttyS0 quiet "
                f"panic=-1 kemari.run=redis kemari.ip={GUEST[0]}/24{self.more_words}")

    def client(self, network, work):
        console = Path(work, "primary", "console")
        wait_until(lambda: console.exists() and self.ready in console.read_text(), "redis", BOOT_LIMIT_S)
        return RedisClient(network.socket_outside(socket.SOCK_STREAM))


class QemuWithDisk(Qemu):
    name = "qemu-disk"
    memory_mib = 512
    kind = ("--root",)
    ready = "ready root"
    more_words = " root=/dev/vda"

    def lines(self, folder):
        subprocess.run(["cp", "--sparse=always", self.files[2], f"{folder}/disk"], check=True)
        return super().lines(folder) + f"\ndisk.0 = {folder}/disk"


def texts_of(machine, alone):
    """As Pair wants them."""
    def text(role, own, other, work):
        return text_of(role, work, machine.memory_mib, machine.lines(f"{work}/{role}")) + (
            ALONE if alone else PAIR.format(own=own, other=other, work=work))
    return text


def round_trips(client, count):
    taken = []
    for _ in range(count):
        start = time.monotonic()
        seen = client.exchange(5)
        if not seen:
            raise Failed("the guest does not answer")
        taken.append((seen - start) * 1e9)
    return taken


def measure_alone(machine, network, build, work, requests):
    with contextlib.ExitStack() as stack:
        Pair(stack, network, build, work, texts_of(machine, alone=True), SIDES[1:])
        client = machine.client(network, work)
        stack.callback(client.socket.close)
        return round_trips(client, requests)


def measure_pair(machine, network, build, work, requests):
    """Round trips; pause and hold as the primary tells them; ns from its kill to each step."""
    with contextlib.ExitStack() as stack:
        pair = Pair(stack, network, build, work, texts_of(machine, alone=False))
        client = machine.client(network, work)
        stack.callback(client.socket.close)
        pair.wait("primary", lambda s: s["protected"], "a protected pair")
        taken = round_trips(client, requests)
        told = pair.status("primary")["replication"]
        round_trips(client, random.randrange(5, 50))
        primary = pair.daemons["primary"]
        killed, killed_wall = time.monotonic(), time.time()
        os.kill(primary.pid, signal.SIGKILL)
        seen = None
        while not seen or seen <= killed + DYING_WORDS_S:
            if time.monotonic() > killed + BOOT_LIMIT_S:
                raise Failed("nobody answers after the kill")
            seen = client.exchange(0.001)
        steps = {**pair.takeover_steps(killed_wall), "reply": (seen - killed) * 1e9}
        return taken, {name: told[name] for name in ("pause", "hold")}, steps


def measure(machine, network, build, work, runs, requests):
    """Its rows."""
    def where(link):
        return (f"machine-{machine.name}", link, "none" if link == "none" else "pipelined", 1,
                machine.memory_mib, 0)

    alone = measure_alone(machine, network, build, work, requests)
    taken, steps = [], []
    for run in range(runs):
        more, told, step = measure_pair(machine, network, build, work, requests)
        taken += more
        steps.append(step)
        tell(f"{run + 1} of {machine.name}", step)
    return [
        csv_rows.row_of_samples(where("none"), "round_trip", "ns", alone),
        csv_rows.row_of_samples(where("tcp"), "round_trip", "ns", taken),
        *(csv_rows.row(where("tcp"), name, "ns", value["count"], value["p50_ns"], value["p99_ns"],
                   value["max_ns"]) for name, value in told.items()),
        *(csv_rows.row_of_samples(where("tcp"), name, "ns", [step[name] for step in steps])
          for name in ("suspect", *STEPS, "reply"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("build")
    parser.add_argument("csv")
    arguments = parser.parse_args()
    build = os.path.abspath(arguments.build)
    with workplace("machines") as (stack, work):
        network = Network(stack)
        # A client that waits 200 ms before it repeats a segment would hide how short it was.
        network.ip("outside", "route replace 10.88.0.0/24 dev lan src 10.88.0.1 rto_min 20ms")
        measured = [row for machine in (Own(build), Qemu(build), QemuWithDisk(build))
                    for row in measure(machine, network, build, work, arguments.runs, arguments.requests)]
    with open(arguments.csv, "w", encoding="utf-8") as file:
        file.writelines([csv_rows.HEAD, *measured])


if __name__ == "__main__":
    main()
