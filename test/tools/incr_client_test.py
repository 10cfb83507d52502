"""The judge must notice: runs incr-client against a server that breaks one promise at a time.

usage: incr_client_test.py INCR-CLIENT
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

CLIENT = sys.argv.pop(1)


class Server:
    """A redis that knows INCR and GET, and misbehaves when the counter reaches AT.

    script(server, connection) is called once at that point; it may change the counter, close the
    connection, or return False to swallow the reply.
    """

    AT = 50

    def __init__(self, script=None, final=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.script = script
        self.final = final
        self.counter = 6
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        self.listener.close()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb")
        try:
            while line := stream.readline():
                words = []
                for _ in range(int(line[1:])):
                    stream.readline()
                    words.append(stream.readline().strip())
                if words[0] == b"GET":
                    text = b"%d" % (self.counter if self.final is None else self.final)
                    connection.sendall(b"$%d\r\n%s\r\n" % (len(text), text))
                    continue
                self.counter += 1
                if self.script and self.counter == self.AT:
                    script, self.script = self.script, None
                    if script(self, connection) is False:
                        continue
                # In two pieces: a reply may arrive torn.
                connection.sendall(b":%d" % self.counter)
                connection.sendall(b"\r\n")
        except OSError:
            pass
        # makefile() holds the descriptor too.
        stream.close()
        connection.close()


def step(amount):
    def script(server, _connection):
        server.counter += amount
    return script


def reset(_server, connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise OSError


def close(_server, connection):
    connection.shutdown(socket.SHUT_RDWR)
    raise OSError


def say_error(_server, connection):
    connection.sendall(b"-LOADING not now\r\n")
    return False


def swallow(_server, _connection):
    return False


class IncrClient(unittest.TestCase):
    def run_client(self, server, *options, stop_after=None):
        with tempfile.NamedTemporaryFile() as log:
            client = subprocess.Popen([CLIENT, "--log", log.name, *options, "127.0.0.1", str(server.port)],
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if stop_after:
                stop_after(client, log.name)
            output = client.communicate(timeout=20)[0]
            self.log = [tuple(map(int, line.split())) for line in log.read().decode().splitlines()]
        return client.returncode, json.loads(output)

    def run_beyond(self, server, *options):
        """Until the client has seen what the server does at AT, or has given up."""
        def stop(client, _log):
            while server.counter < server.AT + 10 and client.poll() is None:
                threading.Event().wait(0.005)
            client.send_signal(signal.SIGTERM)
        return self.run_client(server, *options, stop_after=stop)

    def assert_violation(self, server, *options, **expected):
        status, summary = self.run_beyond(server, *options)
        self.assertEqual(status, 1)
        self.assertIs(summary["ok"], False)
        self.assertEqual({key: summary[key] for key in expected}, expected)

    def test_good_server(self):
        status, summary = self.run_client(Server(), "--duration", "0.2")
        self.assertEqual(status, 0)
        self.assertIs(summary["ok"], True)
        self.assertEqual(summary["first"], 7)
        self.assertEqual(summary["last"], summary["final_value"])
        self.assertEqual(summary["acknowledged"], summary["sent"])
        self.assertEqual([value for _, value in self.log], list(range(7, summary["last"] + 1)))
        self.assertEqual(self.log, sorted(self.log))

    def test_pipelined(self):
        status, summary = self.run_client(Server(), "--duration", "0.2", "--depth", "16")
        self.assertEqual((status, summary["lost"], summary["skipped"]), (0, 0, 0))

    def test_stops_by_signal(self):
        def stop(client, log):
            while os.path.getsize(log) == 0 and client.poll() is None:
                threading.Event().wait(0.01)
            client.send_signal(signal.SIGTERM)
        status, summary = self.run_client(Server(), stop_after=stop)
        self.assertEqual((status, summary["final_checked"]), (0, True))

    def test_lost_increments(self):
        self.assert_violation(Server(step(-5)), lost=5, backward=1, skipped=0)

    def test_repeated_value(self):
        self.assert_violation(Server(step(-1)), lost=1, backward=1)

    def test_skipped_value(self):
        self.assert_violation(Server(step(3)), skipped=3, lost=0)

    def test_reset(self):
        self.assert_violation(Server(reset), resets=1, closed=0, last=Server.AT - 1)

    def test_close(self):
        self.assert_violation(Server(close), resets=0, closed=1)

    def test_error_reply(self):
        self.assert_violation(Server(say_error), errors=1)

    def test_silence(self):
        self.assert_violation(Server(swallow), "--silence", "0.5", silent=1, last=Server.AT - 1)

    def test_wrong_final_value(self):
        self.assert_violation(Server(final=3), final_checked=True, final_right=False, final_value=3)

    def test_gap_is_measured(self):
        def pause(_server, _connection):
            threading.Event().wait(0.3)
        _, summary = self.run_beyond(Server(pause))
        self.assertGreaterEqual(summary["longest_gap_ms"], 300)
        self.assertAlmostEqual((summary["gap_end_ns"] - summary["gap_begin_ns"]) / 1e6,
                               summary["longest_gap_ms"], delta=0.001)

    def test_kills_in_mid_stream(self):
        victim = subprocess.Popen(["sleep", "100"])
        status, summary = self.run_client(Server(), "--duration", "0.3", "--kill", str(victim.pid),
                                          "--kill-after", "0.1")
        self.assertEqual(victim.wait(timeout=1), -signal.SIGKILL)
        self.assertEqual(status, 0)
        self.assertGreater(summary["acknowledged_at_kill"], 0)
        self.assertGreaterEqual(summary["killed_ns"] - summary["began_ns"], 100_000_000)
        self.assertGreater(summary["first_after_kill_ns"], summary["killed_ns"])

    def test_fails_when_it_never_came_to_the_kill(self):
        status, _ = self.run_client(Server(), "--duration", "0.1", "--kill", str(os.getpid()),
                                    "--kill-after", "5")
        self.assertEqual(status, 1)

    def test_nobody_there(self):
        client = subprocess.run([CLIENT, "--connect", "0.2", "127.0.0.1", "1"],
                                capture_output=True, check=False)
        self.assertEqual(client.returncode, 3)
        self.assertIn(b"cannot connect", client.stderr)


if __name__ == "__main__":
    unittest.main()
