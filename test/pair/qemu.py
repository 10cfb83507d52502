#!/usr/bin/env python3
"""usage: qemu.py BUILD [TEST...]
       qemu.py BUILD --all-guests       some three minutes: each machine type with 1 and 4 processors, begun by
                                        each firmware, survives, and can start over afterwards
       qemu.py BUILD --soft-dirty       a pair over soft-dirty bits, on a kernel and a KVM that have and run all
                                        that it takes: those of scripts/rig (test/rig/soft_dirty_test.sh)

The pair with stock QEMU as the machine (docs/qemu.md): a Linux guest with redis (scripts/guest-image) in
software emulation, which any host can do, and the oracle as its client.
"""

import contextlib
import ctypes
import itertools
import mmap
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import support
from oracle import Oracle
from support import GUEST_IP, check, wait_until

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
BOOT_LIMIT = 120.0  # seconds, of a kernel in software emulation on a busy machine
EMULATED = "-accel tcg -cpu max"
Q35 = {"qemu": f"qemu-system-x86_64 -machine q35 {EMULATED}"}
PC = {"qemu": f"qemu-system-x86_64 -machine pc {EMULATED} -device virtio-rng-pci"}
MICROVM = {"qemu": f"qemu-system-x86_64 -machine microvm,rtc=on {EMULATED}",
           "qemu_net_device": "virtio-net-device"}
SHOWS = {"qemu": f"{Q35['qemu']} -device VGA"}
# Where XSAVE is not what it seems (docs/rig.md), the guest does without.
BY_KVM = {"qemu": "qemu-system-x86_64 -machine q35 -accel kvm -cpu host,-arch-capabilities,-xsave"}
OVMF = {"qemu": f"{Q35['qemu']} -bios /usr/share/ovmf/OVMF.fd"}


def guest():
    """Kernel and initrd."""
    return subprocess.run([SCRIPTS / "guest-image", "--with", "redis"], check=True, text=True,
                          capture_output=True).stdout.split()


def settings(machine, **changes):
    kernel, initrd = guest()
    return {"machine": "qemu", "kernel": kernel, "initrd": initrd, "memory": "256M",
            "cmdline": "console=ttyS0 quiet panic=-1 kemari.run=redis "
                       f"kemari.ip={GUEST_IP}/24", **machine, **changes}


def start(world, words):
    primary, secondary = world.start_pair(**words)
    wait_until(lambda: "kemari-guest: ready redis" in primary.console(), "redis in the guest",
               BOOT_LIMIT)
    oracle = Oracle(world, service="redis").start()
    oracle.wait_all_served()
    return primary, secondary, oracle


def children_of(host, name):
    """Process ids of what this host's daemon has started and is called something like that."""
    found = set()
    gone = contextlib.suppress(FileNotFoundError, ProcessLookupError)  # it has just ended
    for task in Path(f"/proc/{host.daemon.pid}/task").iterdir():
        with gone:
            for pid in (task / "children").read_text().split():
                with gone:
                    if name in Path(f"/proc/{pid}/comm").read_text():
                        found.add(int(pid))
    return found


def qemu_of(host):
    return children_of(host, "qemu")


def kill_with_its_qemu(host, with_holder):
    """`with_holder`: the process that outlives it by a moment (base/quick_exit.h) does not."""
    running = qemu_of(host)
    check(len(running) == 1, f"a daemon with {len(running)} processes of QEMU")
    for holder in children_of(host, "kemarid") if with_holder else ():
        os.kill(holder, signal.SIGKILL)
    host.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running),
               "QEMU ends with its daemon")


def wait_taken_over(host):
    host.wait_for("takeover", lambda status: status["takeover"]["happened"])


def tell(host, oracle):
    took = host.status()["takeover"]
    print(f"  {host.side} ran after {took['run_ns'] / 1e6:.1f} ms (load "
          f"{(took['load_ns'] - took['apply_ns']) / 1e6:.1f} ms), spoke after "
          f"{took['first_output_ns'] / 1e6:.1f} ms; the client heard nothing for "
          f"{oracle.longest_silence * 1000:.0f} ms at most", flush=True)


def survives_hosts(world, words, deaths):
    """One after the other dies, with its holder or not, returns and is the standby. Returns who is the
    standby in the end."""
    primary, secondary, oracle = start(world, words)
    for with_holder in deaths:
        oracle.reset_silence()
        kill_with_its_qemu(primary, with_holder)
        wait_taken_over(secondary)
        oracle.wait_all_served()
        tell(secondary, oracle)
        primary.start("secondary", **words)
        primary.wait_protected()
        primary, secondary = secondary, primary
        oracle.wait_all_served()
    oracle.verify()
    return secondary


