#!/usr/bin/env python3
"""usage: roles.py BUILD

Who runs the guest, and who may say so: every row of the table in DESIGN §6 that two daemons on one
machine can play, seen from outside and from kemarictl.
"""

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import support
from oracle import Oracle
from support import check, wait_until


def start(world, **changes):
    """A protected pair with a client that is being answered."""
    primary, secondary = world.start_pair(**changes)
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    return primary, secondary, oracle


def wait_asking(host):
    return host.wait_for("asking", lambda status: status["arbiter"]["state"] == "asking")


def check_speechless(world, host, oracle, seconds=0.2):
    """From now on this host emits nothing and the client hears nothing, for so long."""
    frames = world.network.emitted(host.side)
    replies = oracle.replies
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check(world.network.emitted(host.side) == frames, f"{host.side} emitted a frame")
        check(oracle.replies == replies, "the client was answered")
        time.sleep(0.01)
    oracle.verify()


def check_tap_silent(world, host, until):
    """This host emits nothing until that moment (monotonic)."""
    frames = world.network.emitted(host.side)
    while time.monotonic() < until:
        check(world.network.emitted(host.side) == frames, f"{host.side} emitted a frame")
        time.sleep(0.02)


def check_silenced(world, host):
    """This host emits nothing although the guest lives elsewhere."""
    frames = world.network.emitted(host.side)
    time.sleep(0.2)
    check(world.network.emitted(host.side) == frames, f"{host.side} still emits frames")


def a_primary_goes_on_alone_and_is_protected_again(world):
    primary, secondary, oracle = start(world)
    secondary.kill()
    status = primary.wait_for_state("alone")
    check(not status["protected"] and status["role"] == "solo", f"{status['role']} is protected")
    check(status["term"] == 2, "going on alone is a term")
    oracle.wait_answers(3)
    secondary.start("secondary")
    primary.wait_protected()
    secondary.wait_protected()
    oracle.wait_answers(3)


def output_is_held_until_the_operator_grants(world):
    primary, secondary, oracle = start(world, arbiter="manual")
    secondary.kill()
    status = wait_asking(primary)
    check(status["state"] == "holding" and not status["protected"], "it holds and says so")
    check(status["guest"]["state"] == "running", "the guest goes on meanwhile")
    said = primary.console()
    oracle.say(4711)
    check_speechless(world, primary, oracle)
    check(primary.console() == said, "the console was not held")
    primary.order("grant")
    status = primary.wait_for_state("alone")
    check(status["term"] == 2, f"term {status['term']} after the grant")
    oracle.wait_answers(3)
    wait_until(lambda: "say 4711\n" in primary.console(), "the console's words after the grant")


def a_guest_that_is_held_is_not_announced(world):
    """For some seconds after a takeover the guest's address is announced again and again. An
    announcement that leaves while another host may own the guest takes its frames away."""
    dead, primary, oracle = start(world, arbiter="manual")
    dead.kill()
    wait_asking(primary)
    primary.order("grant")
    primary.wait_for_state("alone")
    dead.start("secondary", arbiter="manual")
    primary.wait_protected()
    dead.kill()
    wait_asking(primary)
    check_speechless(world, primary, oracle, 1.5)
    primary.order("grant")
    oracle.wait_answers(3)


def a_refusal_does_not_end_a_standby_that_holds_the_guest(world):
    """The primary dies and is started again by somebody who has changed its memory meanwhile: it
    refuses the standby, which alone has the guest."""
    dead, secondary, oracle = start(world, arbiter="manual")
    dead.kill()
    wait_asking(secondary)
    dead.start("primary", arbiter="manual", memory="32M")
    wait_until(lambda: secondary.has_event("secondary.refused"), "the refusal")
    wait_asking(secondary)
    secondary.order("grant")
    secondary.wait_for_state("alone")
    oracle.wait_answers(3)


