"""Two hosts for the pair tests: network namespaces, daemons in them, and a client outside.

    a: data ┬ 10.99.0.0/24 ┬ data :b        checkpoints and one heartbeat path
       beat ┼ 10.98.0.0/24 ┼ beat           heartbeats only, where a test wants that
       arb  ┼ 10.97.0.0/24 ┼ arb            the way to an arbiter in c, where a test wants that
       tap0 ┴ 10.88.0.0/24 ┴ tap0           the network of the guest, with the client at .1
                   c

c is the switches between the hosts, and the place of the client. Every interface lives in one of the
three namespaces, so removing those removes everything. Their
names carry our process id; those of a test that was killed are removed by the next one. Daemons die
with the thread that started them (PR_SET_PDEATHSIG).

Nothing here sleeps for an amount of time that a result depends on: wait_until() polls a condition
until its deadline.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

TEST_FOLDER = Path(__file__).resolve().parent.parent
sys.path.insert(1, str(TEST_FOLDER))
import expect  # noqa: E402
from expect import Failure, check, run  # noqa: E402 (for the tests, too)
from oracle import Violation, capture  # noqa: E402 (test/oracle, likewise)

SKIPPED = 77
GUEST_IP = "10.88.0.10"
CLIENT_IP = "10.88.0.1"
PREFIX = "kemari-"
# Seconds for anything that should happen at once; generous, for busy machines. An emulated host is
# many times slower.
LIMIT = 120.0 if os.environ.get("KEMARI_RIG") else 20.0

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000


def wait_until(condition, what, limit=LIMIT):
    return expect.wait_until(condition, what, limit)


def skip_reason():
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "there is no /dev/kvm"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "there is no /dev/net/tun"
    if not shutil.which("ip"):
        return "there is no ip command (iproute2)"
    name = f"{PREFIX}{os.getpid()}-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"no network namespace can be made: {tried.stderr.strip()}"
    run("ip", "netns", "del", name)
    return None


def remove_leftovers():
    """Of tests that were killed before they could clean up."""
    def is_leftover(name):
        owner = name.removeprefix(PREFIX).split("-")[0]
        return name.startswith(PREFIX) and owner.isdigit() and not Path(f"/proc/{owner}").exists()

    for line in run("ip", "netns", "list").splitlines():
        if is_leftover(name := line.split()[0]):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if is_leftover(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def wait_frozen(pid, what):
    """Until every thread of a process that was sent SIGSTOP stands: a signal is only on its way when it
    was sent, and the thread that it came to must run to stop the others."""
    def stands():
        try:
            return all((task / "stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
                       for task in Path(f"/proc/{pid}/task").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            return False  # one of them has just ended
    wait_until(stands, f"{what} is frozen")


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def inside(namespace):
    """Sockets made by this thread meanwhile belong to the namespace."""
    with open("/proc/thread-self/ns/net", "rb") as home, \
            open(f"/run/netns/{namespace}", "rb") as there:
        check(LIBC.setns(there.fileno(), CLONE_NEWNET) == 0, f"can't enter {namespace}")
        try:
            yield
        finally:
            check(LIBC.setns(home.fileno(), CLONE_NEWNET) == 0, "can't come back")


class Network:
    """The namespaces, one per host and that of the switches, and their wires."""

    sides = "ab"

    def __init__(self):
        remove_leftovers()
        self.names = {side: f"{PREFIX}{os.getpid()}-{side}" for side in [*self.sides, "c"]}
        self.wires = []
        try:
            self._make_namespaces()
            self._lay_wires()
        except Exception:
            self.remove()
            raise

    def _make_namespaces(self):
        for side in self.names:
            self._make_namespace(side)

    def _make_namespace(self, side):
        run("ip", "netns", "add", self.names[side])
        self.ip(side, "link", "set", "lo", "up")

    def ip(self, side, *words):
        return run("ip", "-n", self.names[side], *words)

    def device(self, name, _side):
        """What the interface `name` of this side is called there."""
        return name

    def _lay_wire(self, wire):
        # With an address of its own: else it has that of a port, and another one after a cut.
        address = "02:00:00:00:01:" + format(len(self.wires), "02x")
        self.wires.append(wire)
        self.ip("c", "link", "add", wire, "address", address, "type", "bridge")
        self.ip("c", "link", "set", wire, "up")
        for side in self.sides:
            device = self.device(wire, side)
            self.ip(side, "link", "add", device, "type", "veth", "peer", "name",
                    f"{wire}-{side}", "netns", self.names["c"])
            self.ip("c", "link", "set", f"{wire}-{side}", "master", wire, "up")
            self.ip(side, "link", "set", device, "up")

    def _lay_wires(self):
        self.ip("c", "link", "add", "void", "type", "bridge")
        for wire in ("data", "beat", "lan"):
            self._lay_wire(wire)
        self.ip("c", "addr", "add", f"{CLIENT_IP}/24", "dev", "lan")
        # A client that waits 200 ms before it repeats a segment would hide how short an outage was.
        self.ip("c", "route", "replace", "10.88.0.0/24", "dev", "lan", "src", CLIENT_IP,
                "rto_min", "20ms")
        for number, side in enumerate(self.sides, 1):
            data, beat, bridge, tap, lan = (
                self.device(name, side) for name in ("data", "beat", "br0", "tap0", "lan"))
            self.ip(side, "addr", "add", f"10.99.0.{number}/24", "dev", data)
            self.ip(side, "addr", "add", f"10.98.0.{number}/24", "dev", beat)
            self.ip(side, "link", "add", bridge, "type", "bridge")
            self.ip(side, "link", "set", bridge, "up")
            self.ip(side, "tuntap", "add", tap, "mode", "tap", "vnet_hdr")
            self.ip(side, "link", "set", tap, "master", bridge, "up")
            self.ip(side, "link", "set", lan, "master", bridge)

    def lay_arbiter_wire(self):
        self._lay_wire("arb")
        for number, side in enumerate(self.sides, 1):
            self.ip(side, "addr", "add", f"10.97.0.{number}/24", "dev", self.device("arb", side))

    def set_wire(self, wire, whole, sides="ab"):
        """A cut wire loses frames silently, as behind a switch: links stay up on both hosts.

        The ports go to a bridge that is down. Without any bridge they would be interfaces of the
        switches' namespace, which takes what is for an address on another one.
        """
        for side in sides:
            self.ip("c", "link", "set", f"{wire}-{side}", "master", wire if whole else "void")

    def lose_frames(self, *matches):
        """Frames between the hosts that match (nft(8), family bridge) are lost from now on, until
        the next call; without any, all arrive."""
        rules = "\n".join(f"{match} drop" for match in matches)
        run("ip", "netns", "exec", self.names["c"], "nft", "-f", "-", input=f"""
            table bridge lost
            delete table bridge lost
            table bridge lost {{
                chain forward {{
                    type filter hook forward priority 0
                    {rules}
                }}
            }}""")

    def emitted(self, side):
        """Frames that the daemon of this side has written to its tap."""
        tap = self.device("tap0", side)
        shown = json.loads(self.ip(side, "-j", "-s", "link", "show", tap))
        return shown[0]["stats64"]["rx"]["packets"]

    def guest_mac(self):
        """As the client has learnt it."""
        for entry in json.loads(self.ip("c", "-j", "neigh", "show", GUEST_IP)):
            if "lladdr" in entry:
                return entry["lladdr"]
        return None

    def remove(self):
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Host:
    """One side: its configuration, its state on disk, and its daemon while one runs."""

    def __init__(self, side, number, world):
        self.side = side
        self.world = world
        self.number = number
        self.folder = world.folder / side
        self.folder.mkdir()
        self.socket = self.folder / "run" / "pair.sock"
        self.console_log = self.folder / "console"
        self.log = self.folder / "log"
        self.daemon = None

    def settings(self, role, changes):
        own, other = self.number, 3 - self.number
        text = {
            "name": "pair", "role": role, "state-dir": self.folder / "state",
            "run-dir": self.folder / "run", "memory": "64M",
            "kernel": self.world.build / "test" / "guest" / "service", "cmdline": f"ip={GUEST_IP}",
            "net.0": self.world.network.device("tap0", self.side), "console-log": self.console_log,
            "listen": f"10.99.0.{own}:7000", "peer": f"10.99.0.{other}:7000",
            "path.0": f"10.99.0.{own}:7001,10.99.0.{other}:7001",
            "secret-file": self.world.secret, "arbiter": "none",
        }
        text.update(changes)
        return [word for key, value in text.items() if value is not None
                for word in (f"--{key}", str(value))]

    def command(self, role, **changes):
        changes = {re.sub(r"-(\d+)$", r".\1", key.replace("_", "-")): value
                   for key, value in changes.items()}
        return [str(self.world.build / "app" / "kemarid"), *self.settings(role, changes)]

    def start(self, role, **changes):
        check(self.daemon is None or self.daemon.poll() is not None, f"{self.side} runs already")
        with open(self.log, "ab") as log:
            log.write(f"---- {role}\n".encode())
            self.daemon = subprocess.Popen(
                ["ip", "netns", "exec", self.world.network.names[self.side],
                 *self.command(role, **changes)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)

    def ctl(self, *words):
        """kemarictl: its exit status and what it said."""
        done = subprocess.run(
            [str(self.world.build / "app" / "kemarictl"), "-s", str(self.socket), *words],
            capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def order(self, *words):
        status, said = self.ctl(*words)
        check(status == 0, f"kemarictl {' '.join(words)} on {self.side}: {said.strip()}")
        return said

    def runs(self):
        return self.daemon is not None and self.daemon.poll() is None

    def record(self):
        """Path of the term record."""
        return self.folder / "state" / "pair.term"

    def status(self):
        """None while there is no daemon to ask."""
        code, said = self.ctl("status", "--json")
        return json.loads(said) if code == 0 else None

    def events(self):
        return [json.loads(line) for line in self.order("events", "--json").splitlines()]

    def has_event(self, kind):
        return any(event["kind"] == kind for event in self.events())

    def wait_for(self, what, condition, limit=LIMIT):
        """The first status that `condition` accepts."""
        def look():
            check(self.daemon.poll() is None,
                  f"{self.side} ended with {self.daemon.poll()} while waiting: {what}")
            status = self.status()
            return status if status and condition(status) else None
        return wait_until(look, f"{self.side}: {what}", limit)

    def wait_for_state(self, state, limit=LIMIT):
        return self.wait_for(f"state {state}", lambda status: status["state"] == state, limit)

    def wait_protected(self):
        return self.wait_for("protected", lambda status: status["protected"])

    def signal(self, number):
        self.daemon.send_signal(number)

    def wait_frozen(self):
        wait_frozen(self.daemon.pid, self.side)

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()

    def wait_exit(self, limit=LIMIT):
        try:
            return self.daemon.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.side} did not end in {limit:g} s") from None

    def console(self):
        return self.console_log.read_text() if self.console_log.exists() else ""

    def end(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGCONT)
            self.kill()


class World:
    """Everything a test needs, and its clean-up. Use as a context."""

    network_type = Network

    def __init__(self, build):
        self.build = Path(build).resolve()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.secret = self.folder / "secret"
        self.clients = []
        self.network = None
        self.hosts = {}

    def __enter__(self):
        try:
            self.secret.write_text("a secret of the pair tests\n")
            self.secret.chmod(0o600)
            self.network = self.network_type()
            self.hosts = {side: Host(side, number, self)
                          for number, side in enumerate(self.network.sides, 1)}
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        for client in self.clients:
            client.close()
        for host in self.hosts.values():
            host.end()
        if self.network:
            self.network.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def oracle_place(self):
        """Where an Oracle stands: the client's place, with an ear on both taps."""
        taps = {}
        for side in self.hosts:
            with inside(self.network.names[side]):
                taps[side] = capture.listen(self.network.device("tap0", side))
        return {"enter": ["ip", "netns", "exec", self.network.names["c"]], "taps": taps,
                "guest": GUEST_IP, "bind": CLIENT_IP}

    def start_pair(self, primary="a", **changes):
        """Both daemons, until the guest is protected. Returns (primary, secondary)."""
        first = self.hosts[primary]
        second = self.hosts["b" if primary == "a" else "a"]
        first.start("primary", **changes)
        second.start("secondary", **changes)
        first.wait_protected()
        second.wait_protected()
        return first, second

    def show_logs(self):
        for host in self.hosts.values():
            if host.log.exists():
                print(f"==== log of {host.side}\n{host.log.read_text()[-6000:]}", file=sys.stderr)


def stop_on_signals():
    """SIGTERM (ctest's time is up) unwinds like Ctrl-C does."""
    def stop(number, _frame):
        raise SystemExit(128 + number)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)


def main(build, tests, world_type=World):
    """Runs the functions, each in a world of its own. Exit status of a ctest program."""
    reason = skip_reason()
    if reason:
        print(f"SKIP: {reason}")
        return SKIPPED
    stop_on_signals()
    failures = 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            with world_type(build) as world:
                try:
                    test(world)
                except Exception:
                    world.show_logs()
                    raise
        except Violation as failure:
            failures += 1
            print(f"FAILED  {name}: {failure}", flush=True)
        except Exception:
            failures += 1
            print(f"FAILED  {name}:\n{traceback.format_exc()}", flush=True)
        else:
            print(f"ok      {name} ({time.monotonic() - started:.1f} s)", flush=True)
    return 1 if failures else 0
