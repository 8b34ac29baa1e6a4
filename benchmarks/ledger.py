"""Transfers per second of the ledger, full semantics, every commit synced, beside what is bare or naive.

    python benchmarks/ledger.py [--seconds 6] [--postgres postgresql://user@127.0.0.1:5432/bench]

*Bare* is the least a database can be asked for: COPY of the same transfer rows into a table of the same columns and
indexes, and one UPDATE of the balances they change: no look at the ids, no limits, no statuses. It takes turns with the
ledger, batch by batch, so that both see the same machine. *Plain* is the same with the primary key as its only index.

*Naive* is one transaction a transfer, of 32 clients with a connection each: lock both accounts in id order and read
them, check currency and limits, insert unless the id is there, update both balances, commit. On PostgreSQL its tables
have the ledger's columns and indexes; on SQLite fewer, and the write lock is what locks. It knows neither two phases
nor chains, and of a repeat only that it is one. Single transfers of 32 clients of the ledger share commits.

*Insert* is the floor of a transaction a transfer: one INSERT into a table of four columns, committed by itself.

Uniform: 1,000 accounts; hot: every transfer credits one.
"""

from __future__ import annotations

import argparse
import platform
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from vedette.core.clock import SystemClock
from vedette.core.db import Database, copy_in, open_database
from vedette.move.ledger import Account, Ledger, Ledgers, Transfer
from vedette.move.ledger.check import check
from vedette.move.ledger.rows import TRANSFER