def a_denied_primary_is_silent_for_good(world):
    primary, secondary, oracle = start(world, arbiter="manual")
    secondary.kill()
    wait_asking(primary)
    primary.order("deny")
    status = primary.wait_for_state("stopped")
    check(status["guest"]["state"] == "parked", f"guest {status['guest']['state']}")
    check_speechless(world, primary, oracle)
    code, said = primary.ctl("grant")
    check(code == 1 and "nothing is asked" in said, f"grant after deny: {code}, {said}")
    secondary.start("secondary", arbiter="manual")
    check_speechless(world, primary, oracle)
    status = secondary.wait_for("refusal", lambda status: "refused (role)" in status["reason"])
    check(not status["protected"], "nobody protects a guest that is stopped")
    primary.order("stop")
    check(primary.wait_exit() == 0, "an orderly end")


def a_guest_stopped_for_good_can_be_dumped(world):
    primary, secondary, _ = start(world, arbiter="manual")
    code, said = primary.ctl("dump", "core")
    check(code == 1 and "stopped for good" in said, f"dump of a running guest: {code}, {said}")
    secondary.kill()
    wait_asking(primary)
    primary.order("deny")
    primary.wait_for_state("stopped")
    core = primary.folder / "state" / "core"
    said = primary.order("dump", "core")
    check(str(core) in said, f"it doesn't say where: {said}")
    headers = support.run("readelf", "-lnW", str(core))
    check("CORE (Core file)" in headers, headers)
    check("LOAD" in headers and "0x4000000 0x4000000" in headers, f"64 MiB of memory: {headers}")
    check(headers.count("NT_PRSTATUS") == 1, f"a note per vCPU: {headers}")
    kernel = (world.build / "test" / "guest" / "service").read_bytes()
    check(core.read_bytes().find(kernel[0x1000:0x1400]) > 0, "the guest's code is not in it")
    check(core.stat().st_blocks * 512 < core.stat().st_size, "it is not sparse")
    check(core.stat().st_mode & 0o777 == 0o600, "others may read it")
    for name in ("core", "../x", "/tmp/x", ".x"):
        check(primary.ctl("dump", name)[0] == 1, f"dump {name} was accepted")
    primary.order("stop")
    check(primary.wait_exit() == 0, "an orderly end")


def a_denied_secondary_does_not_take_over(world):
    primary, secondary, oracle = start(world, arbiter="manual")
    primary.kill()
    wait_asking(secondary)
    check_speechless(world, secondary, oracle)
    secondary.order("deny")
    status = secondary.wait_for("denied", lambda status: status["arbiter"]["state"] == "denied")
    check(status["state"] == "holding" and not status["protected"], "it keeps what it holds")
    check(not status["takeover"]["happened"], "it took over")
    check_speechless(world, secondary, oracle)
    # The operator thinks better of it: what is held is still a complete guest.
    secondary.order("failover", "--yes")
    wait_asking(secondary)
    secondary.order("grant")
    secondary.wait_for_state("alone")
    oracle.wait_answers(3)


def an_operator_moves_the_guest(world):
    primary, secondary, oracle = start(world)
    code, said = primary.ctl("failover", "--yes")
    check(code == 1 and "secondary" in said, f"failover on the primary: {code}, {said}")
    secondary.order("failover", "--yes")
    status = secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    check("operator" in status["takeover"]["cause"], status["takeover"]["cause"])
    primary.wait_for_state("stopped")
    check_silenced(world, primary)
    oracle.wait_answers(3)
    primary.order("stop")
    check(primary.wait_exit() == 0, "a fenced host ends in an orderly way")
    oracle.wait_answers(3)
    primary.start("primary")
    check(primary.wait_exit() == 1, "a host that lost may not begin as primary")
    check("role = secondary" in primary.log.read_text(), "and says what to do")
    primary.start("secondary")
    secondary.wait_protected()
    oracle.wait_answers(3)


