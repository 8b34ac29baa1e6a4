"""From history to a model directory, and from a model directory and history to its metrics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import vedette
from vedette.core.clock import DAY, to_iso
from vedette.core.errors import DataError
from vedette.judge.models import protocol
from vedette.judge.models.calibration import Calibration, fit_calibration, reliability
from vedette.judge.models.history import (
    Extras,
    Floats,
    History,
    Ints,
    Report,
    features_of,
    judged_rows,
    silent,
    to_history,
    trained_rows,
)
from vedette.judge.models.learners import PARAMETERS, Recipe, learn, round_leaves
from vedette.judge.models.model import Model, store_model
from vedette.judge.models.profile import make_profile
from vedette.judge.models.trees import Trees
from vedette.sense import features as features_package
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.table import event_times

__all__ = ["PARAMETERS", "Report", "fit", "judge", "round_leaves", "train"]

FOLDS = 4
"""Blocks of days that calibration scores come from."""

LIMITS = (
    "Scores are calibrated for the source, base rate and label delay of the training rows; watch drift and retrain.",
    "Customers and terminals without history are scored from the payment alone.",
    "Contributions say what moved the score, not what caused the fraud.",
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training gives before it is stored."""

    trees: Trees
    calibration: Calibration
    metrics: dict[str, Any]
    scores: Floats
    """Calibrated, of rows that their scorer was not trained on."""
    scored: Ints
    """Places of those rows."""


def train(
    table: pa.Table,
    features: FeatureSet,
    *,
    start: int,
    days: int,
    delay_days: int,
    out: Path,
    recipe: Recipe = Recipe(),  # noqa: B008 - a frozen value
    extras: Extras = Extras(),  # noqa: B008 - a frozen value
    report: Report = silent,
) -> Model:
    """Trains on `days` days from day `start` and writes a model directory.

    Args:
        table: History from `read_table`, with what came before `start`: features see all of it.
        features: Definitions.
        start: First training day, days since 1970-01-01.
        days: Training days.
        delay_days: Days from an event until its label is known.
        out: Directory to write.
        recipe: Learner, what is done about frauds being rare, calibration.
        extras: Further columns; with propensities each row counts as the payments it stands for.
        report: Called with progress.

    Raises:
        DataError: `model.train.rows` when the days hold no frauds or no genuine rows; `model.history.*`.
    """
    history = to_history(table, features, extras)
    wanted = trained_rows(history, start=start, days=days)
    fraud, day, weights = history.fraud[wanted], history.days[wanted], history.weights_of(wanted)
    if len(np.unique(fraud)) < 2:  # noqa: PLR2004 - both classes
        raise DataError("model.train.rows", f"{len(fraud)} labelled rows with {int(fraud.sum())} frauds: too few")
    vectors = features_of(history, features, wanted, delay=delay_days * DAY, report=report)
    fitted = fit(vectors, fraud, day, recipe=recipe, weights=weights, report=report)
    digest = hashlib.sha256(vectors.tobytes() + fraud.tobytes())
    if weights is not None:
        digest.update(weights.tobytes())
    card = {
        "trained_on": {
            "first_day": to_iso(start * DAY)[:10],
            "days": days,
            "rows": len(fraud),
            "frauds": int(fraud.sum()),
            "history_rows": int(np.flatnonzero(wanted)[-1]) + 1,
            "history_from": to_iso(int(event_times(table, features)[0])),
            "first_row": int(np.flatnonzero(wanted)[0]),
            "label_delay_days": delay_days,
            "weighted": weights is not None,
        },
        "features": list(features.names),
        "features_version": features.version,
        "data_sha256": digest.hexdigest(),
        "code_sha256": code_hash(),
        "version": vedette.__version__,
        "parameters": recipe.to_card(),
        "calibration": f"{recipe.calibration}, from rows scored by models of the other days ({FOLDS} blocks of days)",
        "metrics": fitted.metrics,
        "limits": LIMITS,
    }
    return store_model(
        out,
        trees=fitted.trees,
        calibration=fitted.calibration,
        features=features,
        label_delay=delay_days * DAY,
        card=card,
        profile=make_profile(vectors, fitted.scores, fraud, names=features.names, weights=weights),
    )


