#!/usr/bin/env python3
"""usage: shared.py BUILD

One image behind two daemons. The guest (test/guest/diskwriter.c) compares all it reads with what its
memory believes: a write that reached the image without its epoch's commit, or that was lost, is found
after the next failover. The arbiter is a command that fences, as on such disks it must: it kills the
other host's daemon and returns when that can't write any more.
"""

import re
import signal
import sys

import disks
import support
from disks import JOURNAL, SIZE, check_guest, records, wait_records
from support import check, wait_until

FENCE = """#!/bin/sh
# usage: fence FILE: kills the process whose number is in FILE, and waits until it is gone
echo "$KEMARI_PURPOSE" >> "$1.asked"
pid=$(cat "$1") || exit 1
kill -9 "$pid" 2>/dev/null
until ! [ -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do :; done
exit 0
"""


def image(world):
    return world.folder / "shared-disk"


def make_image(world):
    with open(image(world), "wb") as file:
        file.truncate(SIZE)
    make_fence(world)


def make_fence(world):
    fence = world.folder / "fence"
    fence.write_text(FENCE)
    fence.chmod(0o755)


def pid_file(world, side):
    return world.folder / f"{side}.pid"


def fenced(world, host):
    """The arbiter of a host that shares a disk."""
    other = "b" if host.side == "a" else "a"
    return {"arbiter": "command",
            "arbiter_command": f"{world.folder}/fence {pid_file(world, other)}"}


def note_pid(world, host):
    pid_file(world, host.side).write_text(str(host.daemon.pid))


def start(world, host, role, **changes):
    settings = {"disk_0": f"{image(world)},shared", **fenced(world, host), **changes}
    disks.start(world, host, role, **settings)
    note_pid(world, host)


def start_pair(world, **changes):
    make_image(world)
    first, second = world.hosts["a"], world.hosts["b"]
    start(world, first, "primary", **changes)
    start(world, second, "secondary", **changes)
    first.wait_protected()
    second.wait_protected()
    return first, second


def held(host):
    return host.status()["disks"][0]["held"]


def wait_written(host):
    """Until what was let out is in the image."""
    wait_until(lambda: host.status()["disks"][0]["writing"] == 0, "an image that has what it may have")


def wait_stuck(host):
    """Until nothing moves any more: each request of the guest is a held change, or waits for one. How
    many of them are changes is the guest's choice."""
    seen = []

    def stuck():
        seen.append(held(host))
        return len(seen) > 20 and seen[-1] > 0 and len(set(seen[-20:])) == 1
    wait_until(stuck, "a queue that is stuck")


def fail_over_and_back(world, primary, secondary, rounds, strike):
    for _ in range(rounds):
        wait_records(primary, 6)
        strike(primary)
        secondary.wait_for_state("alone")
        wait_records(secondary, 4)
        check(primary.wait_exit() == -signal.SIGKILL, f"{primary.side} lives")
        check_journal_of(world, secondary, records(primary)[-1])
        start(world, primary, "secondary")
        secondary.wait_protected()
        primary.wait_protected()
        primary, secondary = secondary, primary
        check_guest(primary, secondary)
    return primary, secondary


def check_journal_of(world, host, announced):
    """A record that was announced is in the image, or those of a guest that went on since."""
    data = image(world).read_bytes()
    for number in range(max(1, announced - JOURNAL + 1), announced + 1):
        at = number % JOURNAL * disks.BLOCK
        last = records(host)[-1] + JOURNAL
        later = range(number, max(number, last) + 1, JOURNAL)
        check(data[at:at + disks.BLOCK] in map(disks.content, later),
              f"record {number} is not in the image")


def a_killed_primary_leaves_a_disk_of_its_guests_moment(world):
    primary, secondary = start_pair(world)
    disk = primary.status()["disks"][0]
    check(disk["mode"] == "shared" and disk["size_bytes"] == SIZE, f"status says {disk}")
    check(disk["state"] == "" and not list(primary.folder.glob("state/*.map")),
          "a map of differences is kept of a shared disk")
    primary, secondary = fail_over_and_back(world, primary, secondary, 3, support.Host.kill)
    primary.kill()
    secondary.wait_for_state("alone")
    wait_records(secondary, 1)
    secondary.kill()  # in mid-write: what was announced is durable
    announced = max(records(primary)[-1], records(secondary)[-1])
    check_journal_of(world, secondary, announced)


def a_frozen_primary_is_fenced_before_the_disk_is_touched(world):
    primary, secondary = start_pair(world)
    fail_over_and_back(world, primary, secondary, 1, lambda host: host.signal(signal.SIGSTOP))
    asked = (world.folder / "a.pid.asked").read_text().split()
    check(asked == ["promote"], f"host a was fenced for {asked}")


