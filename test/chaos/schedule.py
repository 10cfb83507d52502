"""What happens in a run: a pure function of the seed.

A run is a sequence of lives; a life is one pair with one guest and its settings, through a number of
faults. Nothing that is measured or waited for enters here, so a seed gives the same faults, with the
same parameters, in the same order, on every machine. When exactly they strike relative to the
protocol is up to the machine: that is what the random moments are for.
"""

import random
from typing import NamedTuple

STEPS_PER_LIFE = 60

# fault: (weight, parameters, what a life must have for it)
FAULTS = {
    "kill-primary": (40, {}, None),
    "freeze-primary": (8, {}, None),
    "freeze-primary-briefly": (5, {"seconds": (0.002, 0.09)}, None),
    "failover": (6, {}, None),
    "switchover": (8, {"ordered": ("primary", "secondary")}, None),
    "switchover-and-kill": (6, {"ordered": ("primary", "secondary"),
                                "victim": ("primary", "secondary"), "seconds": (0.0, 0.06)}, None),
    "isolate-primary": (5, {}, None),
    "cut-all": (6, {}, None),
    "cut-all-briefly": (3, {"seconds": (0.002, 0.09)}, None),
    "cut-one-way": (3, {"victim": ("primary", "secondary")}, None),
    "cut-data": (2, {"seconds": (0.05, 0.6)}, None),
    "cut-heartbeat": (2, {"seconds": (0.05, 0.4)}, None),
    "isolate-secondary": (2, {}, None),
    "kill-secondary": (5, {}, None),
    "kill-secondary-again": (3, {"seconds": (0.0, 0.08)}, None),
    "kill-primary-anytime": (4, {"when": ("claimed", "claimed", "anytime"), "seconds": (0.0, 0.6)},
                             None),
    "stop-secondary": (2, {}, None),
    "freeze-secondary": (3, {}, None),
    "freeze-secondary-briefly": (3, {"seconds": (0.002, 0.09)}, None),
    "arbiter-away": (2, {"seconds": (0.05, 0.4)}, None),
    "arbiter-away-and-kill-primary": (3, {"seconds": (0.0, 0.3)}, None),
    "policy": (4, {"policy": ("pipelined", "pipelined", "kemari", "interval=5ms", "interval=20ms"),
                   "window": (1, 2, 3)}, None),
    "corrupt": (4, {"towards": ("primary", "secondary"), "after": (0, 200_000)}, "relay"),
    "reset": (3, {}, "relay"),
    "stall": (3, {"towards": ("primary", "secondary"), "seconds": (0.02, 0.6)}, "relay"),
    "slow": (3, {"milliseconds": (1, 30), "seconds": (0.1, 0.5)}, "relay"),
    "slow-and-kill-primary": (4, {"milliseconds": (1, 30), "seconds": (0.0, 0.1)}, "relay"),
}


class Life(NamedTuple):
    number: int
    settings: dict  # see stage.Stage.start()


class Step(NamedTuple):
    number: int  # over the whole run
    fault: str
    moment: float  # seconds from protected to the fault
    parameters: dict

    def __str__(self):
        words = " ".join(f"{key}={value:.3f}" if isinstance(value, float) else f"{key}={value}"
                         for key, value in self.parameters.items())
        return f"{self.number} {self.fault} {words}".rstrip()


def can_be_relayed(transport):
    """Whether what it says can pass through a process that lies: the relay knows TCP only."""
    return transport in (None, "tcp", "tls")


def _draw(chance, choices):
    """From a tuple: one of it, or a number between two numbers."""
    if len(choices) == 2 and isinstance(choices[0], float):
        return chance.uniform(*choices)
    if len(choices) == 2 and isinstance(choices[0], int):
        return chance.randint(*choices)
    return chance.choice(choices)


def _disk(draw):
    return "shared" if draw < 0.15 else "replicated" if draw < 0.4 else "none"


def _life(chance, number, transport):
    settings = {
        "relay": chance.random() < 0.5,
        "disk": _disk(chance.random()),
        "transport": chance.choice(("tls", "tls", "tcp")),
        "dirty": chance.choice((0, 20, 64, 200)),
        "wait": chance.choice(("poll", "hlt")),
        "policy": chance.choice(("pipelined", "pipelined", "pipelined", "kemari", "interval")),
        "window": chance.choice((1, 2, 2, 4)),
    }
    if transport:
        settings["transport"] = transport
    if not can_be_relayed(settings["transport"]):
        settings["relay"] = False
    return Life(number, settings)


def run(seed, only=None, transport=None):
    """Yields Life and Step without end. `only`: names of faults, the others never strike (one of
    them at least must be possible with `transport`, that of all lives)."""
    number = 0
    for life_number in range(1, 1 << 30):
        # A life draws from a source of its own, so that the number of draws before it is no matter.
        chance = random.Random(f"{seed}/{life_number}")
        life = _life(chance, life_number, transport)
        names = [name for name, (_, _, need) in FAULTS.items()
                 if (only is None or name in only) and (need is None or life.settings[need])]
        if not names:  # all that may strike need what this life lacks
            life = life._replace(settings={**life.settings, "relay": True})
            names = [name for name in FAULTS if name in only]
        yield life
        weights = [FAULTS[name][0] for name in names]
        for _ in range(STEPS_PER_LIFE):
            number += 1
            name = chance.choices(names, weights)[0]
            yield Step(number, name, chance.uniform(0, 0.05),
                       {key: _draw(chance, choices)
                        for key, choices in FAULTS[name][1].items()})
