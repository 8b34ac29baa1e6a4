"""An open-loop load generator that is cheap: raw sockets, one thread, a process of its own.

    python benchmarks/load.py PORT --rate 1000 [--count 60000] < requests

Reads requests from standard input: each a whole HTTP request after its length (4 bytes, big-endian). Request n is due
at n / rate seconds, whatever came back until then, and its latency counts from when it was due: a server that falls
behind cannot hide it, and neither can this program. With --count it sends so many, over and over; eight `#` in a
request stand for its number. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from typing import Any

from vedette.core.turns import come_first

CONNECTIONS, MOST_CONNECTIONS = 64, 900
"""At first; and at most, as a process may often open no more than 1,024 files: further requests wait here, and their
latency grows."""
NUMBER = b"########"
GIVE_UP_S = 20.0


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.got = b""

    def send(self, request: bytes, due: float) -> None:
        """Starts a request; small enough that the kernel takes it whole."""
        self.due, self.got = due, b""
        self.socket.send(request)

    def take(self) -> tuple[int, bytes] | None:
        """Status and body when the answer is whole; status 0 when the connection was lost."""
        try:
            some = self.socket.recv(65_536)
        except BlockingIOError:
            return None
        except OSError:
            some = b""
        if not some:
            return 0, b""
        self.got = self.got + some if self.got else some
        end = self.got.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self.got[:end].lower()
        start = head.find(b"content-length: ") + 16
        length = int(head[start : (head.find(b"\r\n", start) + 1 or len(head) + 1) - 1])
        if len(self.got) < end + 4 + length:
            return None
        return int(self.got[9:12]), self.got[end + 4 :]


def load(port: int, requests: list[bytes], rate: float, count: int) -> dict[str, Any]:
    """Sends at fixed times; latencies in milliseconds from the time a request was due."""
    poll = select.epoll()
    connections: dict[int, Connection] = {}
    idle: deque[Connection] = deque()

    def connect() -> Connection:
        connection = Connection(port)
        poll.register(connection.socket, select.EPOLLIN)
        connections[connection.socket.fileno()] = connection
        return connection

    def readable(wait: float) -> list[tuple[int, int]]:
        # epoll rounds a wait up to whole milliseconds, which would count as the server's, and select looks at every
        # connection each time: select waits, to the microsecond, for the one file of epoll.
        if wait > 0.0:
            select.select([poll], [], [], wait)
        return poll.poll(0)

    idle.extend(connect() for _ in range(CONNECTIONS))
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    fallbacks: Counter[str] = Counter()
    sent, done, opened, clock = 0, 0, CONNECTIONS, time.perf_counter
    gc.disable()
    start = clock() + 0.02
    last = start + count / rate + GIVE_UP_S
    while done < count and clock() < last:
        while sent < count and (idle or opened < MOST_CONNECTIONS) and (due := start + sent / rate) <= clock():
            opened += not idle
            connection = idle.popleft() if idle else connect()
            connection.send(requests[sent % len(requests)].replace(NUMBER, b"%08d" % sent), due)
            sent += 1
        free = sent < count and (idle or opened < MOST_CONNECTIONS)
        wait = start + sent / rate - clock() if free else 0.5
        for file, _ in readable(wait):
            connection = connections[file]
            answer = connection.take()
            if answer is None:
                continue
            latencies.append(1e3 * (clock() - connection.due))
            done += 1
            statuses[str(answer[0])] += 1
            if answer[0] == 0:
                poll.unregister(connection.socket)
                connections.pop(file).socket.close()
                opened -= 1
                continue
            idle.append(connection)
            at = answer[1].find(b'"fallback":"')
            if at >= 0:
                fallbacks[answer[1][at + 12 : answer[1].find(b'"', at + 12)].decode()] += 1
    return {**summary(latencies), "sent": sent, "done": done, "statuses": statuses, "fallbacks": fallbacks}


def summary(latencies: list[float]) -> dict[str, float]:
    """Percentiles."""
    ordered = sorted(latencies) or [float("nan")]

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": ordered[-1]}


def read_requests() -> list[bytes]:
    """All of standard input."""
    raw = sys.stdin.buffer.read()
    found, place = [], 0
    while place < len(raw):
        (length,) = struct.unpack_from(">I", raw, place)
        found.append(raw[place + 4 : place + 4 + length])
        place += 4 + length
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--count", type=int)
    given = parser.parse_args()
    come_first()  # a client on a machine of its own waits for nobody either
    wanted = read_requests()
    print(json.dumps(load(given.port, wanted, given.rate, given.count or len(wanted))))
