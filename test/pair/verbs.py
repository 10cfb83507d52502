#!/usr/bin/env python3
"""usage: verbs.py BUILD

Every verb of kemarictl is seen to succeed, to refuse, and to print JSON, and no verb is forgotten: what
--help lists, what the manual page documents, what bash completes, and what was seen here are the same.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import support
from support import check

SOURCE = Path(__file__).resolve().parents[2]
ASPECTS = {"success", "refusal", "json"}
# Verbs that have no JSON, and why.
WITHOUT_JSON = {
    "console": "it is what the guest says, byte by byte",
    "keygen": "what it makes are files",
}
OUTCOME = {"schema", "verb", "done", "code", "text"}

seen = {}


class Tool:
    """kemarictl on one host; what is seen of a verb is noted."""

    def __init__(self, world, side):
        self.host = world.hosts[side]
        self.program = str(world.build / "app" / "kemarictl")
        self.inside = ["ip", "netns", "exec", world.network.names[side]]

    def run(self, *words, **options):
        return subprocess.run([*self.inside, self.program, "-s", str(self.host.socket), *words],
                              capture_output=True, text=True, timeout=60, **options)

    def _note(self, words, aspect):
        seen.setdefault(words[0], set()).add(aspect)

    def succeeds(self, *words, saying="", **options):
        done = self.run(*words, **options)
        check(done.returncode == 0 and saying in done.stdout,
              f"{words}: {done.returncode}, {done.stdout}{done.stderr}")
        self._note(words, "success")
        return done.stdout

    def refuses(self, *words, because, code=1, **options):
        done = self.run(*words, **options)
        check(done.returncode == code and because in done.stderr,
              f"{words}: {done.returncode}, {done.stdout}{done.stderr}")
        check(done.stderr.startswith("kemarictl: ") or code == 0, f"{words}: {done.stderr}")
        self._note(words, "refusal")

    def prints(self, *words, keys, code=0):
        """JSON, of which each document has these keys."""
        done = self.run(*words, "--json")
        check(done.returncode == code, f"{words}: {done.returncode}, {done.stdout}{done.stderr}")
        try:
            documents = [json.loads(done.stdout)]
        except json.JSONDecodeError:
            documents = [json.loads(line) for line in done.stdout.splitlines()]
        if isinstance(documents[0], list):
            (documents,) = documents
        check(documents, f"{words}: no document")
        for document in documents:
            check(keys <= set(document), f"{words}: {document}")
        self._note(words, "json")
        return documents

    def orders(self, *words):
        """Done, and said as JSON."""
        done = self.run(*words, "--json")
        check(done.returncode == 0, f"{words}: {done.returncode}, {done.stdout}{done.stderr}")
        outcome = json.loads(done.stdout)
        check(set(outcome) == OUTCOME and outcome["schema"] == 1 and outcome["verb"] == words[0] and
              outcome["done"] is True and outcome["code"] == 0 and outcome["text"], f"{outcome}")
        self._note(words, "success")
        self._note(words, "json")

    def says_yes(self, *words):
        """A KVM that runs guests by software is the one problem that a host of tests may have."""
        done = self.run(*words)
        problems = [line for line in done.stdout.splitlines() if line.startswith("problem")]
        if problems:
            check(all(" kvm-no-linux:" in line for line in problems), done.stdout)
            check(done.returncode == 1 and "no: this host can't protect" in done.stdout, done.stdout)
        else:
            check(done.returncode == 0 and "yes" in done.stdout.splitlines()[-1], done.stdout)
        self._note(words, "success")

    def is_refused(self, *words, because):
        """By the daemon; said as a sentence and as JSON."""
        self.refuses(*words, because=because)
        done = self.run(*words, "--json")
        outcome = json.loads(done.stdout)
        check(done.returncode == 1 and set(outcome) == OUTCOME and outcome["done"] is False and
              outcome["code"] < 0 and because in outcome["text"], f"{words}: {outcome}")


def configuration(host, role):
    """The options of a host as a file."""
    words = host.command(role)[1:]
    options = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2]))
    sections = {"vm": ("name", "role", "state-dir", "run-dir"),
                "machine": ("memory", "kernel", "cmdline", "net.0", "console-log"),
                "replication": ("listen", "peer"), "heartbeat": ("path.0", "secret-file")}
    lines = []
    for section, keys in sections.items():
        lines += [f"[{section}]", *(f"{key} = {options[key]}" for key in keys)]
    lines += ["[arbiter]", f"type = {options['arbiter']}"]
    path = host.folder / "pair.ini"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def what_needs_no_daemon(world):
    tool = Tool(world, "a")
    good = configuration(tool.host, "primary")
    bad = tool.host.folder / "bad.ini"
    bad.write_text("[vm]\nname = pair\nrole = both\n")
    for verb, words in {"status": (), "events": (), "list": None, "version": (), "stop": (),
                        "console": ()}.items():
        if words is not None:
            tool.refuses(verb, because="no kemarid serves", code=3, input="")
    tool.refuses("list", "--follow", because="does not take", code=2)
    tool.succeeds("config", "check", good, saying="nothing is wrong")
    tool.refuses("config", "check", str(bad), because="role")
    tool.prints("config", "check", good, keys={"schema", "file", "ok", "vm", "error"})
    secret = str(tool.host.folder / "made")
    tool.succeeds("keygen", "secret", secret, saying="secret: ")
    tool.refuses("keygen", "secret", secret, because="is not overwritten")
    tool.succeeds("drill", "list", saying="kill")
    tool.prints("drill", "list", keys={"name", "what", "seconds"})
    tool.refuses("doctor", because="say \"doctor FILE\"", code=2)
    tool.prints("doctor", str(bad), keys={"schema", "can_protect", "checks"}, code=1)
    tool.says_yes("doctor", good)


def what_a_pair_is_ordered(world):
    first, second = Tool(world, "a"), Tool(world, "b")
    world.start_pair(kernel=world.build / "test" / "guest" / "power", cmdline=None)
    first.succeeds("status", saying="PROTECTED")
    first.prints("status", keys={"schema", "protected", "reason", "unprotected_by_order"})
    first.succeeds("events", saying="daemon.started")
    first.prints("events", keys={"id", "kind", "text", "fields"})
    first.refuses("events", "--since", "then", because="neither a number", code=2)
    run_dir = str(first.host.socket.parent)
    first.succeeds("version", saying="machine pair")
    first.prints("version", keys={"schema", "kemarictl", "kemarid", "vm", "pid"})
    first.succeeds("list", "-r", run_dir, saying="pair ")
    first.prints("list", "-r", run_dir, keys={"schema", "vm", "protected"})
    first.succeeds("console", saying="ready", input="")
    second.refuses("console", because="its console is there", input="")
    first.succeeds("policy", "get", saying="window=")
    first.prints("policy", "get", keys={"policy", "window"})
    first.orders("policy", "set", "window=3")
    second.is_refused("policy", "set", "window=3", because="does not run here")
    first.orders("checkpoint")
    second.is_refused("checkpoint", because="does not run the guest")
    first.is_refused("failover", "--yes", because="this host runs the guest")
    first.is_refused("grant", because="nothing is asked")
    first.is_refused("deny", because="nothing is asked")
    first.is_refused("dump", "core", because="no guest here")
    second.is_refused("unprotect", because="does not run here")
    first.is_refused("protect", because="protected already")
    first.orders("unprotect")
    first.is_refused("switchover", because="not protected")
    first.refuses("drill", "run", "switchover", "--yes", "--peer",
                  f"{second.program} -s {second.host.socket}",
                  because="no primary and its secondary")
    first.orders("protect")
    second.host.wait_protected()
    first.host.wait_protected()
    first.orders("switchover")
    second.host.wait_protected()
    first.host.wait_protected()
    first.orders("failover", "--yes")
    first.host.wait_for_state("alone")
    second.host.wait_for_state("stopped")
    second.orders("dump", "core")
    second.is_refused("dump", "core", because="exists")
    second.orders("stop")
    check(second.host.wait_exit() == 0, "an orderly end")


def what_a_manual_arbiter_is_answered(world):
    first, second = Tool(world, "a"), Tool(world, "b")
    for verb, state in (("grant", "alone"), ("deny", "stopped")):
        if not first.host.runs():
            first.host.start("primary", arbiter="manual")
        second.host.start("secondary", arbiter="manual")
        first.host.wait_protected()
        second.host.wait_protected()
        second.host.kill()
        first.host.wait_for("asking", lambda status: status["arbiter"]["state"] == "asking")
        first.is_refused(verb, "--term", "99", because="not 99")
        first.orders(verb)
        first.host.wait_for_state(state)


def listed_by_help(tool):
    said = tool.run("--help").stdout
    return set(re.findall(r"^  (\S+)", said.split("Verbs:\n")[1].split("\n\n")[0], re.M))


def documented():
    page = (SOURCE / "docs" / "man" / "kemarictl.1").read_text()
    verbs = page.split(".Ss Verbs")[1].split(".Sh ")[0]
    return set(re.findall(r"^\.It (?:Xo )?Cm (\S+)", verbs, re.M))


def completed(tool):
    script = (f'. {SOURCE}/scripts/kemarictl.bash; COMP_WORDS=("$1" ""); COMP_CWORD=1; '
              '_kemarictl; printf "%s\\n" "${COMPREPLY[@]}"')
    said = support.run("bash", "-c", script, "bash", tool.program)
    return {word for word in said.split() if not word.startswith("-")}


def no_verb_is_forgotten(world):
    """The last one: it looks at what the others have seen."""
    tool = Tool(world, "a")
    verbs = listed_by_help(tool)
    check(len(verbs) > 10, f"--help lists {sorted(verbs)}")
    for name, others in (("the manual page has", documented()), ("bash completes", completed(tool)),
                         ("tested are", set(seen))):
        check(others == verbs, f"--help has {sorted(verbs - others)} more; "
              f"{name} {sorted(others - verbs)} more")
    check(set(WITHOUT_JSON) <= verbs, "a verb without JSON is none")
    for verb in sorted(verbs):
        wanted = ASPECTS - ({"json"} if verb in WITHOUT_JSON else set())
        check(seen[verb] == wanted, f"{verb}: seen {sorted(seen[verb])}, not {sorted(wanted)}")
        takes_json = "--json" in tool.run(verb, "--help").stdout
        check(takes_json != (verb in WITHOUT_JSON), f"{verb}: its help and this table differ on JSON")


if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], [
        what_needs_no_daemon,
        what_a_pair_is_ordered,
        what_a_manual_arbiter_is_answered,
        no_verb_is_forgotten,
    ]))