def the_guest_stands_still_from_cut_to_commit(world):
    """Policy kemari: the writes of an epoch are carried out when the guest runs on."""
    primary, secondary = start_pair(world, policy="kemari")
    fail_over_and_back(world, primary, secondary, 1, support.Host.kill)


def a_switched_over_disk_goes_on(world):
    primary, secondary = start_pair(world)
    for _ in range(2):
        wait_records(primary, 4)
        primary.order("switchover")
        secondary.wait_for("the guest", lambda status: status["role"] == "primary")
        secondary.wait_protected()
        primary.wait_protected()
        wait_records(secondary, 4)
        primary, secondary = secondary, primary
        check_guest(primary, secondary)
    primary.kill()
    secondary.wait_for_state("alone")
    wait_records(secondary, 4)
    check_guest(primary, secondary)


def nothing_is_written_before_the_arbiter_lets_it_out(world):
    """The standby is lost and the operator doesn't answer: the image stays as it is."""
    primary, secondary = start_pair(world, arbiter="manual", arbiter_command=None)
    wait_records(primary, 4)
    secondary.kill()
    primary.wait_for("asking", lambda status: status["arbiter"]["state"] == "asking")
    wait_until(lambda: held(primary) > 0, "writes that are held")
    wait_written(primary)
    before = image(world).read_bytes()
    announced = records(primary)[-1]
    wait_stuck(primary)
    check(image(world).read_bytes() == before, "a held write reached the image")
    check(records(primary)[-1] == announced, "a record was announced that no standby holds")
    primary.order("grant")
    primary.wait_for_state("alone")
    wait_records(primary, 4)
    check(image(world).read_bytes() != before, "nothing was written when it was allowed")
    start(world, secondary, "secondary", arbiter="manual", arbiter_command=None)
    primary.wait_protected()
    wait_records(primary, 4)
    check_guest(primary)


def an_ending_daemon_gives_up_what_is_held(world):
    """Stopped with writes that will never be let out: it ends, and they are in no image."""
    primary, secondary = start_pair(world, arbiter="manual", arbiter_command=None)
    wait_records(primary, 4)
    secondary.kill()
    wait_stuck(primary)
    wait_written(primary)
    before = image(world).read_bytes()
    primary.order("stop")
    check(primary.wait_exit() == 0, "a daemon with held writes does not end in an orderly way")
    check(image(world).read_bytes() == before, "a held write reached the image")
    check("failed" not in primary.log.read_text(), "giving up a held write is no error of the disk")


def a_disk_that_nobody_fences_needs_a_word(world):
    make_image(world)
    host = world.hosts["a"]
    start(world, host, "primary", arbiter="none", arbiter_command=None)
    check(host.wait_exit() != 0, "a shared disk was taken without fencing")
    check("fences the other host" in host.log.read_text(), "it does not say why")
    start(world, host, "primary", arbiter="none", arbiter_command=None,
          i_accept_unfenced_shared_disk="yes")
    status = host.wait_for("any status", lambda status: True)
    check(any("nobody fences" in text for text in status["warnings"]),
          f"no warning among {status['warnings']}")


def hosts_that_disagree_do_not_pair(world):
    """One replicates what the other one shares: neither image would be right."""
    make_image(world)
    disks.make_images(world)
    primary, secondary = world.hosts["a"], world.hosts["b"]
    start(world, primary, "primary")
    start(world, secondary, "secondary", disk_0=disks.image(secondary))
    check(secondary.wait_exit() != 0, "a host that replicates was let in")
    check(re.search(r"disk\.0\.shared", secondary.log.read_text()), "it does not say why")


def a_file_system_with_a_cache_of_its_own_is_refused(world):
    make_image(world)
    host = world.hosts["a"]
    folder = host.folder / "ram"
    folder.mkdir()
    support.run("mount", "-t", "ramfs", "kemari", str(folder))
    try:
        (folder / "disk").write_bytes(bytes(SIZE))
        start(world, host, "primary", disk_0=f"{folder}/disk,shared")
        check(host.wait_exit() != 0, "an image was taken that can't be read past the cache")
        check("has no direct I/O" in host.log.read_text(), "it does not say why")
    finally:
        host.end()
        support.run("umount", str(folder))


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        a_killed_primary_leaves_a_disk_of_its_guests_moment,
        a_frozen_primary_is_fenced_before_the_disk_is_touched,
        the_guest_stands_still_from_cut_to_commit,
        a_switched_over_disk_goes_on,
        nothing_is_written_before_the_arbiter_lets_it_out,
        an_ending_daemon_gives_up_what_is_held,
        a_disk_that_nobody_fences_needs_a_word,
        hosts_that_disagree_do_not_pair,
        a_file_system_with_a_cache_of_its_own_is_refused,
    ]))
