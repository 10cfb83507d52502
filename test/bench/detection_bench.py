#!/usr/bin/env python3
"""usage: detection_bench.py [--runs N] [--only SCENARIO] BUILD FILE.csv
       detection_bench.py --false-suspicions SECONDS BUILD

How fast a failure is noticed, granted and survived, with a real etcd as arbiter, from what was done to
the host on: a process that is killed, a host that falls silent as a whole (frozen, all of its links cut
at once), a link that is cut while both hosts live and reach etcd, and a planned switchover. One life of
one guest; the host that lost comes back as the secondary. Rows as in test/bench/bench_csv.h.

--false-suspicions: both hosts' processors are kept busy for so long, and nobody may suspect anybody.
"""

import argparse
import http.client
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "pair"))
import csv_rows  # noqa: E402
import support  # noqa: E402
from support import check, inside, wait_until  # noqa: E402

REQUEST = struct.Struct("<2Q")
REPLY = struct.Struct("<6Q")  # magic, sequence, counter, handled, time, corrupt
MAGIC = 0x4F48434543484F21
MEMORY_MIB = 64
ETCD = ("10.97.0.100", 2379)
URL = f"http://{ETCD[0]}:{ETCD[1]}"
OPTIONS = {"memory": f"{MEMORY_MIB}M", "cmdline": f"ip={support.GUEST_IP}", "arbiter": "etcd",
           "arbiter_endpoints": URL, "arbiter_probe_interval": "1s"}
SCENARIOS = ("killed", "silent", "cut", "switchover")
# Of the status of the host that took over, after its suspicion.
STEPS = ("grant", "drop", "apply", "load", "network", "run", "first_output")


