#!/usr/bin/env python3
"""usage: upgrade.py BUILD

What happens to a pair while its software is changed under it: a standby's daemon restarts and the
guest never notices, both hosts are restarted one after the other with the guest moved out of the way,
and the control socket's directory is emptied; an operator at the
guest's console sees it move.
"""

import os
import shutil
import subprocess
import sys

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
    shutil.rmtree(first.socket.parent)
    check(first.ctl("status")[0] == 3, "there is no socket to ask")
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
    check("input=y" in second.console(), "the file lacks what the console showed")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        a_standby_restarts_without_stopping_the_guest,
        both_hosts_are_replaced_one_after_the_other,
        a_control_socket_that_is_removed_comes_back,
        an_operator_sits_at_the_guests_console,
    ]))
