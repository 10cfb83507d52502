#!/usr/bin/env python3
"""usage: rows.py BUILD [--count N] [--seed N] [--only NAME]

Every row of the table in DESIGN §6, with two daemons and a real etcd: what fails, who goes on, and
who is silent for good. All rows are played in one life of one guest, in random order, --count
times. After each, a capture on both taps shows that exactly one guest spoke, and that it was the
one that holds the term; the client outside never sees the guest contradict itself.
"""

import argparse
import random
import re
import shutil
import signal
import sys
import time

import support
from etcd import skip_without_etcd
from support import check, wait_until
from table import DETECTION, LINK, Stage, asks, speaks_alone

# Each row returns the host whose guest lives on.


# ---- a process, or a host ----

def the_primary_process_dies(stage):
    stage.primary.kill()
    return stage.wait_moved()


def the_secondary_process_dies(stage):
    stage.secondary.kill()
    return stage.wait_alone()


def the_primary_host_dies(stage):
    stage.power_off(stage.primary)
    return stage.wait_moved()


def the_secondary_host_dies(stage):
    stage.power_off(stage.secondary)
    return stage.wait_alone()


# ---- the link ----

def the_link_is_cut(stage):
    stage.cut_link()
    return stage.wait_winner()


def the_link_is_cut_and_only_the_primary_reaches_etcd(stage):
    stage.cut_arbiter(stage.secondary)
    stage.cut_link()
    owner = stage.wait_alone()
    status = stage.secondary.wait_for("asking", asks)
    check(not status["protected"], "protected by nobody")
    return owner


def the_link_is_cut_and_only_the_secondary_reaches_etcd(stage):
    stage.cut_arbiter(stage.primary)
    stage.cut_link()
    owner = stage.wait_moved()
    status = stage.primary.wait_for("holding", lambda s: s["state"] == "holding")
    check(not status["protected"], "protected by nobody")
    return owner


def the_link_loses_what_the_primary_sends(stage):
    stage.lose_what_is_sent_by(stage.primary)
    return stage.wait_winner()


def the_link_loses_what_the_secondary_sends(stage):
    stage.lose_what_is_sent_by(stage.secondary)
    return stage.wait_winner()


# ---- a part of the link ----

def only_the_heartbeats_are_cut(stage):
    stage.network.lose_frames("udp dport 7001")
    for host in stage.both():
        host.wait_for("alarm", lambda s: any("silent" in text for text in s["warnings"]))
    stage.oracle.wait_answers(100)
    stage.check_replicating()
    stage.mend()
    return stage.wait_protected()


def one_heartbeat_path_is_cut(stage):
    stage.network.set_wire("beat", False)
    for host in stage.both():
        status = host.wait_for("one path down", lambda s: [
            path["state"] for path in s["heartbeat"]["paths"]] == ["down", "up"])
        check(status["heartbeat"]["peer_alive"], "the other path is not enough")
    stage.oracle.wait_answers(100)
    stage.check_replicating()
    stage.mend()
    return stage.wait_protected()


def cut_data(stage):
    stage.network.lose_frames("tcp dport 7000", "tcp sport 7000")


def only_the_data_path_is_cut_for_a_while(stage):
    """It heals, unless the end of the old connection is the first thing that the secondary hears:
    that is a suspicion (docs/failure.md), and the guest moves."""
    cut_data(stage)
    stage.primary.wait_for("alarm", lambda s: not s["protected"])
    stage.check_silence()
    stage.mend()
    return stage.wait_healed_or_moved()


def only_the_data_path_is_cut_for_long(stage):
    cut_data(stage)
    return stage.wait_alone()


# ---- the arbiter ----

def only_the_arbiter_is_cut(stage):
    stage.cut_arbiter()
    stage.wait_arbiter_unreachable()
    stage.check_speech()
    stage.check_replicating()
    stage.mend()
    return stage.wait_protected()


