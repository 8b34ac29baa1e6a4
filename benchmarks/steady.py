"""Charges over HTTP at a steady rate: how late answers come, what each costs by step, what the ledger holds afterwards.

    python benchmarks/charges.py --minutes 10 [--workers 1 2] [--postgres postgresql://user@127.0.0.1/bench]

Requests are sent at fixed times whatever came back (`load.py`, a process of its own on the same machine), and an
answer's time counts from when its request was due, so what waits in line is not left out. A worker is a served process
with a model, features, rules and a log (`charging.py`), what follows its log runs beside it. On SQLite every worker has
its own file, on PostgreSQL they are services that share the database, and one executes the runs. Every charge is
decided, held, captured and synced before its answer. At the end the raw rows of the ledger are checked, and as many
charges must be there as were answered.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shop import cpu_of, payments, prepare
from vedette.core.db import open_database
from vedette.move.ledger.check import check

PORT = 8832
SCHEMA = "money"
RATES = {"SQLite": 300.0, "PostgreSQL": 250.0}
LIMIT_MS, LIMIT_FAILED = 100.0, 0.0001
VARIETY = 4_000
WARM_S = 5.0
HERE = Path(__file__).parent


class Worker:
    """A served process, and what follows its log."""

    def __init__(self, number: int, folder: Path, postgres: str) -> None:
        self.tenant, self.port = f"worker{number}", PORT + number
        self.home = folder / self.tenant
        shared = ["--home", str(self.home), "--tenant", self.tenant, "--postgres", postgres]
        own = ["--port", str(self.port), "--model", str(folder / "model"), "--rules", str(folder / "rules.txt")]
        command = [sys.executable, str(HERE / "charging.py"), *shared]
        self.server = subprocess.Popen([*command, *own], stdout=subprocess.PIPE, text=True)
        self.keys: list[str] = self.read()["keys"]
        self.follower = subprocess.Popen([*command, "--follow"])

    def read(self) -> dict[str, Any]:
        """The next line that the server prints."""
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        if not line:
            raise SystemExit("a worker ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def spent(self) -> dict[str, Any]:
        """CPU so far."""
        self.server.send_signal(signal.SIGUSR1)
        return self.read() | {"follower": cpu_of(self.follower.pid)}

    def requests(self, mark: str) -> bytes:
        """Requests as `load.py` reads them; it numbers them, so no key comes twice."""
        parts = []
        for number, wanted in enumerate(payments(VARIETY)):
            body = json.dumps(wanted).encode()
            head = (
                f"POST /v1/charges HTTP/1.1\r\nhost: localhost\r\n"
                f"authorization: Bearer {self.keys[number % len(self.keys)]}\r\nidempotency-key: {mark}-########\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            ).encode()
            parts.append(struct.pack(">I", len(head) + len(body)) + head + body)
        return b"".join(parts)

    def load(self, mark: str, rate: float, seconds: float) -> dict[str, Any]:
        """One run of the load generator."""
        sent = ["--rate", str(rate), "--count", str(round(rate * seconds))]
        command = [sys.executable, str(HERE / "load.py"), str(self.port), *sent]
        done = subprocess.run(command, input=self.requests(mark), capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def stop(self) -> None:
        """Ends both processes."""
        for process in (self.server, self.follower):
            process.terminate()
        for process in (self.server, self.follower):
            process.wait(60)


@contextlib.contextmanager
def working(count: int, folder: Path, postgres: str) -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    try:
        workers.extend(Worker(number, folder, postgres) for number in range(count))
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def side_by_side(workers: list[Worker], mark: str, rate: float, seconds: float) -> list[dict[str, Any]]:
    """Loads all workers at once, each with its part of the rate."""
    found: list[dict[str, Any]] = [{} for _ in workers]

    def run(place: int) -> None:
        found[place] = workers[place].load(mark, rate / len(workers), seconds)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def less(after: dict[str, float], before: dict[str, float]) -> Counter[str]:
    return Counter({name: spent - before.get(name, 0.0) for name, spent in after.items()})


def steady(folder: Path, postgres: str, rate: float, seconds: float, count: int) -> bool:
    """One run; whether it holds the limits."""
    name = "PostgreSQL" if postgres else "SQLite"
    with working(count, folder, postgres) as workers:
        side_by_side(workers, "warm", min(rate, 200.0), WARM_S)
        before = [worker.spent() for worker in workers]
        began = time.perf_counter()
        runs = side_by_side(workers, "key", rate, seconds)
        wall = time.perf_counter() - began
        after = [worker.spent() for worker in workers]
    good = True
    made = Counter[str]()
    for place, (was, run, now) in enumerate(zip(before, runs, after, strict=True)):
        good &= show(f"{name}, worker {place + 1} of {count}", run, wall, was, now)
        made[f"worker{place}"] = run["statuses"].get("201", 0) + round(min(rate, 200.0) / count * WARM_S)
    targets = [postgres] if postgres else [folder / worker / "money.db" for worker in made]
    for target in targets:
        good &= clean(name, target, sum(made.values()) if postgres else made[Path(target).parent.name])
    return good


def show(title: str, run: dict[str, Any], wall: float, was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Prints what a worker did; whether it holds the limits."""
    sent = run["sent"]
    failed = sent - run["statuses"].get("201", 0)
    late = ", ".join(f"{name} {run[name]:.1f} ms" for name in ("p50", "p99", "p99.9", "max"))
    by_policy = sum(less(now["fallbacks"], was["fallbacks"]).values())
    print(f"{title}: {sent:,} charges, {sent / wall:,.0f}/s for {wall:.0f} s; {late}")
    print(f"    failed {failed} ({failed / sent:.4%}) {run['statuses'] if failed else ''}; by policy {by_policy:.0f}")
    each = 1e6 / sent
    steps = less(now["steps"], was["steps"])
    threads = less(now["threads"], was["threads"])
    whole = now["all"] - was["all"]
    told = {f"  {step}": spent for step, spent in steps.most_common()}
    other = {"MainThread": "read requests, prove keys, write answers", "decisions": "decide: features, model, record"}
    line = threads.pop("charges", 0.0)
    rows = {"make charges (one thread)": line, **told, "  between the steps": line - sum(steps.values())}
    rows |= {other.get(thread, f"thread {thread}"): spent for thread, spent in threads.most_common(6)}
    rows |= {"the worker": whole, "what follows the log, beside it": now["follower"] - was["follower"]}
    for row, spent in rows.items():
        print(f"    {row:<44}{spent * each:>8,.0f} us CPU a charge")
    print(f"    {'of one processor':<44}{whole / wall:>8.0%}", flush=True)
    return bool(failed <= LIMIT_FAILED * sent and run["p99"] < LIMIT_MS)


