"""Fraud quality by the protocol of `vedette.judge.models.protocol`: three test weeks of simulated transactions.

    python benchmarks/fraud.py [--data DIR] [--train-days N]

DIR holds fraud/card_transactions.parquet (../shared/data by default). Beside the shipped features stand the handbook's
own fifteen, with the same learner, and the baseline that calls everything genuine. Some minutes of processor time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

from vedette.judge.models import training
from vedette.sense.features.definition import FeatureSet, load_features, parse_features, shipped
from vedette.sense.features.table import read_table

WEEKS = ("2018-08-08", "2018-08-15", "2018-08-22")
DELAY = 7

HANDBOOK = """
source: card_transactions
event_time: TX_DATETIME
lateness: 1h
fields: {amount: {path: TX_AMOUNT, decimals: 2}}
label: {path: TX_FRAUD}
views:
  - view: payment
    features:
      - {name: amount, aggregation: value, field: amount}
      - {name: weekend, aggregation: weekend}
      - {name: night, aggregation: night}
  - view: customer
    entity: customer
    key: CUSTOMER_ID
    features:
      - {name: customer_count, aggregation: count, windows: [1d, 7d, 30d], include_current: true}
      - {name: customer_mean, aggregation: mean, field: amount, windows: [1d, 7d, 30d], include_current: true}
  - view: terminal
    entity: terminal
    key: TERMINAL_ID
    features:
      - {name: terminal_count, aggregation: label_count, windows: [1d, 7d, 30d]}
      - {name: terminal_risk, aggregation: fraud_rate, windows: [1d, 7d, 30d]}
"""


def to_day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def weeks(name: str, path: Path, features: FeatureSet, days: int) -> None:
    """Trains and tests for each week and prints a line each, then the mean."""
    table = read_table([path], features)
    results = []
    for week in WEEKS:
        start, before = to_day(week), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            model = training.train(
                table, features, start=start - DELAY - days, days=days, delay_days=DELAY, out=Path(folder)
            )
        metrics = training.judge(model, table, start=start, days=7)
        recall = metrics["recall_at_fpr"]
        values = [metrics["ap"], metrics["auc"], metrics["cp100"], *recall.values(), metrics["base_rate"]]
        results.append(values)
        print(f"{name:22} {week:10} " + " ".join(f"{value:7.4f}" for value in values), end="")
        print(f" {time.process_time() - before:6.0f}", flush=True)
    mean = np.mean(results, axis=0)
    print(f"{name:22} {'mean':10} " + " ".join(f"{value:7.4f}" for value in mean), flush=True)
    base = mean[-1]
    print(f"{'all genuine':22} {'mean':10} {base:7.4f} {0.5:7.4f}  accuracy {1 - base:.4f}, recall 0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="folder of the public data")
    parser.add_argument("--train-days", type=int, default=7)
    options = parser.parse_args()
    path = options.data / "fraud" / "card_transactions.parquet"
    if not path.is_file():
        print(f"no data at {path}: give --data")
        return
    print(f"{'features':22} {'test week':10}      ap     auc   cp100  r@.1%  r@.5%    r@1%    base    cpu")
    weeks("shipped", path, load_features(shipped("card_transactions")), options.train_days)
    weeks("handbook's fifteen", path, parse_features(HANDBOOK), options.train_days)


if __name__ == "__main__":
    main()
