#!/usr/bin/env python3
"""usage: life.py BUILD

What happens to a guest and its hosts besides failures: the guest switches itself off, has nothing to
do for long, the time of day of a host is stepped. None of it is a reason to take anything over.
"""

import contextlib
import os
import struct
import sys
import threading
import time

import support
from oracle import Oracle
from support import check, wait_until

HOUR = 3600
# Few enough beats for a busy machine: what silences them here would be a bug.
CALM = {"heartbeat_interval": "100ms", "arbiter": "manual"}


def start(world, **changes):
    primary, secondary = world.start_pair(**changes)
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    return primary, secondary, oracle


def wait_heard(*hosts):
    """A beat that was under way while two processes got to know each other may be rejected."""
    for host in hosts:
        host.wait_for("beats", lambda status: status["heartbeat"]["paths"][0]["received"] > 5)


def check_peace(host, warnings):
    """Protected in the first term by a peer that is heard, and nothing new to warn of."""
    status = host.status()
    check(status["protected"], f"{host.side}: {status['reason']}")
    check(status["term"] == 1, f"{host.side}: term {status['term']}")
    check(status["heartbeat"]["peer_alive"], f"{host.side}: the peer is not heard")
    check(status["warnings"] == warnings, f"{host.side}: {status['warnings']}")
    return status


def check_unsuspected(*hosts):
    for host in hosts:
        for event in host.events():
            check(event["kind"] not in ("heartbeat.suspect", "failover.done", "arbiter.asked"),
                  f"{host.side}: {event['kind']}: {event['text']}")


def fail_over(primary, secondary, oracle):
    primary.kill()
    secondary.wait_for("asking", lambda status: status["arbiter"]["state"] == "asking")
    secondary.order("grant")
    secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    oracle.wait_answers(3)


class Clock:
    """The time of day of a daemon that is started inside (step_clock.c)."""

    def __init__(self, world, side):
        self.library = world.build / "test" / "pair" / "libstep-clock.so"
        self.path = world.folder / f"clock-{side}"
        self.step(0)

    def step(self, seconds):
        with open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))

    @contextlib.contextmanager
    def worn(self):
        changes = {"LD_PRELOAD": str(self.library), "KEMARI_TEST_CLOCK": str(self.path),
                   "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") +
                   ":verify_asan_link_order=0"}
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def a_clock_that_is_stepped_changes_nothing(world):
    hosts = world.hosts["a"], world.hosts["b"]
    clocks = [Clock(world, host.side) for host in hosts]
    for host, clock, role in zip(hosts, clocks, ("primary", "secondary")):
        with clock.worn():
            host.start(role, **CALM)
    primary, secondary = hosts
    for host in hosts:
        host.wait_protected()
    wait_heard(*hosts)
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    warnings = [host.status()["warnings"] for host in hosts]
    uptimes = [host.status()["uptime_ns"] for host in hosts]
    for steps in ((5 * HOUR, 0), (5 * HOUR, -7 * HOUR), (-9 * HOUR, 3 * HOUR), (0, 10**6 * HOUR)):
        for clock, seconds in zip(clocks, steps):
            clock.step(seconds)
        seen = [host.status()["heartbeat"]["paths"][0]["received"] for host in hosts]
        oracle.wait_answers(50)
        for host, warning, before in zip(hosts, warnings, seen):
            host.wait_for("beats", lambda status, before=before:
                          status["heartbeat"]["paths"][0]["received"] > before + 5)
            status = check_peace(host, warning)
            check(status["uptime_ns"] < uptimes[hosts.index(host)] + HOUR * 10**9, "uptime jumped")
            check(status["replication"]["hold"]["max_ns"] < HOUR * 10**9, "a wait of hours")
    check_unsuspected(*hosts)
    # An event's stamp is the time of day: it tells that the daemons saw the steps.
    clocks[1].step(48 * HOUR)
    fail_over(primary, secondary, oracle)
    # The guest runs before anything is told.
    wait_until(lambda: secondary.has_event("failover.done"), "a word of the failover")
    done = [event for event in secondary.events() if event["kind"] == "failover.done"]
    check(len(done) == 1, f"{len(done)} words of one failover")
    check(done[0]["wall_ns"] / 1e9 > time.time() + 47 * HOUR, f"not stepped: {done[0]}")
    took = secondary.status()["takeover"]
    check(took["load_ns"] < HOUR * 10**9, f"a takeover of hours: {took}")


