#!/usr/bin/env python3
"""usage: fifty_kills.py BUILD [--count N] [--seed N]

One life of one guest through many deaths of its host: the primary is killed with SIGKILL at a random
moment under load, the secondary goes on, and the host that died comes back as its secondary. The
client outside must never see the guest contradict itself.
"""

import argparse
import random
import sys
import time

import support
from oracle import Oracle
from support import check

# Every request dirties pages, and checks that all of them are of one moment.
GUEST = {"cmdline": f"ip={support.GUEST_IP} dirty=200"}
STEPS = ("suspect", "grant", "load", "network", "run", "first_output")


def describe(number, victim, killed_at, takeover, silence):
    """`killed_at` is the time of day, ns; so is the takeover's suspicion, and its steps follow it."""
    since_kill = takeover["suspect_wall_ns"] - killed_at - takeover["suspect_ns"]
    steps = " ".join(f"{step} {(takeover[step + '_ns'] + since_kill) / 1e6:.1f}" for step in STEPS)
    print(f"{number:3} killed {victim.side}, epoch {takeover['epoch']}, term {takeover['term']}; "
          f"ms since the kill: {steps}; client heard nothing for {silence:.1f} ms", flush=True)


def fail_over(number, primary, secondary, oracle, moment):
    """Kills the primary after `moment` seconds. Returns the new (primary, secondary)."""
    oracle.wait_answers(3)
    time.sleep(moment)  # the random moment of the death: nothing is waited for
    oracle.reset_silence()
    killed_at = time.time_ns()
    primary.kill()
    secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    oracle.wait_answers(3)
    status = secondary.wait_for("first output",
                                lambda status: status["takeover"]["first_output_ns"])
    describe(number, primary, killed_at, status["takeover"],
             oracle.longest_silence * 1e3)
    primary.start("secondary", **GUEST)
    secondary.wait_protected()
    primary.wait_protected()
    oracle.verify()
    return secondary, primary


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)

    def the_guest_outlives_every_death_of_its_host(world):
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        primary, secondary = world.start_pair(**GUEST)
        oracle = Oracle(world).start()
        oracle.wait_answers()
        mac = world.network.guest_mac()
        check(mac, "the client knows no address of the guest")
        for number in range(1, options.count + 1):
            primary, secondary = fail_over(number, primary, secondary, oracle,
                                           chance.uniform(0, 0.05))
            check(world.network.guest_mac() == mac, "the guest has another MAC address")
        check(primary.status()["term"] == options.count + 1, "each takeover is one term")
        print(f"{options.count} kills, {oracle.replies} answers, no contradiction")

    return support.main(options.build, [the_guest_outlives_every_death_of_its_host])


if __name__ == "__main__":
    sys.exit(main())
