"""The bytes of the service guest (test/guest/service_protocol.h), read by other eyes."""

import struct
from typing import NamedTuple

PORT = 7100
REQUEST_MAGIC = int.from_bytes(b"SERVREQ1", "little")
REPLY_MAGIC = int.from_bytes(b"SERVREP1", "little")
REQUEST = struct.Struct("<QQIIQQQ")
REPLY = struct.Struct("<QQIIQQQQ")
ADD, COUNT, READ, WRITE, SWAP, SAY, OFF, APPEND, RECORD = range(1, 10)
DONE, DIFFERS, OLD, UNKNOWN = range(1, 5)


class Reply(NamedTuple):
    magic: int
    sequence: int
    client: int
    status: int
    value: int
    utterance: int
    time_ns: int
    corrupt: int


def request(sequence, client, operation, key=0, value=0, expected=0):
    return REQUEST.pack(REQUEST_MAGIC, sequence, client, operation, key, value, expected)


def reply(data):
    """None: that is no reply."""
    if len(data) < REPLY.size:
        return None
    words = Reply(*REPLY.unpack_from(data))
    return words if words.magic == REPLY_MAGIC else None
