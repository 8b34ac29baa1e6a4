"""Fraud quality by the protocol of `vedette.judge.models.protocol`: three test weeks of simulated transactions.

    python benchmarks/fraud.py [--data DIR] [--train-days 7 90] [--out DIR] [--delays] [--handbook]

DIR holds fraud/card_transactions.parquet (../shared/data by default). For each number of training days: a line for
each test week and their mean; the same at a base rate of one in a thousand, with intervals; shuffled labels; and the
baseline that calls everything genuine. `--out` keeps the model directories: `OUT/7d-2018-08-08` is the one of the first
week with seven training days. `--delays` trains and tests again with labels that are known after 0, 1, 7 and 30 days
and writes `OUT/delays.html`. `--handbook` adds the reference's fifteen features with the same learner.

Processor time on one core: a minute a week with 7 training days, some ten with 90, two with `--raw`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vedette.core.clock import DAY
from vedette.judge.models import probes, protocol, training
from vedette.judge.models.evaluation import rare
from vedette.judge.models.history import features_of, judged_rows, to_history, trained_rows
from vedette.judge.models.learners import Recipe, learn
from vedette.judge.models.model import Model
from vedette.judge.models.report import page
from vedette.sense.features.definition import FeatureSet, load_features, parse_features, shipped
from vedette.sense.features.table import read_table

WEEKS = ("2018-08-08", "2018-08-15", "2018-08-22")
DELAY = 7
DELAYS = (0, 1, 7, 30)
TARGETS = {7: {"ap": 0.72, "cp100": 0.300}, 90: {"ap": 0.735, "r@.1%": 0.70}}
COLUMNS = ("ap", "auc", "cp100", "r@.1%", "r@.5%", "r@1%", "base")

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


@dataclasses.dataclass
class Week:
    """One test week: the model and what it scored."""

    model: Model
    tested: training.Tested
    metrics: dict[str, float]
    cpu: float


def judge(table: pa.Table, features: FeatureSet, week: str, *, days: int, delay: int, out: Path) -> Week:
    """Trains on the days before a test week and scores the week."""
    start, before = to_day(week), time.process_time()
    model = training.train(table, features, start=start - delay - days, days=days, delay_days=delay, out=out)
    tested = training.score_test(model, table, start=start, days=7)
    history, rows = tested.history, tested.rows
    found = protocol.evaluate(tested.scores, tested.fraud, history.days[rows], history.customers[rows])
    return Week(model, tested, columns(found), time.process_time() - before)


def columns(found: dict[str, Any]) -> dict[str, float]:
    """What is printed of the protocol's metrics."""
    values = (found["ap"], found["auc"], found["cp100"], *found["recall_at_fpr"].values(), found["base_rate"])
    return dict(zip(COLUMNS, values, strict=True))


def line(name: str, week: str, values: dict[str, float], tail: str = "") -> None:
    print(f"{name:22} {week:10} " + " ".join(f"{values[column]:7.4f}" for column in COLUMNS) + tail, flush=True)


def mean(weeks: list[Week]) -> dict[str, float]:
    return {column: float(np.mean([week.metrics[column] for week in weeks])) for column in COLUMNS}


def run(name: str, table: pa.Table, features: FeatureSet, days: int, out: Path) -> list[Week]:
    """All test weeks with one number of training days."""
    weeks = []
    for week in WEEKS:
        weeks.append(judge(table, features, week, days=days, delay=DELAY, out=out / f"{days}d-{week}"))
        line(f"{name}, {days} d", week, weeks[-1].metrics, f" {weeks[-1].cpu:6.0f}")
    found = mean(weeks)
    line(f"{name}, {days} d", "mean", found)
    base = found["base"]
    print(f"{'all genuine':22} {'mean':10} {base:7.4f} {0.5:7.4f}  accuracy {1 - base:.4f}, recall 0")
    return weeks


def at_one_in_a_thousand(weeks: list[Week]) -> None:
    """Frauds thinned, every genuine row kept; the interval is of the mean over the weeks."""
    found = [
        rare(
            week.tested.scores, week.tested.fraud, week.tested.history.customers[week.tested.rows], rounds=200, seed=at
        )
        for at, week in enumerate(weeks)
    ]
    for name in ("ap", "recall_at_fpr_0.001"):
        means = np.mean([one[name]["value"] for one in found])
        # Weeks are drawn apart, so the spread of their mean is that of each by the root of their number.
        half = np.sqrt(sum(((one[name]["high"] - one[name]["low"]) / 2) ** 2 for one in found)) / len(found)
        each = ", ".join(f"{one[name]['value']:.3f} ({one[name]['low']:.3f}-{one[name]['high']:.3f})" for one in found)
        print(f"at 1:1,000  {name:20} {means:.4f} ({means - half:.4f} to {means + half:.4f})  weeks: {each}")
    print("at 1:1,000  all genuine          ap 0.0010, accuracy 0.9990, recall 0", flush=True)


