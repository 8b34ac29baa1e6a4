"""From history to a model directory, and from a model directory and history to its metrics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import vedette
from vedette.core.clock import DAY, to_iso
from vedette.core.errors import DataError
from vedette.judge.models import protocol
from vedette.judge.models.calibration import Calibration, fit_calibration
from vedette.judge.models.model import Model, store_model
from vedette.judge.models.trees import Trees, flatten, to_grid
from vedette.sense import features as features_package
from vedette.sense.features import kernel
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.replay import replay
from vedette.sense.features.table import event_times, to_columns, to_labels

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Report = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps in all."""

ROUNDS = 300
FOLDS = 4
"""Blocks of days that calibration scores come from."""
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 40,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "reg_lambda": 5.0,
    "max_bin": 2_047,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
"""One thread, one seed and row-wise histograms: the same rows give the same trees on every run."""

LIMITS = (
    "Scores are calibrated for the source, base rate and label delay of the training rows; watch drift and retrain.",
    "Customers and terminals without history are scored from the payment alone.",
    "Contributions say what moved the score, not what caused the fraud.",
)


@dataclass(frozen=True, slots=True)
class History:
    """A labelled table and what the protocol needs of it."""

    table: pa.Table
    days: Ints
    customers: Ints
    """Number of the first keyed view's entity."""
    fraud: Ints
    """1 fraud, 0 genuine, -1 not labelled."""


def to_history(table: pa.Table, features: FeatureSet) -> History:
    """History from `read_table`."""
    view = next((place for place, view in enumerate(features.views) if view.key), None)
    if view is None:
        raise DataError("model.features.entity", "the protocol needs a view with a key")
    columns = to_columns(table, features)
    stride = (columns.rows.shape[1] - kernel.R_VIEWS) // len(features.views)
    labels = to_labels(table, features, delay=0)
    fraud = np.full(len(table), -1, np.int64)
    fraud[labels.rows] = labels.fraud
    customers = columns.rows[:, kernel.R_VIEWS + view * stride].copy()
    return History(table, protocol.to_days(event_times(table, features)), customers, fraud)


def features_of(
    history: History, features: FeatureSet, wanted: npt.NDArray[np.bool_], *, delay: int, report: Report
) -> Floats:
    """Features of the wanted rows. Rows after the last of them are not read at all."""
    end = int(np.flatnonzero(wanted)[-1]) + 1
    table = history.table.slice(0, end)
    labels = to_labels(table, features, delay=delay)
    return replay(
        features,
        table,
        labels=labels,
        wanted=wanted[:end],
        progress=lambda done, total: report("features", done, total),
    )


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


def train(
    table: pa.Table,
    features: FeatureSet,
    *,
    start: int,
    days: int,
    delay_days: int,
    out: Path,
    report: Report = _silent,
) -> Model:
    """Trains on `days` days from day `start` and writes a model directory.

    Args:
        table: History from `read_table`, with what came before `start`: features see all of it.
        features: Definitions.
        start: First training day, days since 1970-01-01.
        days: Training days.
        delay_days: Days from an event until its label is known.
        out: Directory to write.
        report: Called with progress.

    Raises:
        DataError: `model.train.rows` when the days hold no frauds or no genuine rows.
    """
    history = to_history(table, features)
    wanted = protocol.train_rows(history.days, start=start, count=days) & (history.fraud >= 0)
    fraud, day = history.fraud[wanted], history.days[wanted]
    if len(np.unique(fraud)) < 2:  # noqa: PLR2004 - both classes
        raise DataError("model.train.rows", f"{len(fraud)} labelled rows with {int(fraud.sum())} frauds: too few")
    vectors = features_of(history, features, wanted, delay=delay_days * DAY, report=report)
    trees, calibration, metrics = fit(vectors, fraud, day, report=report)
    first = int(np.flatnonzero(wanted)[0])
    card = {
        "trained_on": {
            "first_day": to_iso(start * DAY)[:10],
            "days": days,
            "rows": len(fraud),
            "frauds": int(fraud.sum()),
            "history_rows": int(np.flatnonzero(wanted)[-1]) + 1,
            "history_from": to_iso(int(event_times(table, features)[0])),
            "first_row": first,
            "label_delay_days": delay_days,
        },
        "features": list(features.names),
        "features_version": features.version,
        "data_sha256": hashlib.sha256(vectors.tobytes() + fraud.tobytes()).hexdigest(),
        "code_sha256": code_hash(),
        "version": vedette.__version__,
        "parameters": {**PARAMETERS, "rounds": ROUNDS},
        "calibration": f"beta, from rows scored by models of the other days ({FOLDS} blocks of days)",
        "metrics": metrics,
        "limits": LIMITS,
    }
    return store_model(
        out, trees=trees, calibration=calibration, features=features, label_delay=delay_days * DAY, card=card
    )


