"""The parts of chaos that need no pair: the schedule, the table, the wire that lies."""

import contextlib
import inspect
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(FOLDER / "pair"), str(FOLDER)]

from chaos import faults, linux, report, schedule  # noqa: E402
from oracle import Violation, journal  # noqa: E402


def first(count, *arguments):
    return list(itertools.islice(schedule.run(*arguments), count))


class ScheduleTest(unittest.TestCase):
    def test_a_seed_is_a_schedule(self):
        self.assertEqual(first(300, 5), first(300, 5))
        self.assertNotEqual(first(300, 5), first(300, 6))

    def test_another_process_draws_the_same(self):
        drawn = {subprocess.run(
            [sys.executable, "-B", "chaos/run.py", "none", "--print", "--count", "100", "--seed", "5"],
            cwd=FOLDER, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
            for seed in ("1", "2")}
        self.assertEqual(len(drawn), 1)
        self.assertEqual(len(drawn.pop().splitlines()), 100)

    def test_only_what_is_wanted_strikes(self):
        steps = [item for item in first(1000, 3, ["corrupt", "policy"])
                 if isinstance(item, schedule.Step)]
        self.assertEqual({step.fault for step in steps}, {"corrupt", "policy"})

    def test_a_life_without_a_relay_has_no_faults_of_the_relay(self):
        life, lives = None, set()
        for item in first(5000, 4):
            if isinstance(item, schedule.Life):
                life = item
                lives.add(life.settings["relay"])
            elif schedule.FAULTS[item.fault][2]:
                self.assertTrue(life.settings["relay"])
        self.assertEqual(lives, {True, False})

    def test_every_fault_comes_and_can_be_made(self):
        drawn = {item.fault: item for item in first(5000, 4) if isinstance(item, schedule.Step)}
        self.assertEqual(set(drawn), set(schedule.FAULTS))
        for name, step in drawn.items():
            function = getattr(faults, name.replace("-", "_"))
            wanted = list(inspect.signature(function).parameters)[3:]
            self.assertEqual(sorted(wanted), sorted(step.parameters), name)


class ReportTest(unittest.TestCase):
    def test_quantiles(self):
        self.assertEqual([report.quantile([3, 1, 2], part) for part in (0.01, 0.5, 0.99)],
                         [1, 2, 3])
        self.assertEqual(report.quantile(range(1, 101), 0.99), 99)

    def test_table(self):
        results = report.Results(7)
        step = schedule.Step(1, "kill-primary", 0.0, {})
        results.add(step, True, 0.010, 0.2, 0.3)
        results.add(step, False, 0.030, 0.4, 0.5)
        self.assertIn("| kill-primary | 2 | 1 | 10 | 10 | 30 | 30 | 200 | 400 |", results.table())
        self.assertIn("1 failovers, 0 violations", results.table())


class RootImageTest(unittest.TestCase):
    """An ext4 with what a redis appended, as a guest leaves it."""
    SEED = 5
    COUNT = 30

    def setUp(self):
        if linux.tools_missing():
            self.skipTest(f"no {', '.join(linux.tools_missing())}")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        tree = Path(folder.name, "tree")
        file = Path(f"{tree}{linux.APPENDED}")
        file.parent.mkdir(parents=True)
        records = journal.Journal(self.SEED, self.COUNT)
        with open(file, "wb") as data:
            for number in range(1, self.COUNT + 1):
                chain = b"%d" % records.next_chain()
                records.acknowledge(number)
                data.write(b"*3\r\n$5\r\nRPUSH\r\n$7\r\njournal\r\n$%d\r\n%s\r\n" %
                           (len(chain), chain))
        self.image = Path(folder.name, "image")
        with open(self.image, "wb") as image:
            image.truncate(8 << 20)
        linux.run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, self.image)
        self.copy = linux.copy_image(self.image, Path(folder.name, "copy"))

    def test_a_good_one(self):
        linux.check_image(self.image, self.SEED, self.COUNT)
        linux.check_crashed(self.image, self.SEED, self.COUNT)

    def test_records_that_are_missing_or_others(self):
        with self.assertRaisesRegex(Violation, "30 records of 31"):
            linux.check_image(self.image, self.SEED, self.COUNT + 1)
        with self.assertRaisesRegex(Violation, "record 1 of 30"):
            linux.check_image(self.image, self.SEED + 1, self.COUNT)

    def test_a_file_system_at_fault(self):
        linux.run("debugfs", "-w", "-R", "clri /var", self.image)
        for check in linux.check_image, linux.check_crashed:
            with self.assertRaisesRegex(Violation, "e2fsck .* exit status 4"):
                check(self.image, self.SEED, self.COUNT)

    def test_equal(self):
        linux.check_equal(self.image, self.copy)
        with open(self.copy, "r+b") as copy:
            copy.seek(-1, os.SEEK_END)
            copy.write(b"x")
        with self.assertRaisesRegex(Violation, "differ"):
            linux.check_equal(self.image, self.copy)

    def test_complaints_of_a_kernel(self):
        for line in ("[   12.0] I/O error, dev vda, sector 8 op 0x1:(WRITE) flags 0x800",
                     "[   12.0] EXT4-fs error (device vda): ext4_lookup:1785: inode #2",
                     "[   12.0] EXT4-fs (vda): Remounting filesystem read-only",
                     "[  242.0] INFO: task fio:131 blocked for more than 120 seconds.",
                     "[   12.0] ------------[ cut here ]------------"):
            self.assertTrue(linux.COMPLAINTS.search(line), line)
        for line in ("[    4.4] EXT4-fs (vda): mounted filesystem with ordered data mode.",
                     "[    4.4] EXT4-fs (vda): recovery complete",
                     "[    0.8] APIC calibration not consistent with PM-Timer: 92ms"):
            self.assertFalse(linux.COMPLAINTS.search(line), line)


