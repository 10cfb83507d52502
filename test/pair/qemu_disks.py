#!/usr/bin/env python3
"""usage: qemu_disks.py BUILD [TEST...]

Disks of a guest in stock QEMU (docs/qemu.md): a Linux that runs from an ext4 root on a replicated disk, with
redis, whose client the oracle is, and fio, which verifies what it writes (scripts/guest-image --root).
"""

import contextlib
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import support  # noqa: E402
from chaos import linux  # noqa: E402
from oracle import Oracle  # noqa: E402
from qemu import BOOT_LIMIT, Q35, SCRIPTS, tell, wait_taken_over  # noqa: E402
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
            "machine": "qemu", **Q35, "kernel": self.kernel, "initrd": self.initrd, "memory": "160M",
            "cmdline": "console=ttyS0 loglevel=5 panic=-1 kemari.run=redis "
                       f"kemari.ip={GUEST_IP}/24 root=/dev/vda", "disk_0": image, **changes})

    def boot(self, primary):
        wait_until(lambda: linux.READY in primary.console(), "a guest on its root", BOOT_LIMIT)


def image_of(host):
    return host.folder / "disk"


def start(world):
    primary, secondary = world.hosts["a"], world.hosts["b"]
    world.start_host(primary, "primary")
    world.start_host(secondary, "secondary")
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
    primary, secondary, oracle = start(world)
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
    end(world, oracle, primary, secondary)


def end(world, oracle, primary, secondary):
    """The guest is switched off: both images are whole, and equal."""
    oracle.verify()
    oracle.pause()
    acknowledged = oracle.state()["journal"]
    check(acknowledged, "nothing was written to the journal")
    oracle.close()
    world.guest.last_order("off")
    for host in (primary, secondary):
        check(host.wait_exit() == 0, f"{host.side}: a guest that is off is an orderly end")
        linux.check_image(image_of(host), SEED, acknowledged)
    linux.check_equal(image_of(primary), image_of(secondary))
    print(f"  {acknowledged} records on both hosts", flush=True)


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


def a_shared_disk_is_refused(world):
    host = world.hosts["a"]
    world.start_host(host, "primary", disk_0=f"{world.root},shared",
                     i_accept_unfenced_shared_disk="yes")
    check(host.wait_exit() != 0, "a shared disk was taken")
    check("type qemu can't protect a shared disk" in host.log.read_text(), "it does not say why")


TESTS = [
    a_guest_keeps_its_files_over_failovers,
    a_disk_without_space_is_the_guests_affair,
    a_shared_disk_is_refused,
]

if __name__ == "__main__":
    chosen = [test for test in TESTS if not sys.argv[2:] or test.__name__ in sys.argv[2:]]
    sys.exit(support.main(sys.argv[1], chosen, DiskWorld))
