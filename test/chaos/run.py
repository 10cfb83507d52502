#!/usr/bin/env python3
"""usage: run.py BUILD [--count N] [--seed N] ...; see scripts/chaos --help"""

import argparse
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent / "pair"), str(FOLDER.parent)]

import support  # noqa: E402
from chaos import faults, linux, report, schedule  # noqa: E402
from chaos.stage import BOOT_LIMIT, Stage  # noqa: E402
from oracle import Oracle, Violation, journal  # noqa: E402
from support import check, wait_until  # noqa: E402


class Clock:
    """Both clocks at one moment."""

    def __init__(self):
        self.monotonic = time.monotonic()
        self.wall = time.time()


class LifeRun:
    """One life, step by step; what it saw goes to the report."""

    def __init__(self, stage, results, seed):
        self.stage = stage
        self.results = results
        self.primary, self.secondary = stage.pair_up()
        self.oracle = stage.oracle = Oracle(stage, seed=seed).start()
        self.oracle.wait_all_served()
        # Who must have spoken, and until when: [(time of day, host)], compared with the captures.
        self.expected = [self.primary.side]
        self.lost = None  # the host that may have the guest since a kill that nobody promised to survive

    def step(self, step):
        stage, primary, secondary = self.stage, self.primary, self.secondary
        self.oracle.wait_answers(3)
        time.sleep(step.moment)  # the random moment of the fault: nothing is waited for
        self.oracle.reset_silence()
        began = Clock()
        acknowledged = self.oracle.state()["journal"]
        try:
            allowed = faults.strike(step, stage, primary, secondary)
        except faults.Unprotected:
            self.lost = secondary
            self.results.add_unprotected(step)
            return False
        crashed = None
        if stage.guest and step.fault == "kill-primary":
            crashed = linux.copy_image(stage.image(primary), stage.folder / "crashed")
        self.primary, self.secondary = stage.recover()
        recovered = Clock()
        state = self.oracle.wait_all_served()
        check(self.primary in allowed, f"{self.primary.side} owns the guest after {step.fault}")
        moved = self.primary is not primary
        if moved:
            self.expected.append(self.primary.side)
        elif step.fault in faults.DETOURS:
            state = self._expect_detour(secondary)
        self._check_speech(state)
        if crashed:
            linux.check_crashed(crashed, stage.journal_seed, acknowledged)
        if stage.guest:
            stage.guest.wait_verified()
            stage.guest.check_log()
        self.results.add(step, moved, state["longest_silence"],
                         recovered.monotonic - began.monotonic, time.monotonic() - began.monotonic)
        return moved

    def _expect_detour(self, other):
        """The guest may have been over there in between, and come back; then both have spoken."""
        state = self.oracle.wait_settled(time.time())
        detour = [*self.expected, other.side, self.primary.side]
        if [host for _, host in state["moves"]] == detour:
            self.expected = detour
        return state

    def _check_speech(self, state):
        """As far as the captures are judged: they lag behind a little."""
        spoke = [host for _, host in state["moves"]]
        check(spoke == self.expected[:len(spoke)],
              f"{'-'.join(self.expected[-6:])} owned the guest, but {'-'.join(spoke[-6:])} spoke, "
              f"at {state['moves'][-6:]}")

    def finish(self):
        """Until every frame so far is judged."""
        state = self.oracle.wait_settled(time.time())
        if self.lost and len(state["moves"]) > len(self.expected):
            self.expected.append(self.lost.side)
        self._check_speech(state)
        check(len(state["moves"]) == len(self.expected),
              f"{'-'.join(self.expected)} owned the guest, but {state['moves']} spoke")
        if self.stage.guest and not self.lost:
            self._end_linux()
        elif self.stage.has_journal() and not self.lost:
            self._check_image()
        self.results.claims += self.stage.claims
        self.results.answers += state["replies"]
        self.results.operations += state["operations"]
        self.results.frames += state["frames"]

    def _check_image(self):
        """A dead host's image has what was acknowledged before, as the guest had made it durable."""
        self.oracle.pause()
        acknowledged = self.oracle.state()["journal"]
        self.stage.end(self.primary)
        check(acknowledged, "nothing was written to the journal")
        journal.check_image(self.stage.image(self.primary), self.stage.journal_seed, acknowledged)
        self.results.records += acknowledged

    def _end_linux(self):
        """It panics, and starts again from its disk; then it is switched off, and both hosts have
        the same image."""
        stage, primary = self.stage, self.primary
        acknowledged = self.oracle.state()["journal"]
        check(acknowledged, "nothing was written to the journal")
        self.oracle.close()  # connections end with a panic
        stage.oracle = None
        self._panic(acknowledged)
        stage.guest.last_order("off")
        for host in stage.hosts.values():
            check(host.wait_exit() == 0, f"{host.side}: a guest that is off is an orderly end")
        check("kemari-guest: root is read-only" in primary.console(), "the root was still in use")
        images = [stage.image(host) for host in stage.hosts.values()]
        for image in images:
            linux.check_image(image, stage.journal_seed, acknowledged)
        linux.check_equal(*images)
        self.results.records += acknowledged

    def _panic(self, acknowledged):
        """A reset in place that both hosts take for the guest's own business."""
        stage, primary = self.stage, self.primary
        before = primary.status()
        starts = primary.console().count(linux.READY)
        stage.guest.last_order("panic")
        wait_until(lambda: primary.has_event("guest.panicked"), "the panic is reported")
        wait_until(lambda: primary.console().count(linux.READY) > starts, "the guest is up again",
                   BOOT_LIMIT)
        journal.check_records(stage.guest.records(), stage.journal_seed, acknowledged,
                              "the guest's redis")
        stage.guest.wait_verified()
        stage.guest.check_log()
        primary.wait_protected()
        status = primary.status()
        check(status["term"] == before["term"] and status["guest"]["panics"] == 1,
              f"a panic of the guest is no failure of a host: {status}")


