"""The evaluation of candidates: everything that is asked before a model goes anywhere, as plain values.

The first candidate is told of in full; beside the others stand its average precision and how long a score takes.
Nothing is resampled to flatter: test rows are all rows of the protocol at their own base rate, and where a base rate of
one in a thousand is asked for, frauds are thinned and every genuine row is kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vedette.core.clock import DAY, to_iso
from vedette.judge.models import costs as money_of
from vedette.judge.models import metrics, probes, protocol
from vedette.judge.models.calibration import reliability
from vedette.judge.models.costs import Costs
from vedette.judge.models.drift import estimate
from vedette.judge.models.history import Extras, Floats, Ints, Mask, Report, features_of, silent, trained_rows
from vedette.judge.models.learners import Imbalance, Learner, Recipe
from vedette.judge.models.metrics import Ranking
from vedette.judge.models.model import Model
from vedette.judge.models.training import Tested, score_test

TIMED = 2_000
"""Rows that are scored one by one to see how long that takes."""
RARE = 0.001
"""The base rate to report at beside the data's own."""
BANDS = (0.25, 0.5, 0.75, 0.95)
"""Shares of payments below the borders of amount bands."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an evaluation is about."""

    start: int
    """First test day, days since 1970-01-01."""
    days: int = 7
    budget: int = protocol.TOP
    """Alerts that people can look at in a day."""
    costs: Costs = Costs()  # noqa: RUF009 - a frozen value
    extras: Extras = Extras()  # noqa: RUF009 - a frozen value
    rounds: int = metrics.ROUNDS
    """Resamples of intervals; 0: none."""
    probes: bool = True
    """Trains three more models to see that nothing leaks."""


def evaluate(models: Sequence[Model], table: pa.Table, asked: Asked, *, report: Report = silent) -> dict[str, Any]:
    """Everything about the first model, and how the others compare.

    Args:
        models: Candidates, the one to be judged first. All of one source.
        table: History from `read_table`, up to the end of the test days.
        asked: What is wanted.
        report: Called with progress.

    Raises:
        DataError: `model.test.rows`.
    """
    model = models[0]
    found = score_test(model, table, start=asked.start, days=asked.days, extras=asked.extras, report=report)
    history, rows = found.history, found.rows
    days, customers, weights = history.days[rows], history.customers[rows], history.weights_of(rows)
    ranking = Ranking(found.scores, found.fraud, weights)
    curve = ranking.curve()
    report("judging", 0, 3)
    amounts = history.amounts[rows]
    money = money_of.money(
        found.scores, found.fraud, amounts, customers, costs=asked.costs, weights=weights, rounds=asked.rounds
    )
    threshold = money["threshold"]["value"]
    budget = float(asked.budget * asked.days)
    result: dict[str, Any] = {
        "model": _named(model),
        "test": _test(found, asked),
        "metrics": metrics.summary(ranking, customers, budget=budget, rounds=asked.rounds),
        "cp100": protocol.card_precision(found.scores, found.fraud, days, customers),
        "budget": {"alerts_a_day": asked.budget, "alerts": budget},
        "naive_baseline": {"accuracy": 1 - curve.base_rate, "recall": 0.0, "precision": 0.0, "ap": curve.base_rate},
        "curve": curve.plot(),
        "reliability": reliability(found.scores, found.fraud, weights=weights),
        "money": money,
        "segments": money_of.by_segment(
            found.scores,
            found.fraud,
            amounts,
            customers,
            segments=segments_of(found),
            costs=asked.costs,
            threshold=threshold,
            weights=weights,
            rounds=asked.rounds // 2,
        ),
        "kinds": kinds_of(found, threshold),
        "estimate": estimate(found.scores, threshold),
    }
    report("judging", 1, 3)
    result["rare"] = rare(found.scores, found.fraud, customers, rounds=asked.rounds or 1)
    report("judging", 2, 3)
    result["candidates"] = [_candidate(model, found, asked)] + [
        _candidate(one, score_test(one, table, start=asked.start, days=asked.days, extras=asked.extras), asked)
        for one in models[1:]
    ]
    report("judging", 3, 3)
    result["probes"] = _probes(model, found, asked, report) if asked.probes else {}
    return result


