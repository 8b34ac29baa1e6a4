"""Latency of one decision in one process: features, rules, model, record `written`. No peer publishes such a number.

    python benchmarks/decide.py [--events FILE] [--model DIR] [--decisions N] [--warm N]

Closed loop, one decision at a time: each waits for two commits, that of its event and that of its decision. Without
--events it takes the shared transactions when they are there, else generates seeded ones; without --model it trains one
on a part of them. A duplicate, an unkilled restart and a rebuild are checked on the way, so a fast wrong answer fails.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vedette.core.clock import SystemClock
from vedette.core.decision import Decision
from vedette.core.event import Event
from vedette.judge.decisions.files import read_rows
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.opening import open_books
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.decisions.recorder import Wanted
from vedette.judge.decisions.service import settle
from vedette.judge.models.model import Model, load_model
from vedette.judge.models.training import train
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.sense.features.definition import load_features, shipped
from vedette.sense.features.table import read_table
from vedette.sense.sources import load_sources

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
CONDITIONS = (
    ":amount_in_usd: > {n}",
    "::terminal:: in ('{n}', '7{n}') and :amount_in_usd: >= 5",
    ":customer_count_1h: > {n} or :terminal_count_1d: > {n}00",
    "not :customer: in ('{n}') and :risk_score: > {n} and not is_missing(:customer_mean_7d:)",
)


def fifty_rules(names: tuple[str, ...]) -> PaymentRules:
    table = with_features(names)
    texts = [f"review if {CONDITIONS[n % 4].format(n=20 + n)}" for n in range(50)]
    return PaymentRules([parse_rule(text, attributes=table) for text in texts])


def generate(path: Path, count: int) -> None:
    """Seeded transactions of 5,000 customers and 10,000 terminals, one in 120 of them fraud."""
    rng = random.Random(11)
    start = datetime(2018, 4, 1, tzinfo=UTC).replace(tzinfo=None)
    seconds = np.cumsum([rng.expovariate(1 / 9) for _ in range(count)])
    rows = {
        "TRANSACTION_ID": list(range(count)),
        "TX_DATETIME": [start + timedelta(seconds=float(value)) for value in seconds],
        "CUSTOMER_ID": [int(5_000 * rng.random() ** 1.5) for _ in range(count)],
        "TERMINAL_ID": [rng.randrange(10_000) for _ in range(count)],
        "TX_AMOUNT": [round(rng.lognormvariate(3.6, 0.8), 2) for _ in range(count)],
    }
    rows["TX_FRAUD"] = [int(rng.random() < (0.5 if amount > 300 else 0.005)) for amount in rows["TX_AMOUNT"]]
    pq.write_table(pa.table(rows), path)


def trained(events: Path, folder: Path) -> Model:
    features = load_features(shipped("card_transactions"))
    table = read_table([events], features)
    day = 86_400_000_000
    first = int(pa.compute.min(table["TX_DATETIME"]).cast(pa.int64()).as_py()) // day
    part = table.slice(0, min(len(table), 300_000))
    return train(part, features, start=first + 14, days=7, delay_days=7, out=folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--warm", type=int, default=100_000, help="events decided in groups before, for warm windows")
    parser.add_argument("--folder", type=Path, help="where the log lies; a real disk, or the answer means little")
    parser.add_argument("--keep-gc", action="store_true", help="leave the garbage collector as Python sets it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run(options, Path(folder))


def run(options: Any, folder: Path) -> None:
    events = options.events or SHARED / "fraud" / "card_transactions.parquet"
    if not events.exists():
        events = folder / "generated.parquet"
        generate(events, options.decisions + options.warm)
    model = load_model(options.model) if options.model else trained(events, folder / "model")
    rules = fifty_rules(model.features)
    stream = events_of(events)
    opened = {"features": model.feature_set, "model": model, "rules": rules, "clock": SystemClock()}
    books = open_books(folder / "books", **opened)
    while group := list(islice(stream, min(256, options.warm - books.log.end("event", 0)))):
        books.recorder.decide_many([Wanted(event) for event in group])
    todo = list(islice(stream, options.decisions))
    if not options.keep_gc:
        settle()
    collections = [stat["collections"] for stat in gc.get_stats()]
    control = alone(books.recorder.decider, todo[: min(len(todo), 10_000)])
    took = np.empty(len(todo))
    cpu, started = time.process_time(), time.perf_counter()
    last: Decision | None = None
    for place, event in enumerate(todo):
        at = time.perf_counter_ns()
        last = books.recorder.decide(event)
        took[place] = time.perf_counter_ns() - at
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    runs = [stat["collections"] - before for stat, before in zip(gc.get_stats(), collections, strict=True)]
    check(books, todo, last, model, rules)
    checksum = books.engine.checksum() if books.engine else ""
    books.close()
    again = open_books(folder / "books", **opened)
    assert again.recorder.recovered == 0
    assert again.engine is not None
    assert again.engine.checksum() == checksum
    again.close()
    what = f"{events.name}: {len(model.features)} features, {len(rules.rules)} rules"
    show(took / 1e6, control / 1e6, wall=wall, cpu=cpu, runs=runs, what=what)


def alone(decider: Any, events: list[Event]) -> Any:
    """The same decisions without a log: one thread that never waits, so its tail is the machine's scheduler."""
    took = np.empty(len(events))
    for place, event in enumerate(events):
        at = time.perf_counter_ns()
        decider.decide(event)
        took[place] = time.perf_counter_ns() - at
    return took


def events_of(path: Path) -> Iterator[Event]:
    source = load_sources()["card_transactions"]
    clock = SystemClock()
    for row in read_rows(path, source):
        yield to_event(row.data, source, tenant="default", ingest_time=clock.now())


def check(books: Any, todo: list[Event], last: Decision | None, model: Model, rules: PaymentRules) -> None:
    assert last is not None
    assert books.recorder.decide(todo[-1]) == last
    assert rebuild(last, model=model, rules=rules) == last


def show(took: Any, control: Any, *, wall: float, cpu: float, runs: list[int], what: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{len(took):,} decisions of {what}; milliseconds")
    print(f"{'':24}{'p50':>8} {'p90':>8} {'p99':>8} {'p99.9':>8} {'max':>8}")
    for name, values in (("record written", took), ("control: nothing written", control)):
        row = np.percentile(values, [50, 90, 99, 99.9, 100])
        print(f"{name:24}" + " ".join(f"{value:8.3f}" for value in row))
    print(f"CPU {cpu:.1f} s ({cpu / len(took) * 1e6:.0f} us a decision), wall {wall:.1f} s, peak memory {peak:.0f} MB")
    print(f"garbage collections by generation {runs}; {os.cpu_count()} cores, load average {load}")
    print(f"p99 under 2 ms: {'yes' if np.percentile(took, 99) < 2 else 'no'}")
    if load_average() > 1:
        print("other programs were running: compare with the control, which waits for nobody but the scheduler")


def load_average() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


if __name__ == "__main__":
    main()