def the_primary_dies_while_the_arbiter_is_cut(stage):
    stage.cut_arbiter()
    stage.wait_arbiter_unreachable()
    stage.primary.kill()
    stage.secondary.wait_for("asking", asks)
    stage.check_silence()
    check(stage.secondary.status()["state"] == "holding", "it went on without a grant")
    stage.network.set_wire("arb", True)
    return stage.wait_moved()


def the_secondary_dies_while_the_arbiter_is_cut(stage):
    stage.cut_arbiter()
    stage.wait_arbiter_unreachable()
    stage.secondary.kill()
    stage.primary.wait_for("asking", asks)
    stage.check_silence()
    stage.network.set_wire("arb", True)
    return stage.wait_alone()


def cut_arbiter_and_link(stage):
    stage.cut_arbiter()
    stage.cut_link()
    stage.wait_both_ask()
    stage.check_silence()


def arbiter_and_link_are_cut_and_the_link_returns(stage):
    cut_arbiter_and_link(stage)
    for wire in LINK:
        stage.network.set_wire(wire, True)
    for host in stage.both():
        host.wait_for_state("replicating")
    stage.check_speech()
    stage.mend()
    return stage.wait_protected()


def arbiter_and_link_are_cut_and_the_arbiter_returns(stage):
    cut_arbiter_and_link(stage)
    stage.network.set_wire("arb", True)
    return stage.wait_winner()


def the_arbiter_comes_and_goes_while_both_ask(stage):
    """Answers, cut connections and time-outs in any order, on either side, give one winner."""
    cut_arbiter_and_link(stage)
    until = time.monotonic() + 3
    while time.monotonic() < until and not stage.winner():
        for side in "ab":
            stage.network.set_wire("arb", stage.chance.random() < 0.3, side)
        time.sleep(stage.chance.uniform(0, 0.1))  # the random moment: nothing is waited for
    stage.network.set_wire("arb", True)
    return stage.wait_winner()


def both_ask_in_the_same_moment(stage):
    stage.etcd.freeze()
    stage.cut_link()
    stage.wait_both_ask()
    stage.etcd.thaw()
    return stage.wait_winner()


def the_answer_to_the_secondary_is_lost(stage):
    stage.proxy.lose(stage.secondary)
    stage.primary.kill()
    wait_until(lambda: stage.proxy.lost_grants, "a grant whose answer is lost")
    stage.check_silence()
    check(stage.etcd.key().startswith(f"term {stage.term + 1} owner "), "etcd has granted it")
    stage.proxy.lose()
    return stage.wait_moved()


def the_answer_to_the_primary_is_lost(stage):
    stage.proxy.lose(stage.primary)
    stage.secondary.kill()
    wait_until(lambda: stage.proxy.lost_grants, "a grant whose answer is lost")
    stage.check_silence()
    stage.proxy.lose()
    return stage.wait_alone()


def the_answers_to_both_are_lost(stage):
    stage.proxy.lose(*stage.both())
    stage.cut_link()
    wait_until(lambda: stage.proxy.lost_grants, "a grant whose answer is lost")
    stage.wait_both_ask()
    stage.check_silence()
    stage.proxy.lose()
    return stage.wait_winner()


def a_grant_nobody_heard_is_handed_back(stage):
    """The primary was only frozen: what the secondary was granted meanwhile must not be in the way
    when the primary asks."""
    stage.proxy.lose(stage.secondary)
    stage.primary.signal(signal.SIGSTOP)
    wait_until(lambda: stage.proxy.lost_grants, "a grant whose answer is lost")
    stage.primary.signal(signal.SIGCONT)
    stage.secondary.wait_for_state("replicating")
    stage.proxy.lose()
    wait_until(lambda: stage.etcd.key().startswith(f"term {stage.term} owner "),
               "the term is handed back")
    stage.wait_protected()
    stage.secondary.kill()
    return stage.wait_alone()


