#!/usr/bin/python3
"""usage: test/bench/machines_bench.py [--runs N] [--requests N] BUILD FILE.csv

Both machines side by side: what a client sees of a guest alone and of the same guest protected, how long
it stands still and its output is held, and how long a failover takes (N times, 5). The machine of
kemarid's own runs the echo guest on the local KVM; stock QEMU a Linux with redis, in software emulation: all in
memory, and once more on an ext4 root on a replicated disk, with a redis that answers when its file is durable and with
fio beside it.
The network is that of failover_bench.py. Rows as in test/bench/bench_csv.h.
"""

import argparse
import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from failover_bench import DYING_WORDS_S, GUEST, SIDES, Client, Failed, Network, Pair

BOOT_LIMIT_S = 120
STEPS = ("grant", "drop", "apply", "load", "network", "run", "first_output")
ALONE = """
[replication]
peer-wait = 1s
[arbiter]
type = none
"""
PAIR = """
[replication]
listen = tcp://10.77.1.{own}:7000
peer = tcp://10.77.1.{other}:7000
[heartbeat]
path.0 = 10.77.1.{own}:7001,10.77.1.{other}:7001
secret-file = {work}/secret
[arbiter]
type = none
"""


class RedisClient:
    """As failover_bench.Client, over one TCP connection: it outlives the host, or the guest was lost."""

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
        wait_long(lambda: client.exchange(0.1), "the echo guest")
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
        wait_long(lambda: console.exists() and self.ready in console.read_text(), "redis")
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


def wait_long(condition, what):
    """A kernel in software emulation takes its time."""
    deadline = time.monotonic() + BOOT_LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited too long for {what}")
        time.sleep(0.01)


def text_of(machine, alone):
    def text(role, own, other, work):
        return f"""[vm]
name = bench
role = {role}
state-dir = {work}/{role}
run-dir = {work}/{role}
[machine]
memory = {machine.memory_mib}M
vcpus = 1
net.0 = tap0
console-log = {work}/{role}/console
{machine.lines(f"{work}/{role}")}
""" + (ALONE if alone else PAIR.format(own=own, other=other, work=work))
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
        Pair(stack, network, build, work, text_of(machine, alone=True), SIDES[1:])
        client = machine.client(network, work)
        stack.callback(client.socket.close)
        return round_trips(client, requests)


def measure_pair(machine, network, build, work, requests):
    """Round trips; pause and hold as the primary tells them; ns from its kill to each step."""
    with contextlib.ExitStack() as stack:
        pair = Pair(stack, network, build, work, text_of(machine, alone=False))
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
        takeover = pair.wait("secondary", lambda s: s["takeover"]["first_output_ns"],
                             "the takeover")["takeover"]
        suspect = takeover["suspect_wall_ns"] - killed_wall * 1e9
        steps = {"suspect": suspect, "reply": (seen - killed) * 1e9}
        for step in STEPS:
            steps[step] = suspect + takeover[f"{step}_ns"] - takeover["suspect_ns"]
        return taken, {name: told[name] for name in ("pause", "hold")}, steps


def row_of(machine, link, metric, count, p50, p99, most):
    policy = "none" if link == "none" else "pipelined"
    return (f"machine-{machine.name},{link},{policy},1,{machine.memory_mib},0,{metric},ns,{count},"
            f"{p50:.1f},{p99:.1f},{most:.1f}\n")


def row_of_samples(machine, link, metric, samples):
    values = sorted(samples)
    p50, p99 = (values[min(len(values) - 1, int(len(values) * f))] for f in (0.5, 0.99))
    return row_of(machine, link, metric, len(values), p50, p99, values[-1])


def measure(machine, network, build, work, runs, requests):
    """Its rows."""
    rows = [row_of_samples(machine, "none", "round_trip",
                           measure_alone(machine, network, build, work, requests))]
    taken, steps = [], []
    for run in range(runs):
        more, told, step = measure_pair(machine, network, build, work, requests)
        taken += more
        steps.append(step)
        print(f"bench: {machine.name}, failover {run + 1}: ms from kill to " + ", ".join(
            f"{name} {step[name] / 1e6:.1f}" for name in ("suspect", "run", "first_output", "reply")),
            file=sys.stderr)
    rows.append(row_of_samples(machine, "tcp", "round_trip", taken))
    for name, value in told.items():
        rows.append(row_of(machine, "tcp", name, value["count"], value["p50_ns"], value["p99_ns"],
                           value["max_ns"]))
    rows += [row_of_samples(machine, "tcp", name, [step[name] for step in steps])
             for name in ("suspect", *STEPS, "reply")]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("build")
    parser.add_argument("csv")
    arguments = parser.parse_args()
    build = os.path.abspath(arguments.build)
    rows = []
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="kemari-bench-"))
        with open(f"{work}/secret", "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(os.urandom(32))
        try:
            network = Network(stack)
            # A client that waits 200 ms before it repeats a segment would hide how short it was.
            network.ip("outside", "route replace 10.88.0.0/24 dev lan src 10.88.0.1 rto_min 20ms")
            for machine in Own(build), Qemu(build), QemuWithDisk(build):
                rows += measure(machine, network, build, work, arguments.runs, arguments.requests)
        except Failed as failure:
            for role in ("primary", "secondary"):
                with contextlib.suppress(OSError), open(f"{work}/{role}.log", encoding="utf-8") as log:
                    sys.stderr.write(f"--- {role}:\n" + "".join(log.readlines()[-15:]))
            sys.exit(f"bench: machines: {failure}")
    with open(arguments.csv, "w", encoding="utf-8") as file:
        file.write("scenario,link,policy,vcpus,memory_mib,dirty_pages,metric,unit,samples,p50,p99,max\n")
        file.writelines(rows)


if __name__ == "__main__":
    main()
