"""What the benchmarks of decisions have in common: a model, the features as history leaves them, a week to replay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vedette.core.clock import DAY, from_datetime
from vedette.judge.decisions.files import read_rows
from vedette.judge.models.model import Model, load_model
from vedette.judge.models.training import train
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.sense.features.backfill import backfill
from vedette.sense.features.definition import load_features, parse_features, shipped
from vedette.sense.features.table import event_times, read_table
from vedette.sense.sources import load_sources

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
EVENTS = SHARED / "fraud" / "card_transactions.parquet"
TEST_WEEK = date(2018, 8, 8)
"""First test week of the published protocol; the model learned from the seven days that end eight days before."""
DELAY_DAYS = TRAIN_DAYS = 7
FIELDS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT")
CONDITIONS = (
    ":amount_in_usd: > {n}",
    "::terminal:: in ('{n}', '7{n}') and :amount_in_usd: >= 5",
    ":customer_count_1h: > {n} or :terminal_count_1d: > {n}00",
    "not :customer: in ('{n}') and :risk_score: > {n} and not is_missing(:customer_mean_7d:)",
)

SIXTY = """
source: card_transactions
event_id: TRANSACTION_ID
event_time: TX_DATETIME
lateness: 1h
fields: {amount: {path: TX_AMOUNT, decimals: 2}}
label: {path: TX_FRAUD, keep: 60d, lateness: 7d}
views:
  - view: payment
    features:
      - {name: amount, aggregation: value, field: amount}
      - {name: hour, aggregation: hour}
"""
_ENTITY = """
  - view: {name}
    entity: {name}
    key: {key}
    features:
      - {{name: {name}_count, aggregation: count, windows: [1h, 6h, 1d, 3d, 7d, 14d, 30d, 60d], include_current: true}}
      - name: {name}_mean
        aggregation: mean
        field: amount
        windows: [1d, 3d, 7d, 14d, 30d, 60d]
        include_current: true
      - {{name: {name}_sum, aggregation: sum, field: amount, windows: [1d, 7d, 14d, 30d, 60d], include_current: true}}
      - {{name: {name}_max, aggregation: max, field: amount, windows: [1d, 7d, 30d], include_current: false}}
      - {{name: {name}_fraud_rate, aggregation: fraud_rate, windows: [1d, 3d, 7d, 14d, 30d, 60d]}}
      - {{name: {name}_since_previous, aggregation: seconds_since_previous}}
"""


@dataclass(frozen=True, slots=True)
class Week:
    """Everything that a measurement replays."""

    model: Model
    rules: PaymentRules
    history: Path
    """Features as the weeks before leave them."""
    rows: list[dict[str, Any]]
    """Payments of the week, in order."""


def some_rules(names: tuple[str, ...], count: int) -> list[str]:
    """Rules over the payment, features and the score."""
    wanted = [text for text in CONDITIONS if ":customer_mean_7d:" not in text or "customer_mean_7d" in names]
    return [f"review if {wanted[n % len(wanted)].format(n=20 + n)}" for n in range(count)]


def to_rules(texts: list[str], names: tuple[str, ...]) -> PaymentRules:
    """The same, ready."""
    table = with_features(names)
    return PaymentRules([parse_rule(text, attributes=table) for text in texts])


def sixty() -> str:
    """Sixty features over two entities and the payment."""
    return (
        SIXTY + _ENTITY.format(name="customer", key="CUSTOMER_ID") + _ENTITY.format(name="terminal", key="TERMINAL_ID")
    )


def train_sixty(folder: Path) -> Model:
    """A model of sixty features and 300 trees of 31 leaves."""
    from vedette.judge.models import learners

    features = parse_features(sixty())
    assert len(features.names) == 60
    learners.PARAMETERS["num_leaves"] = 31
    return train(read_table([EVENTS], features), features, out=folder, **_span())


def train_shipped(folder: Path) -> Model:
    """The model of `benchmarks/fraud.py --train-days 7` for the first test week."""
    features = load_features(shipped("card_transactions"))
    return train(read_table([EVENTS], features), features, out=folder, **_span())


def _span() -> dict[str, int]:
    start = (TEST_WEEK - date(1970, 1, 1)).days
    return {"start": start - DELAY_DAYS - TRAIN_DAYS, "days": TRAIN_DAYS, "delay_days": DELAY_DAYS}


def open_week(model: Path, folder: Path, *, rules: int, count: int) -> Week:
    """The test week over the features as everything before it leaves them.

    Args:
        model: Model directory.
        folder: Where the features are kept between runs.
        rules: How many.
        count: Payments at most.
    """
    held = load_model(model)
    since = from_datetime(datetime.combine(TEST_WEEK, datetime.min.time(), UTC))
    history = folder / f"history-{held.feature_set.version[:12]}.npz"
    if not history.exists():
        table = read_table([EVENTS], held.feature_set)
        rows = int(np.searchsorted(event_times(table, held.feature_set), since))
        backfill(held.feature_set, table.slice(0, rows), delay=held.label_delay, until=since).save(history)
    names = held.feature_set.names
    return Week(held, to_rules(some_rules(names, rules), names), history, list(islice(_rows(folder, since), count)))


def _rows(folder: Path, since: int) -> Iterator[dict[str, Any]]:
    """Payments of the week; what tells the outcome is not among their fields."""
    file = folder / "week.parquet"
    if not file.exists():
        table = pq.read_table(EVENTS)
        times = table["TX_DATETIME"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
        first, last = np.searchsorted(times, [since, since + 7 * DAY])
        pq.write_table(table.slice(first, last - first), file)
    for row in read_rows(file, load_sources()["card_transactions"]):
        if isinstance(row.data, dict):
            yield {name: row.data[name] for name in FIELDS}
