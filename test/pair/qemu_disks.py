#!/usr/bin/env python3
"""usage: qemu_disks.py BUILD [TEST...]

Disks of a guest in stock QEMU (docs/qemu.md): a Linux that runs from an ext4 root on a replicated disk, or
a shared one, with redis, whose client the oracle is, and fio, which verifies what it writes (scripts/guest-image --root).
"""

import contextlib
import hashlib
import re
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import shared  # noqa: E402
import support  # noqa: E402
from chaos import linux  # noqa: E402
from oracle import Oracle  # noqa: E402
from qemu import BOOT_LIMIT, Q35, SCRIPTS, SHOWS, tell, wait_taken_over  # noqa: E402
from support import GUEST_IP, World, check, wait_until  # noqa: E402

MIB = 1 << 20
SEED = 0x6b656d617269
RECORDS = 1 << 20


class DiskWorld(World):
    """With an oracle that also keeps a journal in the guest's redis."""

    def __init__(self, build):
        super().__init__(build)
        self.kernel, self.initrd, self.root = subprocess.run(
            [SCRIPTS / "guest-image", "--root"], check=True, text=True,
            capture_output=True).stdout.split()
        self.guest = None
        self.machine = Q35

    def __enter__(self):
        super().__enter__()
        self.guest = linux.LinuxGuest(self.network.names["c"], BOOT_LIMIT)
        return self

    def oracle_place(self):
        return {**super().oracle_place(), "service": "redis", "journal": (SEED, RECORDS)}

    def start_host(self, host, role, folder=None, **changes):
        image = (folder or host.folder) / "disk"
        if not image.exists():
            linux.copy_image(self.root, image)
        host.start(role, **{
            "machine": "qemu", **self.machine, "kernel": self.kernel, "initrd": self.initrd, "memory": "160M",
            "cmdline": "console=ttyS0 loglevel=5 panic=-1 kemari.run=redis "
                       f"kemari.ip={GUEST_IP}/24 root=/dev/vda", "disk_0": image, **changes})

    def boot(self, primary):
        wait_until(lambda: linux.READY in primary.console(), "a guest on its root", BOOT_LIMIT)


def image_of(host):
    return host.folder / "disk"


def start_shared(world, host, role):
    """On one image for both hosts, which whoever is given up is kept away from."""
    world.start_host(host, role, world.folder, disk_0=f"{world.folder / 'disk'},shared",
                     **shared.fenced(world, host))
    shared.note_pid(world, host)


def start(world, start_host):
    primary, secondary = world.hosts["a"], world.hosts["b"]
    start_host(primary, "primary")
    start_host(secondary, "secondary")
    world.boot(primary)
    primary.wait_protected()
    secondary.wait_protected()
    oracle = Oracle(world, seed=SEED).start()
    oracle.wait_all_served()
    return primary, secondary, oracle


def check_guest(world, oracle):
    oracle.wait_all_served()
    world.guest.wait_verified()
    world.guest.check_log()


def check_resync(primary):
    """By what the maps say, not by all of the disk."""
    disk = primary.status()["disks"][0]
    check(disk["mode"] == "replicated" and disk["state"] == "owner", f"the disk is {disk}")
    check(disk["sync_why"] == "", f"everything was compared: {disk['sync_why']}")
    check(0 < disk["sync_total_bytes"] < 32 * MIB, f"{disk['sync_total_bytes']} bytes were compared")
    print(f"  {disk['sync_total_bytes'] / MIB:.1f} MiB compared, "
          f"{disk['sync_differed_bytes'] / MIB:.1f} MiB differed", flush=True)


def a_guest_keeps_its_files_over_failovers(world):
    primary, secondary, oracle = start(world, world.start_host)
    for _ in range(2):
        acknowledged = oracle.state()["journal"]
        oracle.reset_silence()
        primary.kill()
        wait_taken_over(secondary)
        crashed = linux.copy_image(image_of(primary), world.folder / "crashed")
        linux.check_crashed(crashed, SEED, acknowledged)
        check_guest(world, oracle)
        tell(secondary, oracle)
        world.start_host(primary, "secondary")
        secondary.wait_protected()
        primary.wait_protected()
        check_resync(secondary)
        primary, secondary = secondary, primary
    primary.order("switchover")
    secondary.wait_protected()
    check_guest(world, oracle)
    primary, secondary = secondary, primary
    end(world, oracle, primary, secondary, image_of(primary), image_of(secondary))
    linux.check_equal(image_of(primary), image_of(secondary))


def check_retained(host):
    """What this host did to the image before its guest ran."""
    counts = re.findall(r" (\d+) retained changes", host.log.read_text())
    check(counts, f"{host.side} says nothing of what it retained")
    print(f"  {counts[-1]} retained changes were carried out by {host.side}", flush=True)


