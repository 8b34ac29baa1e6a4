"""Probes: checks that a good figure is not an accident, a leak from the future, or a memory of names.

Each probe has an answer that is known beforehand: labels shuffled in training must leave nothing to learn, labels that
nobody knows yet must change no feature, one feature alone must not know everything, and customers who were never seen
in training must be scored nearly as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from vedette.core.clock import DAY
from vedette.judge.models import protocol
from vedette.judge.models.history import Floats, History, Ints, Mask, features_of
from vedette.judge.models.learners import Recipe, learn
from vedette.judge.models.metrics import Ranking
from vedette.sense.features.definition import FeatureSet

NEAR_BASE = 3.0
"""Shuffled labels may score so many times the base rate: a ranking of few frauds is never quite even."""
TELLING = 0.95
"""Average precision from which on one feature alone is taken for the label in disguise."""
CHANGED_ROWS = 20_000
"""Most rows whose features are computed again."""


def shuffled(train: Floats, fraud: Ints, test: Floats, truth: Ints, recipe: Recipe) -> dict[str, Any]:
    """Average precision on test rows after training on shuffled labels: near the base rate, or something leaks."""
    mixed = np.random.default_rng(recipe.seed).permutation(fraud)
    found = Ranking(learn(train, mixed, recipe).raws(test), truth).curve()
    return {
        "ap": found.average_precision,
        "base_rate": found.base_rate,
        "passed": found.average_precision <= NEAR_BASE * found.base_rate,
    }


def strangers(
    train: Floats, fraud: Ints, customers: Ints, tested: tuple[Floats, Ints, Ints], recipe: Recipe
) -> dict[str, Any]:
    """Average precision for half of the customers, with and without them in the training rows.

    Args:
        train: Training rows.
        fraud: Their truth.
        customers: Their customers.
        tested: Test rows, their truth and their customers.
        recipe: How the model is made.
    """
    rows, truth, names = tested
    half = names % 2 == 1
    if not truth[half].any() or not fraud[customers % 2 == 0].any():
        return {"ap": None, "ap_seen": None, "passed": True}
    kept = customers % 2 == 0
    unseen = Ranking(learn(train[kept], fraud[kept], recipe).raws(rows[half]), truth[half]).curve()
    everyone = np.random.default_rng(recipe.seed).random(len(fraud)) < kept.mean()
    seen = Ranking(learn(train[everyone], fraud[everyone], recipe).raws(rows[half]), truth[half]).curve()
    return {
        "ap": unseen.average_precision,
        "ap_seen": seen.average_precision,
        "passed": unseen.average_precision >= 0.8 * seen.average_precision,
    }


def telling(vectors: Floats, fraud: Ints, names: tuple[str, ...]) -> dict[str, Any]:
    """The feature that alone ranks the test rows best, either way round; near 1 it is the label in disguise."""
    best, named = 0.0, ""
    for name, column in zip(names, vectors.T, strict=True):
        held = np.where(np.isnan(column), -np.inf, column)
        for values in (held, np.where(np.isnan(column), -np.inf, -column)):
            found = Ranking(values, fraud).curve().average_precision
            if found > best:
                best, named = found, name
    return {"ap": best, "feature": named, "passed": best < TELLING}


def unknown_labels(history: History, features: FeatureSet, *, start: int, delay: int) -> dict[str, Any]:
    """Whether labels that nobody knows at the end of day `start` change any feature of that day: they must not.

    They are turned round, and the features of the day's rows computed again.
    """
    rows: Mask = protocol.train_rows(history.days, start=start, count=1) & (history.fraud >= 0)
    extra = np.flatnonzero(rows)[CHANGED_ROWS:]
    rows[extra] = False
    if not rows.any() or features.label.path not in history.table.column_names:
        return {"changed": 0, "rows": 0, "passed": True}
    before = features_of(history, features, rows, delay=delay)
    times = history.table[features.event_time].cast(pa.int64()).to_numpy()
    young = times > (start + 1) * DAY - delay
    truth = np.where((history.fraud >= 0) & young, 1 - history.fraud, history.fraud)
    column = pa.array([None if value < 0 else value for value in truth.tolist()], pa.int8())
    place = history.table.column_names.index(features.label.path)
    turned = History(
        history.table.set_column(place, features.label.path, column),
        history.days,
        history.customers,
        history.fraud,
        history.amounts,
        None,
        None,
    )
    after = features_of(turned, features, rows, delay=delay)
    changed = int((~((before == after) | (np.isnan(before) & np.isnan(after)))).any(axis=1).sum())
    return {"changed": changed, "rows": len(before), "passed": changed == 0}
