#!/usr/bin/env python3
"""usage: drills.py BUILD

Every drill on a live pair with a client outside: the fault is real, the pair survives it, the report
says what happened, and the fault ends even if nobody is left to end it.
"""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import support
from etcd import ADDRESS, Etcd, arbiter_at
from oracle import Oracle
from support import check, wait_until

OPTIONS = {**arbiter_at(ADDRESS), "cmdline": f"ip={support.GUEST_IP} dirty=50"}
TOOK_OVER = ("detected", "granted", "promoted", "first_output", "healed", "protected")


def kemarictl(host):
    return [str(host.world.build / "app" / "kemarictl"), "-s", str(host.socket)]


def other(host):
    return host.world.hosts["b" if host.side == "a" else "a"]


def run_drill(host, scenario, *options):
    """Exit status, standard output and standard error."""
    done = subprocess.run(
        [*kemarictl(host), "drill", "run", scenario, "--yes", "--peer",
         " ".join(kemarictl(other(host))), *options],
        capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout, done.stderr


def adopt(host):
    """Whoever serves the host's socket now is what the world ends in the end."""
    status = host.status()
    if status and status["pid"] != host.daemon.pid:
        host.daemon = Adopted(status["pid"])


def adopting(test):
    """What a drill has started does not outlive the test, however that ends."""
    @functools.wraps(test)
    def adopting_test(world):
        try:
            test(world)
        finally:
            for host in world.hosts.values():
                adopt(host)
    return adopting_test


class Adopted:
    """A daemon that a drill brought back, as far as Popen is needed of it."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return 0
        return 0 if state == "Z" else None

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, limit=support.LIMIT):
        wait_until(lambda: self.poll() is not None, f"{self.pid} ends", limit)
        return 0


def wait_ready(world):
    """For a drill: one is refused while a host doesn't reach the arbiter, as on a busy machine, or when
    that was the drill before."""
    for host in world.hosts.values():
        host.wait_for("protected, with an arbiter that answers",
                      lambda s: s["protected"] and s["arbiter"]["state"] != "unreachable")


def survive(host, scenario, oracle, *options):
    """Runs it on this host; returns the report and who owns the guest now."""
    wait_ready(host.world)
    oracle.wait_answers(3)
    oracle.reset_silence()
    status, said, progress = run_drill(host, scenario, "--json", *options)
    check(status == 0, f"drill {scenario} ended with {status}: {said}{progress}")
    report = json.loads(said)
    check(report["survived"] and report["scenario"] == scenario, f"the report says {report}")
    for each in host.world.hosts.values():
        adopt(each)
        check(each.status()["protected"], f"{each.side} is not protected after {scenario}")
    oracle.wait_answers(3)
    oracle.verify()
    steps = {name: round(ns / 1e6, 1) for name, ns in report["steps_ns"].items() if ns is not None}
    print(f"  {scenario:18} {steps} ms; silence {oracle.longest_silence * 1e3:.0f} ms, "
          f"{report['held_frames']} held, {report['resync_bytes']} bytes sent again", flush=True)
    return report


def owner_of(world):
    owners = [host for host in world.hosts.values() if host.status()["role"] == "primary"]
    check(len(owners) == 1, "one host owns the guest")
    return owners[0]


def every_drill_is_survived_and_reported(world):
    with Etcd(world):
        world.start_pair(**OPTIONS)
        oracle = Oracle(world).start()
        for scenario in ("kill", "freeze", "isolate-all"):
            victim = owner_of(world)
            report = survive(victim, scenario, oracle)
            check(owner_of(world) is other(victim), f"{scenario} did not move the guest")
            check(report["moved"] and report["term_after"] > report["term_before"], f"{report}")
            missing = [step for step in TOOK_OVER if report["steps_ns"][step] is None]
            check(not missing, f"{scenario}: the report lacks {missing}: {report}")
            times = [report["steps_ns"][step] for step in TOOK_OVER]
            check(times[:4] == sorted(times[:4]), f"{scenario}: steps out of order: {report}")
            check(report["resync_bytes"] > 1 << 16, f"{scenario}: the memory was copied: {report}")
        for scenario in ("standby-loss", "freeze"):
            survive(other(owner_of(world)), scenario, oracle)
        for scenario in ("isolate-data", "isolate-heartbeat", "isolate-arbiter", "slow-link",
                         "corrupt-link"):
            seconds = "3" if scenario == "isolate-arbiter" else "1"  # until a probe has failed
            report = survive(owner_of(world), scenario, oracle, "--seconds", seconds)
            kinds = {event["kind"] for event in report["events"]}
            if scenario == "corrupt-link":
                check("sync.started" in kinds, f"altered bytes did not end the connection: {kinds}")
            if scenario == "isolate-heartbeat":
                check("heartbeat.suspect" in kinds, f"nobody missed the heartbeats: {kinds}")
            if scenario == "isolate-arbiter":
                check("arbiter.unreachable" in kinds, f"nobody missed the arbiter: {kinds}")
        asked = owner_of(world)
        survive(asked, "switchover", oracle)
        check(owner_of(world) is other(asked), "the switchover did not move the guest")
        the_history_is_kept(asked)


def the_history_is_kept(host):
    """Of the drills of this host: in short, whole, as a picture."""
    folder = host.folder / "state" / "drills"
    ids = sorted(path.stem for path in folder.glob("*.json"))
    check(len(ids) > 1 and all((folder / f"{name}.svg").exists() for name in ids), f"{ids}")
    lines = host.order("drill", "report", "all").splitlines()
    check([line.split()[0] for line in lines] == ids, f"report all shows {lines}")
    newest = host.order("drill", "report")
    check(newest.startswith(f"drill {ids[-1]}: SURVIVED: the guest runs on"), newest)
    oldest = json.loads(host.order("drill", "report", ids[0], "--json"))
    check(oldest["id"] == ids[0], f"{oldest}")
    picture = host.folder / "picture.svg"
    host.order("drill", "report", "--svg", str(picture))
    check("</svg>" in picture.read_text() and "protected again" in picture.read_text(), "the SVG")
    status, said = host.ctl("drill", "report", "never")
    check(status == 1 and "there is no report never" in said, said)


def refusal(host, scenario, *options):
    before = host.status()
    status, said, why = run_drill(host, scenario, *options)
    check(status == 1 and not said, f"drill {scenario} ended with {status}: {said}{why}")
    after = host.status()
    check((before["pid"], before["role"], before["term"]) ==
          (after["pid"], after["role"], after["term"]), "a refused drill did something")
    return why


def what_would_not_be_survived_is_refused(world):
    first, second = world.start_pair()
    check("the guest would run twice" in refusal(first, "isolate-all"), "arbiter none is no reason")
    check("nothing is configured that switches" in refusal(first, "power-off", "--force"), "no means")
    check("only an arbiter of type etcd" in refusal(first, "isolate-arbiter"), "no way to cut")
    check("is for the secondary's host" in refusal(first, "standby-loss", "--force"), "wrong host")
    status, _, why = run_drill(first, "kill", "--peer", " ".join(kemarictl(first)))
    check(status == 1 and "shows this host's daemon" in why, f"itself as the other host: {why}")
    status, _, why = run_drill(first, "kill", "--peer", "false")
    check(status == 1 and "shows no status" in why, f"no other host: {why}")
    second.kill()
    first.wait_for("alone", lambda status: status["role"] == "solo")
    check("shows no status" in refusal(first, "kill", "--force"), "without a standby")
    status, said = first.ctl("drill", "run", "kill", "--peer", "true")
    check(status == 2 and "--yes" in said, f"without a yes: {said}")
    status, said = first.ctl("drill", "report")
    check(status == 1 and "there was no drill yet" in said, said)


def power_commands(world, victim):
    """Stand-ins for a management board: all processes of the host end at once, with its wires; and back."""
    namespace = world.network.names[victim.side]
    off, on = (victim.folder / f"power-{what}" for what in ("off", "on"))
    wires = "; ".join(f"ip -n {world.network.names['c']} link set {wire}-{victim.side} down"
                      for wire in ("data", "beat", "lan"))
    off.write_text(f"#!/bin/sh\n{wires}\nkill -KILL $(ip netns pids {namespace})\n")
    words = " ".join(f"'{word}'" for word in victim.command("auto", **OPTIONS))
    on.write_text(f"#!/bin/sh\n{wires.replace('down', 'up')}\n"
                  f"ip netns exec {namespace} {words} >>{victim.log} 2>&1 &\n")
    for each in (off, on):
        each.chmod(0o755)
    return {"drill_power_off": off, "drill_power_on": on}


def start_auto(world, first, second, changes):
    first.start("auto", **OPTIONS, **changes.get(first, {}))
    first.wait_for("it has the guest", lambda status: status["role"] == "primary")
    second.start("auto", **OPTIONS, **changes.get(second, {}))
    first.wait_protected()
    second.wait_protected()


def a_host_that_loses_its_power_is_survived(world):
    """The primary's, then the secondary's."""
    with Etcd(world):
        stays, victim = world.hosts["a"], world.hosts["b"]
        start_auto(world, victim, stays, {stays: power_commands(world, victim)})
        oracle = Oracle(world).start()
        report = survive(stays, "power-off", oracle)
        check(owner_of(world) is stays and report["moved"], f"the guest did not come: {report}")
        missing = [step for step in TOOK_OVER if report["steps_ns"][step] is None]
        check(not missing, f"the report lacks {missing}: {report}")
        report = survive(stays, "power-off", oracle)
        check(owner_of(world) is stays and not report["moved"], f"the guest moved: {report}")
        check(report["term_after"] == report["term_before"] + 1, f"nobody was granted: {report}")


def a_power_failure_needs_a_means_that_works(world):
    with Etcd(world):
        first, second = world.hosts["a"], world.hosts["b"]
        refuses = world.folder / "refuses"
        refuses.write_text("#!/bin/sh\nexit 3\n")
        refuses.chmod(0o755)
        start_auto(world, first, second, {first: {"drill_power_off": refuses},
                                          second: {"drill_power_off": "/bin/true"}})
        wait_ready(world)
        said = refusal(first, "power-off")
        check("nothing was done: power-off" in said and "exit status 3" in said, said)
        wait_ready(world)
        status, said, _ = run_drill(second, "power-off", "--seconds", "1")
        check(status == 1 and "NOT SURVIVED" in said and "the other host was not lost" in said, said)
        second.order("stop")
        second.wait_exit()
        first.wait_for("alone", lambda status: status["role"] == "solo")
        second.start("auto", **OPTIONS, drill_power_off="/nowhere/power")
        wait_ready(world)
        check("/nowhere/power: No such file" in refusal(second, "power-off", "--force"), "no program")


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def start_drill(host, scenario, *options):
    return subprocess.Popen(
        [*kemarictl(host), "drill", "run", scenario, "--yes", "--peer",
         " ".join(kemarictl(other(host))), *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=support.die_with_parent)


def kill_with_children(process):
    """kemarictl and its healer, before either can do anything more."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGSTOP)
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()


def a_fault_ends_when_everybody_who_could_end_it_is_dead(world):
    with Etcd(world):
        first, second = world.start_pair(**OPTIONS)
        oracle = Oracle(world).start()
        oracle.wait_answers(3)
        wait_ready(world)
        # Killed before the other host has taken over: too long a detection for that.
        drill = start_drill(second, "freeze", "--seconds", "2")
        wait_until(lambda: state_of(second.daemon.pid) == "T", "it stands still")
        kill_with_children(drill)
        wait_until(lambda: state_of(second.daemon.pid) != "T", "it wakes by itself")
        wait_ready(world)
        drill = start_drill(second, "isolate-heartbeat", "--seconds", "2")
        inside = ["ip", "netns", "exec", world.network.names[second.side], "nft", "list", "ruleset"]

        def armed():
            return "elements = {" in support.run(*inside)
        wait_until(armed, "the rules are there")
        kill_with_children(drill)
        wait_until(lambda: not armed(), "the kernel takes the fault back")
        second.wait_for("heard", lambda status: status["heartbeat"]["peer_alive"])
        oracle.wait_answers(3)


@adopting
def a_service_is_not_frozen_until_its_manager_ends_it(world):
    with Etcd(world):
        os.environ["WATCHDOG_USEC"] = "12000000"
        try:
            first, second = world.start_pair(**OPTIONS)
        finally:
            del os.environ["WATCHDOG_USEC"]
        pid = first.status()["pid"]
        wait_ready(world)
        code, _, said = run_drill(first, "freeze", "--seconds", "11")
        check(code != 0 and "stands still for longer than 10 s (WatchdogSec of its unit)" in said, said)
        check(first.status()["pid"] == pid and first.status()["role"] == "primary", "nothing happened to it")
        wait_ready(world)
        code, _, said = run_drill(first, "freeze", "--seconds", "2")
        check(code == 0, said)


@adopting
def kemarictl_may_die_in_the_middle_of_a_kill(world):
    with Etcd(world):
        first, second = world.start_pair(**OPTIONS)
        oracle = Oracle(world).start()
        oracle.wait_answers(3)
        wait_ready(world)
        drill = start_drill(first, "kill")
        wait_until(lambda: first.daemon.poll() is not None, "the daemon is killed")
        drill.kill()
        drill.wait()
        second.wait_for("takeover", lambda status: status["takeover"]["happened"])
        # The healer goes on alone.
        wait_until(lambda: (first.status() or {}).get("protected"), "it is brought back")
        adopt(first)
        oracle.wait_answers(3)


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [adopting(test) for test in (
        every_drill_is_survived_and_reported,
        what_would_not_be_survived_is_refused,
        a_host_that_loses_its_power_is_survived,
        a_power_failure_needs_a_means_that_works,
        a_fault_ends_when_everybody_who_could_end_it_is_dead,
        a_service_is_not_frozen_until_its_manager_ends_it,
        kemarictl_may_die_in_the_middle_of_a_kill,
    )]))
