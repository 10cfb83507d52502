"""Debian hosts with systemd as their first process, for tests of what is installed.

Each is a set of namespaces: its root is this machine's file system under one of its own that takes all
writes and outlives a power failure, and its processes end with its first one, at once, as its power does.

    host-a: eth0 ┬ 192.0.2.0/24    ┬ eth0 :host-b     checkpoints, ssh, the way to etcd and to the power switch
            eth1 ┼ 198.51.100.0/24 ┼ eth1             a second path for heartbeats
            br0  ┴ 203.0.113.0/24  ┴ br0              the network of the guest
                 the place outside, at .100, with etcd, the power switch, and clients

They are made in a mount, network and process namespace of the caller's own (`alone()`), so that nothing is
left of them whatever ends it.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
from expect import check, run, wait_until  # noqa: E402

WIRES = {"eth0": "192.0.2", "eth1": "198.51.100", "lan0": "203.0.113"}
OUTSIDE = 100
SWITCH_PORT = 623
# Nothing that a freshly installed Debian would not have, and nothing that wants hardware.
MASKED = ("systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket",
          "systemd-udev-trigger.service", "systemd-logind.service", "systemd-timesyncd.service",
          "systemd-networkd.service", "console-getty.service", "getty.target", "systemd-firstboot.service",
          "systemd-machine-id-commit.service", "systemd-random-seed.service", "e2scrub_all.timer",
          "systemd-hwdb-update.service", "ldconfig.service", "systemd-update-done.service",
          "systemd-journal-catalog-update.service", "systemd-update-utmp.service",
          "systemd-update-utmp-runlevel.service", "dev-hugepages.mount", "dev-mqueue.mount",
          "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
          "sys-fs-fuse-connections.mount", "modprobe@.service", "kmod-static-nodes.service",
          "systemd-sysctl.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
          "systemd-remount-fs.service", "systemd-pcrphase.service", "systemd-boot-system-token.service")

# The first process of a host, until it becomes systemd: $1 its folder, $2 its name.
FIRST = r"""
set -eu
read -r _
mount --make-rprivate /
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work,index=off,xino=off" overlay "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/net dev/pts dev/shm
for node in null zero full random urandom tty kvm net/tun; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
hostname "$2"
mkdir -p mnt/old
pivot_root . mnt/old
cd /
umount -l /mnt/old
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --show-status=no </dev/null
"""


def alone():
    """Becomes the first process of namespaces of its own, unless it is that already."""
    if os.environ.get("KEMARI_ALONE") != "1":
        os.environ["KEMARI_ALONE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
                              "--mount-proc", sys.executable, "-B", *sys.argv])


class DebianHost:
    """One of them. `folder` is on a file system that an overlay can write to."""

    def __init__(self, name, number, folder, cgroups):
        self.name = name
        self.number = number
        self.folder = folder / name
        self.cgroup = cgroups / name
        self.process = None
        self.first = None
        self.lock = threading.Lock()
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True)
        self.cgroup.mkdir()

    def installed(self):
        """Its root while it is off, to be changed; a context."""
        return Installed(self)

    # ---- power ----

    def power_on(self):
        with self.lock:
            if self.first:
                return
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork",
                 "--kill-child", "/bin/sh", "-c", FIRST, "first", self.folder, self.name],
                stdin=subprocess.PIPE, stdout=sys.stderr, stderr=sys.stderr,
                preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text("0"))
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            self.first = int(wait_until(children.read_text, f"{self.name} begins", 60))
            # Its network is there before anything of it runs, as with cards in their slots.
            wait_until(self._is_apart, f"{self.name} has a network of its own", 60)
            self._plug_in()
            self.process.stdin.write(b"go\n")
            self.process.stdin.close()

    def _is_apart(self):
        return os.readlink(f"/proc/{self.first}/ns/net") != os.readlink("/proc/self/ns/net")

    def _plug_in(self):
        for wire, network in WIRES.items():
            run("ip", "link", "add", f"{wire}-{self.number}", "type", "veth", "peer", "name", wire,
                "netns", str(self.first))
            run("ip", "link", "set", f"{wire}-{self.number}", "master", wire, "up")
            self._ip("link", "set", wire, "up")
            if wire != "lan0":
                self._ip("address", "add", f"{network}.{self.number}/24", "dev", wire)
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", "br0", "type", "bridge")
        self._ip("link", "set", "lan0", "master", "br0")
        self._ip("link", "set", "br0", "up")

    def _ip(self, *words):
        run("nsenter", f"--net=/proc/{self.first}/ns/net", "ip", *words)

    def power_off(self):
        """Nobody hears a last word."""
        with self.lock:
            if not self.first:
                return
            for wire in WIRES:
                run("ip", "link", "delete", f"{wire}-{self.number}")
            self.process.kill()
            self.process.wait()
            self.first = None

    def wait_booted(self, limit):
        def booted():
            return self.shell("systemctl is-system-running")[1].strip() in ("running", "degraded")
        wait_until(booted, f"{self.name} boots", limit, pace=0.1)

    # ---- use ----

    def shell(self, line, limit=300, **options):
        """A command line as root types it: exit status, output and errors together."""
        done = subprocess.run(
            ["nsenter", f"--target={self.first}", "--all", "env", "-i", "HOME=/root",
             "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
             "/bin/bash", "-c", f"cd; {line}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=limit, **options)
        return done.returncode, done.stdout

    def order(self, line, limit=300):
        status, said = self.shell(line, limit)
        check(status == 0, f"{self.name}: {line}: {status}: {said}")
        return said


class Installed:
    def __init__(self, host):
        self.host = host
        self.root = host.folder / "root"

    def __enter__(self):
        folder = self.host.folder
        run("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={folder}/upper,"
            f"workdir={folder}/work,index=off,xino=off", "overlay", self.root)
        return self.root

    def __exit__(self, *unused):
        run("umount", self.root)


def install_debian(root, host, hosts, ssh_tree):
    """What a host's owner has done before Kemari comes: names, a server of ssh, keys for root."""
    units = root / "etc/systemd/system"
    shutil.rmtree(units)
    units.mkdir()
    for unit in MASKED:
        (units / unit).symlink_to("/dev/null")
    for name in ("var/lib/apt/lists", "var/log/journal"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    (root / "etc/hostname").write_text(f"{host.name}\n")
    (root / "etc/machine-id").write_text(f"{host.number:032x}\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n" + "".join(
        f"{WIRES['eth0']}.{each.number} {each.name}\n" for each in hosts))
    for part in ("etc", "usr", "lib"):
        run("cp", "-a", "--remove-destination", f"{ssh_tree}/{part}/.", f"{root}/{part}/")
    # Without PAM: its modules want a logind, and make a message of the day at every login.
    settings = (ssh_tree / "usr/share/openssh/sshd_config").read_text()
    (root / "etc/ssh/sshd_config").write_text(settings.replace("UsePAM yes", "UsePAM no"))
    with open(root / "etc/passwd", "a") as passwd:
        passwd.write("sshd:x:499:65534::/run/sshd:/usr/sbin/nologin\n")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "etc/ssh/ssh_host_ed25519_key")
    (units / "multi-user.target.wants").mkdir()
    (units / "multi-user.target.wants/ssh.service").symlink_to("/lib/systemd/system/ssh.service")


