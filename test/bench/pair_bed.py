"""A pair of kemarid in two network namespaces, the network of its guest, and a client outside that always
has one request under way: what failover_bench.py and machines_bench.py measure.

    outside 10.88.0.1 = bridge      host a: br0 = tap0 + lan0      host b: the same
            |  |                            repl0 10.77.1.1 ------ repl0 10.77.1.2
            a  b (veth)
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

GUEST = ("10.88.0.10", 7)
MAGIC = 0x4F48434543484F21
REPLY = struct.Struct("<6Q")  # magic, sequence, counter, handled, time, corrupt
CLONE_NEWNET = 0x40000000
DEADLINE_S = 30
# A reply that comes this soon after the kill was still said by the dying one.
DYING_WORDS_S = 0.0005
SIDES = (("secondary", "b", 2, 1), ("primary", "a", 1, 2))
# Of the status of the host that took over, after its suspicion.
STEPS = ("grant", "drop", "apply", "load", "network", "run", "first_output")
PAIR = """
[replication]
listen = tcp://10.77.1.{own}:7000
peer = tcp://10.77.1.{other}:7000
[heartbeat]
path.0 = 10.77.1.{own}:7001,10.77.1.{other}:7001
secret-file = {work}/secret
[arbiter]
type = none
"""


class Failed(Exception):
    pass


def text_of(role, work, memory_mib, machine):
    """A configuration, as far as it is of the machine: `machine` is what runs in it."""
    return f"""[vm]
name = bench
role = {role}
state-dir = {work}/{role}
run-dir = {work}/{role}
[machine]
memory = {memory_mib}M
vcpus = 1
net.0 = tap0
console-log = {work}/{role}/console
{machine}
"""


@contextlib.contextmanager
def workplace(what):
    """(stack, folder): what lives as long as the bench. A failure ends it with the daemons' last words."""
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="kemari-bench-"))
        with open(f"{work}/secret", "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(os.urandom(32))
        try:
            yield stack, work
        except Failed as failure:
            for role, *_ in SIDES:
                with contextlib.suppress(OSError), open(f"{work}/{role}.log", encoding="utf-8") as log:
                    sys.stderr.write(f"--- {role}:\n" + "".join(log.readlines()[-15:]))
            sys.exit(f"bench: {what}: {failure}")


class Network:
    """The namespaces; each lives as long as the sleeper in it."""

    def __init__(self, stack):
        self.sleepers = {}
        for name in ("outside", "a", "b"):
            sleeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            stack.callback(sleeper.wait)
            stack.callback(sleeper.kill)
            self.sleepers[name] = sleeper.pid
        own = os.readlink("/proc/self/ns/net")
        for pid in self.sleepers.values():
            wait_until(lambda p=pid: os.readlink(f"/proc/{p}/ns/net") != own, "a namespace")
        for host, address in (("a", 1), ("b", 2)):
            self.ip(host, "link add lan0 type veth peer name", host, "netns",
                    str(self.sleepers["outside"]))
            self.ip(host, "tuntap add tap0 mode tap vnet_hdr")
            self.bridge(host, "br0", "lan0", "tap0")
        self.bridge("outside", "lan", "a", "b")
        self.ip("outside", "address add 10.88.0.1/24 dev lan")
        self.ip("a", "link add repl0 type veth peer name repl0 netns", str(self.sleepers["b"]))
        for host, address in (("a", 1), ("b", 2)):
            self.ip(host, f"address add 10.77.1.{address}/24 dev repl0")
            self.ip(host, "link set repl0 up")

    def inside(self, name):
        return ["nsenter", f"--net=/proc/{self.sleepers[name]}/ns/net", "--"]

    def ip(self, name, *words):
        subprocess.run([*self.inside(name), "ip", *" ".join(words).split()], check=True)

    def bridge(self, name, bridge, *ports):
        self.ip(name, f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0")
        for port in ports:
            self.ip(name, f"link set dev {port} master {bridge} up")
        self.ip(name, f"link set {bridge} up")

    def socket_outside(self, kind=socket.SOCK_DGRAM):
        """A socket stays in the namespace it was made in."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net", "rb") as own, \
                open(f"/proc/{self.sleepers['outside']}/ns/net", "rb") as other:
            if libc.setns(other.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            made = socket.socket(socket.AF_INET, kind)
            libc.setns(own.fileno(), CLONE_NEWNET)
        made.bind(("10.88.0.1", 0))
        made.setblocking(False)
        return made


def wait_until(condition, what, limit=DEADLINE_S):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited too long for {what}")
        time.sleep(0.01)


class Client:
    def __init__(self, made):
        self.socket = made
        self.sequence = 0
        self.counter = 0

    def exchange(self, timeout):
        """One request; the time of its reply, or None."""
        self.sequence += 1
        with contextlib.suppress(OSError):
            self.socket.sendto(struct.pack("<QQ", MAGIC, self.sequence), GUEST)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return None
            data = self.socket.recv(2048)
            now = time.monotonic()
            _, sequence, counter, _, _, corrupt = REPLY.unpack_from(data)
            if counter <= self.counter or corrupt:
                raise Failed(f"the guest contradicted itself: {counter} after {self.counter}")
            self.counter = counter
            if sequence == self.sequence:
                return now
        return None

    def chat(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.exchange(0.1)

    def first_reply_after(self, killed):
        while time.monotonic() < killed + DEADLINE_S:
            seen = self.exchange(0.001)
            if seen and seen > killed + DYING_WORDS_S:
                return seen
        raise Failed("nobody answers after the kill")


class Pair:
    """The daemons of the sides, each with what `text` says."""

    def __init__(self, stack, network, build, work, text, sides=SIDES):
        self.build, self.work, self.daemons = build, work, {}
        for role, host, own, other in sides:
            shutil.rmtree(f"{work}/{role}", ignore_errors=True)
            os.mkdir(f"{work}/{role}")
            path = f"{work}/{role}.ini"
            with open(path, "w", encoding="utf-8") as file:
                file.write(text(role, own, other, work))
            with open(f"{work}/{role}.log", "w", encoding="utf-8") as log:
                daemon = subprocess.Popen(
                    [*network.inside(host), f"{build}/app/kemarid", "--config", path],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(daemon.wait)
            stack.callback(daemon.kill)
            self.daemons[role] = daemon

    def status(self, role):
        answer = subprocess.run(
            [f"{self.build}/app/kemarictl", "--socket", f"{self.work}/{role}/bench.sock", "status",
             "--json"], capture_output=True, text=True, check=False)
        if self.daemons[role].poll() is not None:
            raise Failed(f"the {role} ended")
        return json.loads(answer.stdout) if answer.returncode == 0 else {}

    def wait(self, role, condition, what):
        found = {}

        def look():
            found.update(self.status(role))
            return found and condition(found)
        wait_until(look, what)
        return found

    def takeover_steps(self, killed_wall):
        """What the secondary says of its takeover: ns to each step from when the primary was killed."""
        takeover = self.wait("secondary", lambda s: s["takeover"]["first_output_ns"],
                             "the takeover")["takeover"]
        suspect = takeover["suspect_wall_ns"] - killed_wall * 1e9
        return {"suspect": suspect,
                **{step: suspect + takeover[f"{step}_ns"] - takeover["suspect_ns"] for step in STEPS}}


def tell(number, steps):
    print(f"bench: failover {number}: ms from kill to " + ", ".join(
        f"{name} {steps[name] / 1e6:.1f}" for name in ("suspect", "run", "first_output", "reply")),
        file=sys.stderr)