def fit(
    vectors: Floats,
    fraud: Ints,
    days: Ints,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - a frozen value
    weights: Floats | None = None,
    report: Report = silent,
) -> Fitted:
    """Trees from all rows, calibration from rows that their scorer has not seen, and metrics on those."""
    blocks = [block for block in np.array_split(np.unique(days), FOLDS) if len(block)]
    parts = [np.isin(days, block) for block in blocks]
    folds = [held for held in parts if len(blocks) > 1 and len(np.unique(fraud[~held])) > 1]
    total = len(folds) + 1
    report("training", 0, total)

    def run(rows: Any) -> Trees:
        return learn(vectors[rows], fraud[rows], recipe, None if weights is None else weights[rows])

    # Each run has one thread of its own and shares nothing, so side by side they give what they give in turn.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        whole = pool.submit(learn, vectors, fraud, recipe, weights)
        others = [pool.submit(run, ~held) for held in folds]
        for done, _ in enumerate(as_completed([whole, *others]), 1):
            report("training", done, total)
    trees = whole.result()
    raws = np.full(len(fraud), np.nan)
    for held, other in zip(folds, others, strict=True):
        raws[held] = other.result().raws(vectors[held])
    scored = np.flatnonzero(~np.isnan(raws))
    if not len(scored):
        return Fitted(trees, Calibration(), {}, np.zeros(0), scored)
    truth, held_weights = fraud[scored], None if weights is None else weights[scored]
    calibration = fit_calibration(raws[scored], truth, weights=held_weights, method=recipe.calibration)
    scores = calibration.scores(raws[scored])
    return Fitted(trees, calibration, out_of_fold(scores, truth, held_weights), scores, scored)


def out_of_fold(scores: Floats, fraud: Ints, weights: Floats | None = None) -> dict[str, float]:
    """Metrics of calibrated scores on rows that their scorer was not trained on."""
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    if fraud.min() == fraud.max():
        return {}
    return {
        "out_of_fold_ap": float(average_precision_score(fraud, scores, sample_weight=weights)),
        "out_of_fold_auc": float(roc_auc_score(fraud, scores, sample_weight=weights)),
        "out_of_fold_log_loss": float(log_loss(fraud, scores, sample_weight=weights)),
        "out_of_fold_brier": float(brier_score_loss(fraud, scores, sample_weight=weights)),
        "out_of_fold_ece": reliability(scores, fraud, weights=weights)["ece"],
        "mean_score": float(np.average(scores, weights=weights)),
        "base_rate": float(np.average(fraud, weights=weights)),
    }


@dataclass(frozen=True, slots=True)
class Tested:
    """A model's scores of test rows, with what they are judged by."""

    history: History
    rows: Any
    """Which rows of the history."""
    vectors: Floats
    scores: Floats
    fraud: Ints


def score_test(
    model: Model,
    table: pa.Table,
    *,
    start: int,
    days: int,
    extras: Extras = Extras(),  # noqa: B008 - a frozen value
    report: Report = silent,
) -> Tested:
    """Scores of `days` test days from day `start`, by the protocol."""
    history = to_history(table, model.feature_set, extras)
    rows = judged_rows(history, start=start, days=days, delay=model.label_delay)
    vectors = features_of(history, model.feature_set, rows, delay=model.label_delay, report=report)
    return Tested(history, rows, vectors, model.scores(vectors), history.fraud[rows])


def judge(model: Model, table: pa.Table, *, start: int, days: int, report: Report = silent) -> dict[str, Any]:
    """Metrics of a model on `days` test days from day `start`, by the protocol."""
    found = score_test(model, table, start=start, days=days, report=report)
    history, rows = found.history, found.rows
    return protocol.evaluate(found.scores, found.fraud, history.days[rows], history.customers[rows])


def code_hash() -> str:
    """SHA-256 of the source code that features and trees come from."""
    folders: Sequence[Path] = (Path(str(features_package.__file__)).parent, Path(__file__).parent)
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