def a_primary_is_outrun_by_a_grant_nobody_heard(stage):
    """The secondary was granted the guest, never learned it, and takes its question back: the
    primary, refused meanwhile, must neither speak nor give up."""
    stage.proxy.lose(stage.secondary)
    stage.lose_what_is_sent_by(stage.primary)
    wait_until(lambda: stage.proxy.lost_grants, "a grant whose answer is lost")
    stage.cut_link()
    status = stage.primary.wait_for("outrun", lambda s: "granted the guest" in s["reason"])
    check(status["state"] == "holding" and not status["protected"], f"it is {status['state']}")
    stage.primary.wait_for("its guest parked", lambda s: s["guest"]["state"] == "parked")
    stage.check_silence()
    for wire in LINK:
        stage.network.set_wire(wire, True)
    stage.network.lose_frames()
    stage.secondary.wait_for("no question", lambda s: s["arbiter"]["state"] != "asking")
    stage.check_silence()
    stage.proxy.lose()
    return stage.wait_healed_or_moved()


# ---- frozen, then awake ----

def the_primary_is_frozen(stage):
    stage.primary.signal(signal.SIGSTOP)
    owner = stage.wait_moved()
    stage.check_speech()
    stage.primary.signal(signal.SIGCONT)
    stage.primary.wait_for_state("stopped")
    return owner


def a_loser_is_read_by_a_debugger(stage):
    """Its core has what its guest knew when it was stopped, and where its processor stood."""
    stage.primary.signal(signal.SIGSTOP)
    owner = stage.wait_moved()
    stage.primary.signal(signal.SIGCONT)
    stage.primary.wait_for_state("stopped")
    name = f"core-{stage.term}"
    stage.primary.order("dump", name)
    read = gdb(stage.world.build / "test" / "guest" / "service",
               stage.primary.folder / "state" / name,
               "info threads", "info symbol $rip",
               'printf "said %lu\\n", *(unsigned long *)&utterance')
    check(len(re.findall(r"^[* ] *\d+ .*LWP", read, re.MULTILINE)) == 1, f"threads: {read}")
    check(re.search(r"^\w+( \+ \d+)? in section \.text", read, re.MULTILINE), f"where: {read}")
    said = re.search(r"^said (\d+)$", read, re.MULTILINE)
    check(said and int(said.group(1)) > 0, f"what it said: {read}")
    (stage.primary.folder / "state" / name).unlink()
    return owner


def gdb(program, core, *commands):
    return support.run("gdb", "-batch", "-nx", *(f"-ex={command}" for command in commands),
                       str(program), str(core))


def the_secondary_is_frozen(stage):
    stage.secondary.signal(signal.SIGSTOP)
    owner = stage.wait_alone()
    stage.check_speech()
    stage.secondary.signal(signal.SIGCONT)
    stage.secondary.wait_protected()
    return owner


def both_are_frozen(stage):
    """Whoever wakes first finds the other one silent."""
    first, second = stage.chance.sample(stage.both(), 2)
    for host in (first, second):
        host.signal(signal.SIGSTOP)
    for host in (first, second):
        host.wait_frozen()
    stage.check_silence(2 * DETECTION)
    first.signal(signal.SIGCONT)
    first.wait_for("going on alone", speaks_alone)
    second.signal(signal.SIGCONT)
    return first


# ---- restarts with an old term on disk ----

def the_primary_comes_back_as_primary(stage):
    stage.primary.kill()
    owner = stage.wait_moved()
    stage.start(stage.primary, "primary")
    check(stage.primary.wait_exit() == 1, "a second primary runs")
    check("another host owns the guest" in stage.primary.log.read_text(), "it doesn't say why")
    return owner


def the_primary_restarts_at_once(stage):
    """As a supervisor would: the standby holds the guest, and the new process has an empty one."""
    stage.primary.kill()
    stage.start(stage.primary, "primary")
    return stage.wait_moved()


