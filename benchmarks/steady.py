"""Charges at a steady rate: single requests, decided by a model, synced; how late answers come and what they cost.

    python benchmarks/steady.py [--seconds 600] [--rate 300] [--workers 1] [--postgres postgresql://user@127.0.0.1/bench]

A worker is a process that serves charges with a model, features and rules, and a log of its own. Requests come at their
times whether earlier ones are answered or not; an answer's time counts from when its request was due, so what waits in
line is not left out. On SQLite every worker has its own file, on PostgreSQL they share the database. At the end
`vedette ledger check` reads the raw rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from charges import payments, prepare
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.errors import VedetteError
from vedette.core.settings import load_settings
from vedette.judge.decisions.parts import Policy
from vedette.judge.decisions.service import settle
from vedette.move.charges import Charges
from vedette.move.ledger.check import check
from vedette.run.platform import Platform
from vedette.run.scoring import load_scoring

CLIENTS = 64
SCHEMA = "money"
STAGES = {"check": "_check", "claim": "_claim_together", "decide": "_decide", "settle": "_settle_together"}


class Stages:
    """CPU of each stage, by the threads that do it."""

    # ruff: noqa: SLF001 - what is measured are the steps inside

    def __init__(self, charges: Charges) -> None:
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        for stage, name in STAGES.items():
            setattr(charges, name, self.timed(stage, getattr(charges, name)))
        charges._claiming._work = charges._claim_together
        charges._settling._work = charges._settle_together
        charges._keys.look = self.timed("look", charges._keys.look)  # type: ignore[method-assign]

    def timed(self, stage: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """`act`, its CPU added to a stage."""

        def run(*arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return act(*arguments)
            finally:
                with self._lock:
                    self.cpu[stage] += time.thread_time() - began

        return run


@contextmanager
def platform(folder: Path, worker: int, postgres: str) -> Iterator[Platform]:
    settings = load_settings(None, {"VEDETTE_HOME": str(folder / f"worker{worker}"), "VEDETTE_TENANT": f"w{worker}"})
    scoring = load_scoring(folder / "model", folder / "rules.txt", None, Policy.OPEN)
    if postgres:
        settings = msgspec.structs.replace(settings, database_url=postgres)
    with Platform(settings, clock=SystemClock(), scoring=scoring) as running:
        running.charges._limits = None  # what is measured must not be the limit of one key
        running.desk.service(settings.tenant)
        settle()
        yield running


def serve(folder: Path, worker: int, postgres: str, rate: float, seconds: float) -> None:
    """One worker: charges at their times; prints what came of it as JSON."""
    requests = payments(4_000)
    with platform(folder, worker, postgres) as running:
        tenant, charges = running.settings.tenant, running.charges
        for n in range(300):
            charges.create(tenant, f"warm-{n}", requests[n])
        stages = Stages(charges)
        took: list[float] = []
        failed: Counter[str] = Counter()
        print("ready", flush=True)
        sys.stdin.readline()
        began, used = time.perf_counter(), time.process_time()

        def one(n: int, due: float) -> None:
            try:
                charges.create(tenant, f"key-{n}", requests[n % len(requests)])
            except VedetteError as error:
                failed[error.code] += 1
            took.append(time.perf_counter() - due)

        rng, due, n = random.Random(worker), began, 0
        with ThreadPoolExecutor(CLIENTS) as pool:
            while due < began + seconds:
                time.sleep(max(0.0, due - time.perf_counter()))
                pool.submit(one, n, due)
                n, due = n + 1, due + rng.expovariate(rate)
        wall, cpu = time.perf_counter() - began, time.process_time() - used
    took.sort()
    cost = {stage: round(spent / n * 1e6) for stage, spent in stages.cpu.items()}
    found = {
        "count": n,
        "wall": wall,
        "cpu_us": round(cpu / n * 1e6),
        "stages_us": {**cost, "rest": round(cpu / n * 1e6) - sum(cost.values())},
        "p50_ms": took[n // 2] * 1e3,
        "p99_ms": took[n * 99 // 100] * 1e3,
        "max_ms": took[-1] * 1e3,
        "failed": dict(failed),
    }
    print(json.dumps(found), flush=True)


def run(folder: Path, postgres: str, rate: float, seconds: float, workers: int) -> None:
    name = "PostgreSQL" if postgres else "SQLite"
    shared = ["--folder", str(folder), "--postgres", postgres, "--rate", str(rate / workers), "--seconds", str(seconds)]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, *shared, "--worker", str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for number in range(workers)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("a worker did not start")
    outs = [None] * workers

    def read(n: int) -> None:
        out, _ = processes[n].communicate("\n")
        outs[n] = json.loads(out)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, found in enumerate(outs):
        assert found is not None
        failed = sum(found["failed"].values())
        print(
            f"{name} worker {number + 1} of {workers}: {found['count']:,} charges,"
            f" {found['count'] / found['wall']:,.0f}/s;"
            f" p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms, max {found['max_ms']:.0f} ms;"
            f" failed {failed} ({failed / found['count']:.4%}) {found['failed'] or ''};"
            f" {found['cpu_us']:,} us CPU each: {found['stages_us']}",
            flush=True,
        )
    targets = [postgres] if postgres else [folder / f"worker{number}" / "money.db" for number in range(workers)]
    for target in targets:
        db = open_database(target, schema=SCHEMA)
        report = check(db)
        db.close()
        print(f"{name} ledger check: {report.transfers:,} transfers, {report.found} problems", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=300.0, help="charges a second, of all workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="one run for each number")
    parser.add_argument("--postgres", default="", help="URL of an empty database; SQLite without it")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if isinstance(given.worker, int):
        serve(given.folder, given.worker, given.postgres, given.rate, given.seconds)
        return
    for workers in given.workers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder)
            run(folder, given.postgres, given.rate, given.seconds, workers)


if __name__ == "__main__":
    main()