def a_linux_guest_survives_host_after_host(world):
    survives_hosts(world, settings(Q35), (False, True))


def a_linux_guest_survives_over_soft_dirty_bits(world):
    """Emulated processors stall for seconds: neither silence nor a slow acknowledgement is a reason here,
    and the end of a connection is."""
    check(has_soft_dirty_bits(), "this kernel has no soft-dirty bits")
    words = settings(BY_KVM, qemu_dirty_log="softdirty", heartbeat_interval="100ms",
                     heartbeat_multiplier=100, stall_timeout="60s")
    standby = survives_hosts(world, words, (False,))
    for host in world.hosts.values():
        check("what QEMU writes is told by softdirty" in host.log.read_text(),
              f"{host.side} has another dirty log")
    check(standby.status()["protected"], "the guest is not protected in the end")


def a_guest_with_two_processors_moves_when_told(world):
    primary, secondary, oracle = start(world, settings(PC, vcpus=2))
    for _ in range(2):
        before = qemu_of(primary)
        primary.order("switchover")
        secondary.wait_protected()
        primary.wait_for("secondary", lambda status: status["role"] == "secondary")
        primary.wait_protected()
        check(not before & qemu_of(primary), "a process that has run waits for a state")
        oracle.wait_all_served()
        primary, secondary = secondary, primary
    a_qemu_that_dies_is_a_host_that_dies(primary, secondary, oracle)


def a_qemu_that_dies_is_a_host_that_dies(primary, secondary, oracle):
    waiting = qemu_of(secondary)
    check(len(waiting) == 1, f"a standby with {len(waiting)} processes")
    os.kill(max(waiting), signal.SIGKILL)
    # Its next commit proves that it could be loaded, by a new process.
    wait_until(lambda: qemu_of(secondary) - waiting, "another process of the standby")
    oracle.wait_all_served()
    check(secondary.status()["protected"], "the standby's process is there again")
    running = qemu_of(primary)
    check(len(running) == 1, f"a primary with {len(running)} processes")
    os.kill(max(running), signal.SIGKILL)
    wait_taken_over(secondary)
    oracle.wait_all_served()
    check(primary.wait_exit() == 1, "the daemon goes on without its guest")


def processor_clock():
    """For Linux, which has nothing else to tell the time by on a microvm, and can't measure it in software
    emulation on a busy host. It is the host's."""
    found = re.search(r"cpu MHz\s*: (\d+)\.(\d{3})", Path("/proc/cpuinfo").read_text())
    return f"tsc_early_khz={found[1]}{found[2]}" if found else ""


def survives(world, machine, vcpus):
    """A guest of this kind is protected and outlives its host. Returns what the first host heard."""
    words = settings(machine, vcpus=vcpus)
    words["cmdline"] = words["cmdline"].replace("quiet", processor_clock())
    return outlives_its_host(world, words)


def outlives_its_host(world, words):
    primary, secondary, oracle = start(world, words)
    primary.kill()
    wait_taken_over(secondary)
    oracle.wait_all_served()
    tell(secondary, oracle)
    oracle.verify()
    return primary.console()


def a_guest_of_libvirts_XML_and_a_UEFI_firmware_survives(world):
    kernel, initrd = guest()
    file = world.folder / "guest.xml"
    file.write_text(f"""
        <domain type='qemu'>
          <name>guest</name>
          <memory unit='MiB'>256</memory>
          <vcpu>4</vcpu>
          <os>
            <type arch='x86_64' machine='q35'>hvm</type>
            <loader type='rom'>/usr/share/ovmf/OVMF.fd</loader>
            <kernel>{kernel}</kernel>
            <initrd>{initrd}</initrd>
            <cmdline>console=ttyS0 panic=-1 kemari.run=redis kemari.ip={GUEST_IP}/24</cmdline>
          </os>
          <cpu mode='maximum'><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>
          <clock offset='utc'><timer name='hpet' present='no'/></clock>
          <devices>
            <rng model='virtio'>
              <backend model='random'>/dev/urandom</backend>
              <address type='pci' domain='0x0000' bus='0x00' slot='0x0a' function='0x0'/>
            </rng>
            <panic model='pvpanic'/>
            <memballoon model='none'/>
          </devices>
        </domain>""")
    said = outlives_its_host(world, {"machine": "qemu", "libvirt_xml": file, "memory": None,
                                     "kernel": None, "cmdline": None})
    check("efi: EFI v" in said, f"it was not begun by UEFI: {said[:2000]}")


def a_microvm_survives(world):
    survives(world, MICROVM, 4)


