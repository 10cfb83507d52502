#!/usr/bin/env python3
"""usage: doubt.py BUILD

Only the heartbeats are lost, and an epoch is on its way that takes many detection times: nobody can
acknowledge it before it is whole, and nobody is to be given up for that.
"""

import sys

import support
from support import check

# An epoch is 32 MiB that no encoding makes smaller, on a slow wire.
PAGES = 8192
DETECTION_S = 0.15
GUEST = {"cmdline": f"pages={PAGES} fill=1 report=1", "staging_cap": "256M", "dirty_budget": "64M",
         "encoding": "raw", "heartbeat_interval": "50ms"}
RATE = "300mbit"


def epochs(status):
    return status["replication"]["epochs_committed"]


def a_standby_that_takes_a_large_epoch_is_not_given_up(world):
    guest = {**GUEST, "kernel": world.build / "test" / "guest" / "pagewriter"}
    primary, secondary = world.start_pair(**guest)
    world.network.shape("a", "data", RATE)
    primary.wait_for("a large epoch", lambda s:
                     s["replication"]["commit"]["max_ns"] > 4 * DETECTION_S * 1e9)
    world.network.lose_frames("udp dport 7001")
    for host in (primary, secondary):
        host.wait_for("alarm", lambda s: any("silent" in text for text in s["warnings"]))
    seen = epochs(primary.status())
    status = primary.wait_for("further epochs", lambda s: epochs(s) >= seen + 5)
    check(status["protected"], f"the standby was given up: {status['reason']}")
    for host in (primary, secondary):
        kinds = {event["kind"] for event in host.events()}
        check(not kinds & {"arbiter.asked", "primary.waiting"}, f"{host.side} has seen {kinds}")
    world.network.lose_frames()
    for host in (primary, secondary):
        host.wait_for("heard again", lambda s: s["heartbeat"]["peer_alive"])
    check("CORRUPT" not in primary.console(), "the guest found a wrong page")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [a_standby_that_takes_a_large_epoch_is_not_given_up]))