def an_address_is_announced_only_by_who_may_speak(world):
    """A promoted guest's address is announced again and again for four seconds, but not while its
    output is held: somebody else may have been granted the guest."""
    manual = {"arbiter": "manual"}
    primary, secondary, oracle = start(world, **manual)
    for _ in range(5):
        primary.kill()
        wait_asking(secondary)
        secondary.order("grant")
        secondary.wait_for_state("alone")
        promoted = time.monotonic()
        oracle.wait_answers(3)
        primary.start("secondary", **manual)
        secondary.wait_protected()
        primary.kill()
        wait_asking(secondary)
        quick = time.monotonic() < promoted + 3.5
        if quick:
            break
        # On a machine so busy the last announcement was due before the question, and nothing is
        # tried yet: the other host is promoted next.
        secondary.order("grant")
        primary.start("secondary", **manual)
        secondary.wait_protected()
        primary.wait_protected()
        primary, secondary = secondary, primary
    check(quick, "too slow: the last announcement was always due before")
    check_tap_silent(world, secondary, promoted + 4.5)
    oracle.verify()


def a_stop_on_the_primary_ends_both(world):
    primary, secondary, oracle = start(world)
    primary.order("stop")
    check(primary.wait_exit() == 0, f"primary: {primary.daemon.returncode}")
    check(secondary.wait_exit() == 0, f"secondary: {secondary.daemon.returncode}")
    check(not primary.socket.exists() and not secondary.socket.exists(), "a socket is left")
    oracle.verify()


def a_signal_is_a_stop(world):
    primary, secondary, oracle = start(world)
    primary.signal(signal.SIGTERM)
    check(primary.wait_exit() == 0, f"primary: {primary.daemon.returncode}")
    check(secondary.wait_exit() == 0, f"secondary: {secondary.daemon.returncode}")
    oracle.verify()


def a_signal_on_the_secondary_is_told_as_a_stop(world):
    primary, secondary, oracle = start(world)
    secondary.signal(signal.SIGTERM)
    check(secondary.wait_exit() == 0, f"secondary: {secondary.daemon.returncode}")
    primary.wait_for_state("alone")
    # Told by the heartbeat, while it was the link that ended the protection.
    wait_until(lambda: primary.has_event("heartbeat.stopping"), "a word of the stop")
    check(not primary.has_event("heartbeat.suspect"), "a stop was a suspicion")
    check("SIGTERM" in json.dumps(primary.events()), "the reason is not told")
    oracle.wait_answers(3)


def a_stop_on_the_secondary_leaves_the_guest_alone(world):
    primary, secondary, oracle = start(world)
    secondary.order("stop")
    check(secondary.wait_exit() == 0, f"secondary: {secondary.daemon.returncode}")
    primary.wait_for_state("alone")
    oracle.wait_answers(3)


def a_guest_that_switches_off_ends_both_with_its_last_words(world):
    primary, secondary, oracle = start(world)
    oracle.switch_off()
    check(primary.wait_exit() == 0, f"primary: {primary.daemon.returncode}")
    check(secondary.wait_exit() == 0, f"secondary: {secondary.daemon.returncode}")
    check(primary.console().endswith("off\n"), f"last words: {primary.console()[-40:]!r}")
    check(secondary.console() == "", "the standby said something")


def a_frozen_secondary_holds_the_guest_until_it_wakes(world):
    primary, secondary, oracle = start(world, arbiter="manual")
    secondary.signal(signal.SIGSTOP)
    check(not wait_asking(primary)["protected"], "protected by a frozen standby")
    check_speechless(world, primary, oracle)
    secondary.signal(signal.SIGCONT)
    primary.wait_protected()
    status = secondary.wait_protected()
    check(status["term"] == 1, "nobody took anything over")
    oracle.wait_answers(3)
    check(primary.status()["arbiter"]["state"] != "asking", "the question is void")


