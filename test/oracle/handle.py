"""What a test holds of the oracle: starts the process, asks it how things are, ends it."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from .judges import Violation

# Seconds for anything that should happen soon; an emulated host is many times slower.
LIMIT = 120.0 if os.environ.get("KEMARI_RIG") else 20.0
FOLDER = Path(__file__).resolve().parent.parent


class Oracle:
    """Asks without pause from start() to close().

    `world.oracle_place()` gives: `enter`, the words that run a command in the client's network
    namespace; `taps`, host -> socket of capture.listen(); and the rest as driver.Driver takes it,
    as `options` are. `world.clients` gets this, to be closed. Usable by several threads.
    """

    def __init__(self, world, **options):
        place = world.oracle_place()
        enter = place.pop("enter")
        self.taps = place.pop("taps")
        spec = {"taps": {host: tap.fileno() for host, tap in self.taps.items()}, **place, **options}
        self.words = [*enter, sys.executable, "-B", "-m", "oracle.driver", json.dumps(spec)]
        self.process = None
        self.lock = threading.Lock()
        world.clients.append(self)

    def start(self):
        self.process = subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            env={**os.environ, "PYTHONPATH": str(FOLDER)},
            pass_fds=[tap.fileno() for tap in self.taps.values()])
        self.state()
        return self

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process = None
        for tap in self.taps.values():
            tap.close()
        self.taps = {}

    def _order(self, **order):
        with self.lock:
            try:
                self.process.stdin.write((json.dumps(order) + "\n").encode())
                self.process.stdin.flush()
                line = self.process.stdout.readline()
            except BrokenPipeError:
                line = b""
        if not line:
            raise RuntimeError(f"the oracle's process has ended ({self.process.poll()})")
        return json.loads(line)

    def state(self):
        """Everything it tells about itself, see driver.Driver._state()."""
        return self._order(do="state")

    def verify(self):
        state = self.state()
        if state["broken"]:
            raise Violation(f"seen from outside: {state['broken']}")
        return state

    replies = property(lambda self: self.state()["replies"])
    longest_silence = property(lambda self: self.state()["longest_silence"])

    def reset_silence(self):
        """`longest_silence`, in seconds between two answers, counts from here."""
        self._order(do="reset")

    def pause(self):
        self._order(do="pause")

    def resume(self):
        self._order(do="resume")

    def say(self, number):
        """The guest puts "say NUMBER" on its console."""
        self._order(do="say", number=number)

    def switch_off(self):
        self._order(do="off")

    def keep(self, folder):
        """Writes the last answers and captured frames to the folder."""
        self._order(do="keep", folder=str(folder))

    def _wait(self, condition, what, limit):
        deadline = time.monotonic() + limit
        while True:
            state = self.verify()
            if condition(state):
                return state
            if time.monotonic() >= deadline:
                raise Violation(f"waited {limit:g} s in vain: {what}; {state}")
            time.sleep(0.003)

    def wait_answers(self, count=1, limit=LIMIT):
        """Until so many more have come."""
        target = self.replies + count
        return self._wait(lambda state: state["replies"] >= target,
                          f"{count} more answers of the guest", limit)

    def wait_all_served(self, limit=LIMIT):
        """Until every client, streams too, was answered once more."""
        before = self.state()["answers"]
        return self._wait(
            lambda state: all(now > then for now, then in zip(state["answers"], before)),
            "an answer to every client", limit)

    def wait_settled(self, moment, limit=LIMIT):
        """Until all frames that left before `moment` (time of day) have been judged."""
        return self._wait(lambda state: state["settled"] >= moment, "captures are judged", limit)