def the_primary_restarts_on_a_restored_record(stage):
    """Of a term long over, in which it was the owner."""
    kept = stage.keep_record(stage.primary)
    stage.primary.kill()
    owner = stage.wait_moved()
    stage.heal(owner)
    stage.judge(owner)
    back = stage.secondary
    back.kill()
    stage.wait_alone()
    stage.term += 1
    shutil.copy(kept, back.record())
    stage.start(back, "primary")
    check(back.wait_exit() == 1, "it began in a term that is over")
    return owner


def the_secondary_restarts_on_a_restored_record(stage):
    kept = stage.keep_record(stage.secondary)
    stage.secondary.kill()
    owner = stage.wait_alone()
    shutil.copy(kept, stage.secondary.record())
    stage.start(stage.secondary, "secondary")
    stage.secondary.wait_protected()
    check(stage.secondary.status()["term"] == stage.term + 1, "it follows in an old term")
    return owner


ROWS = [
    the_primary_process_dies,
    the_secondary_process_dies,
    the_primary_host_dies,
    the_secondary_host_dies,
    the_link_is_cut,
    the_link_is_cut_and_only_the_primary_reaches_etcd,
    the_link_is_cut_and_only_the_secondary_reaches_etcd,
    the_link_loses_what_the_primary_sends,
    the_link_loses_what_the_secondary_sends,
    only_the_heartbeats_are_cut,
    one_heartbeat_path_is_cut,
    only_the_data_path_is_cut_for_a_while,
    only_the_data_path_is_cut_for_long,
    only_the_arbiter_is_cut,
    the_primary_dies_while_the_arbiter_is_cut,
    the_secondary_dies_while_the_arbiter_is_cut,
    arbiter_and_link_are_cut_and_the_link_returns,
    arbiter_and_link_are_cut_and_the_arbiter_returns,
    the_arbiter_comes_and_goes_while_both_ask,
    both_ask_in_the_same_moment,
    the_answer_to_the_secondary_is_lost,
    the_answer_to_the_primary_is_lost,
    the_answers_to_both_are_lost,
    a_grant_nobody_heard_is_handed_back,
    a_primary_is_outrun_by_a_grant_nobody_heard,
    the_primary_is_frozen,
    a_loser_is_read_by_a_debugger,
    the_secondary_is_frozen,
    both_are_frozen,
    the_primary_comes_back_as_primary,
    the_primary_restarts_at_once,
    the_primary_restarts_on_a_restored_record,
    the_secondary_restarts_on_a_restored_record,
]


def play(stage, row):
    """One row, the judgement, and the way back; judged again then, since the loser is to be silent
    on the way back too."""
    stage.begin()
    owner = row(stage)
    stage.judge(owner)
    stage.heal(owner)
    return stage.judge(owner)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="", help="rows with this in their name")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)
    chosen = [row for row in ROWS if options.only.replace(" ", "_") in row.__name__]
    check(chosen, f"no row has '{options.only}' in its name")

    def every_row_of_the_table(world):
        print(f"seed {seed}", flush=True)
        with Stage(world, seed) as stage:
            for number in range(1, options.count + 1):
                for row in stage.chance.sample(chosen, len(chosen)):
                    name = row.__name__.replace("_", " ")
                    try:
                        speakers = play(stage, row)
                    except support.Violation as failure:
                        raise support.Failure(f"{name}: {failure}") from None
                    print(f"{number:3} {name}: {' then '.join(speakers)}, "
                          f"term {stage.primary.status()['term']}", flush=True)
            print(f"{options.count} times {len(chosen)} rows passed, seed {seed}, "
                  f"{stage.oracle.replies} answers", flush=True)

    return support.main(options.build, [every_row_of_the_table])


if __name__ == "__main__":
    skip_without_etcd()
    for tool, package in (("nft", "nftables"), ("gdb", "gdb")):
        if not shutil.which(tool):
            print(f"SKIP: no {tool} (package {package}) on this machine")
            sys.exit(support.SKIPPED)
    sys.exit(main())
