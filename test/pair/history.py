#!/usr/bin/env python3
"""usage: history.py BUILD

What happened is still known when the daemon that saw it is gone: events are on disk, read over a
restart by time, and a disk that can't take them is told and stops nothing.
"""

import json
import sys
import time

import support
from support import check, wait_until


def events_since(host, when):
    return [json.loads(line) for line in host.order("events", "--json", "--since", when).splitlines()]


def kinds(events):
    return [event["kind"] for event in events]


def file_of(host):
    return host.folder / "state" / "pair.events"


def events_on_disk(host):
    """None while a line is being written."""
    text = file_of(host).read_text()
    return [json.loads(line) for line in text.splitlines()] if text.endswith("\n") else None


def events_are_read_over_a_restart(world):
    host = world.hosts["a"]
    for number in (1, 2):
        host.start("primary")
        host.wait_for("running", lambda status: status["guest"]["state"] == "running")
        check(kinds(host.events()).count("daemon.started") == 1,
              "the plain list has more than this run of the daemon")
        check(kinds(events_since(host, "1h")).count("daemon.started") == number,
              f"run {number}: {kinds(events_since(host, '1h'))}")
        if number == 1:
            host.order("stop")
            host.wait_exit()
    # What has just happened is answered from memory, and written in the background.
    wait_until(lambda: events_on_disk(host) == events_since(host, "1h"),
               "the file and the answer are the same")
    # To the second: what is over is left out, and a number is still one of this run. A busy host
    # may have something new to tell at any time.
    last = events_since(host, "1h")[-1]
    wait_until(lambda: time.time() > last["wall_ns"] / 1e9 + 1.1, "a second has gone by")
    check(all(event["wall_ns"] > last["wall_ns"] for event in events_since(host, "1s")),
          "what happened before is not left out")
    check(events_since(host, str(last["id"] - 1))[0]["id"] == last["id"], "by number")
    code, said = host.ctl("events", "--since", "yesterday")
    check(code == 2 and "neither a number" in said, f"{code}, {said}")
    # A daemon that was killed in the middle of a line, and noise.
    host.kill()
    with open(file_of(host), "ab") as file:
        file.write(b"\x00\xff noise\n" + file_of(host).read_bytes()[:40])
    host.start("primary")
    host.wait_for("running", lambda status: status["guest"]["state"] == "running")
    check(kinds(events_since(host, "1h")).count("daemon.started") == 3, "after a kill")


def a_disk_that_refuses_events_stops_nothing(world):
    first, second = world.hosts.values()
    file_of(first).parent.mkdir()
    file_of(first).mkdir()
    world.start_pair()
    wait_until(lambda: first.has_event("history.unwritten"), "it is told")
    check(sum(event["kind"] == "history.unwritten" for event in first.events()) == 1, "told twice")
    check("Is a directory" in next(event["text"] for event in first.events()
                                   if event["kind"] == "history.unwritten"), "why is not told")
    # What is kept in memory is read all the same.
    check("daemon.started" in kinds(events_since(first, "1h")), "memory is not read")
    file_of(first).rmdir()
    second.order("stop")
    second.wait_exit()
    wait_until(lambda: first.has_event("history.written"), "the next events are written")
    wait_until(lambda: "history.written" in file_of(first).read_text(), "they are on disk")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        events_are_read_over_a_restart,
        a_disk_that_refuses_events_stops_nothing,
    ]))
