"""The pair that chaos plays with, an arbiter, and a relay that may lie."""

import os
import random
import subprocess

import support
from chaos import linux as linux_guest
from chaos.wires import ETCD, ChaosNetwork, RdmaNetwork
from etcd import Etcd, arbiter_at
from support import GUEST_IP, World, check, wait_until

RECORDS = 16384  # sectors of the disk
LINUX_RECORDS = 1 << 20
EMULATED = bool(os.environ.get("KEMARI_RIG"))  # a processor that is slow, and stalls at times
LIMIT = 240.0 if EMULATED else 30.0
BOOT_LIMIT = 600.0 if EMULATED else 120.0  # of a Linux guest, which may run in software emulation


class Relay:
    """chaos.relay between the hosts' data connections. Use as a context."""

    def __init__(self, world):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", world.network.names["c"], "python3", "-B", "-m", "chaos.relay",
             "10.99.0.11:7000=10.99.0.1:7000", "10.99.0.12:7000=10.99.0.2:7000"],
            cwd=support.TEST_FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=support.die_with_parent)
        self.order("flow")

    def order(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()
        check(self.process.stdout.readline() == b"done\n", f"the relay did not take {words}")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


class Stage(World):
    """A life: the pair, its arbiter, its client.

    `settings`: schedule.Life's. `linux`: (kernel, initrd, root) of scripts/guest-image --root, or
    without the root --with redis, None: the service guest. `options`: of both daemons, on top.
    """

    def __init__(self, build, settings, linux, options):
        super().__init__(build)
        by_rdma = settings["transport"].startswith("rdma")
        self.network_type = RdmaNetwork if by_rdma else ChaosNetwork
        self.settings = settings
        self.linux = linux
        self.root = linux[2] if linux and len(linux) > 2 else None
        self.guest = None  # LinuxGuest, if it has a root
        self.journal_seed = random.getrandbits(60)
        self.options = options
        self.relay = None
        self.etcd = None
        self.oracle = None
        self.claims = 0  # of protection that were put to the test by a kill

    def __enter__(self):
        super().__enter__()
        try:
            if self.root:
                self.guest = linux_guest.LinuxGuest(self.network.names["c"], LIMIT)
            self.etcd = Etcd(self, ETCD["a"], "arb", [ETCD["b"]]).__enter__()
            if self.settings["relay"]:
                self.relay = Relay(self)
                self.clients.append(self.relay)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        if self.etcd:
            self.etcd.__exit__()
        super().__exit__()

    def start(self, host, role):
        own, other = host.number, 3 - host.number
        settings = self.settings
        words = {
            **arbiter_at(ETCD[host.side]),
            "cmdline": f"ip={GUEST_IP} dirty={settings['dirty']} wait={settings['wait']}",
            "policy": settings["policy"], "window": settings["window"],
            "path_1": f"10.98.0.{own}:7001,10.98.0.{other}:7001",
        }
        if settings["policy"] == "interval":
            # An epoch costs an emulated processor milliseconds: at ten to the next, Linux crawls.
            words["checkpoint_interval"] = "100ms" if EMULATED else "10ms"
        scheme = settings["transport"]
        words["listen"] = f"{scheme}://10.99.0.{own}:7000"
        words["peer"] = f"{scheme}://10.99.0.{'1' if self.relay else ''}{other}:7000"
        if self.has_journal():
            words["disk_0"] = self.image(host)
        if self.is_shared():
            # etcd fences nobody. What may come late is a record of the journal, over the same bytes.
            words.update(disk_0=f"{self.image(host)},shared", i_accept_unfenced_shared_disk="yes")
        if self.linux:
            words.update(kernel=self.linux[0], initrd=self.linux[1],
                         memory="160M" if self.root else "256M",
                         cmdline="console=ttyS0 loglevel=5 panic=-1 kemari.run=redis "
                                 f"kemari.ip={GUEST_IP}/24{' root=/dev/vda' if self.root else ''}")
        if EMULATED:
            words.update(heartbeat_interval="50ms", heartbeat_multiplier=10,
                         arbiter_attempt_timeout="2s")
        host.start(role, **{**words, **self.options})
        host.may_end = False

    def has_journal(self):
        return bool(self.root) if self.linux else self.settings["disk"] != "none"

    def is_shared(self):
        return self.settings["disk"] == "shared" and not self.linux

    def image(self, host):
        """Of the host's disk: at first zeroes, or a Linux guest's root; of a shared one there is one
        for both."""
        path = (self.folder if self.is_shared() else host.folder) / "disk"
        if self.root and not path.exists():
            linux_guest.copy_image(self.root, path)
        elif not path.exists():
            with open(path, "wb") as file:
                file.truncate(RECORDS * 512)
        return path

    def pair_up(self):
        """Starts both and returns (primary, secondary) once the guest is protected and answers."""
        primary, secondary = self.hosts["a"], self.hosts["b"]
        self.start(primary, "primary")
        self.start(secondary, "secondary")
        if self.linux:
            ready = linux_guest.READY if self.root else "kemari-guest: ready redis"
            wait_until(lambda: ready in primary.console(), "a guest that is up", BOOT_LIMIT)
        primary.wait_protected()
        secondary.wait_protected()
        return primary, secondary

    def oracle_place(self):
        place = super().oracle_place()
        if self.linux:
            place["service"] = "redis"
        if self.has_journal():
            place["journal"] = self.journal_seed, LINUX_RECORDS if self.linux else RECORDS
        return place

    def end(self, host):
        """SIGKILL, and it may come back."""
        host.may_end = True
        host.kill()

    def owner(self):
        """The host whose daemon says that it runs the guest. None while nobody does, or both do: one of
        them does not know yet; which of them spoke is for the captures to say."""
        owners = []
        for host in self.hosts.values():
            status = host.status() if host.daemon.poll() is None else None
            if status and status["role"] in ("primary", "solo") and \
                    status["guest"]["state"] == "running" and \
                    status["state"] in ("replicating", "alone", "synchronising"):
                owners.append(host)
        return owners[0] if len(owners) == 1 else None

    def recover(self):
        """Until the guest is protected again, by bringing hosts that lost it back as standbys.

        Returns (primary, secondary). Whatever the fault was, one host must come to own the guest; one
        that ended or was stopped for good starts again, in an orderly way.
        """
        def protected_again():
            for host in self.hosts.values():
                self._bring_back(host)
            owner = self.owner()
            if owner is None:
                return None
            other = self.hosts["b" if owner.side == "a" else "a"]
            states = owner.status(), other.status()
            return (owner, other) if all(s and s["protected"] for s in states) else None
        return wait_until(protected_again, "protected again", LIMIT)

    def _bring_back(self, host):
        if host.daemon.poll() is None:
            status = host.status()
            if status and status["state"] == "stopped":
                host.order("stop")
                check(host.wait_exit() == 0, f"{host.side}: a fenced host ends in an orderly way")
                host.may_end = True
        if host.daemon.poll() is not None:
            check(host.may_end, f"{host.side} ended by itself with {host.daemon.poll()}")
            self.start(host, "secondary")
