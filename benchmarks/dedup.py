"""Dedup filters: ids a second, beside what is not one.

    python benchmarks/dedup.py [--redis redis://127.0.0.1:6379/0]

A fifth of the ids come again. `set` forgets nothing and grows for ever; it is the floor. Memory rows: CPU time; SQLite
and Redis: wall time, one id after the other, the effect empty.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.redis import Redis
from vedette.move.dedup import RedisDedup, SqlDedup, Window


def stream(count: int) -> list[str]:
    rng = random.Random(1)
    return [f"evt_{rng.randrange(n + 1) if rng.random() < 0.2 else n}" for n in range(count)]


def show(name: str, admit: Callable[[str], object], ids: Sequence[str], clock: Callable[[], float]) -> None:
    start = clock()
    passed = sum(bool(admit(id_)) for id_ in ids)
    print(f"  {name:<40}{len(ids) / (clock() - start):>12,.0f}{passed:>10,} passed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="")
    args = parser.parse_args()
    many, few, clock = stream(300_000), stream(2_000), SystemClock()
    seen: set[str] = set()
    print("ids a second")
    show("set, which never forgets", lambda id_: id_ not in seen and not seen.add(id_), many, time.process_time)
    show("Window", Window(clock).admit, many, time.process_time)
    with tempfile.TemporaryDirectory() as folder:
        window = Window(clock, journal=Path(folder) / "marks")
        show("Window with a journal", window.admit, many, time.process_time)
        window.close()
        db = open_database(Path(folder) / "money.db")
        show("SqlDedup on SQLite, synced", SqlDedup(db, clock).admit, few, time.perf_counter)
        dedup = SqlDedup(db, clock, scope="batch")

        def marked(count: int) -> int:
            with db.begin() as connection:
                return sum(dedup.mark(connection, id_) for id_ in many[:count])

        start = time.perf_counter()
        passed = marked(20_000)
        name = "SqlDedup on SQLite, 20,000 in a commit"
        print(f"  {name:<40}{20_000 / (time.perf_counter() - start):>12,.0f}{passed:>10,} passed")
        db.close()
    if args.redis:
        show(
            "RedisDedup",
            RedisDedup(Redis(args.redis), prefix=f"bench:{time.time_ns()}:").admit,
            stream(5_000),
            time.perf_counter,
        )


if __name__ == "__main__":
    main()
