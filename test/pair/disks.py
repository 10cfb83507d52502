#!/usr/bin/env python3
"""usage: disks.py BUILD

A replicated disk behind two daemons: the primary is killed in the middle of writing, again and again,
and what the guest said to have made durable is in the image of whoever goes on. The guest
(test/guest/diskwriter.c) compares all it reads with what its memory believes.
"""

import os
import re
import sys

import support
from support import check, wait_until

SIZE = 2 << 20
BLOCK = 4096
JOURNAL = 8
ARGUMENTS = f"journal={JOURNAL} report=500 rate=3000"


def image(host):
    return host.folder / "disk"


def make_images(world, size=SIZE):
    for host in world.hosts.values():
        with open(image(host), "wb") as file:
            file.truncate(size)


def start(world, host, role, **changes):
    settings = {"kernel": world.build / "test" / "guest" / "diskwriter", "cmdline": ARGUMENTS,
                "net_0": None, "disk_0": image(host)}
    settings.update(changes)
    host.start(role, **settings)


def start_pair(world):
    make_images(world)
    first, second = world.hosts["a"], world.hosts["b"]
    start(world, first, "primary")
    start(world, second, "secondary")
    first.wait_protected()
    second.wait_protected()
    return first, second


def check_guest(*hosts):
    for host in hosts:
        wrong = re.search(r"^(CORRUPT|FAIL|EXCEPTION|BACKWARDS|LOST).*$", host.console(), re.M)
        check(not wrong, f"console of {host.side}: {wrong and wrong[0]}")


def records(host):
    """Numbers of the records that the guest has announced on this host, oldest first."""
    return [int(number) for number in re.findall(r"^journal=(\d+)\n", host.console(), re.M)]


def wait_records(host, count):
    before = len(records(host))

    def look():
        check_guest(host)
        return len(records(host)) >= before + count
    wait_until(look, f"{count} records on {host.side}")


def content(number):
    block = number % JOURNAL
    first = (number << 20 | block) * 0x9E3779B97F4A7C15
    return b"".join(((first + i) & (2**64 - 1)).to_bytes(8, "little") for i in range(BLOCK // 8))


def check_journal(host, announced):
    """Every record that was announced last is in its block, or a later one in its place."""
    data = image(host).read_bytes()
    for number in range(max(1, announced - JOURNAL + 1), announced + 1):
        at = number % JOURNAL * BLOCK
        found = data[at:at + BLOCK]
        check(found in (content(number), content(number + JOURNAL)),
              f"record {number} is not in the image of {host.side}")


def a_killed_primary_loses_no_announced_record(world):
    primary, secondary = start_pair(world)
    disk = primary.status()["disks"][0]
    check(disk["mode"] == "replicated" and disk["size_bytes"] == SIZE, f"status says {disk}")
    for _ in range(4):
        wait_records(primary, 20)
        primary.kill()
        announced = records(primary)[-1]
        secondary.wait_for_state("alone")
        wait_records(secondary, 10)
        check(records(secondary)[-1] > announced, "the journal went back")
        start(world, primary, "secondary")  # its image is of another past: it is copied anew
        secondary.wait_protected()
        primary.wait_protected()
        primary, secondary = secondary, primary
        check_guest(primary, secondary)
    primary.kill()
    secondary.wait_for_state("alone")
    wait_records(secondary, 1)
    secondary.kill()  # in mid-write: what was announced is flushed
    check_journal(secondary, max(records(primary)[-1], records(secondary)[-1]))


def a_switched_over_disk_goes_on(world):
    primary, secondary = start_pair(world)
    for _ in range(2):
        wait_records(primary, 10)
        primary.order("switchover")
        secondary.wait_for("the guest", lambda status: status["role"] == "primary")
        secondary.wait_protected()
        primary.wait_protected()
        wait_records(secondary, 10)
        primary, secondary = secondary, primary
        check_guest(primary, secondary)
    primary.kill()
    secondary.wait_for_state("alone")
    wait_records(secondary, 10)
    check_guest(primary, secondary)


def a_standby_without_space_is_none_and_says_so(world):
    """The secondary's image lies on a full file system; the primary goes on without it."""
    primary, secondary = world.hosts["a"], world.hosts["b"]
    make_images(world)
    small = secondary.folder / "small"
    small.mkdir()
    support.run("mount", "-t", "tmpfs", "-o", "size=256k", "kemari", str(small))
    try:
        with open(small / "disk", "wb") as file:
            file.truncate(SIZE)
        start(world, primary, "primary", peer_wait="1s")
        start(world, secondary, "secondary", disk_0=small / "disk")
        secondary.wait_for("any status", lambda status: True)
        wait_until(lambda: secondary.has_event("disk.replica-failed"), "the event of the full disk")
        status = secondary.status()
        check(not status["protected"], "a standby that can't write says it protects")
        check("No space left" in status["disk_replica"]["why"], "status does not say why")
        primary.wait_for_state("alone")
        wait_records(primary, 10)
        check(not primary.status()["protected"], "protected by a host whose disk is full")
        support.run("mount", "-o", "remount,size=8m", str(small))
        secondary.wait_protected()  # it tries again by itself
        primary.wait_protected()
        check_guest(primary)
    finally:
        secondary.end()
        os.sync()
        support.run("umount", str(small))


def one_image_is_not_for_two(world):
    make_images(world)
    first, second = world.hosts["a"], world.hosts["b"]
    start(world, first, "primary")
    first.wait_for_state("connecting")
    start(world, second, "secondary", disk_0=image(first))
    check(second.wait_exit() != 0, "a second daemon took an image that is in use")
    check("in use by another process" in second.log.read_text(), "it does not say why")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        a_killed_primary_loses_no_announced_record,
        a_switched_over_disk_goes_on,
        a_standby_without_space_is_none_and_says_so,
        one_image_is_not_for_two,
    ]))
