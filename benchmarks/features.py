"""What features cost: online for one event, and a backfill of sixty over 1.47 million transactions; peers beside them.

    python benchmarks/features.py [online] [backfill] [--events N] [--times K]

Single thread. `online`: payments are generated (5,000 customers, 10,000 terminals, 60 days, labels after 7 days); only
the last tenth is timed; `cpu` is the mean processor time of an event, p50 and p99 are wall time, whatever else runs.
`backfill`: the simulated card transactions of the shared data, `--times` as many with other customers and terminals;
peers compute what they can say of it: count, sum, mean, least and greatest amount of customer and terminal over 1, 7
and 30 days. pandas and Polars come from the peers' environment (`benchmarks/peers.py`), DuckDB is part of the product.
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb
import numpy as np

import peers
from vedette.core.clock import DAY, MICROS
from vedette.core.event import Event
from vedette.core.redis import Redis
from vedette.sense.features.definition import FeatureSet, load_features
from vedette.sense.features.engine import Engine
from vedette.sense.features.replay import CHUNK, Replay
from vedette.sense.features.shared import SharedEngine
from vedette.sense.features.table import read_tables, to_labels
from vedette.sense.labels import to_label

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("VEDETTE_TEST_DATA", HERE.parent.parent / "shared" / "data"))
TRANSACTIONS = DATA / "fraud" / "card_transactions.parquet"
WINDOWS = [DAY // 24, DAY // 4, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY]


class Deques:
    """The usual way: per entity and window a deque with running count and sum, 28 features of two entities."""

    def __init__(self) -> None:
        self.entities: dict[tuple[str, int], list] = {}

    def fetch_and_apply(self, event: Event) -> list[float]:
        """Counts and means before the event; then the event counts."""
        out, time_, amount = [], event.event_time, event.data["TX_AMOUNT"]
        for name in ("CUSTOMER_ID", "TERMINAL_ID"):
            key = (name, event.data[name])
            state = self.entities.get(key)
            if state is None:
                state = self.entities[key] = [[collections.deque(), 0, 0.0] for _ in WINDOWS]
            for window, one in zip(WINDOWS, state, strict=True):
                queue = one[0]
                while queue and queue[0][0] < time_ - window:
                    one[1] -= 1
                    one[2] -= queue.popleft()[1]
                out += [one[1], one[2] / one[1] if one[1] else float("nan")]
                queue.append((time_, amount))
                one[1] += 1
                one[2] += amount
        return out


def payments(count: int) -> list[Event]:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 60 * 86_400, count)) * MICROS + 1_522_540_800 * MICROS
    columns = (rng.integers(0, 5_000, count), rng.integers(0, 10_000, count), rng.integers(100, 30_000, count))
    fraud = rng.random(count) < 0.01
    rows = zip(times.tolist(), *(column.tolist() for column in columns), fraud.tolist(), strict=True)
    return [
        Event(
            id=str(number),
            tenant="bench",
            source="card_transactions",
            event_time=at,
            ingest_time=0,
            seq=number + 1,
            data={
                "TRANSACTION_ID": number,
                "CUSTOMER_ID": customer,
                "TERMINAL_ID": terminal,
                "TX_AMOUNT": cents / 100,
                "TX_FRAUD": int(bad),
            },
        )
        for number, (at, customer, terminal, cents, bad) in enumerate(rows)
    ]


def measure(name: str, work: Callable, items: Iterable) -> None:
    laps = []
    start = time.process_time()
    for item in items:
        before = time.perf_counter_ns()
        work(item)
        laps.append(time.perf_counter_ns() - before)
    cpu = (time.process_time() - start) / len(laps) * 1e6
    p50, p99 = np.percentile(laps, [50, 99]) / 1e3
    print(f"{name:58} {cpu:9.1f} {p50:9.1f} {p99:9.1f}")


def online(features: FeatureSet, count: int) -> None:
    events = payments(count)
    cut = len(events) * 9 // 10
    engine, deques = Engine(features), Deques()
    for event in events[:cut]:
        engine.apply(event)
        engine.learn(to_label(event, features.label, delay=7 * DAY))
        deques.fetch_and_apply(event)
    tail = events[cut:]
    engine.fetch(tail[0])
    # The payments held here for timing are no part of what is timed; a server does not hold them.
    gc.collect()
    gc.freeze()
    print(f"{'microseconds an event':58} {'cpu':>9} {'p50':>9} {'p99':>9}")
    size = len(engine.names)
    measure(f"one process: fetch {size} features", engine.fetch, tail[: len(tail) // 4])
    measure("one process: apply", engine.apply, tail[: len(tail) // 4])
    labels = [to_label(event, features.label, delay=7 * DAY) for event in tail[: len(tail) // 4]]
    measure("one process: learn a label", engine.learn, labels)
    measure("plain Python deques: 28 features, fetch and apply", deques.fetch_and_apply, tail[: len(tail) // 4])
    if url := os.environ.get("VEDETTE_REDIS_URL"):
        shared = SharedEngine(features, Redis(url), tenant="bench")
        shared.fill(engine)
        rest = tail[len(tail) // 4 :][:5_000]
        shared.warm()
        measure(f"Redis: fetch {size} features, one round trip", shared.fetch, rest)
        measure("Redis: apply, one script", shared.apply, rest)
        shared.clear()
    else:
        print("  Redis was not asked: VEDETTE_REDIS_URL names no server")
    held = engine.figures
    print(f"{held['entities']:,} entities, {held['bytes'] / held['entities']:,.0f} bytes each")


def many(times: int, folder: Path) -> Path:
    """The transactions with other customers and terminals `times` over, in order of time; made by another process."""
    file, ids = folder / "many.parquet", ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID")
    shifted = ", ".join(f"CAST({name} AS BIGINT) + copy * 10000000 AS {name}" for name in ids)
    columns = f"* EXCLUDE (copy) REPLACE ({shifted})"
    text = f"COPY (SELECT {columns} FROM '{TRANSACTIONS}', range({times}) AS r(copy) ORDER BY TX_DATETIME) TO '{file}'"
    program = f"import duckdb; duckdb.connect(config={{'memory_limit': '4GB', 'threads': 1}}).execute({text!r})"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=folder)
    return file


def backfill(features: FeatureSet, times: int) -> None:
    # The kernels are compiled by now or in the cache of the last run.
    few = next(filter(len, read_tables([TRANSACTIONS], features, rows=1_000)))
    Replay(features).take(few, to_labels(few, features, delay=DAY))
    with tempfile.TemporaryDirectory() as folder:
        file = many(times, Path(folder)) if times > 1 else TRANSACTIONS
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        replay, start, rows, matrix = Replay(features), time.process_time(), 0, None
        for table in read_tables([file], features, rows=CHUNK):
            matrix = replay.take(table, to_labels(table, features, delay=7 * DAY), into=matrix)
            rows += len(matrix)
        cpu = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{'backfill':46} {'rows':>12} {'values':>8} {'cpu s':>8} {'us/row':>8} {'peak MB':>9}")
    line("this product, all it was asked, reading included", rows, len(features.names), cpu, peak / 1_000)
    state = replay.state.figures()
    print(f"  of the peak, {held / 1_000:,.0f} MB were there before: the program and its kernels")
    print(f"  {state['entities']:,} entities hold {state['bytes'] / 1e6:,.0f} MB")
    if times == 1:
        line("DuckDB, RANGE windows", rows, 30, *in_duckdb())
        for name in ("polars", "pandas"):
            found = peers.ask(PEER[name], str(TRANSACTIONS))
            if found:
                line(f"{name} {found['version']}", rows, found["values"], found["cpu"], found["peak"])


def line(name: str, rows: int, values: int, cpu: float, peak: float) -> None:
    print(f"{name:46} {rows:12,} {values:8} {cpu:8.1f} {cpu / rows * 1e6:8.2f} {peak:9,.0f}")


def in_duckdb() -> tuple[float, float]:
    """CPU seconds and peak memory of the same windows in SQL, on one thread, in a process of its own."""
    program = f"""