def fit(
    vectors: Floats, fraud: Ints, days: Ints, *, report: Report = _silent
) -> tuple[Trees, Calibration, dict[str, Any]]:
    """Trees from all rows, calibration from rows that their scorer has not seen, and metrics on those."""
    blocks = [block for block in np.array_split(np.unique(days), FOLDS) if len(block)]
    parts = [np.isin(days, block) for block in blocks]
    folds = [held for held in parts if len(blocks) > 1 and len(np.unique(fraud[~held])) > 1]
    total = len(folds) + 1
    report("training", 0, total)
    # Each run has one thread of its own and shares nothing, so side by side they give what they give in turn.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        whole = pool.submit(boost, vectors, fraud)
        others = [pool.submit(boost, vectors[~held], fraud[~held]) for held in folds]
        for done, _ in enumerate(as_completed([whole, *others]), 1):
            report("training", done, total)
    trees = whole.result()
    raws = np.full(len(fraud), np.nan)
    for held, other in zip(folds, others, strict=True):
        raws[held] = other.result().raws(vectors[held])
    scored = ~np.isnan(raws)
    if not scored.any():
        return trees, Calibration(), {}
    calibration = fit_calibration(raws[scored], fraud[scored])
    scores = np.array([calibration.score(float(raw)) for raw in raws[scored]])
    return trees, calibration, out_of_fold(scores, fraud[scored])


def out_of_fold(scores: Floats, fraud: Ints) -> dict[str, float]:
    """Metrics of calibrated scores on rows that their scorer was not trained on."""
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    if fraud.min() == fraud.max():
        return {}
    return {
        "out_of_fold_ap": float(average_precision_score(fraud, scores)),
        "out_of_fold_auc": float(roc_auc_score(fraud, scores)),
        "out_of_fold_log_loss": float(log_loss(fraud, scores)),
        "out_of_fold_brier": float(brier_score_loss(fraud, scores)),
        "mean_score": float(scores.mean()),
        "base_rate": float(fraud.mean()),
    }


def boost(vectors: Floats, fraud: Ints) -> Trees:
    """Trees of one LightGBM run, leaf values on the grid."""
    import lightgbm

    data = lightgbm.Dataset(vectors, label=fraud, params=PARAMETERS, free_raw_data=True)
    booster = lightgbm.train(PARAMETERS, data, num_boost_round=ROUNDS)
    round_leaves(booster)
    return flatten(booster.dump_model())


def round_leaves(booster: Any) -> None:
    """Moves every leaf value of a LightGBM booster to the nearest multiple of 2^-40."""
    for tree, info in enumerate(booster.dump_model()["tree_info"]):
        for leaf in range(info["num_leaves"]):
            booster.set_leaf_output(tree, leaf, to_grid(booster.get_leaf_output(tree, leaf)))


def judge(model: Model, table: pa.Table, *, start: int, days: int, report: Report = _silent) -> dict[str, Any]:
    """Metrics of a model on `days` test days from day `start`, by the protocol."""
    features = model.feature_set
    history = to_history(table, features)
    delay_days = -(-model.label_delay // DAY)
    wanted = protocol.judged_rows(
        history.days, history.customers, history.fraud, start=start, count=days, delay=delay_days
    ) & (history.fraud >= 0)
    if not wanted.any():
        raise DataError("model.test.rows", "the events hold no labelled rows of the test days")
    vectors = features_of(history, features, wanted, delay=model.label_delay, report=report)
    scores = model.scores(vectors)
    return protocol.evaluate(scores, history.fraud[wanted], history.days[wanted], history.customers[wanted])


def code_hash() -> str:
    """SHA-256 of the source code that features and trees come from."""
    folders: Sequence[Path] = (Path(str(features_package.__file__)).parent, Path(__file__).parent)
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