def recipe_of(card: Mapping[str, Any]) -> Recipe:
    """The recipe that a card tells of; what an older card does not tell is as usual."""
    held = card.get("parameters", {})
    return Recipe(
        Learner(held.get("learner", Learner.LIGHTGBM)),
        Imbalance(held.get("imbalance", Imbalance.NONE)),
        rounds=int(held.get("rounds", Recipe().rounds)),
        seed=int(held.get("seed", Recipe().seed)),
    )


def segments_of(found: Tested) -> dict[str, Mask]:
    """Test rows by amount, by time of day, and by how well the customer is known here."""
    history, rows = found.history, found.rows
    amounts = history.amounts[rows]
    segments: dict[str, Mask] = {}
    if amounts.any():
        cuts = np.unique(np.quantile(amounts, BANDS, method="lower"))
        place = np.searchsorted(cuts, amounts, side="left")
        for band in range(len(cuts) + 1):
            low = f"over {cuts[band - 1] / 100:.2f}" if band else ""
            high = f"up to {cuts[band] / 100:.2f}" if band < len(cuts) else ""
            segments[f"amount {' '.join(filter(None, (low, high)))}"] = place == band
    seconds = history.table.column(_time_column(history.table)).cast(pa.int64()).to_numpy()[rows] // 1_000_000
    hours = seconds // 3_600 % 24
    segments["night, 0 to 6 UTC"] = hours <= 6  # noqa: PLR2004 - as the feature `night`
    segments["day, 7 to 23 UTC"] = hours > 6  # noqa: PLR2004
    if (segment := history.segments) is not None:
        segments |= {f"{name}": segment[rows] == name for name in sorted(set(segment[rows].tolist()))[:20]}
    return {name: chosen for name, chosen in segments.items() if chosen.any()}


def _time_column(table: pa.Table) -> str:
    return next(field.name for field in table.schema if pa.types.is_timestamp(field.type))


def kinds_of(found: Tested, threshold: float) -> dict[str, dict[str, Any]]:
    """Recall of each kind of fraud, at the threshold and at one false positive in a thousand."""
    if found.history.kinds is None:
        return {}
    kinds = found.history.kinds[found.rows]
    genuine = np.sort(found.scores[found.fraud == 0])[::-1]
    strict = genuine[min(len(genuine) - 1, int(0.001 * len(genuine)))] if len(genuine) else 1.0
    told = {}
    for kind in sorted({str(one) for one in kinds[found.fraud == 1]}):
        rows = (kinds == kind) & (found.fraud == 1)
        told[kind or "not told"] = {
            "frauds": int(rows.sum()),
            "recall": float((found.scores[rows] >= threshold).mean()),
            "recall_at_fpr_0.001": float((found.scores[rows] > strict).mean()),
        }
    return told


def rare(
    scores: Floats, fraud: Ints, clusters: Ints, *, rate: float = RARE, rounds: int, seed: int = 7
) -> dict[str, Any]:
    """Metrics at a base rate, by draws that keep every genuine row and thin the frauds.

    Returns:
        Means over the draws, with the interval that also holds for other customers: each draw takes customers with
        replacement first. Empty when the rows have a lower rate.
    """
    base = float(fraud.mean()) if len(fraud) else 0.0
    if not 0 < rate < base:
        return {}
    keep = rate * (1 - base) / (base * (1 - rate))
    ranking, rng = Ranking(scores, fraud), np.random.default_rng(seed)
    _, places = np.unique(clusters, return_inverse=True)
    count = int(places.max()) + 1
    drawn: dict[str, list[float]] = {"ap": [], "recall_at_fpr_0.001": [], "precision_of_100_a_day": []}
    plain: list[float] = []
    for _ in range(max(rounds, 20)):
        kept = ((fraud == 0) | (rng.random(len(fraud)) < keep)).astype(np.float64)
        curve = ranking.curve(kept)
        plain.append(curve.average_precision)
        times = np.bincount(rng.integers(0, count, count), minlength=count)[places]
        curve = ranking.curve(kept * times)
        drawn["ap"].append(curve.average_precision)
        drawn["recall_at_fpr_0.001"].append(curve.recall_at(0.001))
    told: dict[str, Any] = {"base_rate": rate, "frauds": round(float((fraud == 1).sum()) * keep)}
    for name, values in drawn.items():
        if values:
            told[name] = {
                "value": float(np.mean(plain if name == "ap" else values)),
                "low": float(np.quantile(values, 0.025)),
                "high": float(np.quantile(values, 0.975)),
            }
    told["naive_baseline"] = {"accuracy": 1 - rate, "recall": 0.0, "ap": rate}
    return told


