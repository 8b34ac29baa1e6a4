"""Money: what a threshold costs and saves, where it should lie, and how sure that is.

Stopping a genuine payment costs its margin and the customer's patience; letting a fraud through costs its amount and a
dispute. A payment should be stopped when its probability of fraud is above C / (C + L), C the cost of stopping it
wrongly, L what is lost otherwise. Over many payments the best threshold is the minimum of the cost on held-out rows.

Example:
    >>> Costs(friction_minor=500, margin=0.0, dispute_minor=1_500).break_even(8_000)
    0.05
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vedette.judge.models.metrics import ROUNDS, Ranking, bootstrap

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

POINTS = 100
FEWEST = 5
"""Frauds below which a segment gets no threshold of its own."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What mistakes cost, in minor units of the payments' currency."""

    friction_minor: int = 500
    """A genuine payment stopped: the customer's patience, support, the sale that does not come back."""
    margin: float = 0.03
    """And this share of its amount."""
    dispute_minor: int = 1_500
    """A fraud let through: the fee of its dispute, besides its whole amount."""
    review_minor: int = 0
    """Every payment that is stopped: a person's time."""

    def break_even(self, amount_minor: int) -> float:
        """Probability of fraud from which on stopping this amount is cheaper than letting it through, 0..1."""
        stop = self.friction_minor + self.margin * amount_minor
        pass_on = amount_minor + self.dispute_minor
        return min(1.0, (stop + self.review_minor) / (stop + pass_on)) if stop + pass_on else 1.0

    def saved(self, amounts: Floats, fraud: Ints) -> Floats:
        """What stopping each row saves, less what it costs, minor units; below 0 where it only costs."""
        wrong = self.friction_minor + self.margin * amounts
        found: Floats = np.where(fraud == 1, amounts + self.dispute_minor, -wrong) - self.review_minor
        return found


def best(ranking: Ranking, saved: Floats, times: Floats | None = None) -> tuple[float, float]:
    """The threshold that saves most and what it saves; above all scores, and 0, when stopping never pays.

    Scores at or above the threshold are stopped.
    """
    sums = ranking.total(saved, times)
    place = int(np.argmax(sums)) if len(sums) else 0
    if not len(sums) or sums[place] <= 0:
        return 1.0, 0.0
    return float(ranking.curve().thresholds[place]), float(sums[place])


def money(
    scores: Floats,
    fraud: Ints,
    amounts: Floats,
    clusters: Ints,
    *,
    costs: Costs,
    weights: Floats | None = None,
    rounds: int = ROUNDS,
    seed: int = 7,
) -> dict[str, Any]:
    """Threshold of least expected cost with what it saves, both with intervals, and the curve.

    Args:
        scores: Calibrated.
        fraud: 1 for fraud.
        amounts: Minor units.
        clusters: Customer or card of each row.
        costs: Of mistakes.
        weights: How many payments each row stands for.
        rounds: Resamples of the intervals; 0: none.
        seed: Of the resamples.
    """
    ranking, saved = Ranking(scores, fraud, weights), costs.saved(amounts, fraud)
    threshold, gain = best(ranking, saved)
    stop = (scores >= threshold).astype(np.float64)
    held = np.ones(len(scores)) if weights is None else weights
    lost = float((held * (fraud == 1) * (amounts + costs.dispute_minor)).sum())
    found: dict[str, Any] = {
        "threshold": {"value": threshold},
        "saved_minor": {"value": round(gain)},
        "lost_without_model_minor": round(lost),
        "prevented_minor": round(float((held * stop * (fraud == 1) * (amounts + costs.dispute_minor)).sum())),
        "stopped": round(float((held * stop).sum())),
        "good_users_hurt": round(float((held * stop * (fraud == 0)).sum())),
        "hurt_share": float((held * stop * (fraud == 0)).sum() / max(1.0, float((held * (fraud == 0)).sum()))),
        "curve": _curve(ranking, saved, fraud),
    }
    if rounds:
        intervals = bootstrap(
            {
                "threshold": lambda times: best(ranking, saved, times)[0],
                # What the chosen threshold saves on other draws, not the best of each: that would flatter it.
                "saved_minor": lambda times: float((held * stop * saved * (1 if times is None else times)).sum()),
            },
            clusters,
            rounds=rounds,
            seed=seed,
        )
        for name, (low, high) in intervals.items():
            found[name] |= {"low": low, "high": high}
    return found


def _curve(ranking: Ranking, saved: Floats, fraud: Ints) -> list[list[float]]:
    """Share of genuine rows stopped, minor units saved and threshold, at most `POINTS`, up to one in fifty stopped."""
    curve, sums = ranking.curve(), ranking.total(saved)
    if not len(sums) or not curve.genuine or not (fraud == 1).any():
        return []
    shares = curve.accused / curve.genuine
    wanted = np.linspace(0, 0.02, POINTS)
    places = np.unique(np.searchsorted(shares, wanted, side="right") - 1)
    places = places[places >= 0]
    return [[float(shares[at]), float(round(sums[at])), float(curve.thresholds[at])] for at in places.tolist()]


def by_segment(
    scores: Floats,
    fraud: Ints,
    amounts: Floats,
    clusters: Ints,
    *,
    segments: Mapping[str, npt.NDArray[np.bool_]],
    costs: Costs,
    threshold: float,
    weights: Floats | None = None,
    rounds: int = ROUNDS,
) -> dict[str, dict[str, Any]]:
    """The same of each segment, with a threshold of its own, and what the common one does there."""
    found = {}
    for name, rows in segments.items():
        held = None if weights is None else weights[rows]
        frauds = int(fraud[rows].sum())
        one: dict[str, Any] = {"rows": int(rows.sum()), "frauds": frauds}
        if rows.any():
            stop = scores[rows] >= threshold
            genuine = fraud[rows] == 0
            one["recall"] = float(stop[~genuine].mean()) if frauds else None
            one["false_positive_rate"] = float(stop[genuine].mean()) if genuine.any() else 0.0
            one["ap"] = Ranking(scores[rows], fraud[rows], held).curve().average_precision
        if frauds >= FEWEST:
            own = money(
                scores[rows], fraud[rows], amounts[rows], clusters[rows], costs=costs, weights=held, rounds=rounds
            )
            one |= {name: own[name] for name in ("threshold", "saved_minor", "good_users_hurt")}
        found[name] = one
    return found