def clean(name: str, target: Path | str, wanted: int) -> bool:
    """Whether the raw rows hold together, and every charge that was answered."""
    db = open_database(target, schema=SCHEMA)
    report = check(db)
    with db.read() as connection:
        held = connection.exec_driver_sql("select count(*) from charge").scalar_one()
    db.close()
    print(
        f"    {name} ledger check: {report.transfers:,} transfers, {report.found} problems;"
        f" {held:,} charges for {wanted:,} answers",
        flush=True,
    )
    return report.found == 0 and held == wanted


def run(seconds: float, postgres: str, workers: list[int], rate: float | None) -> bool:
    """Every run that was asked for; whether all hold the limits."""
    good = True
    for name, url in {"SQLite": "", **({"PostgreSQL": postgres} if postgres else {})}.items():
        for count in workers:
            with tempfile.TemporaryDirectory() as folder:
                prepare(Path(folder))
                if url:
                    forget(url)
                good &= steady(Path(folder), url, rate or RATES[name], seconds, count)
    return good


def forget(url: str) -> None:
    """Drops what an earlier run left in the database."""
    db = open_database(url)
    with db.begin() as connection:
        query = "select nspname from pg_namespace where nspname ~ '^(money|intel|runs|state(_.*)?)$'"
        for schema in connection.exec_driver_sql(query).scalars().all():
            connection.exec_driver_sql(f"drop schema {schema} cascade")
    db.close()