def a_guest_keeps_its_files_on_a_shared_disk(world):
    """Over failovers in both directions, a switchover, the loss of a standby, and a frozen host."""
    shared.make_fence(world)
    primary, secondary, oracle = start(world, lambda *host: start_shared(world, *host))
    disk = primary.status()["disks"][0]
    check(disk["mode"] == "shared" and disk["state"] == "", f"status says {disk}")
    for strike in (support.Host.kill, support.Host.kill, lambda host: host.signal(signal.SIGSTOP)):
        oracle.reset_silence()
        strike(primary)
        wait_taken_over(secondary)
        check(primary.wait_exit() == -signal.SIGKILL, f"{primary.side} was not fenced")
        check_guest(world, oracle)
        check_retained(secondary)
        tell(secondary, oracle)
        start_shared(world, primary, "secondary")
        secondary.wait_protected()
        primary.wait_protected()
        primary, secondary = secondary, primary
    primary.order("switchover")
    secondary.wait_protected()
    primary.wait_protected()
    check_guest(world, oracle)
    primary, secondary = secondary, primary
    secondary.kill()  # the guest goes on alone, with what was pending
    primary.wait_for_state("alone")
    check_guest(world, oracle)
    start_shared(world, secondary, "secondary")
    primary.wait_protected()
    secondary.wait_protected()
    check_guest(world, oracle)
    end(world, oracle, primary, secondary, world.folder / "disk")


def held(host):
    return host.status()["disks"][0]["held"]


def digest(image):
    with open(image, "rb") as file:
        return hashlib.file_digest(file, "sha1").digest()


def a_shared_disk_waits_for_the_arbiter(world):
    """The standby is lost, and the operator does not answer: the guest writes, and its image stays as
    it is, until it is allowed to be alone."""
    def start_host(host, role):
        world.start_host(host, role, world.folder, disk_0=f"{image},shared", arbiter="manual")
    image = world.folder / "disk"
    primary, secondary, oracle = start(world, start_host)
    oracle.pause()
    secondary.kill()
    primary.wait_for("asking", lambda status: status["arbiter"]["state"] == "asking")
    shared.wait_written(primary)
    before, writes = digest(image), held(primary)
    wait_until(lambda: held(primary) > writes, "more writes of the guest")
    check(digest(image) == before, "a held write reached the image")
    primary.order("grant")
    primary.wait_for_state("alone")
    wait_until(lambda: held(primary) == 0, "everything is written")
    check(digest(image) != before, "nothing was written when it was allowed")
    oracle.resume()
    check_guest(world, oracle)
    oracle.close()


def a_guest_with_a_card_keeps_its_files_over_failovers(world):
    """Its cuts give up the disks, and take them back."""
    world.machine = SHOWS
    a_guest_keeps_its_files_over_failovers(world)


def end(world, oracle, primary, secondary, *images):
    """The guest is switched off: every image is whole."""
    oracle.verify()
    oracle.pause()
    acknowledged = oracle.state()["journal"]
    check(acknowledged, "nothing was written to the journal")
    oracle.close()
    world.guest.last_order("off")
    for host in (primary, secondary):
        check(host.wait_exit() == 0, f"{host.side}: a guest that is off is an orderly end")
    for image in images:
        linux.check_image(image, SEED, acknowledged)
    print(f"  {acknowledged} records on the disk", flush=True)


def fill(folder):
    with contextlib.suppress(OSError), open(folder / "rest", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def a_disk_without_space_is_the_guests_affair(world):
    """It is told of errors, and QEMU goes on with it."""
    host = world.hosts["a"]
    small = host.folder / "small"
    small.mkdir()
    support.run("mount", "-t", "tmpfs", "-o", "size=200m", "kemari", str(small))
    try:
        world.start_host(host, "primary", folder=small, listen=None, peer=None, path_0=None,
                         secret_file=None)
        world.boot(host)
        fill(small)
        oracle = Oracle(world, seed=SEED).start()
        wait_until(lambda: host.has_event("disk.error"), "the error is reported", BOOT_LIMIT)
        wait_until(lambda: "I/O error" in world.guest.order("log"), "the guest is told")
        status = host.status()
        check(status["guest"]["state"] == "running", f"the guest is {status['guest']['state']}")
        check("No space left" in status["disks"][0]["last_error"], "status does not say why")
        oracle.close()
    finally:
        host.end()
        support.run("umount", str(small))


TESTS = [
    a_guest_keeps_its_files_over_failovers,
    a_guest_keeps_its_files_on_a_shared_disk,
    a_shared_disk_waits_for_the_arbiter,
    a_guest_with_a_card_keeps_its_files_over_failovers,
    a_disk_without_space_is_the_guests_affair,
]

if __name__ == "__main__":
    chosen = [test for test in TESTS if not sys.argv[2:] or test.__name__ in sys.argv[2:]]
    sys.exit(support.main(sys.argv[1], chosen, DiskWorld))
