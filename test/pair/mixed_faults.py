#!/usr/bin/env python3
"""usage: mixed_faults.py BUILD [--count N] [--seed N] [--OPTION VALUE ...]

One life of one guest through random single faults: either daemon is killed or frozen and woken, an
operator moves the guest or stops the standby. After each the pair heals, before the next. The client
outside must never see the guest contradict itself, and a host that lost the guest never speaks
again. Further options go to both daemons: `--policy kemari`, `--vcpus 2`, ...
"""

import argparse
import random
import signal
import sys
import time

import support
from oracle import Oracle
from support import check


def wait_moved(world, primary, secondary, oracle):
    secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    oracle.wait_answers(3)
    return world.network.emitted(primary.side)


def end_loser(world, primary, frames):
    primary.wait_for_state("stopped")
    check(world.network.emitted(primary.side) == frames, f"{primary.side} lost and spoke")
    primary.order("stop")
    check(primary.wait_exit() == 0, "a fenced host ends in an orderly way")


def wait_alone(primary, oracle):
    primary.wait_for("going on alone", lambda status: status["role"] == "solo")
    oracle.wait_answers(3)


# Each returns the host that ended and comes back as the secondary, or None.

def kill_primary(world, primary, secondary, oracle):
    primary.kill()
    wait_moved(world, primary, secondary, oracle)
    return primary


def freeze_primary(world, primary, secondary, oracle):
    primary.signal(signal.SIGSTOP)
    frames = wait_moved(world, primary, secondary, oracle)
    primary.signal(signal.SIGCONT)
    end_loser(world, primary, frames)
    return primary


def move(world, primary, secondary, oracle):
    secondary.order("failover", "--yes")
    frames = wait_moved(world, primary, secondary, oracle)
    end_loser(world, primary, frames)
    return primary


def kill_secondary(_world, primary, secondary, oracle):
    secondary.kill()
    wait_alone(primary, oracle)
    return secondary


def stop_secondary(_world, primary, secondary, oracle):
    secondary.order("stop")
    check(secondary.wait_exit() == 0, "an orderly end")
    wait_alone(primary, oracle)
    return secondary


def freeze_secondary(_world, primary, secondary, oracle):
    secondary.signal(signal.SIGSTOP)
    wait_alone(primary, oracle)
    secondary.signal(signal.SIGCONT)
    return None


FAULTS = (kill_primary, freeze_primary, move, kill_secondary, stop_secondary, freeze_secondary)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None)
    options, others = parser.parse_known_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)
    guest = {"cmdline": f"ip={support.GUEST_IP} dirty=200"}
    guest.update({key.removeprefix("--"): value for key, value in zip(others[::2], others[1::2])})

    def the_guest_outlives_every_single_fault(world):
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        primary, secondary = world.start_pair(**guest)
        oracle = Oracle(world).start()
        for number in range(1, options.count + 1):
            oracle.wait_answers(3)
            fault = chance.choice(FAULTS)
            time.sleep(chance.uniform(0, 0.05))  # the random moment: nothing is waited for
            oracle.reset_silence()
            back = fault(world, primary, secondary, oracle)
            if back is primary:
                primary, secondary = secondary, primary
            if back:
                back.start("secondary", **guest)
            primary.wait_protected()
            secondary.wait_protected()
            oracle.verify()
            print(f"{number:3} {fault.__name__.replace('_', ' ')}: client heard nothing for "
                  f"{oracle.longest_silence * 1e3:.1f} ms", flush=True)
        check(primary.status()["term"] == options.count + 1, "each fault is one term")

    return support.main(options.build, [the_guest_outlives_every_single_fault])


if __name__ == "__main__":
    sys.exit(main())
