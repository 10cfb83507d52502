"""The judges must notice: histories that lie, and honest ones that only look odd."""

import random
import tempfile
import unittest

from oracle.clients import Editor, Registers
from oracle.journal import (MAGIC, RECORD, SECTOR, Journal, appended, check_image, check_records,
                            fnv)
from oracle.judges import WINDOW, Counter, Utterances, Violation
from oracle.linear import READ, SWAP, WRITE, Operation, TooHard, check
from oracle.speech import Speech
from oracle import linear, words


FNV_1_2_3 = 0xda2bfb225e0d1f05  # computed by a program in another language


class CounterTest(unittest.TestCase):
    def setUp(self):
        self.counter = Counter("c")

    def add(self, value):
        self.counter.ask()
        self.counter.acknowledge(value)

    def test_grows_by_one_from_anywhere(self):
        for value in range(41, 60):
            self.add(value)

    def test_lost_increment(self):
        self.add(7)
        with self.assertRaisesRegex(Violation, "1 acknowledged increments were lost"):
            self.add(7)

    def test_everything_lost(self):
        for value in range(1, 9):
            self.add(value)
        with self.assertRaisesRegex(Violation, "8 acknowledged increments were lost"):
            self.add(1)

    def test_increment_done_twice(self):
        self.add(1)
        with self.assertRaisesRegex(Violation, "1 increments were done twice"):
            self.add(3)

    def test_answer_to_nothing(self):
        with self.assertRaisesRegex(Violation, "nobody asked"):
            self.counter.acknowledge(1)

    def test_reading(self):
        self.add(5)
        mark = self.counter.mark()
        self.counter.ask()
        self.counter.read(5, mark)  # the increment under way is not in yet
        self.counter.read(6, mark)  # or it is
        with self.assertRaisesRegex(Violation, "nobody asked for more"):
            self.counter.read(7, mark)
        with self.assertRaisesRegex(Violation, "read as 4 after 5"):
            self.counter.read(4, mark)

    def test_reader_that_asked_before_the_acknowledgement_may_see_less(self):
        self.add(5)
        mark = self.counter.mark()
        self.add(6)
        self.counter.read(5, mark)
        with self.assertRaises(Violation):
            self.counter.read(5, self.counter.mark())


class UtterancesTest(unittest.TestCase):
    def setUp(self):
        self.heard = Utterances()

    def test_overtaking_on_the_way_is_honest(self):
        mark = self.heard.mark()
        for number in (2, 1, 5, 3):
            self.heard.hear(number, number * 10, mark)

    def test_number_used_twice(self):
        mark = self.heard.mark()
        self.heard.hear(3, 30, mark)
        with self.assertRaisesRegex(Violation, "heard twice"):
            self.heard.hear(3, 30, mark)

    def test_older_number_in_answer_to_a_newer_question(self):
        self.heard.hear(9, 90, self.heard.mark())
        with self.assertRaisesRegex(Violation, "after 9 was heard"):
            self.heard.hear(8, 91, self.heard.mark())

    def test_time_that_went_back(self):
        self.heard.hear(9, 90, self.heard.mark())
        with self.assertRaisesRegex(Violation, "guest time 89"):
            self.heard.hear(10, 89, self.heard.mark())

    def test_memory_is_bounded_and_what_left_it_is_refused(self):
        mark = self.heard.mark()
        for number in range(1, 3 * WINDOW):
            self.heard.hear(number, number, mark)
        self.assertLessEqual(len(self.heard.seen), 2 * WINDOW)
        with self.assertRaisesRegex(Violation, "long after"):
            self.heard.hear(1, 1, mark)


def op(start, end, kind, **rest):
    return Operation(start, end, kind, **rest)


