"""A journal on the guest's disk: each record is durable when it was acknowledged, and names the one
before it. What was acknowledged must be read by whoever runs the guest, and be in its image.

The service guest has a sector for each record; redis a list of their chain words, which it appends
to a file.
"""

import struct

from .judges import expect

SECTOR = 512
MAGIC = int.from_bytes(b"KRJRECD1", "little")
RECORD = struct.Struct("<5Q")  # magic, number, token, chain word of the record before, own chain word
MASK = (1 << 64) - 1


def fnv(*numbers):
    """FNV-1a, 64 bits, over the numbers as little-endian words."""
    hashed = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(numbers)}Q", *numbers):
        hashed = (hashed ^ byte) * 0x100000001B3 & MASK
    return hashed


def token(seed, number):
    """So that whoever knows the seed knows what must be in the image."""
    return fnv(seed, number)


class Journal:
    """`capacity`: records that the disk has room for."""

    def __init__(self, seed, capacity):
        self.seed = seed
        self.capacity = capacity
        self.chains = [0]  # by number of the record, as far as acknowledged

    def acknowledged(self):
        return len(self.chains) - 1

    def is_full(self):
        return self.acknowledged() >= self.capacity

    def next_token(self):
        return token(self.seed, len(self.chains))

    def next_chain(self):
        """The own chain word of the record that is to be appended."""
        return fnv(len(self.chains), self.next_token(), self.chains[-1])

    def acknowledge(self, number):
        wanted = len(self.chains)
        expect(number >= wanted, f"journal: record {number} instead of {wanted}: "
               f"{wanted - number} acknowledged records were lost")
        expect(number <= wanted, f"journal: record {number} instead of {wanted}: "
               f"{number - wanted} records that nobody asked for")
        self.chains.append(self.next_chain())

    def read(self, number, chain):
        expect(chain == self.chains[number], f"journal: record {number} reads {chain:#x}, "
               f"but {self.chains[number]:#x} was acknowledged")


def check_image(path, seed, acknowledged):
    """Every acknowledged record is in the image, and each names the one before it."""
    chain = 0
    with open(path, "rb") as image:
        for number in range(1, acknowledged + 1):
            sector = image.read(SECTOR)
            expect(len(sector) == SECTOR, f"{path} ends before record {number}")
            wanted = fnv(number, token(seed, number), chain)
            found = RECORD.unpack_from(sector)
            expect(found == (MAGIC, number, token(seed, number), chain, wanted)
                   and not any(sector[RECORD.size:]),
                   f"{path}: record {number} of {acknowledged} acknowledged ones is not there, but "
                   f"{sector[:RECORD.size].hex()}")
            chain = wanted


def check_records(found, seed, acknowledged, where):
    """`found`: the chain words of all records, as redis has them."""
    expect(len(found) >= acknowledged, f"{where}: {len(found)} records of {acknowledged} that were "
           "acknowledged")
    chain = 0
    for number, word in enumerate(found[:acknowledged], 1):
        chain = fnv(number, token(seed, number), chain)
        expect(word == chain, f"{where}: record {number} of {acknowledged} acknowledged ones reads "
               f"{word:#x} instead of {chain:#x}")


def appended(data):
    """The records in an append-only file of redis. It may end in the middle of a command, which
    nobody was told of then."""
    found, place = [], 0

    def line():
        nonlocal place
        end = data.find(b"\r\n", place)
        text = data[place:end] if end >= 0 else None
        place = end + 2 if end >= 0 else len(data)
        return text

    def string():
        nonlocal place
        size = line()
        text = data[place:place + int(size[1:])] if size else b""
        place += len(text) + 2
        return text if size and place <= len(data) else None

    while place < len(data):
        if data[place:place + 1] == b"#":  # a time stamp
            line()
            continue
        count = line()
        if count is None:
            return found
        command = []
        while len(command) < int(count[1:]):
            part = string()
            if part is None:
                return found
            command.append(part)
        if command[:2] == [b"RPUSH", b"journal"]:
            found.append(int(command[2]))
    return found