def a_guest_with_nothing_to_do_is_no_alarm(world):
    """Silence for many times what a standby, a checkpoint and a heartbeat have to show themselves."""
    arguments = f"ip={support.GUEST_IP} wait=hlt"
    primary, secondary, oracle = start(world, cmdline=arguments, max_interval="60s",
                                       stall_timeout="300ms", arbiter_timeout="100ms", **CALM)
    wait_heard(primary, secondary)
    oracle.pause()
    warnings = [host.status()["warnings"] for host in (primary, secondary)]
    beats = [host.status()["heartbeat"]["paths"][0]["received"] for host in (primary, secondary)]
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for host, warning in zip((primary, secondary), warnings):
            status = check_peace(host, warning)
            check(status["replication"]["throttle_percent"] == 0, "an idle guest is throttled")
    for host, before in zip((primary, secondary), beats):
        received = host.status()["heartbeat"]["paths"][0]["received"]
        check(received > before + 10, f"{host.side}: {received - before} beats in three seconds")
    check(primary.status()["guest"]["state"] == "running", "a halted guest counts as stopped")
    check_unsuspected(primary, secondary)
    oracle.resume()
    oracle.wait_answers(3)
    oracle.pause()
    primary.kill()
    secondary.wait_for("asking", lambda status: status["arbiter"]["state"] == "asking")
    secondary.order("grant")
    secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    oracle.resume()
    oracle.wait_answers(3)


def a_death_right_after_power_off_starts_nothing(world):
    """Acknowledgements are lost from before the power-off on: the secondary has it, and the primary
    never learns that, until it is killed. It has said that it stops, so nobody is suspected; and an
    operator who wants the guest is told that it is off."""
    primary, secondary, oracle = start(world, max_interval="60s", window=8)
    oracle.pause()
    world.network.lose_frames("ip saddr 10.99.0.2 ip protocol tcp")
    oracle.switch_off()
    wait_until(lambda: primary.has_event("guest.off"), "the power-off")
    # The event may come before the epoch that has the power-off: an order later than it, whose
    # answer never comes, brings one that has.
    replication = primary.status()["replication"]
    sent = max(replication["epoch_in_flight"], replication["epoch_committed"])
    order = threading.Thread(target=primary.ctl, args=("checkpoint",))
    order.start()
    secondary.wait_for(f"an epoch after {sent}",
                       lambda status: status["replication"]["epoch_committed"] > sent)
    primary.kill()
    order.join()
    world.network.lose_frames()
    secondary.wait_for("the loss", lambda status: not status["protected"])
    check_unsuspected(secondary)
    check(not secondary.status()["takeover"]["happened"], "it took over")
    secondary.ctl("failover", "--yes")
    check(secondary.wait_exit() == 0, f"secondary: {secondary.daemon.returncode}")
    check("had switched itself off" in secondary.log.read_text(), "the reason is not told")
    check("off" not in primary.console() + secondary.console(), "unacknowledged words left")


TESTS = [
    a_clock_that_is_stepped_changes_nothing,
    a_guest_with_nothing_to_do_is_no_alarm,
    a_death_right_after_power_off_starts_nothing,
]

if __name__ == "__main__":
    chosen = [test for test in TESTS if not sys.argv[2:] or test.__name__ in sys.argv[2:]]
    sys.exit(support.main(sys.argv[1], chosen))
