"""Calibration: from a raw score to a probability, without changing the order of scores.

Example:
    >>> Calibration(knots=((-1.0, 0.0), (1.0, 0.5))).score(0.0)
    0.25
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vedette.judge.models.learners import Method

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MAX_KNOTS = 1_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """`logit(score) = a ln p - b ln(1 - p) + c`, p the sigmoid of the raw score; a and b are not negative.

    Source: Kull, Silva Filho, Flach, "Beta calibration" (AISTATS 2017).
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    """Raw scores and their probabilities, rising, with straight lines between: they count in place of a, b and c."""

    def score(self, raw: float) -> float:
        """Probability of fraud, 0..1, rising with `raw` (log odds), or level between knots."""
        if self.knots:
            return self._between(raw)
        return _sigmoid(self.c - self.a * _softplus(-raw) + self.b * _softplus(raw))

    def scores(self, raws: Floats) -> Floats:
        """`score` of each."""
        return np.array([self.score(raw) for raw in raws.tolist()])

    def _between(self, raw: float) -> float:
        place = bisect.bisect_right(self.knots, raw, key=lambda knot: knot[0])
        if place == 0 or place == len(self.knots):
            return self.knots[min(place, len(self.knots) - 1)][1]
        (left, low), (right, high) = self.knots[place - 1], self.knots[place]
        return min(high, low + (high - low) * ((raw - left) / (right - left)))


def _softplus(x: float) -> float:
    """`ln(1 + e^x)` without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))


def fit_calibration(
    raws: Floats, fraud: Ints, *, weights: Floats | None = None, method: Method = Method.BETA
) -> Calibration:
    """Calibration from raw scores of rows that their model was not trained on.

    With no fraud, or nothing but fraud, there is nothing to learn: the sigmoid stays as it is.

    Args:
        raws: Raw scores.
        fraud: 1 for fraud, 0 for genuine, at their true rate: what training did about rare frauds is put right here.
        weights: How many payments of the traffic each row stands for.
        method: Beta has three numbers; isotonic follows the data more closely and ties scores of a level.
    """
    if fraud.min() == fraud.max():
        return Calibration()
    if method is Method.ISOTONIC:
        return _isotonic(raws, fraud, weights)
    from sklearn.linear_model import LogisticRegression

    columns = np.stack([-np.logaddexp(0, -raws), np.logaddexp(0, raws)], axis=1)
    used = [0, 1]
    while used:
        model = LogisticRegression(C=1e6, max_iter=1_000).fit(columns[:, used], fraud, sample_weight=weights)
        found = [float(weight) for weight in model.coef_[0]]
        if min(found) >= 0:
            held = dict(zip(used, found, strict=True))
            return Calibration(held.get(0, 0.0), held.get(1, 0.0), float(model.intercept_[0]))
        used.pop(int(np.argmin(found)))
    return Calibration()


def _isotonic(raws: Floats, fraud: Ints, weights: Floats | None) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0).fit(raws, fraud, sample_weight=weights)
    x, y = model.X_thresholds_, model.y_thresholds_
    if len(x) > MAX_KNOTS:
        keep = np.unique(np.linspace(0, len(x) - 1, MAX_KNOTS).astype(int))
        x, y = x[keep], y[keep]
    return Calibration(knots=tuple(zip(x.tolist(), y.tolist(), strict=True)))


def reliability(scores: Floats, fraud: Ints, *, weights: Floats | None = None, bins: int = 15) -> dict[str, Any]:
    """How well probabilities agree with what came.

    Bins hold equally many of the rows with the same score order, so that the rare high scores get bins of their own:
    half of the bins split the rows below the 99th percentile, the other half those above.

    Returns:
        `bins`: mean score, share of frauds and rows of each; `ece`: mean distance of the two, by rows; `bias`: mean
        score less share of frauds.
    """
    if not len(scores):
        return {"bins": [], "ece": 0.0, "bias": 0.0}
    held = np.ones(len(scores)) if weights is None else weights
    half = bins // 2
    shares = np.concatenate([np.linspace(0, 0.99, bins - half, endpoint=False), np.linspace(0.99, 1, half + 1)])
    edges = np.unique(np.quantile(scores, shares))
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, max(0, len(edges) - 2))
    rows = np.bincount(place, held)
    full = rows > 0
    said = np.bincount(place, held * scores)[full] / rows[full]
    came = np.bincount(place, held * fraud)[full] / rows[full]
    count = rows[full]
    found = [
        {"score": float(each), "fraud": float(rate), "rows": float(number)}
        for each, rate, number in zip(said, came, count, strict=True)
    ]
    ece = float((np.abs(said - came) * count).sum() / count.sum())
    return {"bins": found, "ece": ece, "bias": float(((said - came) * count).sum() / count.sum())}
