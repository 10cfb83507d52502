"""The stage of rows.py: a pair, an etcd of its own that can be cut off, a client, a capture on both
taps, and the judgement after each row.

Two heartbeat-and-data networks join the hosts, and a third leads to etcd, so that each line of the
table in DESIGN §6 can fail alone. All daemons ask etcd through a proxy that can lose answers.
"""

import contextlib
import random
import shutil
import signal
import time

import support
from capture import Capture
from etcd import Etcd
from oracle import Oracle
from proxy import Proxy
from support import check, wait_until

ADDRESS = "10.97.0.100"
PROXY_PORT = 2479
LINK = ("data", "beat")
EVERYTHING = (*LINK, "arb", "lan")
SETTINGS = {
    "cmdline": f"ip={support.GUEST_IP} dirty=200",
    "arbiter": "etcd", "arbiter_endpoints": f"http://{ADDRESS}:{PROXY_PORT}",
    "arbiter_probe_interval": "100ms", "arbiter_attempt_timeout": "500ms",
    # Longer than a busy machine leaves the data connection unattended, since with the heartbeat
    # cut that is all there is to go by.
    "heartbeat_interval": "50ms", "heartbeat_multiplier": "10",
}


DETECTION = 0.5  # seconds: interval times multiplier


def speaks_alone(status):
    return status["role"] == "solo" and status["state"] == "alone"


def asks(status):
    return status["state"] == "holding" and status["arbiter"]["state"] in ("asking", "unreachable")


