#!/usr/bin/env python3
"""usage: journal.py BUILD

What the journal of systemd is told by a daemon whose standard error is connected to it: entries with
fields, of the log and of events. The journal is a socket of this test, at its place in a mount
namespace of the daemon's own.
"""

import os
import select
import signal
import socket
import struct
import sys
import threading

import support
from support import check, wait_until


class Journal:
    """A socket that daemons find at /run/systemd/journal/socket, and what came on it.

    It is read all the time, like journald's: the kernel keeps some ten datagrams for it
    (net.unix.max_dgram_qlen), and whoever sends one more waits."""

    def __init__(self, world):
        self.folder = world.folder / "journal"
        self.folder.mkdir()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.folder / "socket"))
        self.socket.setblocking(False)
        self.lock = threading.Lock()
        self.entries = []
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        world.clients.append(self)

    def close(self):
        self.stopping = True
        self.thread.join()
        self.socket.close()

    def _run(self):
        while not self.stopping:
            select.select([self.socket], [], [], 0.05)
            self.listen()

    def wrap(self, host, connected=True):
        """Daemons that the host starts from now on have this journal."""
        plain = host.command
        stream = os.stat(host.log) if host.log.exists() else (host.log.touch(), os.stat(host.log))[1]
        name = f"{stream.st_dev}:{stream.st_ino}" if connected else "1:1"

        def command(role, **changes):
            script = ('mount -t tmpfs none /run && mkdir -p /run/systemd/journal && '
                      'mount --bind "$1" /run/systemd/journal && shift && exec "$@"')
            return ["env", f"JOURNAL_STREAM={name}", "unshare", "--mount", "sh", "-c", script, "sh",
                    str(self.folder), *plain(role, **changes)]
        host.command = command

    def listen(self):
        """All that was sent before the call."""
        with self.lock:
            while True:
                try:
                    self.entries.append(parse(self.socket.recv(65536)))
                except BlockingIOError:
                    return list(self.entries)

    def find(self, **fields):
        return [entry for entry in self.listen()
                if all(entry.get(name) == value for name, value in fields.items())]

    def wait_for(self, **fields):
        return wait_until(lambda: self.find(**fields), f"the journal has {fields}")[0]


def parse(datagram):
    """systemd's native protocol: NAME=value, or NAME, a length and a value of several lines."""
    entry = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8:8 + size], datagram[9 + size:]
        entry[name.decode()] = value.decode()
    return entry


def the_journal_has_fields(world):
    journal = Journal(world)
    first, second = world.hosts.values()
    journal.wrap(first)
    primary, secondary = world.start_pair()
    started = journal.wait_for(KEMARI_EVENT="daemon.started")
    check(started["MESSAGE"] == "started as primary" and started["PRIORITY"] == "6" and
          started["KEMARI_VM"] == "pair" and started["SYSLOG_IDENTIFIER"] == "kemarid" and
          started["KEMARI_EVENT_ID"].isdigit(), f"{started}")
    protected = journal.wait_for(KEMARI_EVENT="primary.protected")
    check(protected["KEMARI_ROLE"] == "primary" and protected["KEMARI_TERM"] == "1", f"{protected}")
    line = journal.wait_for(KEMARI_AREA="primary", PRIORITY="6")
    check("standby connected" in line["MESSAGE"] and line["KEMARI_VM"] == "pair", f"{line}")
    primary.order("policy", "set", "window=3")
    changed = journal.wait_for(KEMARI_EVENT="policy.changed")
    check(changed["KEMARI_WINDOW"] == "3" and changed["KEMARI_MAX_INTERVAL"], f"{changed}")
    secondary.kill()
    journal.wait_for(KEMARI_EVENT="primary.solo", PRIORITY="4", KEMARI_TERM="2")
    check(len(journal.find(KEMARI_EVENT="daemon.started")) == 1, "an event came twice")
    check("info" not in first.log.read_text(), "the log went to standard error, too")
    # Whatever follows the loss of a standby may still happen.
    wait_until(lambda: [event["kind"] for event in first.events()] ==
               [entry["KEMARI_EVENT"] for entry in journal.listen() if "KEMARI_EVENT" in entry],
               "all events, in order")


def a_stream_that_is_not_the_journal_gets_lines(world):
    journal = Journal(world)
    host = world.hosts["a"]
    journal.wrap(host, connected=False)
    host.start("primary")
    host.wait_for("running", lambda status: status["guest"]["state"] == "running")
    host.signal(signal.SIGTERM)
    host.wait_exit()
    check(not journal.listen(), f"{journal.entries}")
    check("info app: signal 15: stopping" in host.log.read_text(), "nothing is logged")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        the_journal_has_fields,
        a_stream_that_is_not_the_journal_gets_lines,
    ]))
