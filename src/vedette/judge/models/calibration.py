"""Beta calibration: from a raw score to a probability, without changing the order of scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """`logit(score) = a ln p - b ln(1 - p) + c`, p the sigmoid of the raw score; a and b are not negative.

    Source: Kull, Silva Filho, Flach, "Beta calibration" (AISTATS 2017).
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def score(self, raw: float) -> float:
        """Probability of fraud, 0..1, rising with `raw` (log odds)."""
        return _sigmoid(self.c - self.a * _softplus(-raw) + self.b * _softplus(raw))


def _softplus(x: float) -> float:
    """`ln(1 + e^x)` without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))


def fit_calibration(raws: Floats, fraud: npt.NDArray[np.int64]) -> Calibration:
    """Calibration from raw scores of rows that their model was not trained on.

    With no fraud, or nothing but fraud, there is nothing to learn: the sigmoid stays as it is.
    """
    from sklearn.linear_model import LogisticRegression

    if fraud.min() == fraud.max():
        return Calibration()
    columns = np.stack([-np.logaddexp(0, -raws), np.logaddexp(0, raws)], axis=1)
    used = [0, 1]
    while used:
        model = LogisticRegression(C=1e6, max_iter=1_000).fit(columns[:, used], fraud)
        weights = [float(weight) for weight in model.coef_[0]]
        if min(weights) >= 0:
            found = dict(zip(used, weights, strict=True))
            return Calibration(found.get(0, 0.0), found.get(1, 0.0), float(model.intercept_[0]))
        used.pop(int(np.argmin(weights)))
    return Calibration()
