"""Transfers per second of the ledger, beside the naive way: one row-locking transaction a transfer.

    python benchmarks/ledger.py [--seconds 4] [--postgres postgresql://user@127.0.0.1:5432/bench]

Both sides keep the same four balances and the same transfer rows, durably (fsync at every commit). The naive side
checks neither limits nor idempotency, which flatters it. Uniform: 1,000 accounts; hot: every transfer credits one.
"""

from __future__ import annotations

import argparse
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.db import Database, open_database, sa
from vedette.move.ledger.check import check
from vedette.move.ledger.ledger import Ledger
from vedette.move.ledger.nouns import Account, Transfer, TransferStatus
from vedette.move.ledger.numbers import Unsigned

ACCOUNTS = 1_000
_METADATA = sa.MetaData()
NAIVE_ACCOUNT = sa.Table(
    "naive_account",
    _METADATA,
    sa.Column("id", Unsigned(16), primary_key=True),
    sa.Column("debits", Unsigned(16), nullable=False),
    sa.Column("credits", Unsigned(16), nullable=False),
)
NAIVE_TRANSFER = sa.Table(
    "naive_transfer",
    _METADATA,
    sa.Column("id", Unsigned(16), primary_key=True),
    sa.Column("debit", Unsigned(16), nullable=False),
    sa.Column("credit", Unsigned(16), nullable=False),
    sa.Column("amount", Unsigned(16), nullable=False),
)


def transfers(rng: random.Random, *, hot: bool) -> Iterator[Transfer]:
    while True:
        debit, credit = rng.sample(range(1, ACCOUNTS + 1), 2)
        yield Transfer(
            id=rng.getrandbits(127) + 1,
            debit_account_id=debit if not hot or debit > 1 else 2,
            credit_account_id=1 if hot else credit,
            amount=rng.randrange(1, 100_000),
            ledger=978,
            code=1,
        )


def naive(db: Database, transfer: Transfer) -> None:
    with db.begin() as connection:
        for side, id_ in (("debits", transfer.debit_account_id), ("credits", transfer.credit_account_id)):
            at = NAIVE_ACCOUNT.c.id == id_
            query = sa.select(NAIVE_ACCOUNT.c[side]).where(at).with_for_update()
            held = connection.execute(query).scalar_one()
            connection.execute(NAIVE_ACCOUNT.update().where(at).values({side: held + transfer.amount}))
        connection.execute(
            NAIVE_TRANSFER.insert().values(
                id=transfer.id,
                debit=transfer.debit_account_id,
                credit=transfer.credit_account_id,
                amount=transfer.amount,
            )
        )


def measure(act: Callable[[list[Transfer]], object], batch: int, source: Iterator[Transfer], seconds: float) -> str:
    """Rate, latency of one call and CPU of `seconds` of calls; making the input is not measured."""
    took: list[float] = []
    cpu = 0.0
    while sum(took) < seconds:
        rows = [next(source) for _ in range(batch)]
        wall, used = time.perf_counter(), time.process_time()
        act(rows)
        took.append(time.perf_counter() - wall)
        cpu += time.process_time() - used
    took.sort()
    count = batch * len(took)
    p50, p99 = took[len(took) // 2] * 1e3, took[min(len(took) - 1, len(took) * 99 // 100)] * 1e3
    return f"{count / sum(took):>12,.0f} {p50:>9.2f} {p99:>9.2f} {cpu / count * 1e6:>14.1f}"


def run(name: str, db: Database, seconds: float) -> None:
    ledger = Ledger(db, SystemClock())
    ledger.create_accounts("bench", [Account(id=n + 1, ledger=978, code=1) for n in range(ACCOUNTS)])
    with db.begin() as connection:
        _METADATA.create_all(connection)
        connection.execute(NAIVE_ACCOUNT.insert(), [{"id": n + 1, "debits": 0, "credits": 0} for n in range(ACCOUNTS)])

    def post(rows: list[Transfer]) -> None:
        statuses = ledger.create_transfers("bench", rows)
        if set(statuses) != {TransferStatus.CREATED}:
            raise SystemExit(f"refused: {set(statuses)}")

    for load in ("uniform", "hot"):
        source = transfers(random.Random(load), hot=load == "hot")
        for batch in (1, 100, 8_000):
            print(f"{name:<11}{load:<9}ledger, {batch:>5} a call {measure(post, batch, source, seconds)}")
        print(f"{name:<11}{load:<9}naive,      1 a call {measure(lambda rows: naive(db, rows[0]), 1, source, seconds)}")
    report = check(db)
    print(f"{name:<11}checked {report.transfers:,} transfers: {report.found} problems")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each line")
    parser.add_argument("--postgres", default="", help="URL of a server; its schema `bench_ledger` is dropped")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}")
    print(f"{'database':<11}{'load':<9}{'what':<21}{'transfers/s':>12} {'p50 ms':>9} {'p99 ms':>9} {'CPU us each':>14}")
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(Path(folder) / "money.db")
        run("SQLite", db, options.seconds)
        db.close()
    if options.postgres:
        db = open_database(options.postgres, schema="bench_ledger")
        with db.begin() as connection:
            connection.exec_driver_sql("drop schema bench_ledger cascade")
            connection.exec_driver_sql("create schema bench_ledger")
        run("PostgreSQL", db, options.seconds)
        db.close()


if __name__ == "__main__":
    main()
