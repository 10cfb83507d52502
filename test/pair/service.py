"""What a service manager is told by a daemon that it started (sd_notify), with no more capabilities
than the unit of the package leaves."""

import os
import re
import socket
import sys
from pathlib import Path

import support
from refusals import expect_refusal
from support import check, wait_until

UNIT = Path(__file__).resolve().parents[2] / "packaging" / "kemarid@.service"


class Manager:
    """The other end of $NOTIFY_SOCKET, which daemons started meanwhile inherit."""

    def __init__(self, world):
        path = world.folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.heard = []
        os.environ["NOTIFY_SOCKET"] = str(path)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        del os.environ["NOTIFY_SOCKET"]
        self.socket.close()

    def listen(self):
        while True:
            try:
                self.heard += self.socket.recv(65536).decode().splitlines()
            except BlockingIOError:
                return self.heard

    def wait_for(self, pattern):
        return wait_until(lambda: any(re.fullmatch(pattern, line) for line in self.listen()),
                          f"the service manager is told {pattern}")


def the_service_manager_is_told_what_is_true(world):
    primary, secondary = world.hosts["a"], world.hosts["b"]
    with Manager(world) as manager:
        primary.start("primary")
        manager.wait_for("READY=1")
        manager.wait_for("STATUS=primary, not protected: no secondary has connected yet.*")
        check(not any(", protected" in line for line in manager.heard), manager.heard)
        before = manager.heard.count("WATCHDOG=1")
        wait_until(lambda: manager.listen().count("WATCHDOG=1") > before + 1, "the watchdog is fed")
        del os.environ["NOTIFY_SOCKET"]
        secondary.start("secondary")
        os.environ["NOTIFY_SOCKET"] = str(world.folder / "notify")
        manager.wait_for("STATUS=primary, protected")
        check("STOPPING=1" not in manager.heard, manager.heard)
        secondary.kill()
        manager.wait_for("STATUS=solo, not protected: running alone, without a secondary")
        primary.order("stop")
        manager.wait_for("STOPPING=1")
        check(primary.wait_exit() == 0, "an orderly end")


def what_is_refused_is_never_ready(world):
    with Manager(world) as manager:
        expect_refusal(world, r'address "tls://10.99.0.9:7000" does not belong to this host', listen="10.99.0.9:7000")
        check(not manager.listen(), manager.heard)


def kept_by_the_unit():
    return re.search(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.M)[1].split()


def a_daemon_started_by_hand_keeps_no_more(world):
    """On no thread, and nothing that it executes gets more; what it keeps is enough to take over."""
    names = Path("/usr/include/linux/capability.h").read_text()
    bits = {name: int(bit) for name, bit in re.findall(r"^#define (CAP_\w+)\s+(\d+)$", names, re.M)}
    ours = int(re.search(r"^CapBnd:\s*(\w+)$", Path("/proc/self/status").read_text(), re.M)[1], 16)
    kept = ours & sum(1 << bits[name] for name in kept_by_the_unit())
    check(kept != ours, "this test has no capabilities that could be given up")
    primary, secondary = world.start_pair()
    for host in (primary, secondary):
        for task in Path(f"/proc/{host.daemon.pid}/task").iterdir():
            try:
                text = (task / "status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that has ended meanwhile
            for name in ("CapEff", "CapPrm", "CapBnd"):
                mask = int(re.search(rf"^{name}:\s*(\w+)$", text, re.M)[1], 16)
                check(mask == kept, f"{host.side}: {name} of {task.name} is {mask:x}, not {kept:x}")
        warnings = host.status()["warnings"]
        check(not any("real-time" in text for text in warnings), warnings)
    primary.kill()
    secondary.wait_for_state("alone")


def the_capabilities_of_the_unit_are_enough(world):
    kept = kept_by_the_unit()
    kept = ",".join("+" + name.removeprefix("CAP_").lower() for name in kept)
    for host in world.hosts.values():
        plain = host.command

        def confined(role, plain=plain, **changes):
            return ["setpriv", f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}",
                    "--no-new-privs", *plain(role, **changes)]
        host.command = confined
    primary, secondary = world.start_pair()
    for host in (primary, secondary):
        text = Path(f"/proc/{host.daemon.pid}/status").read_text()
        mask = int(re.search(r"^CapBnd:\s*(\w+)$", text, re.M)[1], 16)
        check(not mask & 1 << 21, "CAP_SYS_ADMIN is gone")
        warnings = host.status()["warnings"]
        check(not any("real-time" in text for text in warnings), warnings)
    primary.kill()
    secondary.wait_for_state("alone")


TESTS = [the_service_manager_is_told_what_is_true, what_is_refused_is_never_ready,
         the_capabilities_of_the_unit_are_enough, a_daemon_started_by_hand_keeps_no_more]

if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], TESTS))
