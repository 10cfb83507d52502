#!/usr/bin/env python3
"""scripts/check-includes finds what it is there to find: a small tree, broken in one way at a time."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(sys.argv.pop(1))

FILES = {
    "CMakeLists.txt": "add_subdirectory(base)\nadd_subdirectory(top)\nadd_subdirectory(app)\n",
    "docs/architecture.md": "| folder | holds | may include |\n|---|---|---|\n"
    "| `base/` | x | - |\n| `top/` | x | base |\n| `app/` | x | anything |\n",
    "base/CMakeLists.txt": "kemari_library(base SOURCES a.c)\n",
    "base/a.c": '#include "base/a.h"\n#include <stdio.h>\n',
    "top/CMakeLists.txt": "kemari_library(top\n  SOURCES t.c\n  KEMARI_LINKS base\n"
    "  SYSTEM_LINKS PkgConfig::X)\n",
    "top/t.c": '#include "top/t.h"\n#include "base/a.h"\n',
    "app/main.c": '#include "top/t.h"\n#include "base/a.h"\n',
}


class CheckIncludes(unittest.TestCase):
    def run_on(self, **changes):
        with tempfile.TemporaryDirectory(prefix="kemari-includes-") as directory:
            for name, text in {**FILES, **changes}.items():
                path = pathlib.Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            done = subprocess.run([TOOL, directory], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1 if done.stdout else 0, done.stderr)
            return done.stdout

    def test_a_tree_that_keeps_the_rules_passes(self):
        self.assertEqual(self.run_on(), "")

    def test_an_include_against_the_direction_is_found(self):
        found = self.run_on(**{"base/a.c": '\n#include "top/t.h"\n'})
        self.assertEqual(found, "base/a.c:2: base/ does not link top/\n")

    def test_a_link_outside_the_row_is_found(self):
        found = self.run_on(
            **{"base/CMakeLists.txt": "kemari_library(base SOURCES a.c KEMARI_LINKS top)\n"}
        )
        self.assertIn("base/CMakeLists.txt: links top", found)

    def test_an_include_without_its_folder_is_found(self):
        self.assertIn('"t.h" is not written as', self.run_on(**{"top/t.c": '#include "t.h"\n'}))
        self.assertIn("top/t.c:1", self.run_on(**{"top/t.c": '#include "../base/a.h"\n'}))

    def test_a_folder_without_a_row_is_found(self):
        found = self.run_on(**{"CMakeLists.txt": "add_subdirectory(side)\n"})
        self.assertEqual(found, "CMakeLists.txt: side/ has no row in docs/architecture.md\n")

    def test_a_row_that_names_no_folder_is_found(self):
        table = FILES["docs/architecture.md"].replace("| base |", "| base gone |")
        self.assertIn("may include gone", self.run_on(**{"docs/architecture.md": table}))


if __name__ == "__main__":
    unittest.main()