import duckdb, time
base = duckdb.connect(config={{"threads": 1}})
frames, columns = [], []
for key in ("CUSTOMER_ID", "TERMINAL_ID"):
    for days in (1, 7, 30):
        name = f"{{key[0].lower()}}{{days}}"
        span = f"RANGE BETWEEN INTERVAL {{days}} DAYS PRECEDING AND CURRENT ROW"
        frames.append(f"{{name}} AS (PARTITION BY {{key}} ORDER BY TX_DATETIME {{span}})")
        columns += [f"{{f}}(TX_AMOUNT) OVER {{name}} AS {{f}}_{{name}}" for f in ("count", "sum", "avg", "min", "max")]
start = time.process_time()
base.execute(f"CREATE TABLE t AS SELECT {{', '.join(columns)}} FROM '{TRANSACTIONS}' WINDOW {{', '.join(frames)}}")
cpu = time.process_time() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(cpu, int(peak.split()[1]) / 1_000)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    cpu, peak = done.stdout.split()[-2:]
    return float(cpu), float(peak)


PEER = {
    "polars": """
import json, os, sys, time
os.environ["POLARS_MAX_THREADS"] = "1"
import polars as pl
frame = pl.read_parquet(sys.argv[1], columns=["TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"])
start = time.process_time()
kept = 0
for key in ("CUSTOMER_ID", "TERMINAL_ID"):
    held = frame.sort(key, "TX_DATETIME", maintain_order=True)
    for span in ("1d", "7d", "30d"):
        amount = pl.col("TX_AMOUNT")
        found = held.rolling("TX_DATETIME", period=span, closed="both", group_by=key).agg(
            amount.count().alias("n"), amount.sum().alias("s"), amount.mean().alias("m"),
            amount.min().alias("l"), amount.max().alias("h"))
        kept += found.width - 2
cpu = time.process_time() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
peak = int(peak.split()[1]) / 1_000
print(json.dumps({"cpu": cpu, "peak": peak, "values": kept, "version": pl.__version__}))
""",
    "pandas": """
import json, sys, time
import pandas as pd
frame = pd.read_parquet(sys.argv[1], columns=["TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"])
start = time.process_time()
kept = 0
for key in ("CUSTOMER_ID", "TERMINAL_ID"):
    held = frame.sort_values([key, "TX_DATETIME"], kind="stable").set_index("TX_DATETIME")
    for span in ("1D", "7D", "30D"):
        windows = held.groupby(key, sort=False)["TX_AMOUNT"].rolling(span, closed="both")
        kept += len([windows.count(), windows.sum(), windows.mean(), windows.min(), windows.max()])
cpu = time.process_time() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
peak = int(peak.split()[1]) / 1_000
print(json.dumps({"cpu": cpu, "peak": peak, "values": kept, "version": pd.__version__}))
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=("online", "backfill", []), help="both by default")
    parser.add_argument("--events", type=int, default=200_000, help="payments to generate for `online`")
    parser.add_argument("--times", type=int, default=1, help="times as many rows for `backfill`")
    options = parser.parse_args()
    features = load_features(HERE / "sixty_features.yaml")
    print(f"{platform.machine()}, Python {platform.python_version()}, DuckDB {duckdb.__version__}")
    if "online" in (options.what or ["online"]):
        online(features, options.events)
    if "backfill" in (options.what or ["backfill"]):
        backfill(features, options.times)


if __name__ == "__main__":
    main()
