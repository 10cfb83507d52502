"""The Linux guest that runs from an ext4 root on the replicated disk (scripts/guest-image --root).

It has two writers of its own accord: redis, with a file of what it acknowledged, and fio, which
verifies what it wrote. Here: its orders and its kernel's log, from the client's place, and what an
image must be.
"""

import contextlib
import re
import shutil
import socket
import subprocess

from oracle import journal
from support import GUEST_IP, check, inside

ORDERS = GUEST_IP, 6380  # scripts/guest.d/order
REDIS = GUEST_IP, 6379
READY = "kemari-guest: ready root"
APPENDED = "/var/lib/redis/appendonlydir/appendonly.aof.1.incr.aof"
VERIFIED = 1 << 18  # bytes: twice what fio writes before it verifies that
# Of its disk, its file system or itself; not what a slow processor makes it say.
COMPLAINTS = re.compile(r"I/O error|EXT4-fs (error|warning)|EXT4-fs .*(abort|[Rr]emounting)|"
                        r"JBD2: .*[Ee]rror|blocked for more than|cut here|Call Trace|BUG:|Oops")


class LinuxGuest:
    """`namespace`: of the client. `limit`: seconds for anything that should happen soon."""

    def __init__(self, namespace, limit):
        self.namespace = namespace
        self.limit = limit

    def _connect(self, address):
        with inside(self.namespace):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.settimeout(self.limit)
        client.connect(address)
        return client

    def order(self, word):
        """What the guest says to it."""
        with self._connect(ORDERS) as client:
            client.sendall(word.encode() + b"\n")
            with client.makefile("rb") as answer:
                return answer.read().decode(errors="replace")

    def last_order(self, word):
        """One that the connection need not outlive."""
        with contextlib.suppress(ConnectionResetError, TimeoutError), \
                self._connect(ORDERS) as client:
            client.sendall(word.encode() + b"\n")

    def check_log(self):
        for line in self.order("log").splitlines():
            check(not COMPLAINTS.search(line), f"the guest's kernel says: {line}")

    def wait_verified(self):
        """Until fio has read back and compared so much more."""
        answer = self.order(f"verified {VERIFIED}").strip()
        check(answer == "verified", f"fio does not run in the guest: {answer}")

    def records(self):
        """Every value of the list that the oracle appends to."""
        with self._connect(REDIS) as client, client.makefile("rb") as answer:
            client.sendall(b"LRANGE journal 0 -1\r\n")
            return [int(answer.readline() and answer.readline())
                    for _ in range(int(answer.readline()[1:]))]


def run(*words, allowed=(0,)):
    done = subprocess.run(words, capture_output=True)
    check(done.returncode in allowed,
          f"{' '.join(map(str, words))}: exit status {done.returncode}: "
          f"{(done.stdout + done.stderr).decode(errors='replace')[-2000:]}")
    return done.stdout


def copy_image(source, target):
    run("cp", "--sparse=always", source, target)
    return target


def check_image(image, seed, acknowledged):
    """A file system without a fault, and every acknowledged record in it."""
    run("e2fsck", "-fn", image)
    appended = run("debugfs", "-R", f"cat {APPENDED}", image)
    journal.check_records(journal.appended(appended), seed, acknowledged, image)


def check_crashed(image, seed, acknowledged):
    """Of a host that was killed: as the guest would find it after a power failure. Changes it."""
    # What every boot does: journal, counts of what is free.
    run("e2fsck", "-fp", image, allowed=(0, 1))
    check_image(image, seed, acknowledged)


def check_equal(*images):
    run("cmp", *images)


def tools_missing():
    return [name for name in ("e2fsck", "debugfs", "cmp") if not shutil.which(name)]