class Stage:
    """Use as a context."""

    def __init__(self, world, seed):
        self.world = world
        self.network = world.network
        self.primary = self.secondary = self.oracle = self.capture = None
        self.chance = random.Random(seed)
        # since begin(), for judge()
        self.spoke_first = None
        self.term = 0
        self.mark = 0
        self.cleanup = contextlib.ExitStack()

    def __enter__(self):
        with self.cleanup:
            self.network.lay_arbiter_wire()
            self.etcd = self.cleanup.enter_context(Etcd(self.world, ADDRESS, "arb"))
            self.proxy = Proxy(self.world, ADDRESS, 2379, PROXY_PORT, self._side_of)
            self.capture = Capture(self.world)
            for host in self.world.hosts.values():
                host.settings_of_pair = {
                    **SETTINGS, "path_0": f"10.98.0.{host.number}:7001,"
                                          f"10.98.0.{3 - host.number}:7001",
                    "path_1": f"10.99.0.{host.number}:7001,10.99.0.{3 - host.number}:7001"}
            self.primary, self.secondary = self.world.hosts["a"], self.world.hosts["b"]
            self.start(self.primary, "primary")
            self.start(self.secondary, "secondary")
            self.oracle = Oracle(self.world).start()
            self.wait_protected()
            self.cleanup = self.cleanup.pop_all()
        return self

    def __exit__(self, *unused):
        self.cleanup.close()

    @staticmethod
    def _side_of(address):
        return {"10.97.0.1": "a", "10.97.0.2": "b"}.get(address)

    @staticmethod
    def start(host, role):
        host.start(role, **host.settings_of_pair)

    # ---- what goes wrong ----

    def cut_link(self):
        for wire in LINK:
            self.network.set_wire(wire, False)

    def lose_what_is_sent_by(self, host):
        """To the other host; what it is sent arrives."""
        ports = ", ".join(f'"{wire}-{host.side}"' for wire in LINK)
        self.network.lose_frames(f"iifname {{ {ports} }}")

    def cut_arbiter(self, *hosts):
        self.network.set_wire("arb", False, [host.side for host in hosts] or "ab")

    def power_off(self, host):
        """At once: it stands still while its wires are cut one by one, and its kernel closes no
        connection that anybody hears of."""
        host.signal(signal.SIGSTOP)
        for wire in EVERYTHING:
            self.network.set_wire(wire, False, host.side)
        host.kill()

    def mend(self):
        for wire in EVERYTHING:
            self.network.set_wire(wire, True)
        self.network.lose_frames()
        self.etcd.thaw()
        self.proxy.lose()

    # ---- what is waited for ----

    def both(self):
        return (self.primary, self.secondary)

    def wait_both_ask(self):
        for host in self.both():
            host.wait_for("asking", asks)

    def winner(self):
        """The one that went on alone, of two that may; None: nobody yet."""
        for host in self.both():
            if host.runs() and (status := host.status()) and speaks_alone(status):
                return host
        return None

    def wait_winner(self):
        return wait_until(self.winner, "one of them goes on alone")

    def wait_moved(self):
        self.secondary.wait_for("going on alone", speaks_alone)
        return self.secondary

    def wait_alone(self):
        self.primary.wait_for("going on alone", speaks_alone)
        return self.primary

    def wait_protected(self):
        """Again, with everything in its place; nobody else owns the guest."""
        for host in self.both():
            host.wait_for("protected, everybody reachable",
                          lambda s: s["protected"] and s["heartbeat"]["peer_alive"] and
                          s["arbiter"]["state"] not in ("unreachable", "asking"))
        return self.primary

    def wait_healed_or_moved(self):
        def look():
            seen = [host.status() or {} for host in self.both()]
            if all(status.get("protected") for status in seen):
                return self.primary
            return self.secondary if seen[1] and speaks_alone(seen[1]) else None
        return wait_until(look, "the pair heals, or the secondary takes over")

    def wait_arbiter_unreachable(self):
        for host in self.both():
            status = host.wait_for("an unreachable arbiter",
                                   lambda s: s["arbiter"]["state"] == "unreachable")
            check(any("would not fail over" in text for text in status["warnings"]),
                  f"{host.side} does not warn: {status['warnings']}")

    def check_replicating(self):
        """Checkpoints go on. Without an arbiter's answer, even a late one, that is not called
        protected."""
        for host in self.both():
            status = host.status()
            check(status["state"] == "replicating",
                  f"{host.side}, {status['role']}, is {status['state']}: {status['reason']}")

    def check_silence(self, seconds=0.3):
        """From now on nobody says anything."""
        mark = self.capture.mark()
        time.sleep(seconds)
        speakers = self.capture.speakers(mark)
        check(speakers == "", f"{speakers} spoke")
        self.oracle.verify()

    def check_speech(self):
        """The guest answers, more than what was on its way."""
        self.oracle.wait_answers(5)

    # ---- the judgement ----

    def begin(self):
        """Before a row: all is well, and what is heard from here on counts."""
        self.mark = self.capture.mark()
        self.capture.forget(self.mark)
        self.spoke_first = self.primary
        self.term = self.primary.status()["term"]
        self.oracle.wait_all_served()  # a stream repeats slowly what was lost in the row before
        time.sleep(self.chance.uniform(0, 0.05))  # the random moment: nothing is waited for

    def judge(self, owner):
        """Exactly one guest spoke, and it is the one that holds the term."""
        self.check_speech()
        stayed = owner is self.spoke_first
        expected = owner.side if stayed else self.spoke_first.side + owner.side
        speakers = self.capture.speakers(self.mark)
        check(speakers == expected,
              f"the speakers were {speakers!r} in turn, expected {expected!r}:"
              f"{self.capture.describe(self.mark)}")
        status = owner.status()
        check(status["guest"]["state"] == "running", f"guest {status['guest']['state']}")
        # A term that nobody heard of may be on its way back.
        prefix = f"term {status['term']} owner "
        wait_until(lambda: self.etcd.key().startswith(prefix),
                   f"{owner.side} speaks, and etcd says: {prefix}")
        if status["term"] != self.term or not stayed:
            check(status["term"] == self.term + 1, f"term {status['term']} after {self.term}")
            key = self.etcd.key()
            check(f"/{owner.daemon.pid}/" in key,
                  f"{owner.side} ({owner.daemon.pid}) speaks, etcd says {key}")
        record = owner.record().read_text()
        check(f"\nterm {status['term']}\nownership owner\n" in record, f"its record: {record}")
        return speakers

    def heal(self, owner):
        """Everything works again, and the other host is the owner's secondary."""
        self.mend()
        other = self.secondary if owner is self.primary else self.primary
        self.primary, self.secondary = owner, other
        if other.runs():
            other.signal(signal.SIGCONT)
            state = wait_until(lambda: self._given_up(other), f"{other.side} gives up")
            if state == "stopped":
                other.order("stop")
                check(other.wait_exit() == 0, "a fenced host ends in an orderly way")
        if not other.runs():
            self.start(other, "secondary")
        self.wait_protected()

    @staticmethod
    def _given_up(loser):
        """How, if it has: it stands by, its guest is stopped for good, or it never had one."""
        if not loser.runs():
            return "ended"
        status = loser.status()
        if status and (status["role"] == "secondary" or status["state"] == "stopped"):
            return "secondary" if status["role"] == "secondary" else "stopped"
        return None

    def keep_record(self, host):
        """A copy of the term record as it is now, for a backup that is restored too late."""
        kept = self.world.folder / f"record-{host.side}"
        shutil.copy(host.record(), kept)
        return kept
