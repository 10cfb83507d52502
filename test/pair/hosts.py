#!/usr/bin/env python3
"""usage: hosts.py BUILD

Three hosts and a real etcd: each lists the other two as its standbys, in order. The second of the
list comes when the first is gone, in a new term, and whoever was left behind is never promoted,
whatever it holds.
"""

import os
import signal
import sys

import support
from etcd import ADDRESS, ARBITER, Etcd, skip_without_etcd
from oracle import Oracle, journal
from support import check, wait_until

SECTORS = 16384  # of each host's disk, on which the oracle has the guest keep a journal
SEED = 4711


class Network(support.Network):
    sides = "abd"  # c is the switches


class World(support.World):
    network_type = Network

    def oracle_place(self):
        return {**super().oracle_place(), "journal": (SEED, SECTORS)}


def address(number):
    return f"tcp://10.99.0.{number}:7000"


def path(own, other):
    """Each host has a port of its own for every other one."""
    return f"10.99.0.{own}:{7100 + other},10.99.0.{other}:{7100 + own}"


def options(host, order=None, **changes):
    """The list of this host: the others in the order of their numbers, unless `order` says."""
    first, second = order or [number for number in (1, 2, 3) if number != host.number]
    image = host.folder / "disk"
    if not image.exists():
        image.touch()
        os.truncate(image, SECTORS * journal.SECTOR)
    return {**ARBITER, "listen": address(host.number), "peer": address(first),
            "host_0": address(second), "host_wait": "0", "path_0": path(host.number, first),
            "path_1": path(host.number, second) + ",host=0", "disk_0": image, **changes}


def start(host, role, **changes):
    host.start(role, **options(host, **changes))


def start_all(world, **changes):
    """a is the primary, b its standby, and d waits."""
    a, b, d = (world.hosts[side] for side in "abd")
    start(a, "primary", **changes)
    start(b, "secondary", **changes)
    a.wait_protected()
    b.wait_protected()
    start(d, "secondary", **changes)
    wait_bound(d)
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    return a, b, d, oracle


def wait_bound(host):
    """It knocks, and is told who is before it."""
    return host.wait_for("to be told of another standby",
                         lambda status: "is the standby in this term" in status["reason"])


def parts(host):
    return [entry["part"] for entry in host.status()["hosts"]]


def key_says(etcd, term):
    check(etcd.key().startswith(f"term {term} owner "), f"the key says {etcd.key()}")


def took_over(status):
    return status["takeover"]["happened"]


def check_disks(oracle, primary, standby):
    """Every record that was acknowledged is on the images of both, whichever hosts wrote it."""
    primary.order("stop")
    check(primary.wait_exit() == 0 and standby.wait_exit() == 0, "an orderly end")
    acknowledged = oracle.verify()["journal"]
    check(acknowledged > 10, f"{acknowledged} records were acknowledged")
    for host in (primary, standby):
        journal.check_image(host.folder / "disk", SEED, acknowledged)


def the_next_in_the_list_takes_a_lost_ones_place(world):
    with Etcd(world) as etcd:
        a, b, d, oracle = start_all(world)
        check(parts(a) == ["standby", "waits"], f"a says {parts(a)}")
        check(parts(d) == ["other", "other"], f"d says {parts(d)}")
        check(not d.status()["protected"], "a host that waits protects nothing")
        b.kill()
        d.wait_protected()
        status = a.wait_protected()
        check(status["term"] == 2 and "10.99.0.3:" in status["peer"]["address"],
              f"term {status['term']}, {status['peer']['address']}")
        key_says(etcd, 2)
        check(parts(a) == ["waits", "standby"], f"a says {parts(a)}")
        oracle.wait_answers(3)
        # What comes back is told to wait, though it is the first of the list.
        start(b, "secondary")
        wait_bound(b)
        a.kill()
        status = d.wait_for("takeover", took_over)
        check(status["term"] == 3, f"term {status['term']}")
        key_says(etcd, 3)
        oracle.wait_answers(3)
        # b is at hand, so it is taken; a comes later, and waits.
        b.wait_protected()
        d.wait_protected()
        frames = world.network.emitted("a")
        start(a, "secondary")
        wait_bound(a)
        oracle.wait_answers(3)
        check(world.network.emitted("a") == frames and world.network.emitted("b") == 0,
              "a host that was left behind spoke")
        # And once more around, to the host that began.
        b.kill()
        a.wait_protected()
        d.wait_protected()
        d.kill()
        a.wait_for("takeover", took_over)
        oracle.wait_answers(3)
        start(d, "secondary")
        a.wait_protected()
        oracle.wait_all_served()
        check_disks(oracle, a, d)