def keep(folder, stage, reason, context):
    """Everything needed to understand it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdict").write_text(f"{reason}\n{context}\n")
    for host in stage.hosts.values():
        if host.daemon and host.daemon.poll() is None:
            host.daemon.send_signal(signal.SIGCONT)
            for name, words in (("status", ("status", "--json")), ("events", ("events", "--json"))):
                try:
                    (folder / f"{name}-{host.side}").write_text(host.ctl(*words)[1])
                except Exception as error:  # the others are worth having all the same
                    (folder / f"{name}-{host.side}").write_text(f"{error}\n")
        for path in (host.log, host.console_log):
            if path.exists():
                shutil.copy(path, folder / f"{path.name}-{host.side}")
        if stage.guest and (host.folder / "disk").exists():
            linux.copy_image(stage.image(host), folder / f"disk-{host.side}")
    if stage.oracle:
        try:
            stage.oracle.keep(folder)
            (folder / "oracle").write_text(json.dumps(stage.oracle.state(), indent=1))
        except RuntimeError as error:
            (folder / "oracle").write_text(f"{error}\n")
    (folder / "etcd-key").write_text(stage.etcd.key() + "\n")


def keep_stacks(folder, stage):
    """Where each thread of the daemons is, if there is a debugger: what hangs can't tell. Last of all:
    it stops a daemon, which the other one notices."""
    if not shutil.which("gdb"):
        return
    for host in stage.hosts.values():
        if not host.daemon or host.daemon.poll() is not None:
            continue
        daemon = host.daemon.pid
        children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
        with open(folder / f"stacks-{host.side}", "w") as out:
            for process in (daemon, *children):
                try:
                    subprocess.run(["gdb", "-p", str(process), "-batch", "-ex", "thread apply all bt"],
                                   stdout=out, stderr=subprocess.DEVNULL, timeout=60, check=False)
                except subprocess.TimeoutExpired:  # emulated processors: the rest is worth more
                    return


def show_ends(stage, lines=12):
    """The last lines of what each host and its guest said: the files that are kept may be out of reach
    of whoever reads that a run failed."""
    for host in stage.hosts.values():
        for path in (host.log, host.console_log):
            if path.exists():
                print(f"---- the end of {path.name} of {host.side}")
                for line in path.read_text(errors="replace").splitlines()[-lines:]:
                    print(f"  {line[:200]}")


def live(life, steps, options, results, quiet):
    """One life until its steps are over or there were enough failovers."""
    with Stage(options.build, life.settings, options.linux, dict(options.daemon)) as stage:
        step = None
        try:
            run = LifeRun(stage, results, f"{options.seed}/{life.number}")
            for step in steps:
                run.step(step)
                if not quiet:
                    print(f"{step}: {results.last}", flush=True)
                if results.failovers >= options.count or run.lost:
                    break
            run.finish()
        except BaseException as error:
            context = (f"seed {options.seed}, life {life.number} {life.settings}\n"
                       f"step {step}\nreplay: the same command with --seed {options.seed}")
            folder = options.keep / f"seed-{options.seed}-step-{step.number if step else 0}"
            if not isinstance(error, (KeyboardInterrupt, SystemExit)):
                keep(folder, stage, str(error), context)
                print(f"VIOLATION {error}\n{context}\nkept in {folder}", flush=True)
                show_ends(stage)
                keep_stacks(folder, stage)
            raise


def lives(options):
    """(life, its steps), without end."""
    life, steps = None, []
    for item in schedule.run(options.seed, options.faults, options.transport):
        if isinstance(item, schedule.Life):
            if life:
                yield life, steps
            life, steps = item, []
        else:
            steps.append(item)


def parse():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--faults", type=lambda text: text.split(","), default=None)
    parser.add_argument("--keep", default=None)
    parser.add_argument("--table", default=None)
    parser.add_argument("--print", action="store_true", dest="show")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--transport", choices=("tcp", "tls", "rdma", "rdma+tls"), default=None)
    parser.add_argument("--linux", nargs="+", default=None)
    parser.add_argument("--daemon", action="append", default=[],
                        type=lambda text: tuple(text.split("=", 1)))
    options = parser.parse_args()
    for name in options.faults or ():
        if name not in schedule.FAULTS:
            parser.error(f"no fault '{name}'; there are {', '.join(schedule.FAULTS)}")
    needs = [schedule.FAULTS[name][2] for name in options.faults or ()]
    if "relay" in needs and not schedule.can_be_relayed(options.transport):
        parser.error(f"no relay carries {options.transport}: faults of a relay need tcp or tls")
    if options.count is None:
        options.count = 10 if options.linux else 100
    if options.seed is None:
        options.seed = random.SystemRandom().getrandbits(32)
    options.keep = Path(options.keep or f"{options.build}/chaos").resolve()
    return options


def main():
    options = parse()
    if options.show:
        items = schedule.run(options.seed, options.faults, options.transport)
        for item in itertools.islice(items, options.count):
            print(item)
        return 0
    reason = support.skip_reason() or (None if shutil.which("etcd") and shutil.which("etcdctl")
                                       else "no etcd (packages etcd-server, etcd-client)")
    if not reason and options.linux and linux.tools_missing():
        reason = f"no {', '.join(linux.tools_missing())} (packages e2fsprogs, diffutils)"
    if reason:
        print(f"SKIP: {reason}")
        return support.SKIPPED
    support.stop_on_signals()
    print(f"seed {options.seed}", flush=True)
    results = report.Results(options.seed)
    status = 1
    try:
        for life, steps in lives(options):
            if not options.quiet:
                print(f"life {life.number}: {life.settings}", flush=True)
            live(life, steps, options, results, options.quiet)
            if results.failovers >= options.count:
                status = 0
                break
    except Violation as violation:
        print(f"ended by: {violation}", flush=True)
        results.violations += 1
    finally:
        print(results.table())
        if options.table:
            Path(options.table).write_text(results.table() + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