def introduce(roots):
    """root of each may log in to root of each."""
    keys, known = "", ""
    for host, root in roots.items():
        folder = root / "root/.ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id_ed25519")
        keys += (folder / "id_ed25519.pub").read_text()
        known += f"{host.name} " + (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    for root in roots.values():
        (root / "root/.ssh/authorized_keys").write_text(keys)
        (root / "root/.ssh/known_hosts").write_text(known)


class PowerSwitch(threading.Thread):
    """As a management board: "off NAME", "on NAME" at a port of the outside; it answers "done"."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.hosts = {host.name: host for host in hosts}
        self.socket = socket.create_server((f"{WIRES['eth0']}.{OUTSIDE}", SWITCH_PORT))
        self.pressed = []

    def run(self):
        while True:
            client, _ = self.socket.accept()
            with client, client.makefile("rw") as stream:
                what, _, name = stream.readline().strip().partition(" ")
                host = self.hosts.get(name)
                action = {"off": "power_off", "on": "power_on"}.get(what)
                if host and action:
                    getattr(host, action)()
                    self.pressed.append((what, name))
                stream.write("done\n" if host and action else "no\n")


class Place:
    """The wires, the outside, and the hosts in it. Use as a context."""

    def __init__(self, folder, names):
        self.folder = folder
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        self.cgroups = folder / "cgroup"
        self.cgroups.mkdir()
        run("mount", "-t", "cgroup2", "cgroup2", self.cgroups)
        run("ip", "link", "set", "lo", "up")
        for number, (wire, network) in enumerate(WIRES.items()):
            # An address of its own: else it has that of a port, and another one after a cut.
            run("ip", "link", "add", wire, "address", f"02:00:00:00:02:{number:02x}", "type", "bridge")
            run("ip", "link", "set", wire, "up")
            run("ip", "address", "add", f"{network}.{OUTSIDE}/24", "dev", wire)
        self.hosts = [DebianHost(name, number, folder, self.cgroups)
                      for number, name in enumerate(names, 1)]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for host in self.hosts:
            host.power_off()
            wait_until(lambda host=host: not (host.cgroup / "init.scope/cgroup.procs").exists() or
                       not (host.cgroup / "cgroup.events").read_text().startswith("populated 1"),
                       f"the processes of {host.name} are gone", 60)
            for path, _, _ in os.walk(host.cgroup, topdown=False):
                os.rmdir(path)
