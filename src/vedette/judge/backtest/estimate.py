"""Estimates of what nobody can count: how much fraud a stop prevents, and how many honest payers it hits.

A curve gives the probability of fraud for a score. It is learned, rising, on payments whose truth is known; where too
few are known the model's own calibrated score is taken. Expected counts are sums of probabilities, and their intervals
those of a sum of independent draws; they do not cover what the curve itself has wrong.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

MIN_FRAUDS = 50
"""Fewest known frauds, and fewest known genuine payments, from which a curve is learned."""
Z95 = 1.959964

Floats = npt.NDArray[np.float64]


class Curve(msgspec.Struct, frozen=True):
    """Score -> probability of fraud."""

    scores: tuple[float, ...] = ()
    """Rising knots; none: the score itself is the probability."""
    rates: tuple[float, ...] = ()
    known: int = 0
    """Payments whose truth was known."""
    frauds: int = 0

    def at(self, scores: Floats) -> Floats:
        """Probabilities of fraud, 0..1."""
        found: Floats = np.interp(scores, self.scores, self.rates) if self.scores else np.clip(scores, 0.0, 1.0)
        return found


def learn_curve(scores: Sequence[float], frauds: Sequence[bool]) -> Curve:
    """A rising curve over payments whose truth is known.

    Args:
        scores: Of each, 0..1.
        frauds: The truth of each.
    """
    known, found = len(scores), sum(frauds)
    if min(found, known - found) < MIN_FRAUDS:
        return Curve(known=known, frauds=found)
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(np.asarray(scores), np.asarray(frauds, np.float64))
    return Curve(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()), known, found)


class Estimate(msgspec.Struct, frozen=True):
    """What stopping some payments is worth."""

    payments: int
    """Those with a score."""
    frauds: float
    """Expected."""
    genuine: float
    genuine_low: float
    """95 % interval."""
    genuine_high: float
    wrong_share: float
    """Expected share of genuine payments among them, 0..1."""
    false_positive_rate: float
    """Expected share of all genuine payments that they are, 0..1."""
    prevented: dict[str, int]
    """Currency -> minor units of expected fraud among them."""
    lost: dict[str, int]
    """Currency -> minor units of expected genuine payments among them."""


def estimate(
    curve: Curve, scores: Sequence[float], money: Iterable[tuple[int, str] | None], *, genuine: float
) -> Estimate | None:
    """What stopping these payments is worth; None when none has a score.

    Args:
        curve: From `learn_curve`.
        scores: Of the payments.
        money: Amount in minor units and currency of each.
        genuine: Expected genuine payments of the whole past.
    """
    if not scores:
        return None
    chances = curve.at(np.asarray(scores, np.float64))
    good = float((1 - chances).sum())
    spread = Z95 * math.sqrt(float((chances * (1 - chances)).sum()))
    prevented: dict[str, float] = defaultdict(float)
    lost: dict[str, float] = defaultdict(float)
    for chance, held in zip(chances.tolist(), money, strict=True):
        if held:
            prevented[held[1]] += chance * held[0]
            lost[held[1]] += (1 - chance) * held[0]
    count = len(scores)
    return Estimate(
        payments=count,
        frauds=round(count - good, 2),
        genuine=round(good, 2),
        genuine_low=round(max(0.0, good - spread), 2),
        genuine_high=round(min(count, good + spread), 2),
        wrong_share=round(good / count, 6),
        false_positive_rate=round(good / genuine, 8) if genuine else 0.0,
        prevented=_rounded(prevented),
        lost=_rounded(lost),
    )


def _rounded(amounts: Mapping[str, float]) -> dict[str, int]:
    return {currency: round(minor) for currency, minor in sorted(amounts.items())}
