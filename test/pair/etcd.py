#!/usr/bin/env python3
"""usage: etcd.py BUILD

A pair whose arbiter is a real etcd on the network between the hosts: terms are claimed, won and
refused there, and its absence stops nothing but is told.
"""

import os
import shutil
import signal
import subprocess
import sys

import support
from oracle import Oracle
from support import check, wait_until

ADDRESS = "10.99.0.100"


def arbiter_at(address):
    """The daemons' options for an etcd there."""
    return {"arbiter": "etcd", "arbiter_endpoints": f"http://{address}:2379",
            "arbiter_probe_interval": "100ms", "arbiter_attempt_timeout": "500ms"}


ARBITER = arbiter_at(ADDRESS)


class Etcd:
    """Runs in the namespace of the switches, at `address` of `wire`, and at `others`. Use as a
    context."""

    def __init__(self, world, address=ADDRESS, wire="data", others=()):
        self.inside = ["ip", "netns", "exec", world.network.names["c"]]
        self.folder = world.folder / "etcd"
        self.address = address
        self.url = f"http://{address}:2379"
        self.urls = [self.url, *(f"http://{other}:2379" for other in others)]
        for each in (address, *others):
            world.network.ip("c", "addr", "add", f"{each}/24", "dev", wire)
        self.server = None

    def __enter__(self):
        peer = f"http://{self.address}:2380"
        self.server = subprocess.Popen(
            [*self.inside, "etcd", "--data-dir", self.folder, "--unsafe-no-fsync",
             "--listen-client-urls", ",".join(self.urls), "--advertise-client-urls", self.url,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", f"default={peer}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=support.die_with_parent)
        wait_until(lambda: self.ctl("endpoint", "health")[0] == 0, "etcd comes up")
        return self

    def __exit__(self, *unused):
        self.server.send_signal(signal.SIGCONT)
        self.server.kill()
        self.server.wait()

    def ctl(self, *words):
        done = subprocess.run([*self.inside, "etcdctl", f"--endpoints={self.url}", *words],
                              env={"ETCDCTL_API": "3", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                              capture_output=True, text=True, timeout=30)
        return done.returncode, done.stdout.strip()

    def freeze(self):
        """Returns when it stands."""
        self.server.send_signal(signal.SIGSTOP)
        support.wait_frozen(self.server.pid, "etcd")

    def thaw(self):
        self.server.send_signal(signal.SIGCONT)

    def key(self):
        return self.ctl("get", "--print-value-only", "/kemari/pair")[1]


def start(world):
    primary, secondary = world.start_pair(**ARBITER)
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    return primary, secondary, oracle


def arbiter_is(state):
    return lambda status: status["arbiter"]["state"] == state


def the_next_term_is_won_at_etcd(world):
    with Etcd(world) as etcd:
        primary, secondary, oracle = start(world)
        check(etcd.key().startswith("term 1 owner "), f"the key says {etcd.key()}")
        primary.kill()
        status = secondary.wait_for_state("alone")
        check(status["term"] == 2, f"term {status['term']}")
        check(etcd.key().startswith("term 2 owner "), f"the key says {etcd.key()}")
        oracle.wait_answers(3)
        # The one that comes back as primary is told who owns the guest, and that is final.
        primary.start("primary", **ARBITER)
        check(primary.wait_exit() == 1, "a second primary runs")
        check("another host owns the guest" in primary.log.read_text(), "it doesn't say why")
        primary.start("secondary", **ARBITER)
        secondary.wait_protected()
        oracle.wait_answers(3)


def without_etcd_nothing_stops_but_nothing_fails_over(world):
    with Etcd(world) as etcd:
        primary, secondary, oracle = start(world)
        etcd.freeze()
        for host in (primary, secondary):
            status = host.wait_for("an unreachable arbiter", arbiter_is("unreachable"))
            check(any("would not fail over" in text for text in status["warnings"]),
                  "no warning of it")
            wait_until(lambda: host.has_event("arbiter.unreachable"), "the event of it")
        oracle.wait_answers(3)
        etcd.thaw()
        for host in (primary, secondary):
            host.wait_for("the arbiter again", lambda s: s["arbiter"]["state"] != "unreachable")
            wait_until(lambda: host.has_event("arbiter.reachable"), "the event of it")
        etcd.freeze()
        primary.kill()
        secondary.wait_for("asking", arbiter_is("asking"))
        check(secondary.status()["state"] == "holding", "it went on without a grant")
        check(world.network.emitted(secondary.side) == 0, "somebody answered")
        etcd.thaw()
        secondary.wait_for_state("alone")
        oracle.wait_answers(3)


def a_guest_does_not_begin_before_etcd_has_said_so(world):
    with Etcd(world) as etcd:
        etcd.freeze()
        host = world.hosts["a"]
        host.start("primary", **ARBITER)
        status = host.wait_for("asking", arbiter_is("asking"))
        check(status["guest"]["state"] == "parked" and "not begun" in status["reason"],
              f"{status['guest']['state']}: {status['reason']}")
        etcd.thaw()
        host.wait_for("the guest runs", lambda s: s["guest"]["state"] == "running")
        check(etcd.key().startswith("term 1 owner "), f"the key says {etcd.key()}")
        # A crash and a new start keep the term; a stranger's term ends it.
        host.kill()
        host.start("primary", **ARBITER)
        status = host.wait_for("the guest runs", lambda s: s["guest"]["state"] == "running")
        check(status["term"] == 1, f"term {status['term']}")
        host.kill()
        etcd.ctl("put", "/kemari/pair", "term 2 owner somebody")
        host.start("primary", **ARBITER)
        check(host.wait_exit() == 1, "it began in a term that is over")


def a_switchover_has_its_term_from_etcd(world):
    with Etcd(world) as etcd:
        primary, secondary, oracle = start(world)
        primary.order("switchover")
        secondary.wait_protected()
        primary.wait_protected()
        check(etcd.key().startswith("term 2 owner "), f"the key says {etcd.key()}")
        oracle.wait_answers(3)
        # Without etcd it is refused, and nothing stops.
        etcd.freeze()
        secondary.wait_for("an unreachable arbiter", arbiter_is("unreachable"))
        for host in (primary, secondary):
            code, said = host.ctl("switchover")
            check(code == 1 and "arbiter can't be reached" in said, f"{host.side}: {code}, {said}")
        oracle.wait_answers(3)
        etcd.thaw()
        secondary.wait_for("the arbiter again", lambda s: s["arbiter"]["state"] != "unreachable")
        primary.order("switchover")
        primary.wait_protected()
        secondary.wait_protected()
        check(etcd.key().startswith("term 3 owner "), f"the key says {etcd.key()}")
        # The new owner dies: the term that was set aside for it is no obstacle.
        primary.kill()
        status = secondary.wait_for_state("alone")
        check(status["term"] == 4, f"term {status['term']}")
        oracle.wait_answers(3)


def own_words(host):
    """What the daemon said last of its own, without the log's lines."""
    return [line for line in host.log.read_text().rsplit("----", 1)[1].splitlines()
            if line.startswith("kemarid: ")]


def of_two_primaries_one_owns_the_guest(world):
    """Both hosts are started in the same role, by a mistake: one begins, the other says why not."""
    with Etcd(world) as etcd:
        hosts = list(world.hosts.values())
        for host in hosts:
            host.start("primary", **ARBITER)
        loser = wait_until(lambda: next((host for host in hosts if not host.runs()), None),
                           "one of two primaries ends")
        owner = next(host for host in hosts if host is not loser)
        check(loser.wait_exit() == 1, f"exit status {loser.daemon.returncode}")
        said = own_words(loser)
        check(len(said) == 1 and said[0].startswith("kemarid: another host owns the guest (")
              and said[0].endswith("): start this one with role = secondary"), f"it said {said}")
        status = owner.wait_for("the guest runs", lambda s: s["guest"]["state"] == "running")
        check(status["term"] == 1 and etcd.key().startswith("term 1 owner "),
              f"term {status['term']}, the key says {etcd.key()}")
        check(world.network.emitted(loser.side) == 0, "the loser's guest said something")
        loser.start("secondary", **ARBITER)
        owner.wait_protected()
        loser.wait_protected()
        oracle = Oracle(world).start()
        oracle.wait_answers(3)
        oracle.verify()


def start_either(host):
    """With a disk, so that its role is changed, too."""
    image = host.folder / "disk"
    image.touch()
    os.truncate(image, 1 << 20)
    host.start("auto", **ARBITER, disk_0=image)


def one_role_each(world):
    """Both daemons, started in the same way: (primary, secondary) when they have found that out."""
    hosts = list(world.hosts.values())
    for host in hosts:
        start_either(host)
    for host in hosts:
        host.wait_protected()
    hosts.sort(key=lambda host: host.status()["role"])
    roles = [host.status()["role"] for host in hosts]
    check(roles == ["primary", "secondary"], f"roles {roles}")
    return hosts


def equal_hosts_share_the_roles_and_a_returned_one_is_the_secondary(world):
    """Role auto, as a supervisor starts it again and again: an owner that died follows the one that
    has taken over, in the process that was about to begin, and can take over from it."""
    with Etcd(world) as etcd:
        primary, secondary = one_role_each(world)
        check(etcd.key().startswith("term 1 owner "), f"the key says {etcd.key()}")
        oracle = Oracle(world).start()
        oracle.wait_answers(3)
        for term in (2, 3, 4):
            primary.kill()
            status = secondary.wait_for_state("alone")
            check(status["term"] == term, f"term {status['term']}")
            frames = world.network.emitted(primary.side)
            start_either(primary)
            primary.wait_protected()
            secondary.wait_protected()
            check(primary.status()["role"] == "secondary", "a second primary")
            check(primary.has_event("role.secondary"), "it does not say that it yielded")
            check(world.network.emitted(primary.side) == frames, "the second guest said something")
            oracle.wait_answers(3)
            primary, secondary = secondary, primary
        # Who left as the secondary is that again, whoever comes first.
        oracle.verify()
        secondary.order("stop")
        check(secondary.wait_exit() == 0, "an orderly end")
        primary.wait_for_state("alone")
        start_either(secondary)
        secondary.wait_protected()
        check(not secondary.has_event("role.secondary"), "it asked for a guest that it never owned")
        oracle.wait_answers(3)
        oracle.verify()


def equal_hosts_start_again_after_all_was_off(world):
    with Etcd(world) as etcd:
        owner, other = one_role_each(world)
        owner.order("stop")
        check(owner.wait_exit() == 0 and other.wait_exit() == 0, "an orderly end of both")
        start_either(other)
        other.wait_for_state("connecting")
        start_either(owner)
        for host in (owner, other):
            host.wait_protected()
        check(owner.status()["role"] == "primary", "it does not know that it owned the guest")
        check(etcd.key().startswith("term 1 owner "), f"the key says {etcd.key()}")
        oracle = Oracle(world).start()
        oracle.wait_answers(3)
        # One that was stopped for good is a secondary as soon as it is started again.
        other.order("failover", "--yes")
        owner.wait_for_state("stopped")
        owner.order("stop")
        check(owner.wait_exit() == 0, "a fenced host ends in an orderly way")
        start_either(owner)
        owner.wait_protected()
        other.wait_protected()
        check(not owner.has_event("role.secondary"), "it asked for a guest that it had lost")
        oracle.wait_answers(3)
        oracle.verify()


def a_standby_that_was_left_behind_never_takes_over(world):
    """It holds a complete guest, of a term that is over, and nobody else is left: what clients have
    seen since is more than it knows."""
    with Etcd(world) as etcd:
        primary, secondary, oracle = start(world)
        world.network.set_wire("data", False, "b")
        primary.wait_for_state("alone")
        check(etcd.key().startswith("term 2 owner "), f"the key says {etcd.key()}")
        secondary.wait_for("asking", arbiter_is("asking"))
        oracle.wait_answers(3)
        primary.kill()
        world.network.set_wire("data", True, "b")
        status = secondary.wait_for(
            "what it held is given up",
            lambda s: s["state"] == "connecting" and s["arbiter"]["state"] != "asking")
        check(not status["takeover"]["happened"], "it took over")
        code, said = secondary.ctl("failover", "--yes")
        check(code == 1 and "no complete state" in said, f"failover: {code}, {said}")
        check(etcd.key().startswith("term 2 owner "), f"the key says {etcd.key()}")
        check(world.network.emitted(secondary.side) == 0, "it said something")
        oracle.verify()


TESTS = [
    a_standby_that_was_left_behind_never_takes_over,
    equal_hosts_share_the_roles_and_a_returned_one_is_the_secondary,
    equal_hosts_start_again_after_all_was_off,
    of_two_primaries_one_owns_the_guest,
    a_switchover_has_its_term_from_etcd,
    the_next_term_is_won_at_etcd,
    without_etcd_nothing_stops_but_nothing_fails_over,
    a_guest_does_not_begin_before_etcd_has_said_so,
]

def skip_without_etcd():
    """Ends the program where there is none."""
    if not shutil.which("etcd") or not shutil.which("etcdctl"):
        print("SKIP: no etcd (packages etcd-server and etcd-client) on this machine")
        sys.exit(support.SKIPPED)


if __name__ == "__main__":
    skip_without_etcd()
    sys.exit(support.main(sys.argv[1], TESTS))
