"""Appends a second and verify time against size, beside a plain hash chain in the same table.

    python benchmarks/evidence.py [--records 200000]

The chain is what most audit logs are: each row holds the hash of the row before. It is quicker to write, and it can be
rewritten as a whole by who owns the database. Quotes CPU seconds, and wall seconds where the disk counts.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.db import Database, open_database, sa
from vedette.prove.evidence import Entry, Evidence, FileAnchor, verify
from vedette.prove.keys import KeyRing
from vedette.prove.verifier import Range, hash_leaf

BATCH = 1_000
CHAIN = sa.Table(
    "chain",
    sa.MetaData(),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)


def entries(first: int, count: int) -> list[Entry]:
    body = b'{"action":"allow","score":0.0123,"tenant":"acme","event_id":"%d"}'
    return [Entry(f"decision/0/{i}", "acme", "decision", i, body % i) for i in range(first, first + count)]


def append_chain(db: Database, last: bytes, batch: list[Entry], first: int) -> bytes:
    rows = []
    for i, entry in enumerate(batch):
        last = hashlib.sha256(last + entry.content).digest()
        rows.append({"seq": first + i, "content": entry.content, "hash": last})
    with db.begin() as connection:
        connection.execute(CHAIN.insert(), rows)
    return last


def verify_chain(db: Database) -> None:
    last = b""
    with db.read() as connection:
        for row in connection.execution_options(yield_per=4096).execute(CHAIN.select().order_by(CHAIN.c.seq)):
            last = hashlib.sha256(last + row.content).digest()
            assert last == row.hash


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def line(name: str, count: int, cpu: float, wall: float) -> None:
    print(f"{name:<44}{count:>9}{count / cpu:>16,.0f}{count / wall:>16,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    count = parser.parse_args().records
    print(f"{'':<44}{'records':>9}{'a CPU second':>16}{'a wall second':>16}")
    tree, leaf = Range(), hash_leaf(b"x")
    line("compact range in memory", count, *timed(lambda: [tree.append(leaf) for _ in range(count)]))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        signer = KeyRing(home / "keys", "evidence", "bench.local/evidence").signer()
        anchor = FileAnchor(home / "anchor")
        evidence = Evidence(open_database(home / "state.db"), signer, anchor, SystemClock())

        def fill(first: int, until: int) -> None:
            for start in range(first, until, BATCH):
                evidence.append(entries(start, BATCH))
                evidence.checkpoint()

        for size in (count // 4, count // 2, count):
            before = evidence.size()
            cpu, wall = timed(lambda before=before, size=size: fill(before, size))
            line(f"append + checkpoint by {BATCH}, to {size}", size - before, cpu, wall)
            line("  verify with anchor", size, *timed(lambda: verify(evidence.db, anchor)))
        line("  inclusion proofs", 500, *timed(lambda: [evidence.inclusion(f"decision/0/{i * 7}") for i in range(500)]))
        single = range(count, count + 200)
        line("append one by one (a sync each)", 200, *timed(lambda: [evidence.append(entries(i, 1)) for i in single]))
        chain = open_database(home / "chain.db")
        CHAIN.create(chain.engine)

        def fill_chain() -> None:
            last = b""
            for start in range(0, count, BATCH):
                last = append_chain(chain, last, entries(start, BATCH), start)

        line(f"plain hash chain, append by {BATCH}", count, *timed(fill_chain))
        line("  verify the chain", count, *timed(lambda: verify_chain(chain)))


if __name__ == "__main__":
    main()
