#!/usr/bin/python3
"""usage: redis_load.py HOST PORT SECONDS

Load for a redis: one connection, ten commands at a time.  Half of them write values of 100 random printable
bytes to one of 10000 keys, the others read, count and push.  Prints commands per second.
"""

import random
import socket
import sys
import time

KEYS = 10000
VALUE = 100
AT_A_TIME = 10
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def command(*words):
    parts = [f"*{len(words)}\r\n"]
    parts += [f"${len(word)}\r\n{word}\r\n" for word in words]
    return "".join(parts)


def draw(rng):
    key = f"key:{rng.randrange(KEYS)}"
    kind = rng.randrange(10)
    if kind < 5:
        return command("SET", key, "".join(rng.choices(LETTERS, k=VALUE)))
    if kind < 8:
        return command("GET", key)
    if kind < 9:
        return command("INCR", f"counter:{rng.randrange(100)}")
    return command("LPUSH", f"list:{rng.randrange(100)}", key)


def replies(data):
    """How many whole replies there are.  None of these commands answers with an array."""
    count = at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        if data[at:at + 1] == b"$" and (size := int(data[at + 1:end])) >= 0:
            end += 2 + size
            if len(data) < end + 2:
                break
        at = end + 2
        count += 1
    return count


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__.splitlines()[0])
    host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rng = random.Random(1)
    done = 0
    with socket.create_connection((host, port), timeout=60) as sock:
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            sock.sendall("".join(draw(rng) for _ in range(AT_A_TIME)).encode())
            data = b""
            while replies(data) < AT_A_TIME:
                more = sock.recv(65536)
                if not more:
                    sys.exit("redis_load: redis closed the connection")
                data += more
            if b"-ERR" in data:
                sys.exit("redis_load: redis refused a command")
            done += AT_A_TIME
        print(f"redis_load: {done / (time.monotonic() - start):.0f} commands/s")


if __name__ == "__main__":
    main()