ACCOUNTS = 1_000
CLIENTS = 32
SCHEMA = "bench_ledger"
LOADS = ("uniform", "hot")
BALANCES = (
    "update {table} a set debits_posted = a.debits_posted + v.d, credits_posted = a.credits_posted + v.c, touched = %s"
    " from unnest(%s::numeric[], %s::numeric[], %s::numeric[]) as v(id, d, c) where a.id = v.id and a.tenant = 'bench'"
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


class Clocked:
    """Adds up the time and the CPU of what takes turns."""

    def __init__(self, act: Callable[[list[Transfer]], object]) -> None:
        self.act = act
        self.took: list[float] = []
        self.cpu = 0.0
        self.count = 0

    def __call__(self, rows: list[Transfer]) -> None:
        """One turn."""
        wall, used = time.perf_counter(), time.process_time()
        self.act(rows)
        self.took.append(time.perf_counter() - wall)
        self.cpu += time.process_time() - used
        self.count += len(rows)

    @property
    def rate(self) -> float:
        """Transfers a second."""
        return self.count / sum(self.took)


def show(where: str, load: str, what: str, rate: float, note: str = "") -> None:
    print(f"{where:<11}{load:<9}{what:<38}{rate:>11,.0f}  {note}", flush=True)


def detail(one: Clocked) -> str:
    took = sorted(one.took)
    p50, p99 = took[len(took) // 2] * 1e3, took[min(len(took) - 1, len(took) * 99 // 100)] * 1e3
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms a call; {one.cpu / one.count * 1e6:.1f} us CPU each"


def post(ledger: Ledger, rows: list[Transfer]) -> None:
    statuses = set(ledger.create_transfers(rows))
    if statuses != {"created"}:
        raise SystemExit(f"refused: {statuses}")


def bare(db: Database, kind: str, rows: list[Transfer]) -> None:
    debits: dict[int, int] = dict.fromkeys((a for t in rows for a in (t.debit_account_id, t.credit_account_id)), 0)
    credited = dict(debits)
    now = time.time_ns()
    for t in rows:
        debits[t.debit_account_id] += t.amount
        credited[t.credit_account_id] += t.amount
    ids = sorted(debits)
    arrays = ["{" + ",".join(map(str, some)) + "}" for some in (ids, map(debits.get, ids), map(credited.get, ids))]
    lines = [
        f"bench\t{t.id}\t{t.debit_account_id}\t{t.credit_account_id}\t{t.amount}\t\\N\t0\t0\t0\t0\t{t.ledger}\t{t.code}"
        f"\t0\t{now + n}\n"
        for n, t in enumerate(rows)
    ]
    with db.begin() as connection:
        copy_in(connection, f"copy {kind}_transfer (tenant, {TRANSFER}) from stdin", "".join(lines))
        connection.exec_driver_sql(BALANCES.format(table=f"{kind}_account"), (now, *arrays))


def make_bare(db: Database) -> None:
    with db.begin() as connection:
        for table in ("transfer", "account"):
            connection.exec_driver_sql(f"create table bare_{table} (like ledger_{table} including indexes)")
            connection.exec_driver_sql(f"create table plain_{table} (like ledger_{table})")
            connection.exec_driver_sql(f"alter table plain_{table} add primary key (id, tenant)")
        for kind in ("bare", "plain"):
            connection.exec_driver_sql(f"insert into {kind}_account select * from ledger_account")
            connection.exec_driver_sql(f"alter table {kind}_account set (fillfactor = 50)")


def batches(name: str, db: Database, ledger: Ledger, seconds: float, sizes: Sequence[int]) -> None:
    for load in LOADS:
        for size in sizes:
            source = transfers(random.Random(f"{load}{size}"), hot=load == "hot")
            mine = Clocked(partial(post, ledger))
            peers = {} if db.is_sqlite else {kind: Clocked(partial(bare, db, kind)) for kind in ("bare", "plain")}
            while sum(mine.took) < seconds:
                rows = [next(source) for _ in range(size)]
                for act in (mine, *peers.values()):
                    act(rows)
            show(name, load, f"ledger, batches of {size:,}", mine.rate, detail(mine))
            for kind, peer in peers.items():
                note = f"the ledger reaches {mine.rate / peer.rate:.0%}; {peer.cpu / peer.count * 1e6:.1f} us CPU each"
                show(name, load, f"{kind} COPY + balances of {size:,}", peer.rate, note)


def together(clients: int, seconds: float, make: Callable[[int], Callable[[Transfer], None]], *, hot: bool) -> float:
    """Single transfers a second of that many clients, each waiting for its answer."""
    done, stop, start = [0] * clients, threading.Event(), threading.Barrier(clients + 1)

    def run(n: int) -> None:
        act, source = make(n), transfers(random.Random(f"{n}{hot}"), hot=hot)
        start.wait()
        while not stop.is_set():
            act(next(source))
            done[n] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def allowed(t: Transfer, debit: Sequence[int], credit: Sequence[int]) -> bool:
    """By currency and limits, from rows of ledger, flags and the four balances."""
    return (
        debit[0] == credit[0] == t.ledger
        and not (debit[1] & 2 and debit[2] + debit[3] + t.amount > debit[5])
        and not (credit[1] & 4 and credit[4] + credit[5] + t.amount > credit[3])
    )


WORKING = "id, ledger, flags, debits_pending, debits_posted, credits_pending, credits_posted"


def naive_postgres(url: str) -> Callable[[int], Callable[[Transfer], None]]:
    lock = (
        f"select {WORKING} from naive_account where id = any(%s::numeric[]) and tenant = 'bench' order by id for update"
    )
    add = f"insert into naive_transfer (tenant, {TRANSFER}) values ('bench'{', %s' * 13}) on conflict do nothing"
    update = (
        "update naive_account set {0}_posted = {0}_posted + %s, touched = %s"
        " where id = %s::numeric and tenant = 'bench'"
    )

    def make(_n: int) -> Callable[[Transfer], None]:
        connection = psycopg.connect(url, options=f"-csearch_path={SCHEMA}")

        def act(t: Transfer) -> None:
            # In id order, or two transfers in opposite directions would wait for each other.
            ids = [t.debit_account_id, t.credit_account_id]
            held = {row[0]: row[1:] for row in connection.execute(lock, (ids,))}
            if not allowed(t, held[t.debit_account_id], held[t.credit_account_id]):
                raise SystemExit("refused by the naive way")
            now = time.time_ns()
            row = (t.id, *ids, t.amount, None, 0, 0, 0, 0, t.ledger, t.code, 0, now)
            if connection.execute(add, row).rowcount != 1:
                raise SystemExit("the naive way has this id")
            connection.execute(update.format("debits"), (t.amount, now, t.debit_account_id))
            connection.execute(update.format("credits"), (t.amount, now, t.credit_account_id))
            connection.commit()

        return act

    return make


def inserts_postgres(url: str) -> Callable[[int], Callable[[Transfer], None]]:
    def make(_n: int) -> Callable[[Transfer], None]:
        connection = psycopg.connect(url, options=f"-csearch_path={SCHEMA}", autocommit=True)

        def act(t: Transfer) -> None:
            row = (t.id, t.debit_account_id, t.credit_account_id, t.amount)
            connection.execute("insert into single_transfer values (%s, %s, %s, %s) on conflict do nothing", row)

        return act

    return make


def naive_sqlite(path: Path) -> Callable[[int], Callable[[Transfer], None]]:
    def make(_n: int) -> Callable[[Transfer], None]:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
        connection.execute("pragma synchronous=full")

        def act(t: Transfer) -> None:
            ids = (t.debit_account_id, t.credit_account_id)
            connection.execute("begin immediate")
            query = f"select {WORKING} from naive_account where id in (?, ?)"
            held = {row[0]: row[1:] for row in connection.execute(query, ids)}
            if not allowed(t, held[ids[0]], held[ids[1]]):
                raise SystemExit("refused by the naive way")
            row = (t.id.to_bytes(16, "big"), *ids, t.amount)
            if connection.execute("insert or ignore into naive_transfer values (?, ?, ?, ?)", row).rowcount != 1:
                raise SystemExit("the naive way has this id")
            for column, id_ in zip(("debits", "credits"), ids, strict=True):
                statement = f"update naive_account set {column}_posted = {column}_posted + ? where id = ?"
                connection.execute(statement, (t.amount, id_))
            connection.execute("commit")

        return act

    return make


def make_naive(db: Database) -> None:
    with db.begin() as connection:
        if db.is_sqlite:
            columns = WORKING.replace("id,", "id integer primary key,", 1)
            connection.exec_driver_sql(f"create table naive_account ({columns})")
            connection.exec_driver_sql("create table naive_transfer (id blob primary key, debit, credit, amount)")
            values = ", ".join(f"({n + 1}, 978, 0, 0, 0, 0, 0)" for n in range(ACCOUNTS))
            connection.exec_driver_sql(f"insert into naive_account values {values}")
            return
        connection.exec_driver_sql(
            "create table single_transfer (id numeric(39) primary key, debit bigint, credit bigint, amount bigint)"
        )
        for table in ("transfer", "account"):
            connection.exec_driver_sql(f"create table naive_{table} (like ledger_{table} including indexes)")
        connection.exec_driver_sql("alter table naive_account set (fillfactor = 50)")
        connection.exec_driver_sql(
            "insert into naive_account select tenant, id, ledger, code, flags, user_data_128, user_data_64,"
            " user_data_32, 0, 0, 0, 0, timestamp, touched from ledger_account"
        )


Clients = Callable[[int], Callable[[Transfer], Any]]


def singles(name: str, ledger: Ledger, seconds: float, naive: Clients, inserts: Clients | None) -> None:
    make_naive(ledger.db)
    for load in LOADS:
        hot = load == "hot"
        mine = together(CLIENTS, seconds, lambda _n: lambda t: post(ledger, [t]), hot=hot)
        theirs = together(CLIENTS, seconds, naive, hot=hot)
        show(name, load, f"ledger, {CLIENTS} clients, one each", mine, f"{mine / theirs:.1f} times the naive way")
        show(name, load, f"naive,  {CLIENTS} clients, one each", theirs)
    if inserts is not None:
        show(name, "", f"insert, {CLIENTS} clients, one each", together(CLIENTS, seconds, inserts, hot=False))


def run(
    name: str,
    db: Database,
    seconds: float,
    sizes: Sequence[int],
    peers: tuple[Clients, Clients | None],
) -> None:
    ledger = Ledger(Ledgers(db, SystemClock()), "bench")
    ledger.create_accounts([Account(id=n + 1, ledger=978, code=1) for n in range(ACCOUNTS)])
    if not db.is_sqlite:
        make_bare(db)
    batches(name, db, ledger, seconds, sizes)
    singles(name, ledger, seconds, *peers)
    report = check(db)
    print(f"{name:<11}checked {report.transfers:,} transfers: {report.found} problems", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each line")
    parser.add_argument("--postgres", default="", help=f"URL of a server; its schema `{SCHEMA}` is dropped")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 8_000], help="transfers of a batch")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; every commit waits for the disk")
    print(f"{'database':<11}{'load':<9}{'what':<38}{'transfers/s':>11}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "money.db"
        db = open_database(path)
        run("SQLite", db, options.seconds, options.sizes, (naive_sqlite(path), None))
        db.close()
    if options.postgres:
        db = open_database(options.postgres, schema=SCHEMA)
        with db.begin() as connection:
            connection.exec_driver_sql(f"drop schema {SCHEMA} cascade")
            connection.exec_driver_sql(f"create schema {SCHEMA}")
        run(
            "PostgreSQL",
            db,
            options.seconds,
            options.sizes,
            (naive_postgres(options.postgres), inserts_postgres(options.postgres)),
        )
        db.close()


if __name__ == "__main__":
    main()
