#!/usr/bin/env python3
"""usage: upgrade.py BUILD

What happens to a pair while its software is changed under it: a standby's daemon restarts and the
guest never notices, both hosts are restarted one after the other with the guest moved out of the way,
and the control socket's directory is emptied.
"""

import shutil
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


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        a_standby_restarts_without_stopping_the_guest,
        both_hosts_are_replaced_one_after_the_other,
        a_control_socket_that_is_removed_comes_back,
    ]))
