"""What can happen to a pair, one function per fault of the schedule.

Each takes the stage, the primary, the secondary and the parameters; makes the fault; waits for what
the fault alone brings about; takes the cause away; and returns who may own the guest then, as a
string of "primary" and "secondary" (who was which before). Whatever was killed or lost the guest is
brought back by Stage.recover() afterwards. Sleeps here are the length of a fault, never a wait for
its effect.
"""

import signal
import threading
import time

from support import check, wait_until

STAYS = ("primary",)
MOVES = ("secondary",)
EITHER = ("primary", "secondary")

# Faults in which the guest may move and come back.
DETOURS = ("switchover-and-kill",)


def wait_takeover(secondary):
    secondary.wait_for("takeover", lambda status: status["takeover"]["happened"])


def wait_solo(primary):
    primary.wait_for("going on alone", lambda status: status["role"] == "solo")


def wait_decided(primary, secondary):
    """Somebody was granted a term."""
    def decided():
        statuses = primary.status(), secondary.status()
        return any(status and status["term"] > decided.term for status in statuses)
    decided.term = min(s["term"] for s in (primary.status(), secondary.status()) if s)
    return decided


def kill_primary(stage, primary, secondary):
    stage.end(primary)
    wait_takeover(secondary)
    return MOVES


def freeze_primary(_stage, primary, secondary):
    primary.signal(signal.SIGSTOP)
    wait_takeover(secondary)
    primary.signal(signal.SIGCONT)
    return MOVES


def freeze_primary_briefly(_stage, primary, _secondary, seconds):
    primary.signal(signal.SIGSTOP)
    time.sleep(seconds)
    primary.signal(signal.SIGCONT)
    return EITHER


def failover(_stage, _primary, secondary):
    secondary.order("failover", "--yes")
    wait_takeover(secondary)
    return MOVES


def switchover(_stage, primary, secondary, ordered):
    """By agreement: nobody may be suspected, and nobody asks for anything."""
    asked = primary if ordered == "primary" else secondary
    asked.order("switchover")
    return MOVES


def switchover_and_kill(stage, primary, secondary, ordered, victim, seconds):
    """One of both dies in the middle of it, or before, or after: the other one goes on."""
    asked = primary if ordered == "primary" else secondary
    dies, lives = (primary, secondary) if victim == "primary" else (secondary, primary)
    order = threading.Thread(target=asked.ctl, args=("switchover",))
    order.start()
    time.sleep(seconds)
    stage.end(dies)
    order.join()
    lives.wait_for("going on alone", lambda status: status["role"] == "solo")
    return ("secondary",) if victim == "primary" else ("primary",)


def isolate_primary(stage, primary, secondary):
    """It lives, can reach its clients, and neither its peer nor the arbiter."""
    wires = "arb", "data", "beat"  # in this order: else it may win a term and not hear of it
    stage.network.cut(*wires, sides=primary.side)
    wait_takeover(secondary)
    stage.network.heal(*wires, sides=primary.side)
    return MOVES


def isolate_secondary(stage, primary, secondary):
    wires = "arb", "data", "beat"
    stage.network.cut(*wires, sides=secondary.side)
    wait_solo(primary)
    stage.network.heal(*wires, sides=secondary.side)
    return STAYS


def cut_all(stage, primary, secondary):
    """Both live and reach the arbiter: whoever asks first."""
    decided = wait_decided(primary, secondary)
    stage.network.cut("data", "beat")
    wait_until(decided, "one of both goes on")
    stage.network.heal("data", "beat")
    return EITHER


def cut_all_briefly(stage, _primary, _secondary, seconds):
    stage.network.cut("data", "beat")
    time.sleep(seconds)
    stage.network.heal("data", "beat")
    return EITHER


def cut_one_way(stage, primary, secondary, victim):
    """What the victim says does not arrive; it hears everything."""
    decided = wait_decided(primary, secondary)
    side = (primary if victim == "primary" else secondary).side
    stage.network.mute(side, True)
    wait_until(decided, "one of both goes on")
    stage.network.mute(side, False)
    return EITHER


def cut_data(stage, _primary, _secondary, seconds):
    stage.network.cut("data")
    time.sleep(seconds)
    stage.network.heal("data")
    return EITHER


def cut_heartbeat(stage, _primary, _secondary, seconds):
    """One of two paths."""
    stage.network.cut("beat")
    time.sleep(seconds)
    stage.network.heal("beat")
    return EITHER


def kill_secondary(stage, primary, secondary):
    stage.end(secondary)
    wait_solo(primary)
    return STAYS


