"""Metrics of a rare class: everything from one ranking, weighted rows included, and intervals by clustered bootstrap.

A ranking sorts rows once; a curve is what each threshold catches and accuses. Metrics are read off the curve, so a
bootstrap costs two cumulative sums a round.

Example:
    >>> import numpy as np
    >>> curve = Ranking(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0])).curve()
    >>> round(curve.average_precision, 4), curve.recall_at(0.0), curve.precision_of(2)
    (0.8333, 0.5, 0.5)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROUNDS = 200
"""Resamples of a bootstrap."""
LEVEL = 0.95
"""Share of resamples within an interval."""
POINTS = 200
"""Most points of a curve that is kept for a plot."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What a threshold at each distinct score catches, highest score first. Counts are sums of weights."""

    thresholds: Floats
    caught: Floats
    """Frauds at or above."""
    accused: Floats
    """Genuine rows at or above."""

    @property
    def frauds(self) -> float:
        """All frauds."""
        return float(self.caught[-1]) if len(self.caught) else 0.0

    @property
    def genuine(self) -> float:
        """All genuine rows."""
        return float(self.accused[-1]) if len(self.accused) else 0.0

    @property
    def base_rate(self) -> float:
        """Share of frauds."""
        rows = self.frauds + self.genuine
        return self.frauds / rows if rows else 0.0

    @property
    def precision(self) -> Floats:
        """Share of frauds of what each threshold stops; 1 where it stops nothing."""
        stopped = self.caught + self.accused
        shares: Floats = np.divide(self.caught, stopped, out=np.ones(len(stopped)), where=stopped > 0)
        return shares

    @property
    def average_precision(self) -> float:
        """Precision at each threshold, by the recall it adds; the base rate with one class only."""
        if not self.frauds or not self.genuine:
            return self.base_rate
        return float((np.diff(self.caught, prepend=0.0) * self.precision).sum() / self.frauds)

    @property
    def auc(self) -> float:
        """Area under the ROC curve: how often a fraud scores above a genuine row; 0.5 with one class only."""
        if not self.frauds or not self.genuine:
            return 0.5
        before = np.concatenate([[0.0], self.caught[:-1]])
        return float(
            (np.diff(self.accused, prepend=0.0) * (before + self.caught)).sum() / 2 / self.frauds / self.genuine
        )

    @property
    def f1(self) -> float:
        """The best harmonic mean of precision and recall of any threshold."""
        total = self.caught + self.accused + self.frauds
        return float((2 * self.caught / total).max()) if self.frauds else 0.0

    def recall_at(self, rate: float) -> float:
        """Largest share of frauds caught by a threshold that accuses at most `rate` of the genuine rows."""
        allowed = self.caught[self.accused <= rate * self.genuine]
        return float(allowed.max() / self.frauds) if self.frauds and len(allowed) else 0.0

    def recall_with(self, precision: float) -> float:
        """Largest share of frauds caught by a threshold with at least this precision."""
        allowed = self.caught[self.precision >= precision]
        return float(allowed.max() / self.frauds) if self.frauds and len(allowed) else 0.0

    def precision_of(self, budget: float) -> float:
        """Share of frauds among the `budget` highest rows; a tie at the border counts by its own share."""
        stopped = self.caught + self.accused
        if not len(stopped) or budget <= 0:
            return 0.0
        caught = np.interp(budget, np.concatenate([[0.0], stopped]), np.concatenate([[0.0], self.caught]))
        return float(caught / min(budget, stopped[-1]))

    def plot(self) -> list[list[float]]:
        """Recall, precision and threshold along the curve, at most `POINTS` of them."""
        if not self.frauds:
            return []
        recall, precision = self.caught / self.frauds, self.precision
        wanted = np.linspace(recall[0], 1, POINTS)
        places = np.unique(np.searchsorted(recall, wanted, side="left").clip(0, len(recall) - 1))
        rows = np.stack([recall[places], precision[places], self.thresholds[places]], axis=1)
        return [[round(float(value), 6) for value in row] for row in rows]