def a_standby_that_was_frozen_and_replaced_never_speaks(world):
    """It holds a complete guest, and wakes in the moment in which the primary dies."""
    with Etcd(world) as etcd:
        a, b, d, oracle = start_all(world)
        for term in (2, 4):
            b.signal(signal.SIGSTOP)
            d.wait_protected()
            status = a.wait_protected()
            check(status["term"] == term, f"term {status['term']}")
            oracle.wait_answers(3)
            a.kill()
            b.signal(signal.SIGCONT)
            status = d.wait_for("takeover", took_over)
            check(status["term"] == term + 1, f"term {status['term']}")
            oracle.wait_answers(3)
            key_says(etcd, term + 1)
            # All that it may become is the standby of who was before it.
            b.wait_protected()
            check(not took_over(b.status()), "it took over")
            check(world.network.emitted("b") == 0, "it said something")
            oracle.verify()
            start(a, "secondary")
            wait_bound(a)
            # The same with d in the place of a, and a in that of d.
            a, d = d, a


def a_primary_that_begins_anew_takes_only_the_standby_of_its_term(world):
    """Its guest died with it, and the standby holds it. Were the third host let in, the empty guest
    would speak before the one that clients know goes on."""
    slow = {"heartbeat_interval": "1s"}  # nobody suspects anybody before the test goes on
    with Etcd(world) as etcd:
        a, b, d, oracle = start_all(world, **slow)
        b.signal(signal.SIGSTOP)
        b.wait_frozen()
        a.kill()
        frames = world.network.emitted("a")
        check(f"standby {address(2)}\n" in a.record().read_text(), "the record doesn't name it")
        start(a, "primary", **slow)
        a.wait_for_state("connecting")
        status = wait_bound(d)
        check(address(2) in status["reason"], status["reason"])
        check(parts(a) == ["awaited", "waits"], f"a says {parts(a)}")
        b.signal(signal.SIGCONT)
        status = b.wait_for("takeover", took_over)
        check(status["term"] == 2, f"term {status['term']}")
        oracle.wait_answers(3)
        d.wait_protected()
        check(world.network.emitted("a") == frames, "the second guest spoke")
        key_says(etcd, 2)
        oracle.verify()


def without_the_arbiter_nobody_comes_in_anothers_place(world):
    with Etcd(world) as etcd:
        a, b, d, oracle = start_all(world)
        etcd.freeze()
        b.kill()
        status = a.wait_for_state("holding")
        check(not status["protected"], "it says protected")
        wait_bound(d)
        frames = world.network.emitted("a")
        for _ in range(20):
            check(a.status()["state"] == "holding" and not d.status()["peer"]["connected"],
                  "another one was let in")
        check(world.network.emitted("a") == frames, "the client was answered")
        etcd.thaw()
        d.wait_protected()
        a.wait_protected()
        key_says(etcd, 2)
        oracle.wait_answers(3)
        oracle.verify()


