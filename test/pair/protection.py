#!/usr/bin/env python3
"""usage: protection.py BUILD [--deaths N] [--seed N]

Protection that an operator ends and takes up again: the guest's output flows at once and nothing is
contradicted, the old standby can't become a second guest whatever becomes of the primary, and
"protect" waits until the guest is protected. What is not possible is refused and changes nothing.
"""

import argparse
import json
import random
import shutil
import sys
import threading
import time

import support
from etcd import ARBITER, Etcd, arbiter_is
from oracle import Oracle
from support import check, wait_until

GUEST = {"cmdline": f"ip={support.GUEST_IP} dirty=200"}
BY_ORDER = "by order of the operator"


def refused(host, words, because):
    code, said = host.ctl(*words)
    check(code == 1 and because in said, f"{' '.join(words)} on {host.side}: {code}, {said.strip()}")


def holds_nothing(status):
    return status["state"] == "connecting" and BY_ORDER in status["reason"]


def is_alone_by_order(status, term):
    check(status["role"] == "solo" and not status["protected"] and status["unprotected_by_order"],
          f"the primary is {status['role']}, {status['reason']}")
    check(BY_ORDER in status["reason"], f"its reason: {status['reason']}")
    check(status["term"] == term, f"term {status['term']} instead of {term}")


def released_and_protected_again(world, **arbiter):
    """Twice, since what is left of the first time must not spoil the second."""
    primary, secondary = world.start_pair(**GUEST, **arbiter)
    oracle = Oracle(world).start()
    oracle.wait_answers(5)
    pid = primary.status()["pid"]
    for number in (1, 2):
        said = json.loads(primary.order("unprotect", "--json"))
        check(said["done"] and said["verb"] == "unprotect" and said["code"] == 0, f"{said}")
        is_alone_by_order(primary.status(), number + 1)
        oracle.wait_answers(10)
        secondary.wait_for("it holds nothing", holds_nothing)
        refused(primary, ["unprotect"], "by order already")
        refused(primary, ["checkpoint"], "not protected")
        refused(primary, ["switchover"], "not protected")
        refused(secondary, ["failover", "--yes"], "holds no complete state")
        if number == 2:
            secondary.order("stop")
            secondary.wait_exit()
            secondary.start("secondary", **GUEST, **arbiter)
            secondary.wait_for("a new one is not let in either", holds_nothing)
        oracle.wait_answers(5)
        check(primary.status()["unprotected_by_order"], "a visitor has ended the order")
        said = json.loads(primary.order("protect", "--json").splitlines()[0])
        check(said["done"] and said["text"] == "the guest is protected", f"{said}")
        check(primary.status()["protected"], "protect came back too early")
        check(not primary.status()["unprotected_by_order"], "the order is still there")
        secondary.wait_protected()
        oracle.wait_answers(5)
    refused(primary, ["protect"], "protected already")
    check(primary.status()["pid"] == pid, "the primary is another process")
    for kind in ("protection.off", "protection.on"):
        count = sum(event["kind"] == kind for event in primary.events())
        check(count == 2, f"{count} events {kind}")
    check(not primary.has_event("heartbeat.suspect"), "the primary suspected its standby")
    oracle.verify()
    primary.kill()
    secondary.wait_for_state("alone")
    oracle.wait_answers(5)
    oracle.verify()


def the_standby_gives_up_what_it_holds(world):
    released_and_protected_again(world)


def an_arbiter_that_remembers_is_asked_first(world):
    with Etcd(world) as etcd:
        released_and_protected_again(world, **ARBITER)
        check(etcd.key().startswith("term 4 owner "), f"the key says {etcd.key()}")


def without_the_arbiter_the_guest_stays_protected(world):
    with Etcd(world) as etcd:
        primary, secondary = world.start_pair(**GUEST, **ARBITER)
        oracle = Oracle(world).start()
        etcd.freeze()
        primary.wait_for("the arbiter is missed", arbiter_is("unreachable"))
        refused(primary, ["unprotect"], "the arbiter can't be reached")
        check(primary.status()["term"] == 1 and primary.status()["peer"]["connected"],
              "the refusal has changed something")
        etcd.thaw()
        primary.wait_protected()
        secondary.wait_protected()
        oracle.wait_answers(5)
        check(not primary.has_event("protection.off"), "it went on alone")


def an_arbiter_that_falls_silent_is_asked_again(world):
    """It may have granted the term, and only its answer be lost."""
    # Nobody notices before the order that it is gone.
    with Etcd(world) as etcd:
        primary, secondary = world.start_pair(**GUEST, **{
            **ARBITER, "arbiter_probe_interval": "60s", "arbiter_timeout": "3s"})
        oracle = Oracle(world).start()
        etcd.freeze()
        answers = []
        order = threading.Thread(target=lambda: answers.append(primary.ctl("unprotect")))
        order.start()
        status = primary.wait_for("it is under way",
                                  lambda status: "being ended" in status["reason"])
        check(not status["protected"] and not status["unprotected_by_order"], f"{status['reason']}")
        refused(primary, ["protect"], "another order about protection is under way")
        refused(primary, ["switchover"], "not protected")
        wait_until(lambda: primary.has_event("arbiter.unreachable"), "a question had no answer")
        oracle.wait_answers(5)
        etcd.thaw()
        order.join()
        check(answers[0][0] == 0, f"{answers}")
        is_alone_by_order(primary.status(), 2)
        secondary.wait_for("it holds nothing", holds_nothing)
        oracle.wait_answers(5)