def a_frozen_primary_wakes_to_a_higher_term(world):
    """Many times, since what it does in its first microsecond awake depends on where it froze."""
    primary, secondary, oracle = start(world)
    for _ in range(8):
        oracle.wait_answers(3)
        primary.signal(signal.SIGSTOP)
        secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
        oracle.wait_answers(3)
        frames = world.network.emitted(primary.side)
        primary.signal(signal.SIGCONT)
        primary.wait_for_state("stopped")
        check(world.network.emitted(primary.side) == frames, "it emitted something after waking")
        oracle.wait_answers(3)
        primary.order("stop")
        check(primary.wait_exit() == 0, "a fenced host ends in an orderly way")
        primary.start("secondary")
        secondary.wait_protected()
        primary.wait_protected()
        primary, secondary = secondary, primary


def a_frozen_primary_waits_for_the_operator_like_a_dead_one(world):
    primary, secondary, oracle = start(world, arbiter="manual")
    primary.signal(signal.SIGSTOP)
    wait_asking(secondary)
    secondary.order("grant")
    secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    oracle.wait_answers(3)
    primary.signal(signal.SIGCONT)
    primary.wait_for_state("stopped")
    check_silenced(world, primary)
    oracle.wait_answers(3)


def a_host_that_comes_back_as_primary_stays_silent(world):
    primary, secondary, oracle = start(world)
    primary.kill()
    secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    oracle.wait_answers(3)
    frames = world.network.emitted(primary.side)
    primary.start("primary")
    primary.wait_for_state("stopped")
    oracle.wait_answers(3)
    check(world.network.emitted(primary.side) == frames, "the second guest said something")
    primary.order("stop")
    check(primary.wait_exit() == 0, "a fenced host ends in an orderly way")
    primary.start("secondary")
    secondary.wait_protected()
    oracle.wait_answers(3)


def a_question_without_an_answer_is_asked_again(world):
    primary, secondary, oracle = start(world, arbiter="manual", arbiter_timeout="50ms")
    secondary.kill()
    wait_asking(primary)
    check_speechless(world, primary, oracle)
    # Whenever that is: between two times 50 ms the question is open, too.
    primary.order("grant", "--term", "2")
    primary.wait_for_state("alone")
    oracle.wait_answers(3)


# What fence agents are (FenceAgentAPI.md of ClusterLabs): options on standard input, an action, and
# status 2 for "off". This one switches off by a signal, and fails the first time.
FENCE_AGENT = """#!/bin/sh
while IFS='=' read -r option value; do
    case $option in plug) plug=$value ;; action) action=$value ;; folder) folder=$value ;; esac
done
read -r pid <"$folder/$plug.pid"
case $action in
off)
    [ -e "$folder/asked" ] || { touch "$folder/asked" && exit 1; }
    kill -KILL "$pid" 2>/dev/null || true
    ;;
status) ! grep -q '^State:.[^ZX]' "/proc/$pid/status" 2>/dev/null || exit 0; exit 2 ;;
*) exit 1 ;;
esac
"""


def a_fence_agent_decides(world):
    agent = world.folder / "fence_test"
    agent.write_text(FENCE_AGENT)
    agent.chmod(0o700)
    wrapper = Path(__file__).resolve().parents[2] / "docs" / "examples" / "fence-peer"
    for host, role, other in (("a", "primary", "b"), ("b", "secondary", "a")):
        world.hosts[host].start(
            role, arbiter="command",
            arbiter_command=f"{wrapper} {agent} {other} folder={world.folder}")
        (world.folder / f"{host}.pid").write_text(f"{world.hosts[host].daemon.pid}\n")
    primary, secondary = world.hosts["a"], world.hosts["b"]
    primary.wait_protected()
    secondary.wait_protected()
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    primary.signal(signal.SIGSTOP)
    status = secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])
    check(status["term"] == 2, f"term {status['term']}")
    check((world.folder / "asked").exists(), "the agent was not asked twice")
    check(primary.wait_exit() == -signal.SIGKILL, f"it was not fenced: {primary.daemon.returncode}")
    oracle.wait_answers(3)