class Ranking:
    """Rows by falling score.

    Args:
        scores: Higher is riskier.
        fraud: 1 for fraud, 0 for genuine.
        weights: How many payments of the traffic each row stands for.
    """

    def __init__(self, scores: Floats, fraud: Ints, weights: Floats | None = None) -> None:
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        self.ends = (
            np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1) if len(ranked) else np.zeros(0, int)
        )
        self._thresholds = ranked[self.ends]
        self._fraud = fraud[self.order].astype(np.float64)
        self._weights = np.ones(len(scores)) if weights is None else weights[self.order]

    def curve(self, times: Floats | None = None) -> Curve:
        """The curve; with `times`, as if each row were there so many times."""
        weights = self._weights if times is None else self._weights * times[self.order]
        caught = np.cumsum(weights * self._fraud)[self.ends]
        accused = np.cumsum(weights * (1 - self._fraud))[self.ends]
        return Curve(self._thresholds, caught, accused)

    def total(self, values: Floats, times: Floats | None = None) -> Floats:
        """Sum of some value of the rows at or above each threshold of the curve."""
        weights = self._weights if times is None else self._weights * times[self.order]
        sums: Floats = np.cumsum(weights * values[self.order])[self.ends]
        return sums


Statistic = Callable[[Floats | None], float]
"""A number of rows of which each is there so many times; None: once."""


def bootstrap(
    statistics: Mapping[str, Statistic], clusters: Ints, *, rounds: int = ROUNDS, seed: int = 7
) -> dict[str, tuple[float, float]]:
    """Intervals of statistics when whole clusters are drawn with replacement.

    Payments of one customer go together: drawn apart they would look like more evidence than they are.

    Args:
        statistics: By name.
        clusters: Cluster of each row, a number from 0; rows of -1 are clusters of their own.
        rounds: Resamples.
        seed: The same seed draws the same.
    """
    places = clusters.copy()
    alone = places < 0
    places[alone] = places.max(initial=-1) + 1 + np.arange(int(alone.sum()))
    _, places = np.unique(places, return_inverse=True)
    count = int(places.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in statistics}
    for _ in range(rounds):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[places].astype(np.float64)
        for name, statistic in statistics.items():
            found[name].append(statistic(times))
    edge = (1 - LEVEL) / 2
    return {
        name: (float(np.quantile(values, edge)), float(np.quantile(values, 1 - edge))) for name, values in found.items()
    }


def summary(
    ranking: Ranking, clusters: Ints, *, budget: float, rounds: int = ROUNDS, seed: int = 7
) -> dict[str, dict[str, Any]]:
    """The usual numbers of a ranking, each with its interval.

    Args:
        ranking: Of test rows.
        clusters: Customer or card of each row.
        budget: Alerts that people can look at over the whole of the rows.
        rounds: Resamples; 0: no intervals.
        seed: Of the resamples.
    """
    readings: dict[str, Callable[[Curve], float]] = {
        "ap": lambda curve: curve.average_precision,
        "auc": lambda curve: curve.auc,
        "f1": lambda curve: curve.f1,
        "recall_at_fpr_0.001": lambda curve: curve.recall_at(0.001),
        "recall_at_fpr_0.005": lambda curve: curve.recall_at(0.005),
        "recall_at_fpr_0.01": lambda curve: curve.recall_at(0.01),
        "recall_at_precision_0.5": lambda curve: curve.recall_with(0.5),
        "recall_at_precision_0.9": lambda curve: curve.recall_with(0.9),
        "precision_at_budget": lambda curve: curve.precision_of(budget),
    }
    whole = ranking.curve()
    found: dict[str, dict[str, Any]] = {name: {"value": read(whole)} for name, read in readings.items()}
    if rounds:
        for name, (low, high) in _of_curves(ranking, readings, clusters, rounds, seed).items():
            found[name] |= {"low": low, "high": high}
    return found


def _of_curves(
    ranking: Ranking, readings: Mapping[str, Callable[[Curve], float]], clusters: Ints, rounds: int, seed: int
) -> dict[str, tuple[float, float]]:
    """`bootstrap` of several readings of the same curve, which is made once a round."""
    held: list[Curve] = []

    def first(times: Floats | None) -> float:
        held[:] = [ranking.curve(times)]
        return 0.0

    def reader(read: Callable[[Curve], float]) -> Statistic:
        return lambda _times: read(held[0])

    others = {name: reader(read) for name, read in readings.items()}
    found = bootstrap({"": first, **others}, clusters, rounds=rounds, seed=seed)
    return {name: interval for name, interval in found.items() if name}