def a_manual_arbiter_is_not_asked(world):
    """The standby lives, and answers for itself: nobody has to look whether it is dead."""
    primary, secondary = world.start_pair(**GUEST, arbiter="manual")
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    primary.order("unprotect")
    is_alone_by_order(primary.status(), 2)
    secondary.wait_for("it holds nothing", holds_nothing)
    check(not primary.has_event("arbiter.asked") and not secondary.has_event("arbiter.asked"),
          "the operator was asked")
    oracle.wait_answers(5)
    primary.order("protect", "--no-wait")
    primary.wait_protected()
    secondary.wait_protected()
    oracle.wait_answers(5)


def a_guest_that_dies_alone_is_gone_and_the_order_with_it(world):
    primary, secondary = world.start_pair(**GUEST)
    primary.order("unprotect")
    secondary.wait_for("it holds nothing", holds_nothing)
    suspected = len([event for event in secondary.events() if event["kind"] == "arbiter.asked"])
    primary.kill()
    wait_until(lambda: secondary.has_event("heartbeat.suspect"), "the death is noticed")
    status = secondary.status()
    check(status["role"] == "secondary" and status["guest"]["state"] == "none",
          f"it became {status['role']}")
    check(suspected == 0 and not secondary.has_event("arbiter.asked"), "it asked for the guest")
    primary.start("primary", **GUEST)
    check(not primary.wait_protected()["unprotected_by_order"], "another guest inherits the order")
    secondary.wait_protected()


def what_is_not_possible_is_refused(world):
    primary, secondary = world.hosts["a"], world.hosts["b"]
    primary.start("primary", **GUEST)
    primary.wait_for("running", lambda status: status["guest"]["state"] == "running")
    refused(primary, ["unprotect"], "waits for its first secondary")
    secondary.start("secondary", **GUEST)
    primary.wait_protected()
    for word in ("protect", "unprotect"):
        refused(secondary, [word], "the guest does not run here")
    code, said = secondary.ctl("unprotect", "--json")
    check(code == 1 and '"done":false' in said, f"{code}, {said}")
    code, said = primary.ctl("unprotect", "--no-wait")
    check(code == 2 and "does not take" in said, f"{code}, {said}")
    secondary.kill()
    primary.wait_for_state("alone")
    said = primary.order("unprotect")
    check("not protected, by order" in said, f"of one that is alone: {said}")
    secondary.start("secondary", **GUEST)
    secondary.wait_for("it is not let in", holds_nothing)
    primary.order("protect")
    primary.order("stop")
    primary.wait_exit()


def a_machine_without_another_host_refuses_both(world):
    host = world.hosts["a"]
    host.start("primary", **GUEST, listen=None, peer=None, path_0=None, secret_file=None)
    host.wait_for("alone", lambda status: status["guest"]["state"] == "running")
    for word in ("protect", "unprotect"):
        refused(host, [word], "no other host")


def a_death_in_the_middle_makes_no_second_guest(world, count, chance):
    """Whoever dies, whenever: what was seen is not contradicted, unless the guest was alone."""
    secondary, primary = None, None
    outcomes = {}
    for number in range(1, count + 1):
        for host in world.hosts.values():
            host.end()
            shutil.rmtree(host.folder / "state", ignore_errors=True)
        primary, secondary = world.start_pair(**GUEST)
        oracle = Oracle(world).start()
        oracle.wait_answers(3)
        victim = chance.choice((primary, secondary))
        moment = chance.uniform(0, 0.1)
        order = threading.Thread(target=primary.ctl, args=("unprotect",))
        order.start()
        time.sleep(moment)  # the random moment of the death: nothing is waited for
        victim.kill()
        order.join()
        if victim is secondary:
            primary.wait_for("going on alone", lambda status: status["role"] == "solo")
            oracle.wait_answers(3)
            outcome = "alone"
        else:
            status = secondary.wait_for("promoted, or empty", lambda status:
                                        status["role"] == "solo" or
                                        status["state"] == "connecting")
            outcome = "taken over" if status["role"] == "solo" else "gone"
            if outcome == "taken over":
                oracle.wait_answers(3)
        oracle.verify()
        oracle.close()
        key = f"{'primary' if victim is primary else 'secondary'} killed: {outcome}"
        outcomes[key] = outcomes.get(key, 0) + 1
        print(f"{number:3} after {moment * 1e3:.0f} ms, {key}", flush=True)
    print(", ".join(f"{key} {times} times" for key, times in sorted(outcomes.items())))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--deaths", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)

    def a_death_in_the_middle(world):
        print(f"seed {seed}", flush=True)
        a_death_in_the_middle_makes_no_second_guest(world, options.deaths, random.Random(seed))

    tests = [the_standby_gives_up_what_it_holds, a_manual_arbiter_is_not_asked,
             a_guest_that_dies_alone_is_gone_and_the_order_with_it,
             what_is_not_possible_is_refused, a_machine_without_another_host_refuses_both,
             a_death_in_the_middle]
    if shutil.which("etcd"):
        tests += [an_arbiter_that_remembers_is_asked_first,
                  without_the_arbiter_the_guest_stays_protected,
                  an_arbiter_that_falls_silent_is_asked_again]
    return support.main(options.build, tests)


if __name__ == "__main__":
    sys.exit(main())