def a_primary_without_a_pair_runs_alone_when_granted(world):
    host = world.hosts["a"]
    alone = {"listen": None, "peer": None, "path_0": None, "secret_file": None}
    host.start("primary", arbiter="manual", **alone)
    wait_asking(host)
    oracle = Oracle(world).start()
    check_speechless(world, host, oracle)
    host.order("grant")
    status = host.wait_for_state("alone")
    check(not status["protected"], "protected by nobody")
    oracle.wait_answers(3)
    host.order("stop")
    check(host.wait_exit() == 0, "an orderly end")


def catch_in_the_middle(world):
    """The secondary of a primary that was killed during the first synchronisation, or None: it was
    over before the death, as its events say."""
    primary, secondary = world.hosts["a"], world.hosts["b"]
    big = {"memory": "1G"}
    for host in (primary, secondary):
        host.end()
        shutil.rmtree(host.folder / "state", ignore_errors=True)
    primary.start("primary", **big)
    primary.wait_for_state("connecting")
    secondary.start("secondary", **big)
    secondary.wait_for("a synchronisation", lambda status: status["state"] != "connecting")
    primary.kill()
    status = secondary.wait_for("what became of it",
                                lambda status: status["state"] in ("connecting", "alone"))
    if secondary.has_event("secondary.ready"):
        return None
    check(status["state"] == "connecting", "half a guest was continued")
    check(not status["protected"], "protected by half a guest")
    return secondary


def half_a_guest_is_never_continued(world):
    """The first synchronisation is long enough to be caught in the middle of it, seldom not."""
    for _ in range(10):
        secondary = catch_in_the_middle(world)
        if secondary:
            break
    check(secondary, "every synchronisation was over before the primary was killed")
    code, said = secondary.ctl("failover", "--yes")
    check(code == 1 and "no complete state" in said, f"failover: {code}, {said}")
    check(not secondary.status()["takeover"]["happened"], "half a guest was continued")


def start_with_beats_apart(world):
    """Heartbeats on a wire of their own, and slow, so that only a cut silences them."""
    primary, secondary = world.hosts["a"], world.hosts["b"]
    for host, role in ((primary, "primary"), (secondary, "secondary")):
        own, other = host.number, 3 - host.number
        host.start(role, path_0=f"10.98.0.{own}:7001,10.98.0.{other}:7001", arbiter="manual",
                   heartbeat_interval="300ms")
    for host in (primary, secondary):
        host.wait_protected()
        host.wait_for("heartbeat", lambda status: status["heartbeat"]["peer_alive"])
    oracle = Oracle(world).start()
    oracle.wait_answers(3)
    return primary, secondary, oracle


def heartbeats_cut_while_data_flows_are_an_alarm_only(world):
    primary, secondary, oracle = start_with_beats_apart(world)
    world.network.set_wire("beat", False)
    for host in (primary, secondary):
        host.wait_for("alarm", lambda status: any("silent" in text for text in status["warnings"]))
        wait_until(lambda: host.has_event("heartbeat.suspect"), "the suspicion among the events")
    oracle.wait_answers(200)
    oracle.pause()  # an idle guest proves nothing by itself; longer than the detection time
    time.sleep(1.2)
    for host in (primary, secondary):
        status = host.status()
        check(status["protected"], f"{host.side}: {status['reason']}")
        check(status["term"] == 1, f"{host.side}: term {status['term']}")
    oracle.resume()
    world.network.set_wire("beat", True)
    for host in (primary, secondary):
        host.wait_for("end of the alarm", lambda status: status["heartbeat"]["peer_alive"])
    oracle.wait_answers(3)


