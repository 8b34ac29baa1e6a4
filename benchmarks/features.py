"""What one event costs: features fetched and applied, a score, its reasons; beside plain Python deques and LightGBM.

    python benchmarks/features.py [--events N]

Single thread. Payments are generated: 5,000 customers, 10,000 terminals, 60 days, labels after 7 days; only the last
tenth is timed. `cpu` is the mean processor time of an event; p50 and p99 are wall time, whatever else runs.
"""

from __future__ import annotations

import argparse
import collections
import gc
import platform
import time
from collections.abc import Callable, Iterable

import lightgbm
import numpy as np

from vedette.core.clock import DAY, MICROS
from vedette.core.event import Event
from vedette.judge.models import training
from vedette.judge.models.calibration import Calibration
from vedette.judge.models.trees import flatten
from vedette.sense.features.definition import load_features, shipped
from vedette.sense.features.engine import Engine
from vedette.sense.labels import to_label

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000, help="payments to generate")
    events = payments(parser.parse_args().events)
    cut = len(events) * 9 // 10
    features = load_features(shipped("card_transactions"))
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
    print(f"{platform.machine()}, Python {platform.python_version()}, {len(engine.names)} features, {len(tail)} events")
    print(f"{'microseconds an event':58} {'cpu':>9} {'p50':>9} {'p99':>9}")

    def fetch_and_apply(event: Event) -> None:
        vectors.append(engine.fetch(event))
        engine.apply(event)

    vectors: list[np.ndarray] = []
    half = len(tail) // 2
    measure(f"engine: fetch {len(engine.names)} features and apply", fetch_and_apply, tail[:half])
    labels = [to_label(event, features.label, delay=7 * DAY) for event in tail[:half]]
    measure("engine: learn a label", engine.learn, labels)
    measure("plain Python deques: 28 features, fetch and apply", deques.fetch_and_apply, tail[:half])

    sample = np.array(vectors[:6_000])
    rng = np.random.default_rng(2)
    for leaves in (15, 31):
        options = {**training.PARAMETERS, "num_leaves": leaves, "max_bin": 255}
        data = lightgbm.Dataset(sample, label=rng.random(len(sample)) < 0.3, params=options)
        booster = lightgbm.train(options, data, num_boost_round=300)
        training.round_leaves(booster)
        trees, calibration = flatten(booster.dump_model()), Calibration(1.1, 0.9, 0.1)
        trees.raw(vectors[0])
        trees.contributions(vectors[0])
        shape = f"{len(trees.roots)} trees of {leaves} leaves"
        measure(f"score, {shape}", lambda v, t=trees, c=calibration: c.score(t.raw(v)), vectors[:10_000])
        measure(f"contributions, {shape}", trees.contributions, vectors[:10_000])
        predict = lambda v, b=booster: b.predict(v[None], raw_score=True, num_threads=1)  # noqa: E731
        measure(f"LightGBM predict, {shape}", predict, vectors[:1_000])
        shap = lambda v, b=booster: b.predict(v[None], pred_contrib=True, num_threads=1)  # noqa: E731
        measure(f"LightGBM TreeSHAP, {shape}", shap, vectors[:200])


if __name__ == "__main__":
    main()
