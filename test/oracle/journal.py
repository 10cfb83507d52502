"""A journal on the guest's disk: each record is durable when it was acknowledged, and names the one
before it. What was acknowledged must be read by whoever runs the guest, and be in its image.
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

    def acknowledge(self, number):
        wanted = len(self.chains)
        expect(number >= wanted, f"journal: record {number} instead of {wanted}: "
               f"{wanted - number} acknowledged records were lost")
        expect(number <= wanted, f"journal: record {number} instead of {wanted}: "
               f"{number - wanted} records that nobody asked for")
        self.chains.append(fnv(wanted, self.next_token(), self.chains[-1]))

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
