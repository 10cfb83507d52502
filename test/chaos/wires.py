"""What connects the pair that chaos plays with, its arbiter and its client.

    a, b ── data  10.99.0.0/24   checkpoints (through the relay at .11, .12 if a life has one), beats
         ── beat  10.98.0.0/24   beats
         ── arb   10.97.0.0/24   etcd, at an address for each host
         ── lan   10.88.0.0/24   the guest and its client
"""

import os
import subprocess

import support
from support import Network, run

WIRES = {"data": "10.99.0", "beat": "10.98.0"}
ETCD = {"a": "10.97.0.100", "b": "10.97.0.101"}
NOWHERE = "02:00:00:00:00:99"
RIG_TESTS = support.TEST_FOLDER / "rig"


class ChaosNetwork(Network):
    def _lay_wires(self):
        super()._lay_wires()
        self.lay_arbiter_wire()
        self.ip("c", "addr", "add", "10.99.0.11/24", "dev", "data")
        self.ip("c", "addr", "add", "10.99.0.12/24", "dev", "data")

    def cut(self, *wires, sides="ab"):
        for wire in wires:
            self.set_wire(wire, False, sides)

    def heal(self, *wires, sides="ab"):
        for wire in wires:
            self.set_wire(wire, True, sides)

    def mute(self, side, muted):
        """What this side says on data and beat is lost, what it should hear arrives."""
        other = 2 if side == "a" else 1
        for wire in ("data", "beat"):
            for last in (other, 11, 12) if wire == "data" else (other,):
                address = f"{WIRES[wire]}.{last}"
                if muted:
                    self.ip(side, "neigh", "replace", address, "lladdr", NOWHERE, "dev", wire,
                            "nud", "permanent")
                else:
                    self.ip(side, "neigh", "del", address, "dev", wire)


class RdmaNetwork(ChaosNetwork):
    """With soft-RoCE devices on the data wire. They work in one namespace only, so both hosts are in
    ours, which must be a rig's (test/rig/one_namespace.sh)."""

    def device(self, name, side):
        return f"{side}-{name}"

    def _make_namespaces(self):
        for side in "ab":
            run("ip", "netns", "attach", self.names[side], str(os.getpid()))
        self._make_namespace("c")

    def _lay_wires(self):
        super()._lay_wires()
        ends = [word for wire, net in WIRES.items()
                for number, side in enumerate("ab", 1)
                for word in (self.device(wire, side), f"{net}.{number}")]
        run(str(RIG_TESTS / "one_namespace.sh"), *ends)
        for number, side in enumerate("ab", 1):
            run("ip", "route", "add", ETCD[side], "dev", self.device("arb", side),
                "src", f"10.97.0.{number}")
            run(str(RIG_TESTS / "soft_roce.sh"), self.device("data", side))

    def mute(self, side, muted):
        """A queue pair asks for its neighbour's address once, so the frames are lost on the way."""
        self.lose_frames(*([f"iifname {wire}-{side}" for wire in ("data", "beat")] if muted else ()))

    def remove(self):
        for side in "ab":
            subprocess.run(["rdma", "link", "del", f"rxe-{self.device('data', side)}"],
                           capture_output=True, check=False)
            for name in ("data", "beat", "arb", "lan", "tap0", "br0"):
                subprocess.run(["ip", "link", "del", self.device(name, side)],
                               capture_output=True, check=False)
        super().remove()
