"""What every test in Python says: that something is so, or becomes so before a deadline."""

import subprocess
import time

from oracle import Violation


class Failure(Violation):
    """As the oracle's, but seen from inside: one sentence about what is not as it should be."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def wait_until(condition, what, limit, pace=0.005):
    """The first true value of `condition()`; fails after `limit` seconds without one."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < deadline, f"waited {limit:g} s in vain: {what}")
        time.sleep(pace)


def run(*words, **options):
    """What a command says; it must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    check(done.returncode == 0,
          f"{' '.join(map(str, words))}: {done.returncode}: {done.stdout}{done.stderr}".strip())
    return done.stdout
