"""usage: package.py SOURCE-DIR BUILD-DIR

The Debian package, made by cpack and installed below a folder of its own (dpkg --root): what is in it
works from there, the unit is one that systemd takes, removal keeps who owns a guest, and a purge leaves
nothing behind.  Needs root, as dpkg does.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE, BUILD = (Path(argument).resolve() for argument in sys.argv[1:3])
del sys.argv[1:3]


def run(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def files_below(root):
    """Without what belongs to dpkg, and the folders that every system has."""
    found = (path.relative_to(root) for path in root.rglob("*"))
    return {str(path) for path in found if path.parts[:3] != ("var", "lib", "dpkg")} - {
        "etc", "var", "var/lib", "var/log"}


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="kemari-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run("cpack", "-G", "DEB", "-B", cls.folder / "packed", cwd=BUILD)
        cls.package, = (cls.folder / "packed").glob("kemari_*.deb")

    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="root-", dir=self.folder))
        for name in ("updates", "info", "triggers"):
            (self.root / "var/lib/dpkg" / name).mkdir(parents=True)
        for name in ("status", "available"):
            (self.root / "var/lib/dpkg" / name).touch()

    def dpkg(self, *words):
        return run("dpkg", f"--root={self.root}", "--force-script-chrootless", "--force-depends",
                   "--log=/dev/null", *words)

    def install(self):
        self.dpkg("--install", self.package)

    def test_what_it_installs_works(self):
        self.install()
        version = run(self.root / "usr/sbin/kemarid", "--version")
        self.assertIn("0.1.0", version)
        self.assertIn("usage: kemarictl", run(self.root / "usr/bin/kemarictl", "--help"))
        for page in ("man8/kemarid.8", "man1/kemarictl.1"):
            self.assertTrue((self.root / "usr/share/man" / page).is_file(), page)
        for folder, mode in (("etc/kemari", 0o750), ("var/lib/kemari", 0o700)):
            self.assertEqual((self.root / folder).stat().st_mode & 0o7777, mode, folder)

    def test_what_it_needs_is_named(self):
        depends = run("dpkg-deb", "-f", self.package, "Depends")
        for library in ("libc6", "libevent-2.1-7", "libssl3", "libsystemd0", "liburing2"):
            self.assertRegex(depends, rf"\b{re.escape(library)}\b")
        self.assertNotIn("-dev", depends)

    def test_the_example_is_a_whole_configuration(self):
        """Refused for nothing but a kernel that this machine does not have."""
        self.install()
        example = self.root / "usr/share/doc/kemari/examples/example.ini"
        done = subprocess.run([self.root / "usr/sbin/kemarid", "--config", example,
                               "--print-config"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"kernel: /srv/kemari/vmlinuz: No such file or directory\n$")

    def test_systemd_takes_the_unit(self):
        self.install()
        unit = self.root / "usr/lib/systemd/system/kemarid@.service"
        # The program is where it would be: only its path is not.
        text = unit.read_text()
        self.assertIn("ExecStart=/usr/sbin/kemarid --config /etc/kemari/%i.ini\n", text)
        named = self.folder / "kemarid@web.service"
        named.write_text(text.replace("/usr/sbin/kemarid", str(self.root / "usr/sbin/kemarid")))
        said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", named)
        self.assertNotIn("kemarid@web.service", said)
        named.write_text(text.replace("WatchdogSec=30", "WatchdogSeconds=30"))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                               named], capture_output=True, text=True, check=False)
        self.assertIn("WatchdogSeconds", done.stderr)

    def test_removal_keeps_who_owns_a_guest_and_a_purge_keeps_nothing(self):
        before = files_below(self.root)
        self.install()
        term = self.root / "var/lib/kemari/web/web.term"
        term.parent.mkdir()
        term.write_text("a record\n")
        self.dpkg("--remove", "kemari")
        self.assertTrue(term.exists())
        self.assertFalse((self.root / "usr/sbin/kemarid").exists())
        self.install()
        self.dpkg("--purge", "kemari")
        self.assertEqual(files_below(self.root) - before, set())

    def test_a_purge_keeps_what_the_operator_wrote(self):
        self.install()
        secret = self.root / "etc/kemari/web.secret"
        secret.write_text("a secret\n")
        self.dpkg("--purge", "kemari")
        self.assertTrue(secret.exists())


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("SKIP: dpkg needs root")
        sys.exit(77)
    unittest.main()
