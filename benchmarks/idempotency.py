"""First writes and replays a second of idempotency keys, beside a bare INSERT of the same row.

    python benchmarks/idempotency.py [--seconds 4] [--connections 32] [--postgres postgresql://user@127.0.0.1:5432/bench]

The connections belong to several processes, as those of a service do: in one of them Python's lock would be measured.

A first write claims a key and stores its answer: `once` in one synced transaction with the effect, *two steps* as a
request does that works between them, claim `written`, answer synced. A replay asks for a stored answer. *Bare* inserts
the same finished row with `on conflict do nothing` and commits.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psycopg

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.move.idempotency import Answer, Claim, Idempotency, Request, to_answer

SCHEMA = "bench_idempotency"
ANSWER = {"id": "ch_1234567890", "status": "captured", "amount_minor": 1999, "currency": "EUR", "metadata": {}}
COLUMNS = (
    "tenant, key, operation, fingerprint, resource, point, fence, lease_until, created, expires, context, status, body"
)
BARE = f"insert into bare ({COLUMNS}) values ({', '.join(['%s'] * 13)}) on conflict do nothing"


def request(key: str) -> Request:
    return Request("bench", key, "POST /v1/charges", {"amount_minor": 1999, "currency": "EUR", "source": "tok_visa"})


def together(connections: int, seconds: float, act: Callable[[int], object], first: int) -> tuple[int, float, float]:
    """Calls, how long they took, and CPU of this process; numbered from `first`."""
    numbers, done, stop = itertools.count(first), [0] * connections, threading.Event()
    start = threading.Barrier(connections + 1)

    def run(thread: int) -> None:
        start.wait()
        while not stop.is_set():
            act(next(numbers))
            done[thread] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(connections)]
    for thread in threads:
        thread.start()
    start.wait()
    began, used = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(done), time.perf_counter() - began, time.process_time() - used


def part(target: str, what: str, connections: int, seconds: float, first: int) -> tuple[int, float, float]:
    """What one process does."""
    db = open_database(target, schema=SCHEMA, pool=connections)
    keys = Idempotency(db, SystemClock(), b"a secret of the benchmark")
    row = to_answer(201, ANSWER).body

    def bare(n: int) -> None:
        values = ("bench", f"key-{n}", "POST /v1/charges", b"f" * 32, f"ch_{n}", "", 1, 0, n, n, b"{}", 201, row)
        with db.begin() as connection:
            connection.exec_driver_sql(BARE.replace("%s", "?") if db.is_sqlite else BARE, values)

    def once(n: int) -> None:
        keys.once(request(f"one-{n}"), f"ch_{n}", lambda _connection, _claim: to_answer(201, ANSWER))

    def steps(n: int) -> None:
        claim = db.together(lambda connection: keys.claim(connection, request(f"two-{n}"), f"ch_{n}"), synced=False)
        if not isinstance(claim, Claim):
            raise SystemExit("the key is taken")
        db.together(lambda connection: keys.finish(connection, claim, to_answer(201, ANSWER)))

    def replay(n: int) -> None:
        if not isinstance(keys.stored(request(f"one-{first + n % 100}")), Answer):
            raise SystemExit("the answer is not there")

    acts = {"bare INSERT": bare, "once": once, "two steps": steps, "replay": replay}
    for n in range(connections if what == "replay" else 0):
        acts[what](n)
    try:
        return together(connections, seconds, acts[what], first)
    finally:
        db.close()


def run(name: str, target: str, seconds: float, connections: int, processes: int) -> None:
    db = open_database(target, schema=SCHEMA)
    Idempotency(db, SystemClock(), b"a secret of the benchmark")
    with db.begin() as connection:
        connection.exec_driver_sql("create table bare as select * from idempotency where 1 = 0")
        connection.exec_driver_sql("create unique index bare_key on bare (tenant, key)")
        connection.exec_driver_sql("create index bare_expires on bare (expires)")
    db.close()
    found: dict[str, float] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for what in ("bare INSERT", "once", "two steps", "replay"):
            asked = [
                pool.submit(part, target, what, connections // processes, seconds, number * 10**7)
                for number in range(processes)
            ]
            parts = [one.result() for one in asked]
            count = sum(one[0] for one in parts)
            found[what] = sum(calls / wall for calls, wall, _ in parts)
            share = f"{found[what] / found['bare INSERT']:.0%} of bare" if what in ("once", "two steps") else ""
            cpu = sum(one[2] for one in parts) / count * 1e6
            print(f"{name:<12}{what:<14}{found[what]:>10,.0f}{cpu:>12,.0f}  {share}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each line")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--postgres", default="", help=f"URL of a server; its schema `{SCHEMA}` is dropped")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; {options.connections} connections")
    print(f"{'database':<12}{'what':<14}{'a second':>10}{'CPU us':>12}")
    with tempfile.TemporaryDirectory() as folder:
        run("SQLite", str(Path(folder) / "money.db"), options.seconds, options.connections, options.processes)
    if options.postgres:
        with psycopg.connect(options.postgres, autocommit=True) as connection:
            connection.execute(f"drop schema if exists {SCHEMA} cascade")
        run("PostgreSQL", options.postgres, options.seconds, options.connections, options.processes)


if __name__ == "__main__":
    main()
