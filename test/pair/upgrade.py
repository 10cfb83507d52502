#!/usr/bin/env python3
"""usage: upgrade.py BUILD [--previous BUILD]

What happens to a pair while its software is changed under it: a standby's daemon restarts and the
guest never notices, both hosts are restarted one after the other with the guest moved out of the way,
and the control socket's directory is emptied; an operator at the
guest's console sees it move. With the build folder of another version, also what both say to each other.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import support
from oracle import Oracle
from support import check, wait_until


def a_standby_restarts_without_stopping_the_guest(world):
    first, second = world.start_pair()
    oracle = Oracle(world).start()
    oracle.wait_answers(5)
    pid = first.status()["pid"]
    for _ in range(3):
        second.order("stop")
        check(second.wait_exit() == 0, "an orderly end")
        first.wait_for_state("alone")
        check("standby" in first.status()["reason"] or "secondary" in first.status()["reason"],
              "it does not say why it is not protected")
        oracle.wait_answers(5)
        second.start("secondary")
        first.wait_protected()
        second.wait_protected()
        oracle.wait_answers(5)
    check(first.status()["pid"] == pid and first.status()["guest"]["state"] == "running",
          "the primary is not the one it was")
    check(not first.has_event("heartbeat.suspect"), "an orderly restart was suspicious")
    oracle.verify()


def both_hosts_are_replaced_one_after_the_other(world):
    """As docs/upgrade.md says: the standby, switchover, the other one."""
    first, second = world.start_pair()
    oracle = Oracle(world).start()
    oracle.wait_answers(5)
    pids = {host.status()["pid"] for host in (first, second)}
    primary, secondary = first, second
    for _ in range(2):
        secondary.order("stop")
        check(secondary.wait_exit() == 0, "an orderly end")
        primary.wait_for_state("alone")
        secondary.start("secondary")
        primary.wait_protected()
        secondary.wait_protected()
        primary.order("switchover")
        primary, secondary = secondary, primary
        primary.wait_protected()
        secondary.wait_protected()
        oracle.wait_answers(5)
    check(not pids & {host.status()["pid"] for host in (first, second)}, "a daemon is the old one")
    oracle.verify()


def a_control_socket_that_is_removed_comes_back(world):
    first, second = world.start_pair()
    # At once: it may be back while a folder is emptied.
    gone = first.folder / "gone"
    first.socket.parent.rename(gone)
    shutil.rmtree(gone)
    # It may be back before anybody can see that it is gone: the event tells.
    wait_until(lambda: first.ctl("status")[0] == 0, "the socket is made anew")
    check(first.has_event("control.renewed"), "nobody tells of it")
    check(first.socket.stat().st_mode & 0o777 == 0o660, "its mode is another one")
    check(first.status()["protected"] and second.status()["protected"], "it did harm")


def an_operator_sits_at_the_guests_console(world):
    """What is seen there is what was let out, and the guest hears what is typed, here and there."""
    kernel = world.build / "test" / "guest" / "power"
    first, second = world.start_pair(kernel=kernel, cmdline=None)

    def type_at(host, text):
        """Until the guest has answered."""
        terminal = subprocess.Popen(
            [str(world.build / "app" / "kemarictl"), "-s", str(host.socket), "console", "--follow"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=support.die_with_parent)
        terminal.stdin.write(text.encode())
        terminal.stdin.flush()
        seen = b""
        while f"input={text}".encode() not in seen:
            part = os.read(terminal.stdout.fileno(), 4096)
            check(part, f"the console ended; it said {seen}")
            seen += part
        terminal.kill()
        terminal.communicate()
        return seen
    check(b"ready boot" in type_at(first, "x"), "what was said before is not shown")
    code, said = second.ctl("console")
    check(code == 1 and "its console is there" in said, said)
    first.kill()
    second.wait_for_state("alone")
    type_at(second, "y")
    wait_until(lambda: "input=y" in second.console(), "what the console showed is in the file")


def ask(build, host, *words):
    """The kemarictl of that build, of that host's daemon."""
    done = subprocess.run([str(build / "app" / "kemarictl"), "-s", str(host.socket), *words],
                          capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def run_by(build, host):
    """Daemons of that host are of that build from now on."""
    plain = host.command

    def command(role, **changes):
        return [str(build / "app" / "kemarid"), *plain(role, **changes)[1:]]
    host.command = command


def another_kemarictl_is_understood(world, previous):
    first, second = world.start_pair()
    for host in (first, second):
        code, said, wrong = ask(previous, host, "status", "--json")
        check(code == 0 and json.loads(said)["protected"] and not wrong, f"status: {said}{wrong}")
        code, said, wrong = ask(previous, host, "events", "--json")
        check(code == 0 and not wrong, f"events: {said}{wrong}")
        check([json.loads(line)["id"] for line in said.splitlines()] ==
              [event["id"] for event in host.events()][:len(said.splitlines())], "other events")
    for words in (("checkpoint",), ("policy", "get"), ("version",), ("events", "--since", "1"),
                  ("switchover",)):
        code, said, wrong = ask(previous, first, *words)
        check(code == 0 and not wrong, f"{words}: {code}, {said}{wrong}")
    second.wait_protected()
    second.order("unprotect")
    code, said, wrong = ask(previous, second, "status", "--json")
    status = json.loads(said)
    check(code == 0 and not status["protected"] and "by order" in status["reason"], said)


def another_kemarid_is_understood(world, previous):
    for host in world.hosts.values():
        run_by(previous, host)
    first, second = world.start_pair()
    for words in (("status",), ("events",), ("events", "--since", "1h"), ("events", "--since", "1"),
                  ("policy", "get", "--json"), ("checkpoint", "--json"), ("version", "--json")):
        code, said, wrong = ask(world.build, first, *words)
        check(code == 0 and said and not wrong, f"{words}: {code}, {said}{wrong}")
    for words in (("unprotect",), ("protect",), ("unprotect", "--json")):
        code, said, wrong = ask(world.build, first, *words)
        check(code == 1 and "has no such request" in wrong, f"{words}: {code}, {said}{wrong}")
    wait_until(lambda: ask(world.build, first, "events", "--since", "1s")[1] == "",
               "it sends all it has, and what is older is left out here")
    check(second.status()["protected"], "it did harm")


def hosts_of_two_versions_protect_a_guest(world, previous):
    """The order in docs/upgrade.md: the standby first."""
    first, second = world.hosts.values()
    run_by(previous, first)
    world.start_pair()
    oracle = Oracle(world).start()
    oracle.wait_answers(5)
    first.order("switchover")
    second.wait_protected()
    first.wait_protected()
    oracle.wait_answers(5)
    code, _, wrong = ask(world.build, second, "unprotect")
    check(code == 1 and "too old" in wrong, f"the old secondary is told to give up: {code}, {wrong}")
    check(second.status()["protected"], "the refusal did harm")
    second.order("switchover")
    first.wait_protected()
    second.wait_protected()
    first.kill()
    second.wait_for_state("alone")
    oracle.wait_answers(5)
    oracle.verify()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--previous", type=Path, help="the build folder of another version")
    options = parser.parse_args()
    tests = [
        a_standby_restarts_without_stopping_the_guest,
        both_hosts_are_replaced_one_after_the_other,
        a_control_socket_that_is_removed_comes_back,
        an_operator_sits_at_the_guests_console,
    ]
    for test in (another_kemarictl_is_understood, another_kemarid_is_understood,
                 hosts_of_two_versions_protect_a_guest) if options.previous else ():
        def with_previous(world, test=test):
            test(world, options.previous.resolve())
        with_previous.__name__ = test.__name__
        tests.append(with_previous)
    return support.main(options.build, tests)


if __name__ == "__main__":
    sys.exit(main())
