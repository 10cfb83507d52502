"""The oracle's process against a guest on localhost that breaks one promise at a time."""

import contextlib
import copy
import errno
import select
import socket
import tempfile
import threading
import time
import unittest
from pathlib import Path

from oracle import Oracle, Violation, words

LIE_AT = 400  # requests


def open_both():
    """One port number for datagrams and connections: the kernel hands them out separately, and a
    connection of anybody's may have that of the datagrams."""
    while True:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        port = datagrams.getsockname()[1]
        try:
            return datagrams, socket.create_server(("127.0.0.1", port)), port
        except OSError as error:
            datagrams.close()
            if error.errno != errno.EADDRINUSE:
                raise


class Guest:
    """An honest service until LIE_AT requests; `lie(guest)` is called then, once."""

    def __init__(self, lie=None):
        self.lie = lie
        self.datagrams, self.listener, self.port = open_both()
        self.stream = None
        self.input = b""
        self.state = {"clients": {}, "counters": {}, "registers": {}, "utterance": 0, "time": 0}
        self.kept = None
        self.corrupt = self.requests = 0
        self.forgetful = self.twice = False
        self.silent = False
        self.stopping = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def close(self):
        self.stopping = True
        self.thread.join()
        for what in (self.datagrams, self.listener, self.stream):
            if what:
                what.close()

    def execute(self, operation, key, value, expected):
        if operation == words.ADD:
            self.state["counters"][key] = self.state["counters"].get(key, 0) + 1 + self.twice
            self.twice = False
        if operation in (words.ADD, words.COUNT):
            return words.DONE, self.state["counters"].get(key, 0)
        found = self.state["registers"].get(key, 0)
        if operation == words.READ:
            return words.DONE, found
        if operation == words.WRITE or found == expected:
            if not self.forgetful:
                self.state["registers"][key] = value
            return words.DONE, value if operation == words.WRITE else found
        return words.DIFFERS, found

    def answer(self, data):
        magic, sequence, client, operation, *rest = words.REQUEST.unpack(data)
        assert magic == words.REQUEST_MAGIC
        self.requests += 1
        if self.requests == LIE_AT - 50:
            self.kept = copy.deepcopy(self.state)
        if self.requests == LIE_AT and self.lie:
            self.lie(self)
        last, answer = self.state["clients"].get(client, (0, None))
        if sequence > last:
            answer = self.execute(operation, *rest)
            self.state["clients"][client] = sequence, answer
        self.state["utterance"] += 1
        self.state["time"] += 1000
        status, value = answer if sequence >= last else (words.OLD, 0)
        return words.REPLY.pack(words.REPLY_MAGIC, sequence, client, status, value,
                                self.state["utterance"], self.state["time"], self.corrupt)

    def run(self):
        while not self.stopping:
            sources = [self.datagrams, self.listener] + ([self.stream] if self.stream else [])
            for source in select.select(sources, [], [], 0.01)[0]:
                if source is self.listener:
                    self.stream = self.listener.accept()[0]
                elif source is self.datagrams:
                    data, sender = source.recvfrom(2048)
                    answer = self.answer(data)
                    if not self.silent:
                        source.sendto(answer, sender)
                elif source is self.stream:
                    with contextlib.suppress(OSError):  # the oracle has seen enough
                        self.serve_stream()

    def serve_stream(self):
        data = self.stream.recv(65536)
        if not data:
            self.stream = self.stream.close()
        self.input += data
        while len(self.input) >= words.REQUEST.size and self.stream:
            data, self.input = (self.input[:words.REQUEST.size], self.input[words.REQUEST.size:])
            answer = self.answer(data)
            if self.stream:
                self.stream.sendall(answer)


class Place:
    """Stands for support.World."""

    def __init__(self, port):
        self.port = port
        self.clients = []

    def oracle_place(self):
        return {"enter": [], "taps": {}, "guest": "127.0.0.1", "port": self.port, "think": 0.0005,
                "seed": 1}


class DriverTest(unittest.TestCase):
    def watch(self, lie=None):
        guest = Guest(lie)
        self.addCleanup(guest.close)
        oracle = Oracle(Place(guest.port))
        self.addCleanup(oracle.close)
        return guest, oracle.start()

    def assert_caught(self, lie, pattern):
        guest, oracle = self.watch(lie)
        with self.assertRaisesRegex(Violation, pattern):
            oracle.wait_answers(20 * LIE_AT)
        self.assertGreaterEqual(guest.requests, LIE_AT)
        with self.assertRaises(Violation):  # and it does not forget
            oracle.verify()

    def test_an_honest_guest_serves_everybody(self):
        _, oracle = self.watch()
        oracle.wait_answers(2 * LIE_AT)
        state = oracle.wait_all_served()
        self.assertGreater(state["rounds"], 2)
        self.assertTrue(all(count > 5 for count in state["streamed"]), state)

    def test_a_guest_set_back(self):
        def lie(guest):
            guest.state = guest.kept
        self.assert_caught(lie, "twice|after .* was heard|long after")

    def test_a_guest_set_back_that_hides_its_utterances(self):
        def lie(guest):
            fresh = {key: guest.state[key] for key in ("utterance", "time")}
            guest.state = {**guest.kept, **fresh}
        self.assert_caught(lie, "lost|read as|no order explains|status")

    def test_lost_counters_only(self):
        def lie(guest):
            guest.state["counters"] = guest.kept["counters"]
        self.assert_caught(lie, "lost|read as")

    def test_lost_writes_to_registers_only(self):
        def lie(guest):
            guest.forgetful = True
        self.assert_caught(lie, "no order explains")

    def test_an_increment_done_twice(self):
        def lie(guest):
            guest.twice = True
        self.assert_caught(lie, "done twice|nobody asked for more")

    def test_time_that_goes_back(self):
        def lie(guest):
            guest.state["time"] -= 100_000
        self.assert_caught(lie, "guest time")

    def test_a_corrupt_page(self):
        def lie(guest):
            guest.corrupt = 1
        self.assert_caught(lie, "of another moment")

    def test_a_reset_connection(self):
        def lie(guest):
            stream, guest.stream = guest.stream, None
            stream.close()
        self.assert_caught(lie, "TCP: the")

    def test_an_answer_that_nobody_asked_for_over_tcp(self):
        def lie(guest):
            guest.stream.sendall(bytes(words.REPLY.size))
        self.assert_caught(lie, "TCP: the stream lost its frame")

    def test_silence_is_no_violation_but_does_not_pass_for_an_answer(self):
        def lie(guest):
            guest.silent = True
        guest, oracle = self.watch(lie)
        with self.assertRaisesRegex(Violation, "in vain"):
            while True:
                oracle.wait_all_served(limit=0.5)
        oracle.verify()

    def test_pause_and_resume(self):
        guest, oracle = self.watch()
        oracle.wait_answers(50)
        oracle.pause()
        time.sleep(0.2)  # what is under way arrives
        asked = oracle.state()["asked"]
        requests = guest.requests
        time.sleep(0.1)
        self.assertEqual((oracle.state()["asked"], guest.requests), (asked, requests))
        oracle.resume()
        oracle.wait_answers(50)

    def test_the_post_mortem_is_kept(self):
        _, oracle = self.watch()
        oracle.wait_answers(50)
        with tempfile.TemporaryDirectory() as folder:
            oracle.keep(folder)
            self.assertGreater(len(Path(folder, "answers").read_text().splitlines()), 30)


if __name__ == "__main__":
    unittest.main()
