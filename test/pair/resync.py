#!/usr/bin/env python3
"""usage: resync.py BUILD

Replicated disks over outages and failovers: what travels when a host comes back, and that both images
are equal then. The guest is diskwriter, which stops with "CORRUPT" when it reads anything that it did
not write.
"""

import json
import re
import sys

import support
from support import check, wait_until

GIB = 1 << 30
MIB = 1 << 20
BLOCKS = 2560  # of 4 KiB, at the begin of the disk: 10 MiB
IMAGE_SIZE = 64 * MIB
BLOCK = 64 << 10  # what a mark stands for
PAGE = 4096
PAGE_BITS = 4064  # bytes of bits in a page of the map


def image_of(host):
    return host.folder / "disk0"


def disk_settings(world, host, size=IMAGE_SIZE, **changes):
    image = image_of(host)
    if not image.exists():
        with open(image, "wb") as file:
            file.truncate(size)
    return {"disk_0": image, "net_0": None, "arbiter": "none",
            "kernel": world.build / "test" / "guest" / "diskwriter",
            "cmdline": f"blocks={BLOCKS} report=200 depth=8", **changes}


def start(world, host, role, **changes):
    host.start(role, **disk_settings(world, host, **changes))


def start_pair(world, **changes):
    first, second = world.hosts["a"], world.hosts["b"]
    start(world, first, "primary", **changes)
    start(world, second, "secondary", **changes)
    first.wait_protected()
    second.wait_protected()
    return first, second


def disk_status(host):
    return host.status()["disks"][0]


def operations(host):
    """What the guest says to have done, as far as it was let out by this host."""
    said = re.findall(r"ops=(\d+)", host.console())
    return int(said[-1]) if said else 0


def wait_operations(host, more, limit=60):
    target = operations(host) + more
    wait_until(lambda: operations(host) >= target, f"{host.side}: {target} operations", limit)


def check_writer(*hosts):
    for host in hosts:
        for line in host.console().splitlines():
            check(not line.startswith(("CORRUPT", "FAIL")), f"the guest on {host.side}: {line}")