def starts_over_after_a_failover(world, machine, vcpus):
    """A guest that reboots without end finds its firmware on the other host, too."""
    words = settings(machine, vcpus=vcpus)
    words["cmdline"] = (words["cmdline"].replace("run=redis", "run=reboot")
                        .replace("quiet", processor_clock()))
    primary, secondary = world.start_pair(**words)

    def starts(host, count):
        wait_until(lambda: host.console().count("kemari-guest: ready reboot") >= count,
                   f"{count} starts of the guest on {host.side}", count * BOOT_LIMIT)
    starts(primary, 1)
    primary.kill()
    wait_taken_over(secondary)
    starts(secondary, 2)


def digests(host):
    """Of what the guest reads in its graphics memory, as far as it has said them."""
    return re.findall(r"screen: ([0-9a-f]{32})", host.console())


def memory_of_a_card_survives(world):
    words = settings(SHOWS)
    words["cmdline"] = words["cmdline"].replace("run=redis", "run=screen")
    primary, secondary = world.start_pair(**words)
    wait_until(lambda: digests(primary), "the guest reads its graphics memory", BOOT_LIMIT)
    for _ in range(2):
        before, heard = digests(primary), len(digests(secondary))
        primary.kill()
        wait_taken_over(secondary)
        wait_until(lambda: len(digests(secondary)) > heard + 2, "the guest reads it on the other host")
        check(len(set(before + digests(secondary))) == 1,
              f"{set(before)} became {digests(secondary)}")
        primary.start("secondary", **words)
        primary.wait_protected()
        pause = secondary.status()["replication"]["pause"]
        print(f"  {pause['count']} pauses on {secondary.side}, p50 {pause['p50_ns'] / 1e6:.1f} ms",
              flush=True)
        primary, secondary = secondary, primary


def all_guests():
    """Tests of each kind of machine and guest."""
    machines = {"SeaBIOS": Q35, "VGA": SHOWS, "UEFI": OVMF, "microvm": MICROVM}
    for (name, machine), vcpus in itertools.product(machines.items(), (1, 4)):
        for proof in survives, starts_over_after_a_failover:
            def test(world, proof=proof, machine=machine, vcpus=vcpus):
                proof(world, machine, vcpus)
            test.__name__ = f"{name}_{vcpus}_{proof.__name__}"
            yield test


def refusal(world, side, role, **words):
    host = world.hosts[side]
    host.start(role, **words)
    check(host.wait_exit() != 0, "it was not refused")
    return host.log.read_text()


def has_soft_dirty_bits():
    """Whether this kernel has them: a page of a new mapping is soft-dirty."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[0] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // mmap.PAGESIZE * 8)
        return bool(int.from_bytes(pagemap.read(8), sys.byteorder) >> 55 & 1)


def what_cannot_be_protected_is_refused(world):
    command = Q35["qemu"]
    for word, sentence in (("-netdev user,id=x", "say it by the option net.N"),
                           ("-device pci-bridge-none", "while it started"),
                           ("-device VGA,vgamem_mb=64", "RAM block"),
                           ("-device qxl-vga", "say VGA")):
        said = refusal(world, "a", "primary", **settings({"qemu": f"{command} {word}"}))
        check(sentence in said, f"{word}: {said}")
        world.hosts["a"].log.unlink()
    if not has_soft_dirty_bits():
        said = refusal(world, "a", "primary", **settings(Q35, **{"qemu-dirty-log": "softdirty"}))
        check("built with CONFIG_MEM_SOFT_DIRTY" in said, said)
        world.hosts["a"].log.unlink()


def hosts_that_differ_do_not_pair(world):
    words = settings(PC)
    world.hosts["a"].start("primary", **words)
    words["qemu"] = words["qemu"].replace("max", "qemu64")
    world.hosts["b"].start("secondary", **words)
    wait_until(lambda: "cpu-features" in world.hosts["b"].log.read_text() +
               world.hosts["a"].log.read_text(), "the difference is told")
    check(not world.hosts["a"].status()["protected"], "protected by a host that differs")


TESTS = [
    a_linux_guest_survives_host_after_host,
    a_guest_with_two_processors_moves_when_told,
    what_cannot_be_protected_is_refused,
    hosts_that_differ_do_not_pair,
    a_guest_of_libvirts_XML_and_a_UEFI_firmware_survives,
    a_microvm_survives,
    memory_of_a_card_survives,
]

if __name__ == "__main__":
    words = sys.argv[2:]
    chosen = [test for test in TESTS if not words or test.__name__ in words]
    if words == ["--all-guests"]:
        chosen = list(all_guests())
    elif words == ["--soft-dirty"]:
        chosen = [a_linux_guest_survives_over_soft_dirty_bits]
    sys.exit(support.main(sys.argv[1], chosen))