def a_switchover_binds_the_old_primary(world):
    with Etcd(world) as etcd:
        a, b, d, oracle = start_all(world)
        a.order("switchover")
        b.wait_protected()
        a.wait_protected()
        check(parts(b) == ["standby", "waits"], f"b says {parts(b)}")
        check(f"standby {address(1)}\n" in b.record().read_text(), "the record doesn't name it")
        wait_bound(d)
        key_says(etcd, 2)
        oracle.wait_answers(3)
        a.kill()
        d.wait_protected()
        b.wait_protected()
        key_says(etcd, 3)
        oracle.wait_answers(3)
        # And by an order of the one that came in its place.
        d.order("switchover")
        d.wait_for("the guest", lambda s: s["role"] == "primary" and s["protected"])
        b.wait_for("the other role", lambda s: s["role"] == "secondary" and s["protected"])
        key_says(etcd, 4)
        oracle.wait_answers(3)
        oracle.verify()


def equal_hosts_share_the_roles(world):
    """Role auto: one of three has the guest, one protects it, one waits."""
    with Etcd(world) as etcd:
        hosts = list(world.hosts.values())
        for host in hosts:
            start(host, "auto")

        def roles():
            found = [host.status() for host in hosts]
            return all(found) and sorted(
                (status["role"], status["protected"]) for status in found) == [
                    ("primary", True), ("secondary", False), ("secondary", True)]
        wait_until(roles, "one role each")
        key_says(etcd, 1)
        oracle = Oracle(world).start()
        oracle.wait_answers(3)
        owner = next(host for host in hosts if host.status()["role"] == "primary")
        owner.kill()
        hosts.remove(owner)
        wait_until(lambda: sorted(host.status()["role"] for host in hosts) ==
                   ["primary", "secondary"], "the standby takes over")
        for host in hosts:
            host.wait_protected()
        start(owner, "auto")
        wait_bound(owner)
        oracle.wait_answers(3)
        oracle.verify()


def the_second_waits_for_its_turn(world):
    """The first comes back in time, so the second is not tried."""
    with Etcd(world) as etcd:
        a, b, d, oracle = start_all(world, host_wait="60min")
        b.kill()
        a.wait_for_state("alone")
        status = d.wait_for("its turn", lambda s: "its turn comes in" in s["reason"])
        check("others come before it" in status["reason"], status["reason"])
        check(a.status()["peer"]["refused"] == 0, "to wait is no refusal")
        oracle.wait_answers(3)
        start(b, "secondary", host_wait="60min")
        b.wait_protected()
        a.wait_protected()
        key_says(etcd, 2)
        oracle.wait_answers(3)
        oracle.verify()


def a_record_of_a_time_without_a_list_lets_nobody_in(world):
    """Who protected the guest then may still hold it."""
    with Etcd(world) as etcd:
        a, b, d = (world.hosts[side] for side in "abd")
        pair = {"host_0": None, "host_wait": None, "path_1": None}
        start(a, "primary", **pair)
        start(b, "secondary", **pair)
        a.wait_protected()
        a.order("stop")
        check(a.wait_exit() == 0 and b.wait_exit() == 0, "an orderly end of both")
        frames = world.network.emitted("a")
        start(d, "secondary")
        start(a, "primary", peer_wait="60min")
        a.wait_for("to know of nobody", lambda s: "it is not recorded which" in s["reason"])
        d.wait_for("to be told so", lambda s: "it is not known which host" in s["reason"])
        check(world.network.emitted("a") == frames, "the guest spoke")
        a.kill()
        start(a, "primary", peer_wait="1ms")
        d.wait_protected()
        key_says(etcd, 2)
        Oracle(world).start().wait_answers(3)


TESTS = [
    the_next_in_the_list_takes_a_lost_ones_place,
    a_standby_that_was_frozen_and_replaced_never_speaks,
    a_primary_that_begins_anew_takes_only_the_standby_of_its_term,
    without_the_arbiter_nobody_comes_in_anothers_place,
    a_switchover_binds_the_old_primary,
    equal_hosts_share_the_roles,
    the_second_waits_for_its_turn,
    a_record_of_a_time_without_a_list_lets_nobody_in,
]

if __name__ == "__main__":
    skip_without_etcd()
    wanted = sys.argv[2:]
    sys.exit(support.main(
        sys.argv[1], [test for test in TESTS if not wanted or test.__name__ in wanted], World))
