#!/usr/bin/env python3
"""usage: policy.py BUILD

The policy of a live pair: read, changed as a whole or not at all, and kept by a promoted secondary
and by the host that returns.
"""

import json
import sys

import support
from oracle import Oracle
from support import check, wait_until


def policy_of(host):
    return json.loads(host.order("policy", "get", "--json"))


def refused(host, *settings):
    before = policy_of(host)
    status, said = host.ctl("policy", "set", *settings)
    check(status == 1, f"policy set {settings} ended with {status}: {said}")
    check(policy_of(host) == before, f"a refused change of {settings} changed something")
    return said


def a_policy_is_set_while_the_guest_runs(world):
    first, second = world.start_pair(max_interval="300ms")
    check(policy_of(first) == {"policy": "pipelined", "interval": "25ms", "window": "2",
                               "max-interval": "300ms", "staging-cap": "256M",
                               "dirty-budget": "64M"}, "the configured policy holds at first")
    check("given twice" in refused(first, "window=1", "window=2"), "a key given twice is named")
    check("larger than staging-cap" in refused(first, "window=1", "staging-cap=32M"),
          "a policy is judged as a whole")
    check("set aside" in refused(first, "staging-cap=512M"), "staging memory can't grow")
    check("runs it" in refused(second, "window=1"), "the secondary refuses")

    said = first.order("policy", "set", "policy=interval", "interval=7ms", "window=1",
                       "staging-cap=128M")
    check("set" in said, f"policy set said: {said}")
    wanted = {"policy": "interval", "interval": "7ms", "window": "1", "max-interval": "300ms",
              "staging-cap": "128M", "dirty-budget": "64M"}
    check(policy_of(first) == wanted, "the primary shows the new policy")
    # The next epoch brings it to the secondary.
    wait_until(lambda: policy_of(second) == wanted, "the secondary learns of it")
    for host in (first, second):
        status = host.status()
        check(status["protected"], "the pair stays protected")
        check(status["replication"]["policy"] == "interval" and
              status["replication"]["window"] == 1 and
              status["replication"]["staging_cap_bytes"] == 128 << 20, "status shows it")
    event = [e for e in first.events() if e["kind"] == "policy.changed"]
    check(len(event) == 1 and event[0]["fields"]["interval"] == "7ms", "there is an event of it")


def a_promoted_secondary_goes_on_with_the_policy_that_was_set(world):
    first, second = world.start_pair()
    first.order("policy", "set", "policy=kemari", "max-interval=50ms")
    wanted = policy_of(first)
    wait_until(lambda: policy_of(second) == wanted, "the secondary learns of it")
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    first.kill()
    second.wait_for_state("alone")
    check(policy_of(second) == wanted, "promotion changed the policy")
    # Not what the returning host has configured.
    first.start("secondary", policy="interval", max_interval="1s")
    first.wait_protected()
    wait_until(lambda: policy_of(first) == wanted, "the host that returns takes it over")
    second.order("policy", "set", "policy=pipelined")
    wait_until(lambda: policy_of(first)["policy"] == "pipelined", "and every change of it")
    oracle.wait_answers(3)


def a_checkpoint_is_taken_when_it_is_ordered(world):
    first, second = world.start_pair(max_interval="60s", cmdline=f"ip={support.GUEST_IP} wait=hlt")
    before = first.status()["replication"]["epoch_committed"]
    said = first.order("checkpoint")
    check("is committed" in said, said)
    check(first.status()["replication"]["epoch_committed"] > before, "nothing was committed")
    code, said = second.ctl("checkpoint")
    check(code == 1 and "does not run the guest" in said, said)
    second.kill()
    first.wait_for_state("alone")
    code, said = first.ctl("checkpoint")
    check(code == 1 and "not protected" in said, said)


def a_policy_set_alone_is_told_to_the_next_secondary(world):
    first, second = world.hosts["a"], world.hosts["b"]
    first.start("primary", peer_wait="10ms")
    first.wait_for_state("alone")
    first.order("policy", "set", "window=3")
    second.start("secondary")
    second.wait_protected()
    wait_until(lambda: policy_of(second)["window"] == "3", "the secondary learns of it")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        a_policy_is_set_while_the_guest_runs,
        a_promoted_secondary_goes_on_with_the_policy_that_was_set,
        a_policy_set_alone_is_told_to_the_next_secondary,
        a_checkpoint_is_taken_when_it_is_ordered,
    ]))