def differing_blocks(first, second):
    differing = set()
    with open(image_of(first), "rb") as one, open(image_of(second), "rb") as other:
        for block in range(image_of(first).stat().st_size // BLOCK):
            if one.read(BLOCK) != other.read(BLOCK):
                differing.add(block)
    return differing


def map_of(host):
    return host.folder / "state" / "pair.disk0.map"


def marked_blocks(host):
    """The bits of the map's file: see disk/map_page.h."""
    content = map_of(host).read_bytes()[2 * PAGE:]
    marked = set()
    for number in range(len(content) // PAGE):
        page = content[number * PAGE:(number + 1) * PAGE]
        for index, byte in enumerate(page[:PAGE_BITS]):
            marked.update((number * PAGE_BITS + index) * 8 + bit
                          for bit in range(8) if byte >> bit & 1)
    return marked


def end_and_compare(primary, secondary):
    """After an orderly stop only what the guest wrote since the last checkpoint may differ, and every
    such block is marked: the next synchronisation would find it."""
    primary.order("stop")
    primary.wait_exit()
    secondary.wait_exit()
    check_writer(primary, secondary)
    marked = marked_blocks(primary) | marked_blocks(secondary)
    lost = differing_blocks(primary, secondary) - marked
    check(not lost, f"blocks that differ and are not marked: {sorted(lost)[:10]}")
    check(len(marked) <= BLOCKS * 4096 // BLOCK + 64, f"{len(marked)} blocks are marked: far too many")


def wire_bytes(world, host):
    """All that has crossed this host's data wire, both ways."""
    shown = json.loads(world.network.ip(host.side, "-j", "-s", "link", "show", "data"))
    return sum(shown[0]["stats64"][way]["bytes"] for way in ("rx", "tx"))


def a_returning_host_gets_what_changed(world):
    """Issue 3: 1 GiB with 10 MiB changed during an outage, by less than 20 MiB on the wire, the guest's
    memory included."""
    quiet = {"size": GIB, "cmdline": f"blocks={BLOCKS} report=200 depth=8 rate=400"}
    primary, secondary = start_pair(world, **quiet)
    wait_operations(primary, 200)
    secondary.kill()
    primary.wait_for_state("alone")
    wait_operations(primary, 3500, 90)  # more than one for every block of the 10 MiB
    before = wire_bytes(world, primary)
    start(world, secondary, "secondary", **quiet)
    primary.wait_protected()
    sent = wire_bytes(world, primary) - before
    disk = disk_status(primary)
    print(f"        {sent / MIB:.1f} MiB on the wire, {disk['sync_sent_bytes'] / MIB:.1f} MiB of them for "
          f"the disk; {disk['sync_total_bytes'] / MIB:.1f} MiB compared, "
          f"{disk['sync_differed_bytes'] / MIB:.1f} MiB differed")
    check(disk["sync_why"] == "", f"everything was compared: {disk['sync_why']}")
    check(disk["sync_differed_bytes"] > 5 * MIB, "hardly anything differed: no test of anything")
    check(disk["sync_total_bytes"] < 32 * MIB, f"{disk['sync_total_bytes']} bytes were compared")
    check(sent < 20 * MIB, f"{sent} bytes were sent")
    wait_operations(primary, 200)
    end_and_compare(primary, secondary)


def a_returning_primary_follows_with_equal_disks(world):
    """Failover and back: what the old primary wrote and nobody was told of is undone."""
    first, second = start_pair(world)
    for _ in range(3):
        wait_operations(first, 500)
        first.kill()
        second.wait_for_state("alone")
        wait_operations(second, 500)
        check(disk_status(second)["state"] == "owner", "the promoted host's disk is not its own")
        start(world, first, "secondary")
        second.wait_protected()
        disk = disk_status(second)
        check(disk["sync_why"] == "", f"everything was compared: {disk['sync_why']}")
        check(disk_status(first)["state"] == "follower", "the returned host's disk does not follow")
        first, second = second, first
    check_writer(first, second)
    end_and_compare(first, second)


def what_cannot_be_believed_is_compared_whole(world):
    primary, secondary = start_pair(world)
    file = map_of(secondary)
    damages = [file.unlink, lambda: damage(file, 100), lambda: damage(file, PAGE + 100)]
    for harm in damages:
        secondary.kill()
        primary.wait_for_state("alone")
        harm()
        wait_operations(primary, 300)
        start(world, secondary, "secondary")
        primary.wait_protected()
        disk = disk_status(primary)
        check("map" in disk["sync_why"], f"compared for the reason \"{disk['sync_why']}\"")
        check(disk["sync_total_bytes"] == IMAGE_SIZE, "not everything was compared")
    # An image that was changed behind the daemon's back.
    secondary.order("stop")
    secondary.wait_exit()
    primary.wait_for_state("alone")
    with open(image_of(secondary), "r+b") as image:
        image.seek(40 * MIB)
        image.write(b"changed")
    start(world, secondary, "secondary")
    primary.wait_protected()
    disk = disk_status(primary)
    check("map" in disk["sync_why"], f"compared for the reason \"{disk['sync_why']}\"")
    end_and_compare(primary, secondary)


def damage(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x55]))


def an_image_that_is_behind_is_refused(world):
    first, second = start_pair(world)
    wait_operations(first, 200)
    first.kill()
    second.wait_for_state("alone")
    wait_operations(second, 200)
    start(world, first, "secondary")
    second.wait_protected()
    first.kill()
    second.wait_for_state("alone")
    # By mistake as a primary again, its record of terms lost.
    for record in (first.folder / "state").glob("*.term"):
        record.unlink()
    start(world, first, "primary")
    check(first.wait_exit() != 0, "a guest was started from an image that is behind")
    said = first.log.read_text()
    check(f"disk image {image_of(first)} follows the other host's" in said, "no word about it")
    check("remove" in said and "pair.disk0.map" in said, "no word about what to do")
    wait_operations(second, 100)
    check_writer(second)


def a_synchronisation_that_is_cut_goes_on(world):
    primary, secondary = start_pair(world, resync_rate="16M")
    secondary.kill()
    primary.wait_for_state("alone")
    wait_operations(primary, 3000)
    map_of(secondary).unlink()
    for _ in range(3):
        start(world, secondary, "secondary")
        status = primary.wait_for("synchronising its disk", lambda status: (
            status["disks"][0]["sync_active"] and status["disks"][0]["sync_done_bytes"] > 0))
        check(not status["protected"], "protected in the middle of a synchronisation")
        secondary.kill()
        primary.wait_for("not synchronising",
                         lambda status: not status["disks"][0]["sync_active"])
    check(pair_map_state(secondary) == 3, "a half-made copy is not known to be one")
    start(world, secondary, "secondary")
    primary.wait_protected()
    check_writer(primary)
    end_and_compare(primary, secondary)


def pair_map_state(host):
    """Of the newer header: see disk/lineage.h. 3: syncing."""
    content = map_of(host).read_bytes()
    headers = [content[at:at + 512] for at in (0, PAGE)]
    newest = max(headers, key=lambda header: int.from_bytes(header[144:152], "little"))
    return int.from_bytes(newest[84:88], "little")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        a_returning_host_gets_what_changed,
        a_returning_primary_follows_with_equal_disks,
        what_cannot_be_believed_is_compared_whole,
        an_image_that_is_behind_is_refused,
        a_synchronisation_that_is_cut_goes_on,
    ]))
