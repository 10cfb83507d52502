#!/usr/bin/env python3
"""usage: newcomer.py [--rig [--linux]] BUILD

Somebody who has two hosts and the operators' documentation, and nothing else: installs the package, protects
a guest, runs every drill and reads its report, and removes the package. What is typed is taken from
docs/operators/README.md, every command of its quick start; the hosts run systemd (debian_hosts.py), the
daemons the unit of the package, and a client outside notices if anything that it was told becomes untrue.

  --rig    in the virtual host (scripts/rig), whose KVM is complete; without it on this machine, where only
           a KVM that boots no Linux may be wrong
  --linux  in the rig: the guest is a Linux with redis

Needs root, /dev/kvm, and for its hosts ssh's server, which scripts/fetch gets. Exit status 77: not possible here.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(1, str(ROOT / "test"))
sys.path.insert(1, str(ROOT / "test/rig"))
import debian_hosts  # noqa: E402
from debian_hosts import Place, PowerSwitch  # noqa: E402
from expect import check, run, wait_until  # noqa: E402
from oracle import Oracle, Violation  # noqa: E402

SKIPPED = 77
IN_RIG = bool(os.environ.get("KEMARI_RIG"))
LIMIT = 240 if IN_RIG else 30
PACE = 0.1  # of questions that are a command each
RIG_TIMEOUT = 1500
MANUAL = ROOT / "docs/operators/README.md"
DRILLS = ROOT / "docs/drills.md"
GUEST = "203.0.113.10"
# Of scripts that run where the package is built, which is not on the hosts.
BUILD_STEP = ("scripts/setup", "cd build/release")
POWER = "/usr/local/sbin/power"
POWER_COMMAND = f"""#!/bin/bash
exec 3<>/dev/tcp/{debian_hosts.WIRES["eth0"]}.{debian_hosts.OUTSIDE}/{debian_hosts.SWITCH_PORT}
echo "$1 $2" >&3
read -r answer <&3
[ "$answer" = done ]
"""
DROP_IN = "/etc/systemd/system/kemarid@web.service.d/tap.conf"


class Manual:
    """The commands of the quick start, each of which is to be typed, and the files it shows."""

    def __init__(self, text):
        start = text.index("## Quick start")
        self.blocks = [re.sub("^    ", "", block, flags=re.M).strip("\n") for block in
                       re.findall(r"(?:^    .*\n)+", text[start:], flags=re.M)]
        self.commands = [line for block in self.blocks if not block.startswith("[")
                         for line in block.splitlines()]
        self.typed = set()

    def command(self, beginning):
        """The one that begins so, or with a $ at the end, is so."""
        found = [line for line in self.commands if f"{line}$".startswith(beginning)]
        check(len(found) == 1, f"{MANUAL.name} has {found} for {beginning!r}")
        self.typed.add(found[0])
        return found[0]

    def file(self, beginning):
        return next(block for block in self.blocks if block.startswith(beginning)) + "\n"

    def check_complete(self):
        left = [line for line in self.commands
                if line not in self.typed and not line.startswith(BUILD_STEP)]
        check(not left, f"{MANUAL.name} has commands that were not typed: {left}")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Newcomer:
    def __init__(self, place, build, package, linux):
        self.place = place
        self.build = build
        self.package = package
        self.linux = linux
        self.manual = Manual(MANUAL.read_text())
        self.clients = []

    hosts = property(lambda self: self.place.hosts)

    def on_both(self, beginning):
        line = self.manual.command(beginning)
        return [host.order(line) for host in self.hosts]

    def other(self, host):
        return self.hosts[1 - self.hosts.index(host)]

    # ---- up to a machine that could start ----

    def install(self):
        for host in self.hosts:
            shutil.copy(self.package, host.folder / "upper/root/")
        self.on_both("apt-get install")
        for said in [host.shell(self.manual.command("kemarid --probe"))[1] for host in self.hosts]:
            check("boots-linux=" in said, f"kemarid --probe says {said}")
            check("boots-linux=yes" in said or not IN_RIG, f"the rig's KVM: {said}")

    def prepare(self):
        self.on_both("ip tuntap add")
        self.on_both("ip link set tap0")
        self.on_both("mkdir -p /srv/kemari")
        # The first copy compares the images, and nobody waits for 8 GiB here.
        image = self.manual.command("truncate -s 8G ").replace("8G", "64M")
        for host in self.hosts:
            host.order(image)
        drop_in = self.manual.file("[Service]")
        for host in self.hosts:
            host.order(f"mkdir -p {os.path.dirname(DROP_IN)}; cat >{DROP_IN} <<'END'\n{drop_in}END\n"
                       "systemctl daemon-reload")
            for name, source in self.guest_files().items():
                shutil.copy(source, host.folder / "upper/srv/kemari" / name)
                host.order(f"cat /srv/kemari/{name} >/dev/null")
        self.hosts[0].order(self.manual.command("kemarictl keygen"))
        said = self.hosts[0].order(self.manual.command("scp"))
        check(not said, f"scp says {said}")

    def guest_files(self):
        if not self.linux:
            return {"vmlinuz": self.build / "test/guest/service"}
        kernel, initrd = self.linux
        return {"vmlinuz": kernel, "initrd.img": initrd}

    def configure(self):
        """What the guest is, and on host-b its own address first."""
        self.on_both("cp /usr/share/doc/kemari/examples/example.ini")
        for host in self.hosts:
            text = host.order("cat /etc/kemari/web.ini")
            if self.linux:
                changes = {"memory = 1G": "memory = 256M", "vcpus = 2": "vcpus = 1",
                           "cmdline = console=ttyS0 root=/dev/vda ro":
                           f"cmdline = console=ttyS0 quiet panic=-1 kemari.run=redis kemari.ip={GUEST}/24"}
            else:
                changes = {"memory = 1G": "memory = 64M", "vcpus = 2": "vcpus = 1",
                           "initrd = /srv/kemari/initrd.img\n": "",
                           "cmdline = console=ttyS0 root=/dev/vda ro":
                           f"cmdline = ip={GUEST} wait=hlt dirty=50"}
            for old, new in changes.items():
                check(text.count(old) == 1, f"example.ini has no line {old!r}")
                text = text.replace(old, new)
            if host is self.hosts[1]:
                text = self.turned_round(text)
            # The way to the other host's management board.
            text += "\n[drill]\n" + "".join(f"power-{what} = {POWER} {what} {self.other(host).name}\n"
                                            for what in ("off", "on"))
            host.order(f"cat >/etc/kemari/web.ini <<'END'\n{text}END")
            host.order(f"cat >{POWER} <<'END'\n{POWER_COMMAND}END\nchmod 755 {POWER}")

    @staticmethod
    def turned_round(text):
        text = re.sub(r"^(listen = )(.*)\n(peer = )(.*)$", r"\1\4\n\3\2", text, flags=re.M)
        return re.sub(r"^(path\.\d = )(.*),(.*)$", r"\1\3,\2", text, flags=re.M)

    def ask_doctor(self):
        line = self.manual.command("kemarictl doctor /etc/kemari/web.ini$")
        reports = [self.json_of(host, line) for host in self.hosts]
        for host, report in zip(self.hosts, reports):
            said = host.shell(line)[1]
            print(said, end="", flush=True)
            problems = [each["check"] for each in report["checks"] if each["verdict"] == "problem"]
            if problems == ["kvm"] and not IN_RIG:
                continue
            check(report["can_protect"] and said.splitlines()[-1].startswith("yes"),
                  f"{host.name}: doctor says {said}")
        self.compare()

    @staticmethod
    def json_of(host, line):
        """Of a report, whatever its verdict; warnings of the log are on standard error."""
        said = host.shell(f"{line} --json 2>/dev/null")[1]
        check(said.startswith("{"), f"{host.name}: {line} --json says {said!r}")
        return json.loads(said)

    def compare(self):
        line = self.manual.command("kemarictl doctor /etc/kemari/web.ini --peer")
        checks = self.json_of(self.hosts[0], line)["checks"]
        print("\n".join(f"{each['verdict']:8} {each['check']}: {each['found']}" for each in checks), flush=True)
        found = {each["check"]: each for each in checks}
        for check_name in ("cpu", "tsc", "machine", "peer-versions", "latency", "bandwidth"):
            # An emulated host's clock, or link, may be as slow as it likes.
            allowed = ("ok", "warning") if check_name in ("latency", "bandwidth") else ("ok",)
            check(found[check_name]["verdict"] in allowed, f"doctor --peer says {found[check_name]}")
        check(found["peer-doctor"]["reason"] == "ok" or not IN_RIG, f"doctor --peer says {found}")

    def start_etcd(self):
        line = self.manual.command("etcd ")
        folder = self.place.folder / "etcd"
        folder.mkdir()
        self.etcd = subprocess.Popen(line.split(), cwd=folder, stdin=subprocess.DEVNULL,
                                     stdout=open(folder / "log", "wb"), stderr=subprocess.STDOUT)
        url = line.split()[-1]
        wait_until(lambda: subprocess.run(
            ["etcdctl", "--endpoints", url, "endpoint", "health"], env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True).returncode == 0, "etcd answers", LIMIT, PACE)

    # ---- a machine that runs ----

    def status(self, host):
        status, said = host.shell("kemarictl -m web status --json")
        return json.loads(said) if status == 0 else None

    def start(self):
        enable = self.manual.command("systemctl enable --now")
        for host in self.hosts:
            host.order(enable)
            check(host.order("systemctl is-active kemarid@web").strip() == "active", "not active")
        self.wait_protected()
        for host in self.hosts:
            said = host.order(self.manual.command("kemarictl -m web status"))
            check(said.splitlines()[0] == "web: PROTECTED", f"the first line of status: {said}")
            self.wait_told(host)

    def wait_protected(self):
        def protected():
            seen = [self.status(host) for host in self.hosts]
            return all(each and each["protected"] for each in seen) and seen
        return wait_until(protected, "both hosts say protected", LIMIT, PACE)

    def wait_told(self, host):
        """systemd, too."""
        wait_until(lambda: host.order("systemctl show -P StatusText kemarid@web").strip() in
                   ("primary, protected", "secondary, protected"), "systemd is told of it", LIMIT, PACE)

    def owner(self):
        owners = [host for host in self.hosts if self.status(host)["role"] == "primary"]
        check(len(owners) == 1, "one host has the guest")
        return owners[0]

    # ---- drills ----

    def rehearse(self):
        listed = json.loads(self.hosts[0].order(self.manual.command("kemarictl drill list") + " --json"))
        names = [each["name"] for each in listed]
        described = re.findall(r"^\| `([a-z-]+)` \|", DRILLS.read_text(), flags=re.M)
        check(set(names) <= set(described), f"{DRILLS.name} lacks {set(names) - set(described)}")
        for name in ["switchover", "kill", *(each for each in names if each not in ("switchover", "kill"))]:
            self.drill(name)
        # More starts of one unit than its StartLimitBurst= lets pass.
        for _ in range(0 if IN_RIG else 6):
            self.drill("standby-loss")

    def drill(self, name):
        line = self.manual.command("kemarictl -m web drill run").replace("switchover", name)
        owner = self.owner()
        host = self.other(owner) if name in ("standby-loss", "power-off") else owner
        line = line.replace("ssh host-b ", f"ssh {self.other(host).name} ")
        host.order(f"ssh {self.other(host).name} true")
        self.oracle.wait_answers(3)
        self.oracle.reset_silence()
        began = time.monotonic()
        status, said = host.shell(line, limit=400)
        check(status == 0, f"{host.name}: {line}: {status}: {said}")
        say(f"{name}: {time.monotonic() - began:.0f} s, silence "
            f"{self.oracle.longest_silence * 1e3:.0f} ms, on {host.name} with the guest on {owner.name}")
        if name == "power-off":
            check(self.place.switch.pressed[-2:] == [("off", self.other(host).name),
                                                     ("on", self.other(host).name)],
                  f"the power switch was pressed {self.place.switch.pressed}")
        self.read_report(host, name)
        self.wait_protected()
        for each in self.hosts:
            self.wait_told(each)
        self.oracle.wait_answers(3)

    def announce_work(self):
        owner = self.owner()
        owner.order(self.manual.command("kemarictl -m web unprotect"))
        check(not self.status(owner)["protected"], "unprotected and protected")
        self.oracle.wait_answers(3)
        owner.order(self.manual.command("kemarictl -m web protect"))
        check(self.status(owner)["protected"], "protect returned too early")
        self.wait_protected()

    def read_report(self, host, name):
        command = self.manual.command
        text = host.order(command("kemarictl -m web drill report$"))
        check(re.match(rf"drill \S+-{name}: SURVIVED: the guest runs on", text), f"report: {text}")
        report = json.loads(host.order(command("kemarictl -m web drill report --json")))
        check(report["survived"] and report["scenario"] == name, f"report: {report}")
        host.order(command("kemarictl -m web drill report --svg"))
        picture = host.order("cat /root/drill.svg; rm /root/drill.svg")
        check("</svg>" in picture and name in picture, "the picture of the report")

    # ---- the end ----

    def remove(self):
        owner = self.owner()
        disable = self.manual.command("systemctl disable --now")
        self.other(owner).order(disable)
        wait_until(lambda: self.status(owner)["role"] == "solo", "the guest goes on alone", LIMIT, PACE)
        self.oracle.wait_answers(3)
        self.oracle.verify()
        self.oracle.close()
        owner.order(disable)
        for host, before in zip(self.hosts, self.before):
            host.order("mkdir -p /root/kept; cp -a /etc/kemari /root/kept")
            host.order("echo y | " + self.manual.command("apt-get remove"))
            check("web" in host.order("ls /var/lib/kemari"), "who owned a guest is kept")
            host.order("echo y | " + self.manual.command("apt-get purge"))
            host.order("diff -r /etc/kemari /root/kept/kemari")
            left = self.things(host) - before
            check(not left, f"{host.name}: a purge leaves {sorted(left)}")

    def things(self, host):
        """What a package could leave behind: files, units, sockets, interfaces, rules, processes."""
        said = host.order(
            "find / -xdev -iname '*kemari*' -not -path '/proc/*' -not -path '/root/*' -not -path '/etc/kemari*'"
            " -not -path '/etc/systemd/system/kemarid@web.service.d*' -not -path '/srv/kemari*' -not -path '/work/*' -not -path '/var/log/*'; "
            "find /run -name '*kemari*'; ps -eo comm | grep kemari; nft list tables; "
            "systemctl list-units --all --plain --no-legend 'kemari*'; true")
        return set(said.splitlines())

    def oracle_place(self):
        return {"enter": [], "taps": {}, "guest": GUEST, "bind": f"203.0.113.{debian_hosts.OUTSIDE}"}

    def show_logs(self):
        for host in self.hosts:
            if host.first:
                print(f"==== {host.name}\n" + host.shell(
                    "systemctl status --no-pager kemarid@web; journalctl -b --no-pager -n 60 -u kemarid@web; "
                    "systemctl --failed --no-pager; kemarictl -m web status; kemarictl -m web events | tail -40")[1],
                    flush=True)

    def run(self):
        try:
            for step in (self.install, self.prepare, self.start_etcd, self.configure, self.ask_doctor, self.start):
                say(step.__name__)
                step()
            self.oracle = Oracle(self, editors=1, streams=1, think=0.02).start()
            for step in (self.rehearse, self.announce_work, self.remove):
                say(step.__name__)
                step()
            self.manual.check_complete()
        except Violation:
            self.show_logs()
            raise
        finally:
            for client in self.clients:
                client.close()


def skip_reason():
    if os.geteuid() != 0:
        return "hosts of one's own need root"
    for node in ("/dev/kvm", "/dev/net/tun"):
        if not os.access(node, os.R_OK | os.W_OK):
            return f"there is no {node}"
    for tool in ("etcd", "etcdctl", "nft", "ssh", "ssh-keygen", "nsenter", "unshare"):
        if not shutil.which(tool):
            return f"there is no program {tool}"
    return None


def play(build, package, ssh_tree, linux):
    debian_hosts.alone()
    folder = Path(tempfile.mkdtemp(prefix="kemari-newcomer-"))
    try:
        with Place(folder, ["host-a", "host-b"]) as place:
            with contextlib.ExitStack() as stack:
                roots = {host: stack.enter_context(host.installed()) for host in place.hosts}
                for host, root in roots.items():
                    debian_hosts.install_debian(root, host, place.hosts, ssh_tree)
                debian_hosts.introduce(roots)
            place.switch = PowerSwitch(place.hosts)
            place.switch.start()
            for host in place.hosts:
                host.power_on()
            for host in place.hosts:
                host.wait_booted(LIMIT)
            newcomer = Newcomer(place, build, package, linux)
            newcomer.before = [newcomer.things(host) for host in place.hosts]
            say("two hosts are up")
            newcomer.run()
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        folder.rmdir()
    say("passed")


def main(arguments):
    rig, linux = "--rig" in arguments, "--linux" in arguments
    words = [word for word in arguments if not word.startswith("--")]
    if set(arguments) - {"--rig", "--linux"} != set(words) or len(words) not in (1, 3, 5):
        sys.exit(__doc__)
    build = Path(words[0]).resolve()
    if len(words) > 1:
        package, ssh_tree = map(Path, words[1:3])
        return play(build, package, ssh_tree, [Path(word) for word in words[3:]])
    reason = skip_reason()
    if reason:
        print(f"SKIP: {reason}")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="kemari-package-") as folder:
        run("cpack", "-G", "DEB", "-B", folder, cwd=build)
        package, = Path(folder).glob("kemari_*.deb")
        more = [package, run(ROOT / "scripts/fetch", "ssh").strip()]
        if linux:
            more += run(ROOT / "scripts/guest-image", "--with", "redis").split()
        command = [sys.executable, "-B", Path(__file__).resolve(), build, *more]
        if rig:
            command = [ROOT / "scripts/rig", "--timeout", str(RIG_TIMEOUT), "--", *command]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Violation as failure:
        print(f"FAILED: {failure}", flush=True)
        sys.exit(1)