class Etcd:
    """On a network of its own, which no scenario cuts but the silent host's; with fsync."""

    def __init__(self, world):
        self.network = world.network
        self.folder = world.folder / "etcd"
        self.server = None

    def __enter__(self):
        self.network.ip("c", "link", "add", "arb", "type", "bridge")
        self.network.ip("c", "link", "set", "arb", "up")
        # A bridge without an address of its own changes it with its ports, and isn't found any more.
        for number, bridge in enumerate(("arb", "lan"), 1):
            self.network.ip("c", "link", "set", bridge, "address", f"02:00:00:00:97:0{number}")
        self.network.ip("c", "addr", "add", f"{ETCD[0]}/24", "dev", "arb")
        for number, side in enumerate("ab", 1):
            self.network.ip(side, "link", "add", "arb", "type", "veth", "peer", "name",
                            f"arb-{side}", "netns", self.network.names["c"])
            self.network.ip("c", "link", "set", f"arb-{side}", "master", "arb", "up")
            self.network.ip(side, "link", "set", "arb", "up")
            self.network.ip(side, "addr", "add", f"10.97.0.{number}/24", "dev", "arb")
        peer = f"http://{ETCD[0]}:2380"
        self.server = subprocess.Popen(
            ["ip", "netns", "exec", self.network.names["c"], "etcd", "--data-dir", self.folder,
             "--listen-client-urls", URL, "--advertise-client-urls", URL,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", f"default={peer}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=support.die_with_parent)
        wait_until(self._is_up, "etcd comes up")
        return self

    def __exit__(self, *unused):
        self.server.kill()
        self.server.wait()

    def _connect(self):
        with inside(self.network.names["a"]):
            connection = http.client.HTTPConnection(*ETCD, timeout=2)
            connection.connect()
        return connection

    def _is_up(self):
        try:
            return self.measure(1)
        except OSError:
            return None

    def measure(self, count):
        """Times (ns) of so many writes, as a daemon's question is one."""
        connection = self._connect()
        body = json.dumps({"key": "YmVuY2g=", "value": "MQ=="})  # bench = 1
        times = []
        for _ in range(count):
            started = time.monotonic_ns()
            connection.request("POST", "/v3/kv/put", body)
            answer = connection.getresponse()
            answer.read()
            times.append(time.monotonic_ns() - started)
            if answer.status != 200:
                raise OSError(f"etcd answers {answer.status}")
        connection.close()
        return times


class Client:
    """Always has one request under way; knows when each answer came."""

    def __init__(self, world):
        with inside(world.network.names["c"]):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((support.CLIENT_IP, 0))
        self.socket.setblocking(False)
        self.lock = threading.Lock()
        self.answers = []  # time.monotonic_ns(), since take()
        self.counter = 0
        self.sequence = 0
        self.broken = None
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        world.clients.append(self)

    def close(self):
        self.stopping = True
        self.thread.join()
        self.socket.close()

    def _run(self):
        while not self.stopping and not self.broken:
            self.sequence += 1
            try:
                self.socket.sendto(REQUEST.pack(MAGIC, self.sequence), (support.GUEST_IP, 7))
            except OSError:
                time.sleep(0.001)
                continue
            if not select.select([self.socket], [], [], 0.001)[0]:
                continue
            now = time.monotonic_ns()
            _, _, counter, _, _, corrupt = REPLY.unpack_from(self.socket.recv(2048))
            if counter <= self.counter or corrupt:
                self.broken = f"counter {counter} after {self.counter}"
            self.counter = counter
            with self.lock:
                self.answers.append(now)

    def take(self):
        with self.lock:
            answers, self.answers = self.answers, []
        check(not self.broken, f"the guest contradicted itself: {self.broken}")
        return answers

    def wait_answers(self):
        self.take()
        wait_until(lambda: len(self.answers) >= 3 or self.broken, "answers of the guest")
        return self.take()

    def wait_more_answers(self):
        """And keeps those before."""
        before = len(self.answers)
        wait_until(lambda: len(self.answers) >= before + 3 or self.broken, "answers of the guest")

    def silence_after(self, moment):
        """Ends the longest silence that began after `moment`, or just before it."""
        answers = [t for t in self.take() if t >= moment - 1_000_000]
        gaps = [(b - a, b) for a, b in zip(answers, answers[1:])]
        check(gaps, "too few answers")
        return max(gaps)[1] - moment


def cut(world, side):
    for wire in ("data", "beat", "arb", "lan"):
        world.network.ip("c", "link", "set", f"{wire}-{side}", "nomaster")


def heal(world):
    for wire in ("data", "beat", "arb", "lan"):
        world.network.set_wire(wire, True)


def event(host, kind, since):
    """When it first happened after `since`, monotonic ns."""
    found = [e["monotonic_ns"] for e in host.events()
             if e["kind"] == kind and e["monotonic_ns"] >= since]
    return found[0] if found else None


def of_takeover(host, started):
    status = host.wait_for("takeover", lambda s: s["takeover"]["happened"] and
                           s["takeover"]["first_output_ns"])
    takeover = status["takeover"]
    # The status tells the suspicion in wall time, the rest from the last sign of life on.
    suspect = takeover["suspect_wall_ns"] - time.time_ns() + time.monotonic_ns() - started
    result = {"suspect": suspect}
    for step in STEPS:
        result[step] = suspect + takeover[f"{step}_ns"] - takeover["suspect_ns"]
    return result


def of_survivor(host, started):
    """A primary that went on alone: its first output is what it held."""
    result = {"suspect": wait_until(lambda: event(host, "heartbeat.suspect", started), "suspicion"),
              "grant": wait_until(lambda: event(host, "primary.solo", started), "solo")}
    return {step: at - started for step, at in result.items()}


def killed(world, primary, secondary, client):
    started = time.monotonic_ns()
    primary.signal(signal.SIGKILL)
    result = of_takeover(secondary, started)
    primary.daemon.wait()
    client.wait_more_answers()
    return result, started, (secondary, primary)


def silent(world, primary, secondary, client):
    # The freeze is the silence: cutting wires takes some milliseconds each.
    started = time.monotonic_ns()
    primary.signal(signal.SIGSTOP)
    cut(world, primary.side)
    result = of_takeover(secondary, started)
    client.wait_more_answers()
    primary.kill()
    heal(world)
    return result, started, (secondary, primary)


def link_cut(world, primary, secondary, client):
    started = time.monotonic_ns()
    world.network.ip("c", "link", "set", "data-a", "nomaster")
    wait_until(lambda: any(s and s["role"] == "solo"
                           for s in (primary.status(), secondary.status())), "somebody goes on")
    winner, loser = primary, secondary
    if not primary.status() or primary.status()["role"] != "solo":
        winner, loser = secondary, primary
    result = of_takeover(winner, started) if winner is secondary else of_survivor(winner, started)
    client.wait_more_answers()
    loser.kill()
    world.network.set_wire("data", True)
    return result, started, (winner, loser)


def switchover(world, primary, secondary, client):
    started = time.monotonic_ns()
    primary.order("switchover")
    secondary.wait_protected()
    primary.wait_protected()
    done = [e for e in secondary.events()
            if e["kind"] == "switchover.done" and e["monotonic_ns"] >= started]
    result = {"guest_stood": int(done[0]["fields"]["pause_ns"]),
              "done": done[0]["monotonic_ns"] - started}
    client.wait_more_answers()
    return result, started, (secondary, primary)


RUN = {"killed": killed, "silent": silent, "cut": link_cut, "switchover": switchover}


def run_scenario(world, name, runs, pair, client):
    results = []
    for number in range(1, runs + 1):
        primary, secondary = pair
        client.wait_answers()
        result, started, pair = RUN[name](world, primary, secondary, client)
        result["reply"] = client.silence_after(started)
        results.append(result)
        told = ", ".join(f"{step} {value / 1e6:.1f}" for step, value in result.items()
                         if step in ("suspect", "grant", "run", "first_output", "guest_stood", "reply"))
        print(f"bench: {name} {number}: ms until {told}", file=sys.stderr)
        winner, other = pair
        if other.daemon.poll() is not None:
            other.start("secondary", **OPTIONS)
        winner.wait_protected()
        other.wait_protected()
    return results, pair


def write_rows(file, scenario, results):
    metrics = dict.fromkeys(metric for result in results for metric in result)
    for metric in metrics:
        file.write(csv_rows.row_of_samples(
            (f"detect-{scenario}", "tcp", "pipelined", 1, MEMORY_MIB, 0), metric, "ns",
            [result[metric] for result in results if metric in result]))


def measure(world, arguments):
    with Etcd(world) as etcd, open(arguments.csv, "w", encoding="utf-8") as file:
        file.write(csv_rows.HEAD)
        pair = world.start_pair(**OPTIONS)
        client = Client(world)
        client.wait_answers()
        write_rows(file, "etcd", [{"write": ns} for ns in etcd.measure(200)])
        for name in SCENARIOS if not arguments.only else [arguments.only]:
            results, pair = run_scenario(world, name, arguments.runs, pair, client)
            write_rows(file, name, results)
            file.flush()


def false_suspicions(world, seconds):
    """Exit status: 1 when somebody was suspected."""
    with Etcd(world):
        pair = world.start_pair(**OPTIONS)
        client = Client(world)
        client.wait_answers()
        started = time.monotonic_ns()
        burners = [subprocess.Popen(["sh", "-c", "while :; do :; done"],
                                    preexec_fn=support.die_with_parent)
                   for _ in range(2 * (os.cpu_count() or 1))]
        try:
            while time.monotonic_ns() < started + seconds * 1e9:
                for host in pair:
                    check(host.daemon.poll() is None, f"{host.side} ended")
                time.sleep(min(1, seconds))
            load = os.getloadavg()[0]
            seen = [(host.side, e["kind"], e["text"]) for host in pair for e in host.events()
                    if e["monotonic_ns"] >= started and
                    e["kind"] in ("heartbeat.suspect", "failover.done", "primary.solo")]
            stalls = sum(e["kind"] == "heartbeat.stalled" for host in pair for e in host.events())
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()
        check(not client.broken, f"the guest contradicted itself: {client.broken}")
    for side, kind, text in seen:
        print(f"  {side}: {kind}: {text}")
    suspicions = sum(kind == "heartbeat.suspect" for _, kind, _ in seen)
    print(f"false suspicions in {seconds:g} s with {len(burners)} busy processes on "
          f"{os.cpu_count()} processors (load {load:.1f}, own stalls noticed {stalls}): {suspicions}: "
          f"{'met' if suspicions == 0 else 'MISSED'}")
    return 1 if seen else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", choices=SCENARIOS)
    parser.add_argument("--false-suspicions", type=float, metavar="SECONDS")
    parser.add_argument("build")
    parser.add_argument("csv", nargs="?")
    arguments = parser.parse_args()
    if reason := support.skip_reason():
        sys.exit(f"bench: detection: {reason}")
    if not arguments.csv and not arguments.false_suspicions:
        parser.error("a file for the results is missing")
    support.stop_on_signals()
    with support.World(arguments.build) as world:
        OPTIONS["kernel"] = world.build / "test" / "guest" / "echo"
        try:
            if arguments.false_suspicions:
                sys.exit(false_suspicions(world, arguments.false_suspicions))
            measure(world, arguments)
        except support.Failure as failure:
            world.show_logs()
            sys.exit(f"bench: detection: {failure}")


if __name__ == "__main__":
    main()