class LinearTest(unittest.TestCase):
    def test_one_after_the_other(self):
        history = [op(0, 1, WRITE, value=1), op(2, 3, READ, found=1),
                   op(4, 5, SWAP, expected=1, value=2, found=1, done=True),
                   op(6, 7, SWAP, expected=1, value=3, found=2)]
        self.assertEqual(check(history, {0}), {2})

    def test_stale_read(self):
        history = [op(0, 1, WRITE, value=1), op(2, 3, READ, found=0)]
        self.assertEqual(check(history, {0}), set())

    def test_read_of_a_value_nobody_wrote(self):
        self.assertEqual(check([op(0, 1, READ, found=9)], {0}), set())

    def test_concurrent_read_may_see_either(self):
        for found in (0, 1):
            history = [op(0, 10, WRITE, value=1), op(2, 3, READ, found=found)]
            self.assertEqual(check(history, {0}), {1})

    def test_two_reads_can_not_see_a_write_undone(self):
        history = [op(0, 10, WRITE, value=1), op(1, 2, READ, found=1), op(3, 4, READ, found=0)]
        self.assertEqual(check(history, {0}), set())

    def test_two_writers_leave_two_possibilities_and_the_next_read_takes_one(self):
        after = check([op(0, 5, WRITE, value=1), op(1, 6, WRITE, value=2)], {0})
        self.assertEqual(after, {1, 2})
        self.assertEqual(check([op(7, 8, READ, found=2)], after), {2})
        self.assertEqual(check([op(7, 8, READ, found=0)], after), set())

    def test_swap_that_happened_twice(self):
        history = [op(0, 1, SWAP, expected=0, value=1, found=0, done=True),
                   op(2, 3, SWAP, expected=0, value=2, found=0, done=True)]
        self.assertEqual(check(history, {0}), set())

    def test_swap_that_failed_although_the_value_was_right(self):
        self.assertEqual(check([op(0, 1, SWAP, expected=0, value=1, found=0)], {0}), set())

    def test_swap_that_found_another_value_than_there_was(self):
        self.assertEqual(check([op(0, 1, SWAP, expected=5, value=1, found=7)], {0}), set())

    def test_operation_without_an_answer_happened_any_time_or_never(self):
        history = [op(0, None, WRITE, value=1)]
        self.assertEqual(check(history, {0}), {0, 1})
        self.assertEqual(check(history + [op(5, 6, READ, found=0), op(7, 8, READ, found=1)], {0}),
                         {1})
        self.assertEqual(check(history + [op(5, 6, READ, found=1), op(7, 8, READ, found=0)], {0}),
                         set())
        swap = [op(0, None, SWAP, expected=0, value=4), op(1, 2, READ, found=4)]
        self.assertEqual(check(swap, {0}), {4})

    def test_it_gives_up_loudly(self):
        with self.assertRaises(TooHard):
            check([op(0, 100, WRITE, value=i) for i in range(40)], {0})

    def test_it_agrees_with_trying_every_order(self):
        """Small random histories, honest and lying, against all permutations."""
        import itertools
        chance = random.Random(7)
        verdicts = set()
        for _ in range(400):
            history = []
            for number in range(chance.randint(1, 5)):
                start = chance.randint(0, 8)
                kind = chance.choice((READ, WRITE, SWAP))
                history.append(op(start, start + chance.randint(1, 6), kind, value=number + 1,
                                  expected=chance.randint(0, 3), found=chance.randint(0, 3),
                                  done=kind == SWAP and chance.random() < 0.5))
            possible = set()
            for order in itertools.permutations(history):
                if any(later.end < earlier.start
                       for i, earlier in enumerate(order) for later in order[i + 1:]):
                    continue
                value = 0
                for operation in order:
                    value = linear._after(operation, value)
                    if value is None:
                        break
                else:
                    possible.add(value)
            self.assertEqual(check(history, {0}), possible, history)
            verdicts.add(bool(possible))
        self.assertEqual(verdicts, {True, False})


class Book:
    """Registers of an honest guest, or of one that forgets at some point."""

    def __init__(self, lie=None):
        self.values = {}
        self.lie = lie

    def answer(self, count, operation, key, value, expected):
        if self.lie:
            self.lie(self, count)
        found = self.values.get(key, 0)
        if operation == words.READ:
            return words.DONE, found
        if operation == words.WRITE:
            self.values[key] = value
            return words.DONE, value
        if found == expected:
            self.values[key] = value
            return words.DONE, found
        return words.DIFFERS, found


def play_registers(book, steps=600):
    """Four editors whose questions are under way at the same time, in random order."""
    chance = random.Random(3)
    registers = Registers((0, 1), range(4), random.Random(4))
    editors = [Editor(n, registers) for n in range(4)]
    waiting, now = {}, 0.0
    for count in range(steps):
        for editor in editors:
            if editor not in waiting:
                question = editor.question(now := now + 1)
                if question:
                    waiting[editor] = question
        editor = chance.choice(list(waiting))
        editor.answer(now := now + 1, *book.answer(count, *waiting.pop(editor)))
    return registers


class RegistersTest(unittest.TestCase):
    def test_an_honest_guest_is_believed(self):
        registers = play_registers(Book())
        self.assertGreater(registers.rounds, 10)

    def test_a_guest_set_back_to_an_older_state_is_caught(self):
        kept = {}

        def lie(book, count):
            if count == 300:
                kept.update(book.values)
            if count == 330:
                book.values = dict(kept)
        with self.assertRaisesRegex(Violation, "no order explains"):
            play_registers(Book(lie))

    def test_a_guest_that_forgot_everything_is_caught(self):
        with self.assertRaisesRegex(Violation, "no order explains"):
            play_registers(Book(lambda book, count: count == 300 and book.values.clear()))