def kill_secondary_again(stage, primary, secondary, seconds):
    """The new standby dies at any moment of its synchronisation."""
    kill_secondary(stage, primary, secondary)
    stage.start(secondary, "secondary")
    time.sleep(seconds)
    stage.end(secondary)
    return STAYS


class Unprotected(Exception):
    """The primary was killed while no host said that the guest was protected: it may be lost."""


def kill_primary_anytime(stage, primary, secondary, when, seconds):
    """The primary dies at any moment of the making of its standby, or as soon as one host says
    *protected*. Whoever said so right before has promised that the standby goes on (DESIGN P5)."""
    def claimed():
        return any((status := host.status()) and status["protected"]
                   for host in (primary, secondary))
    kill_secondary(stage, primary, secondary)
    stage.start(secondary, "secondary")
    if when == "anytime":
        time.sleep(seconds)
    heard = len(primary.log.read_text())
    claims = wait_until(claimed, "protected again") if when == "claimed" else claimed()
    stage.end(primary)
    # Another failure between the answer and the kill is the log's to tell: that makes two.
    if not claims or "primary: protected ->" in primary.log.read_text()[heard:]:
        raise Unprotected
    stage.claims += 1
    wait_takeover(secondary)
    return MOVES


def stop_secondary(_stage, primary, secondary):
    secondary.order("stop")
    check(secondary.wait_exit() == 0, "an orderly end")
    secondary.may_end = True
    wait_solo(primary)
    return STAYS


def freeze_secondary(_stage, primary, secondary):
    secondary.signal(signal.SIGSTOP)
    wait_solo(primary)
    secondary.signal(signal.SIGCONT)
    return STAYS


def freeze_secondary_briefly(_stage, _primary, secondary, seconds):
    secondary.signal(signal.SIGSTOP)
    time.sleep(seconds)
    secondary.signal(signal.SIGCONT)
    return EITHER


def arbiter_away(stage, _primary, _secondary, seconds):
    stage.etcd.freeze()
    time.sleep(seconds)
    stage.oracle.wait_answers(3)
    stage.etcd.thaw()
    return EITHER


def arbiter_away_and_kill_primary(stage, primary, secondary, seconds):
    """Nobody goes on before the arbiter has said so."""
    stage.etcd.freeze()
    stage.end(primary)
    secondary.wait_for("asking", lambda status: status["arbiter"]["state"] == "asking")
    time.sleep(seconds)
    check(not secondary.status()["takeover"]["happened"], "it went on without a grant")
    stage.etcd.thaw()
    wait_takeover(secondary)
    return MOVES


def policy(_stage, primary, _secondary, policy, window):
    words = [f"policy={policy.split('=')[0]}", f"window={window}"]
    if "=" in policy:
        words.append(f"interval={policy.split('=')[1]}")
    primary.order("policy", "set", *words)
    return EITHER


def end_of_connection(primary, secondary, towards):
    """A secondary calls its primary."""
    return "listener" if towards == "primary" else "connector"


def corrupt(stage, primary, secondary, towards, after):
    stage.relay.order("corrupt", end_of_connection(primary, secondary, towards), after)
    stage.oracle.wait_answers(50)
    stage.relay.order("flow")
    return EITHER


def reset(stage, _primary, _secondary):
    stage.relay.order("reset")
    return EITHER


def stall(stage, primary, secondary, towards, seconds):
    """The connection stands, and nothing moves on it in one direction."""
    stage.relay.order("stall", end_of_connection(primary, secondary, towards))
    time.sleep(seconds)
    stage.relay.order("flow")
    return EITHER


def slow(stage, _primary, _secondary, milliseconds, seconds):
    stage.relay.order("delay", milliseconds)
    time.sleep(seconds)
    stage.oracle.wait_answers(3)
    stage.relay.order("flow")
    return EITHER


def slow_and_kill_primary(stage, primary, secondary, milliseconds, seconds):
    """Much is on its way when the primary dies."""
    stage.relay.order("delay", milliseconds)
    time.sleep(seconds)
    stage.end(primary)
    wait_takeover(secondary)
    stage.relay.order("flow")
    return MOVES


def strike(step, stage, primary, secondary):
    """Makes the step's fault; returns who may own the guest, of (primary, secondary)."""
    function = globals()[step.fault.replace("-", "_")]
    allowed = function(stage, primary, secondary, **step.parameters)
    return [{"primary": primary, "secondary": secondary}[name] for name in allowed]