def shuffle(table: pa.Table, features: FeatureSet, weeks: list[Week], days: int) -> None:
    """The same rows and learner, training labels shuffled."""
    history = to_history(table, features)
    parts = [trained_rows(history, start=to_day(week) - DELAY - days, days=days) for week in WEEKS]
    wanted = np.logical_or.reduce(parts)
    vectors, found = features_of(history, features, wanted, delay=DELAY * DAY), []
    for part, one in zip(parts, weeks, strict=True):
        train = vectors[part[wanted]]
        found.append(probes.shuffled(train, history.fraud[part], one.tested.vectors, one.tested.fraud, Recipe()))
    told = ", ".join(f"{one['ap']:.4f}" for one in found)
    print(f"shuffled labels, ap    {told}; base rate {np.mean([one['base_rate'] for one in found]):.4f}", flush=True)


def delays(table: pa.Table, features: FeatureSet, days: int, out: Path) -> None:
    """How much a label is worth that is known sooner: one plot. Raw scores: calibration changes no order."""
    points = []
    history = to_history(table, features)
    for delay in DELAYS:
        starts = [to_day(week) for week in WEEKS]
        trained = [trained_rows(history, start=start - delay - days, days=days) for start in starts]
        tested = [judged_rows(history, start=start, days=7, delay=delay * DAY) for start in starts]
        wanted = np.logical_or.reduce([*trained, *tested])
        vectors = features_of(history, features, wanted, delay=delay * DAY)
        rows = []
        for train, test in zip(trained, tested, strict=True):
            trees = learn(vectors[train[wanted]], history.fraud[train], Recipe())
            scores, fraud = trees.raws(vectors[test[wanted]]), history.fraud[test]
            rows.append(columns(protocol.evaluate(scores, fraud, history.days[test], history.customers[test])))
        found = {column: float(np.mean([row[column] for row in rows])) for column in COLUMNS}
        line(f"delay {delay} d, {days} d", "mean", found)
        points.append({"delay_days": delay, **found})
    (out / "delays.json").write_text(json.dumps(points, indent=2) + "\n")
    series = {
        "average precision": [[one["delay_days"], one["ap"]] for one in points],
        "recall at 0.1 % false positives": [[one["delay_days"], one["r@.1%"]] for one in points],
    }
    text = page("Quality by label delay", "days until a label is known", "mean over three test weeks", series)
    (out / "delays.html").write_text(text, encoding="utf-8")
    print(f"wrote {out / 'delays.html'}")


def against_targets(means: dict[int, dict[str, float]]) -> Iterator[str]:
    for days, targets in TARGETS.items():
        for name, target in targets.items():
            if days in means:
                found = means[days][name]
                said = "reached" if found >= target else "MISSED"
                yield f"{said:8} {name:6} with {days} days: {found:.4f}, {target} asked"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="folder of the public data")
    parser.add_argument("--train-days", type=int, nargs="*", default=[7])
    parser.add_argument("--out", type=Path, help="keep the model directories, and what is plotted, here")
    parser.add_argument("--features", type=Path, help="definitions of your own")
    parser.add_argument("--delays", action="store_true", help="also label delays of 0, 1, 7 and 30 days")
    parser.add_argument("--handbook", action="store_true", help="also the reference's fifteen features")
    parser.add_argument(
        "--raw", action="store_true", help="leave out calibration, which costs four more trainings and changes no order"
    )
    parser.add_argument("--no-probe", action="store_true", help="leave out training on shuffled labels")
    options = parser.parse_args()
    if options.raw:
        training.FOLDS = 1
    path = options.data / "fraud" / "card_transactions.parquet"
    if not path.is_file():
        print(f"no data at {path}: give --data")
        return
    features = load_features(options.features or shipped("card_transactions"))
    table = read_table([path], features)
    print(f"{'features':22} {'test week':10} " + " ".join(f"{column:>7}" for column in COLUMNS) + "    cpu")
    with tempfile.TemporaryDirectory() as folder:
        out: Path = options.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        means: dict[int, dict[str, Any]] = {}
        for days in options.train_days:
            weeks = run("shipped", table, features, days, out)
            means[days] = mean(weeks)
            at_one_in_a_thousand(weeks)
            if not options.no_probe:
                shuffle(table, features, weeks, days)
        for told in against_targets(means):
            print(told)
        if options.delays:
            delays(table, features, 7, out)
        if options.handbook:
            handbook = parse_features(HANDBOOK)
            run("handbook's fifteen", read_table([path], handbook), handbook, 7, Path(folder) / "h")


if __name__ == "__main__":
    main()