class RelayTest(unittest.TestCase):
    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        with socket.create_server(("127.0.0.1", 0)) as free:
            front = free.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "chaos.relay",
             f"127.0.0.1:{front}=127.0.0.1:{self.listener.getsockname()[1]}"], cwd=FOLDER,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.order("flow")
        self.near = socket.create_connection(("127.0.0.1", front), timeout=20)
        self.far = self.listener.accept()[0]
        self.far.settimeout(20)

    def tearDown(self):
        for end in (self.near, self.far, self.listener, self.process.stdin, self.process.stdout):
            end.close()
        self.process.wait()

    def order(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()
        self.assertEqual(self.process.stdout.readline(), b"done\n")

    def carried(self, source, sink, data):
        source.sendall(data)
        got = b""
        while len(got) < len(data):
            got += sink.recv(len(data) - len(got))
        return got

    def test_it_carries_both_ways(self):
        data = bytes(range(256)) * 100
        self.assertEqual(self.carried(self.near, self.far, data), data)
        self.assertEqual(self.carried(self.far, self.near, data), data)

    def test_one_bit_of_one_byte_on_the_way_to_one_side(self):
        self.order("corrupt", "listener", 150)
        data = bytes(100)
        self.assertEqual(self.carried(self.far, self.near, data * 3), data * 3)
        self.assertEqual(self.carried(self.near, self.far, data), data)
        got = self.carried(self.near, self.far, data)
        self.assertEqual([(i, byte) for i, byte in enumerate(got) if byte], [(50, 0x10)])
        self.assertEqual(self.carried(self.near, self.far, data), data)

    def test_delay(self):
        self.order("delay", 50)
        began = time.monotonic()
        self.carried(self.near, self.far, b"late")
        self.assertGreaterEqual(time.monotonic() - began, 0.05)

    def test_stall_holds_what_was_sent_until_it_flows(self):
        self.order("stall", "listener")
        self.near.sendall(b"held")
        self.far.settimeout(0.1)
        with self.assertRaises(TimeoutError):
            self.far.recv(1)
        self.assertEqual(self.carried(self.far, self.near, b"back"), b"back")
        self.far.settimeout(20)
        self.order("flow")
        self.assertEqual(self.far.recv(4), b"held")

    def test_reset(self):
        self.order("reset")
        for end in (self.near, self.far):
            with self.assertRaises(ConnectionResetError):
                end.recv(1)

    def test_an_end_is_passed_on_and_what_was_said_before_it(self):
        self.near.sendall(b"last words")
        self.near.close()
        got = b""
        while data := self.far.recv(100):
            got += data
        self.assertEqual(got, b"last words")

    def test_a_reset_is_passed_on(self):
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.near.close()
        with self.assertRaises(ConnectionResetError), contextlib.suppress(TimeoutError):
            while self.far.recv(1):
                pass


if __name__ == "__main__":
    unittest.main()
