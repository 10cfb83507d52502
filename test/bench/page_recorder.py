#!/usr/bin/python3
"""usage: page_recorder.py LISTEN-ADDRESS:PORT PRIMARY-ADDRESS:PORT DIRECTORY

Stands between a secondary and its primary and writes down the pages that the primary's checkpoints carry.
The link must be plain TCP and encoding raw.  As long as DIRECTORY/phase holds a word, pages go to
DIRECTORY/WORD.pages, at most PAGES_MAX of them: for each a u64 epoch, a u64 guest frame number and the
4096 bytes, little-endian.  The first synchronisation is not written.  Layouts: docs/protocol.md.
"""

import os
import socket
import struct
import sys
import threading

HEADER = struct.Struct("<4sHHIIQQQ16sQ")
CONTROL, PAGES, STATE = 1, 2, 3
RAW, ZERO = 1, 2
PAGE = 4096
PAGES_MAX = 20000


def parse_address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def receive(sock, size):
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


class Recorder:
    """One link: bytes of the secondary pass as they are, those of the primary frame by frame."""

    def __init__(self, directory):
        self.directory = directory
        self.batches = []
        self.phase = None
        self.file = None
        self.written = 0

    def look_at_phase(self):
        try:
            with open(os.path.join(self.directory, "phase"), encoding="ascii") as file:
                phase = file.read().strip()
        except FileNotFoundError:
            phase = ""
        if phase == self.phase:
            return
        if self.file:
            self.file.close()
        self.phase, self.written = phase, 0
        self.file = open(os.path.join(self.directory, phase + ".pages"), "wb") if phase else None

    def write_batch(self, epoch, payload):
        count, form = struct.unpack_from("<II", payload)
        if form != 0:
            sys.exit("page_recorder: the primary sends encoded pages: set encoding = raw")
        at = 8 + 8 * count
        for entry in struct.unpack_from(f"<{count}Q", payload, 8):
            page = bytes(PAGE)
            if entry % PAGE == RAW:
                page = payload[at:at + PAGE]
                at += PAGE
            if self.written < PAGES_MAX:
                self.file.write(struct.pack("<QQ", epoch, entry >> 12) + page)
                self.written += 1

    def look_at(self, kind, epoch, payload):
        if kind == PAGES:
            # An epoch shows that it is a checkpoint by its state, which comes last.
            if self.batches and self.batches[0][0] != epoch:
                self.batches.clear()
            if len(self.batches) < 100:
                self.batches.append((epoch, payload))
        elif kind == STATE:
            self.look_at_phase()
            if self.file:
                for batch in self.batches:
                    self.write_batch(*batch)
            self.batches.clear()

    def run(self, primary, secondary):
        try:
            while True:
                header = receive(primary, HEADER.size)
                _, _, kind, _, size, _, epoch, _, _, _ = HEADER.unpack(header)
                payload = receive(primary, size)
                secondary.sendall(header + payload)
                self.look_at(kind, epoch, payload)
        except (EOFError, OSError):
            pass
        if self.file:
            self.file.close()


def pass_on(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass


def shut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def serve(secondary, address, directory):
    try:
        primary = socket.create_connection(address, timeout=5)
    except OSError:
        secondary.close()  # the secondary tries again
        return
    primary.settimeout(None)
    for sock in (primary, secondary):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def backward():
        pass_on(secondary, primary)
        shut(primary)

    thread = threading.Thread(target=backward)
    thread.start()
    Recorder(directory).run(primary, secondary)
    shut(secondary)
    shut(primary)
    thread.join()
    primary.close()
    secondary.close()


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__.splitlines()[0])
    with socket.create_server(parse_address(sys.argv[1])) as listener:
        while True:
            secondary, _ = listener.accept()
            serve(secondary, parse_address(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
