#!/usr/bin/env python3
"""usage: completion_test.py KEMARICTL_BASH KEMARICTL: bash completes what kemarictl takes."""

import os
import socket
import subprocess
import sys
import tempfile
import unittest

SCRIPT, PROGRAM = sys.argv.pop(1), sys.argv.pop(1)


class CompletionTest(unittest.TestCase):
    def complete(self, *words, **environment):
        """What follows the words; the last one is begun."""
        script = (f'. {SCRIPT}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kemarictl; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, "bash", PROGRAM, *words], text=True,
                              capture_output=True, check=True, env={**os.environ, **environment})
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def verbs(self):
        lines = subprocess.run([PROGRAM, "--help"], text=True, capture_output=True,
                               check=True).stdout.split("Verbs:\n")[1].split("\n\n")[0].splitlines()
        return {line.split()[0] for line in lines}

    def test_all_verbs_and_global_options(self):
        self.assertGreater(len(self.verbs()), 10)
        self.assertEqual({w for w in self.complete("") if not w.startswith("-")}, self.verbs())
        self.assertLessEqual({"--machine", "-m", "--help"}, self.complete("-"))
        self.assertEqual(self.complete("-m", "web", "swi"), {"switchover"})

    def test_the_options_of_a_verb(self):
        self.assertLessEqual({"--json", "--watch", "-w", "--count"}, self.complete("status", "-"))
        self.assertNotIn("--follow", self.complete("status", "--"))
        self.assertEqual(self.complete("-s", "x", "events", "--fo"), {"--follow"})

    def test_words_of_verbs(self):
        self.assertEqual(self.complete("drill", "run", "isolate-a"), {"isolate-all",
                                                                      "isolate-arbiter"})
        self.assertEqual(self.complete("policy", "set", "win"), {"window="})
        self.assertEqual(self.complete("config", ""), {"check"})

    def test_machines_of_this_host(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{folder}/web.sock")
            self.assertEqual(self.complete("-m", "", KEMARI_RUN_DIR=folder), {"web"})


if __name__ == "__main__":
    unittest.main()