def latency(model: Model, vectors: Floats) -> dict[str, float]:
    """How long a score with its contributions takes, one row at a time, microseconds of this machine."""
    model.warm()
    rows = vectors[:TIMED]
    taken = np.empty(len(rows))
    for place, vector in enumerate(rows):
        started = time.perf_counter_ns()
        model.score(vector)
        model.contributions(vector)
        taken[place] = time.perf_counter_ns() - started
    return {"p50_us": float(np.quantile(taken, 0.5)) / 1_000, "p99_us": float(np.quantile(taken, 0.99)) / 1_000}


def _candidate(model: Model, found: Tested, asked: Asked) -> dict[str, Any]:
    rows = found.rows
    ranking = Ranking(found.scores, found.fraud, found.history.weights_of(rows))
    own = metrics.summary(
        ranking, found.history.customers[rows], budget=float(asked.budget * asked.days), rounds=asked.rounds // 2
    )
    return {**_named(model), "ap": own["ap"], "recall_at_fpr_0.001": own["recall_at_fpr_0.001"]} | latency(
        model, found.vectors
    )


def _named(model: Model) -> dict[str, Any]:
    held = model.card.get("parameters", {})
    return {
        "id": model.id,
        "sha256": model.sha256,
        "learner": str(held.get("learner", Learner.LIGHTGBM)),
        "features": len(model.features),
        "trained_on": model.card.get("trained_on", {}),
        "label_delay_days": model.label_delay / DAY,
    }


def _test(found: Tested, asked: Asked) -> dict[str, Any]:
    return {
        "first_day": to_iso(asked.start * DAY)[:10],
        "days": asked.days,
        "rows": len(found.fraud),
        "frauds": int(found.fraud.sum()),
        "base_rate": float(found.fraud.mean()),
        "customers": len(np.unique(found.history.customers[found.rows])),
    }


def _probes(model: Model, found: Tested, asked: Asked, report: Report) -> dict[str, Any]:
    """Trains again on the model's own days; the table must hold them."""
    history = found.history
    told: dict[str, Any] = {
        "one_feature": probes.telling(found.vectors, found.fraud, model.features),
        "unknown_labels": probes.unknown_labels(history, model.feature_set, start=asked.start, delay=model.label_delay),
    }
    report("probes", 1, 3)
    trained = model.card.get("trained_on", {})
    wanted = trained_rows(history, start=_day(str(trained.get("first_day", ""))), days=int(trained.get("days", 0)))
    if len(np.unique(history.fraud[wanted])) == 2:  # noqa: PLR2004 - both classes
        recipe = recipe_of(model.card)
        train = features_of(history, model.feature_set, wanted, delay=model.label_delay)
        truth, customers = history.fraud[wanted], history.customers[wanted]
        told["shuffled_labels"] = probes.shuffled(train, truth, found.vectors, found.fraud, recipe)
        report("probes", 2, 3)
        tested = (found.vectors, found.fraud, history.customers[found.rows])
        told["strangers"] = probes.strangers(train, truth, customers, tested, recipe)
    report("probes", 3, 3)
    return told


def _day(text: str) -> int:
    try:
        return int(np.datetime64(text, "D").astype(np.int64))
    except ValueError:
        return 0
