"""Appends to and reads from the log, beside a plain SQLite table with one row and one synced commit a record."""

from __future__ import annotations

import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.log import Durability, SqliteLog

VALUE = bytes(1_500)
MANY = 50_000


def latencies(call: Callable[[], object], times: int) -> str:
    taken = []
    cpu = time.process_time()
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / times
    taken.sort()
    return f"{taken[times // 2] * 1e6:9.0f} {taken[times * 99 // 100] * 1e6:9.0f} {cpu * 1e6:9.0f}"


def rate(call: Callable[[], object], records: int) -> str:
    cpu = time.process_time()
    call()
    return f"{records / (time.process_time() - cpu):>29,.0f} records/CPU s"


def plain(folder: Path) -> Callable[[], object]:
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table record (offset integer primary key, key text, value blob, time integer)")
    return lambda: connection.execute("insert into record (key, value, time) values ('k', ?, 0)", (VALUE,))


def submit_many(log: SqliteLog) -> None:
    futures = [log.submit("event", f"k{number % 100}", [VALUE]) for number in range(MANY)]
    for future in futures:
        future.result()


def read_all(log: SqliteLog) -> None:
    offset = 0
    while records := log.read("event", 0, offset, 1_000):
        offset = records[-1].offset + 1


def main() -> None:
    print(f"{platform.platform()}, records of {len(VALUE)} bytes\n")
    print(f"{'one append at a time':<28} {'p50 us':>9} {'p99 us':>9} {'CPU us':>9}")
    with tempfile.TemporaryDirectory(dir=".") as name, SqliteLog(Path(name), SystemClock()) as log:
        for durability in Durability:
            taken = latencies(lambda how=durability: log.append("decision", "k", [VALUE], durability=how), 2_000)
            print(f"{f'log, {durability}':<28} {taken}")
        print(f"{'SQLite row, synced (peer)':<28} {latencies(plain(Path(name)), 2_000)}\n")
        print(f"{'grouped appends':<28} {rate(lambda: submit_many(log), MANY)}")
        print(f"{'read':<28} {rate(lambda: read_all(log), MANY)}")


if __name__ == "__main__":
    main()