def a_cable_that_is_pulled_is_no_silence_to_be_waited_for(world):
    """The heartbeats' wire loses its carrier while the detection time is far longer than this test."""
    primary, secondary = world.hosts["a"], world.hosts["b"]
    for host, role in ((primary, "primary"), (secondary, "secondary")):
        own, other = host.number, 3 - host.number
        host.start(role, path_0=f"10.98.0.{own}:7001,10.98.0.{other}:7001", arbiter="manual",
                   heartbeat_interval="1s", heartbeat_multiplier="100")
    for host in (primary, secondary):
        host.wait_protected()
        host.wait_for("heartbeat", lambda status: status["heartbeat"]["peer_alive"])
    world.network.ip("c", "link", "set", "beat-b", "down")
    secondary.wait_for("the silence", lambda status: not status["heartbeat"]["peer_alive"])
    check(primary.status()["heartbeat"]["peer_alive"], "the primary's own interface has a carrier")
    world.network.ip("c", "link", "set", "beat-b", "up")
    secondary.wait_for("beats", lambda status: status["heartbeat"]["peer_alive"])


def a_process_that_dies_without_a_connection_is_told_of(world):
    """By what outlives it, over the heartbeat's paths: long before these fall silent."""
    primary, secondary, oracle = start_with_beats_apart(world)
    world.network.set_wire("data", False)
    primary.kill()
    status = wait_asking(secondary)
    check("process ended" in status["arbiter"]["detail"], status["arbiter"]["detail"])
    secondary.order("grant")
    secondary.wait_for_state("alone")
    oracle.wait_answers(3)


def data_cut_while_heartbeats_flow_is_never_called_protected(world):
    primary, secondary, oracle = start_with_beats_apart(world)
    world.network.set_wire("data", False)
    primary.wait_for("alarm", lambda status: not status["protected"])
    check_speechless(world, primary, oracle)
    check(primary.status()["arbiter"]["state"] == "idle", "a standby that lives may come back")
    world.network.set_wire("data", True)
    primary.wait_protected()
    status = secondary.wait_protected()
    check(status["term"] == 1, f"term {status['term']} although nobody died")
    oracle.wait_answers(3)


TESTS = [
    a_primary_goes_on_alone_and_is_protected_again,
    output_is_held_until_the_operator_grants,
    a_guest_that_is_held_is_not_announced,
    a_refusal_does_not_end_a_standby_that_holds_the_guest,
    a_denied_primary_is_silent_for_good,
    a_guest_stopped_for_good_can_be_dumped,
    a_denied_secondary_does_not_take_over,
    an_operator_moves_the_guest,
    an_address_is_announced_only_by_who_may_speak,
    a_stop_on_the_primary_ends_both,
    a_signal_is_a_stop,
    a_signal_on_the_secondary_is_told_as_a_stop,
    a_stop_on_the_secondary_leaves_the_guest_alone,
    a_guest_that_switches_off_ends_both_with_its_last_words,
    a_frozen_secondary_holds_the_guest_until_it_wakes,
    a_frozen_primary_wakes_to_a_higher_term,
    a_frozen_primary_waits_for_the_operator_like_a_dead_one,
    a_host_that_comes_back_as_primary_stays_silent,
    a_question_without_an_answer_is_asked_again,
    a_fence_agent_decides,
    a_primary_without_a_pair_runs_alone_when_granted,
    half_a_guest_is_never_continued,
    heartbeats_cut_while_data_flows_are_an_alarm_only,
    a_cable_that_is_pulled_is_no_silence_to_be_waited_for,
    a_process_that_dies_without_a_connection_is_told_of,
    data_cut_while_heartbeats_flow_is_never_called_protected,
]

if __name__ == "__main__":
    chosen = [test for test in TESTS if not sys.argv[2:] or test.__name__ in sys.argv[2:]]
    sys.exit(support.main(sys.argv[1], chosen))