class JournalTest(unittest.TestCase):
    SEED = 99

    def write(self, path, count, lie=lambda number, record: record):
        """An image of `count` records, as the guest writes it."""
        journal = Journal(self.SEED, 100)
        with open(path, "wb") as image:
            for number in range(1, count + 1):
                word, before = journal.next_token(), journal.chains[-1]
                journal.acknowledge(number)
                record = MAGIC, number, word, before, journal.chains[-1]
                image.write(RECORD.pack(*lie(number, record)).ljust(SECTOR, b"\0"))

    def check(self, count, acknowledged, lie=lambda number, record: record):
        with tempfile.NamedTemporaryFile() as image:
            self.write(image.name, count, lie)
            check_image(image.name, self.SEED, acknowledged)

    def test_known_answer(self):
        self.assertEqual(fnv(1, 2, 3), FNV_1_2_3)

    def test_everything_there_and_more(self):
        self.check(20, 20)
        self.check(20, 18)  # what was not acknowledged may be there

    def test_the_last_record_is_missing(self):
        with self.assertRaisesRegex(Violation, "ends before record 20"):
            self.check(19, 20)

    def test_a_record_in_the_middle_was_lost(self):
        with self.assertRaisesRegex(Violation, "record 7 of 20"):
            self.check(20, 20, lambda number, record: (0,) * 5 if number == 7 else record)

    def test_a_record_of_another_past(self):
        with self.assertRaisesRegex(Violation, "record 7 of 20"):
            self.check(20, 20, lambda n, r: (*r[:2], r[2] ^ 1, *r[3:]) if n == 7 else r)

    def test_a_chain_that_was_begun_anew(self):
        with self.assertRaisesRegex(Violation, "record 7 of 20"):
            self.check(20, 20, lambda n, r: (*r[:3], 0, fnv(n, r[2], 0)) if n == 7 else r)

    def test_numbers(self):
        journal = Journal(self.SEED, 3)
        journal.acknowledge(1)
        journal.acknowledge(2)
        with self.assertRaisesRegex(Violation, "1 acknowledged records were lost"):
            journal.acknowledge(2)
        with self.assertRaisesRegex(Violation, "nobody asked for"):
            journal.acknowledge(4)
        journal.read(2, journal.chains[2])
        with self.assertRaisesRegex(Violation, "record 1 reads"):
            journal.read(1, journal.chains[2])
        journal.acknowledge(3)
        self.assertTrue(journal.is_full())


class AppendedTest(unittest.TestCase):
    """What redis keeps of the journal."""
    SEED = 98

    def records(self, count):
        journal = Journal(self.SEED, 100)
        for number in range(1, count + 1):
            journal.acknowledge(number)
        return journal.chains[1:]

    @staticmethod
    def command(*parts):
        return b"*%d\r\n" % len(parts) + b"".join(
            b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)

    def test_records_among_other_commands(self):
        data = self.command(b"SELECT", b"0") + b"#TS:1700000000\r\n"
        for chain in self.records(20):
            data += self.command(b"INCR", b"*3\r\n$5\r\nRPUSH\r\n")
            data += self.command(b"RPUSH", b"journal", b"%d" % chain)
            data += self.command(b"RPUSH", b"another", b"1")
        self.assertEqual(appended(data), self.records(20))

    def test_a_file_that_ends_anywhere(self):
        one = self.command(b"RPUSH", b"journal", b"%d" % self.records(1)[0])
        two = one + self.command(b"RPUSH", b"journal", b"%d" % self.records(2)[1])
        for size in range(len(two)):
            found = appended(two[:size])
            self.assertEqual(found, self.records(1) if size >= len(one) else [], size)
        self.assertEqual(len(appended(two)), 2)

    def test_everything_there_and_more(self):
        check_records(self.records(20), self.SEED, 20, "here")
        check_records(self.records(20), self.SEED, 18, "here")

    def test_the_last_record_is_missing(self):
        with self.assertRaisesRegex(Violation, "here: 19 records of 20"):
            check_records(self.records(19), self.SEED, 20, "here")

    def test_a_record_in_the_middle_was_lost(self):
        found = self.records(21)
        del found[6]
        with self.assertRaisesRegex(Violation, "record 7 of 20"):
            check_records(found, self.SEED, 20, "here")


class SpeechTest(unittest.TestCase):
    def setUp(self):
        self.speech = Speech()

    def test_moves_are_counted(self):
        for time, host, utterance in ((1, "a", 1), (2, "a", None), (3, "b", 2), (4, "b", 3)):
            self.speech.hear(time, host, utterance)
        self.assertEqual(self.speech.moves, [(1, "a"), (3, "b")])

    def test_a_host_that_speaks_after_the_other_is_two_moves_more(self):
        for time, host in ((1, "a"), (3, "b"), (4, "a"), (5, "b")):
            self.speech.hear(time, host)
        self.assertEqual(len(self.speech.moves), 4)

    def test_held_words_that_leave_twice(self):
        self.speech.hear(1, "a", 5)
        with self.assertRaisesRegex(Violation, "b said utterance 5 after 5"):
            self.speech.hear(2, "b", 5)

    def test_words_of_an_older_state(self):
        self.speech.hear(1, "a", 5)
        with self.assertRaisesRegex(Violation, "a said utterance 4 after 5"):
            self.speech.hear(2, "a", 4)

    def test_frames_in_another_order_than_time_are_a_fault_of_the_test(self):
        self.speech.hear(2, "a", 5)
        with self.assertRaises(Violation):
            self.speech.hear(1, "a", 6)


if __name__ == "__main__":
    unittest.main()
