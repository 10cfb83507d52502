#!/usr/bin/env python3
"""usage: switchover.py BUILD [--count N] [--deaths N] [--seed N]

One life of one guest that is moved on purpose: back and forth between both hosts, ordered on either
of them, under load; then with one host killed at a random moment of each switchover. The client
outside must never see the guest contradict itself, and nobody may be suspected of anything in an
undisturbed switchover.
"""

import argparse
import random
import re
import sys
import threading
import time

import support
from oracle import Oracle
from support import check, wait_until

GUEST = {"cmdline": f"ip={support.GUEST_IP} dirty=200"}


def events_of(host, kind):
    return [event for event in host.events() if event["kind"] == kind]


def median(values):
    return sorted(values)[len(values) // 2]


def the_roles_are_swapped(world, count):
    first, second = world.start_pair(**GUEST)
    oracle = Oracle(world).start()
    oracle.wait_answers(10)
    mac = world.network.guest_mac()
    primary, secondary = first, second
    pauses, silences = [], []
    for number in range(1, count + 1):
        oracle.wait_answers(3)
        oracle.reset_silence()
        asked = (primary, secondary)[number % 2]
        said = asked.order("switchover")
        where = "the other" if asked is primary else "this"
        found = re.search(rf"the guest runs on {where} host; it stood still for ([0-9.]+) ms", said)
        check(found, f"{asked.side} says: {said.strip()}")
        pauses.append(float(found.group(1)))
        primary, secondary = secondary, primary
        status = primary.wait_protected()
        secondary.wait_protected()
        check(status["role"] == "primary", f"{primary.side} is {status['role']}")
        check(status["term"] == number + 1, f"term {status['term']} after {number} switchovers")
        oracle.wait_answers(3)
        silences.append(oracle.longest_silence * 1e3)
    check(world.network.guest_mac() == mac, "the guest has another MAC address")
    for host in (first, second):
        # A host has its new role before it tells of it.
        wait_until(lambda host=host: len(events_of(host, "switchover.done")) >= count,
                   f"{host.side}: all are told")
        check(len(events_of(host, "switchover.done")) == count, f"{host.side}: one is told twice")
        check(not events_of(host, "arbiter.asked"), f"{host.side} asked to go on alone")
    print(f"{count} switchovers, {oracle.replies} answers, no contradiction; ms "
          f"the guest stood still: p50 {median(pauses):.1f} max {max(pauses):.1f}; ms "
          f"the client heard nothing: p50 {median(silences):.1f} max {max(silences):.1f}")


def one_host_dies_in_the_middle(world, count, chance):
    primary, secondary = world.start_pair(**GUEST)
    oracle = Oracle(world).start()
    outcomes = {}
    for number in range(1, count + 1):
        oracle.wait_answers(3)
        victim, other = chance.sample((primary, secondary), 2)
        ordered = chance.choice((primary, secondary))
        # About as long as all of it takes, from the start of kemarictl on.
        moment = chance.uniform(0, 0.06)
        order = threading.Thread(target=ordered.ctl, args=("switchover",))
        order.start()
        time.sleep(moment)  # the random moment of the death: nothing is waited for
        victim.kill()
        order.join()
        status = other.wait_for("going on alone", lambda status: status["role"] == "solo")
        oracle.wait_answers(3)
        was = "primary" if victim is primary else "secondary"
        moved = (other is secondary) == (was == "primary")
        key = f"{was} killed, guest {'where the living is' if moved else '?'}"
        outcomes[key] = outcomes.get(key, 0) + 1
        print(f"{number:3} killed the {was} after {moment * 1e3:.0f} ms, term {status['term']}",
              flush=True)
        victim.start("secondary", **GUEST)
        primary, secondary = other, victim
        primary.wait_protected()
        secondary.wait_protected()
        oracle.verify()


def a_host_that_gave_its_guest_away_is_a_secondary(world):
    first, second = world.start_pair(**GUEST)
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    first.order("switchover")
    second.wait_protected()
    first.kill()
    second.wait_for("going on alone", lambda status: status["role"] == "solo")
    first.start("primary", **GUEST)
    check(first.wait_exit() == 1, "it started as primary")
    check("start it with role = secondary" in first.log.read_text(), "it doesn't say what to do")
    first.start("secondary", **GUEST)
    second.wait_protected()
    oracle.wait_answers(3)


def what_is_not_possible_is_refused(world):
    primary = world.hosts["a"]
    primary.start("primary", **GUEST)
    primary.wait_for("running", lambda status: status["guest"]["state"] == "running")
    code, said = primary.ctl("switchover")
    check(code == 1 and "not protected" in said, f"without a secondary: {code}, {said}")
    secondary = world.hosts["b"]
    secondary.start("secondary", **GUEST)
    primary.wait_protected()
    secondary.wait_protected()
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    primary.kill()
    secondary.wait_for_state("alone")
    code, said = secondary.ctl("switchover")
    check(code == 1 and "not protected" in said, f"alone: {code}, {said}")
    oracle.wait_answers(3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--deaths", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)

    def the_guest_goes_back_and_forth(world):
        the_roles_are_swapped(world, options.count)

    def a_death_in_the_middle_loses_nothing(world):
        print(f"seed {seed}", flush=True)
        one_host_dies_in_the_middle(world, options.deaths, random.Random(seed))

    return support.main(options.build, [the_guest_goes_back_and_forth,
                                        a_death_in_the_middle_loses_nothing,
                                        a_host_that_gave_its_guest_away_is_a_secondary,
                                        what_is_not_possible_is_refused])


if __name__ == "__main__":
    sys.exit(main())
