"""Drift: whether what a model sees and says is still what it was trained on, told before any label is known.

The population stability index of a feature or of the scores compares shares of bins with those of the training rows:
0.1 is worth watching, 0.25 asks for action. A feature that stopped arriving, froze, or left its range is named as
broken, whatever its index. What the model catches is estimated from its own calibrated probabilities.

Example:
    >>> round(stability(np.array([0.5, 0.5]), np.array([0.4, 0.6])), 4)
    0.0405
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.judge.models.metrics import Ranking
from vedette.judge.models.profile import MOST_DISTINCT, Bins, Profile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WATCH, ACT = 0.1, 0.25
"""Population stability index from which on drift is watched, and acted on."""
FLOOR = 1e-4
"""Least share of a bin: an empty one would make the index infinite."""
FEWEST = 500
"""Rows below which nothing is said: with few rows chance alone looks like drift."""
MISSING_JUMP = 0.2
"""More missing values than this, as a share of rows, beyond what training rows had: the feature broke."""
OUTSIDE = 0.05
"""So large a share of values outside the range of training, by more than that range: its unit changed."""
FROZEN = 10
"""A feature that had at least so many values in training and has one now is frozen."""


class Level(StrEnum):
    """How bad it is."""

    STEADY = "steady"
    WATCH = "watch"
    ACT = "act"
    BROKEN = "broken"


class Finding(msgspec.Struct, frozen=True):
    """What is said of one number."""

    name: str
    """A feature; `score`; `label` for the share of frauds."""
    level: Level
    index: float
    """Population stability index; of `label`, the difference in standard errors."""
    text: str


class Watched(msgspec.Struct, frozen=True):
    """What was seen since the last look."""

    rows: int
    findings: tuple[Finding, ...]
    """Worst first; steady ones are left out."""
    estimate: dict[str, Any]
    """Of precision, recall and average precision, from calibrated scores alone; empty without rows."""

    @property
    def level(self) -> Level:
        """The worst of them."""
        return self.findings[0].level if self.findings else Level.STEADY


_ORDER = {Level.BROKEN: 0, Level.ACT: 1, Level.WATCH: 2, Level.STEADY: 3}


def stability(expected: Floats, found: Floats) -> float:
    """Population stability index of two sets of shares.

    Source: Siddiqi, "Credit Risk Scorecards" (2006), chapter 9.
    """
    one, other = np.maximum(expected, FLOOR), np.maximum(found, FLOOR)
    return float(((other - one) * np.log(other / one)).sum())


class _Seen:
    """Counts of one number."""

    __slots__ = ("bins", "counts", "high", "low", "outside", "values")

    def __init__(self, bins: Bins) -> None:
        self.bins = bins
        self.counts = np.zeros(len(bins.shares), np.int64)
        self.low, self.high = np.inf, -np.inf
        self.outside = 0

    def add(self, values: Floats) -> None:
        self.counts += self.bins.count(values)
        held = values[~np.isnan(values)]
        if len(held):
            self.low, self.high = min(self.low, float(held.min())), max(self.high, float(held.max()))
            room = self.bins.high - self.bins.low
            self.outside += int(((held > self.bins.high + room) | (held < self.bins.low - room)).sum())


class Watch:
    """Counts what a model sees and says. Memory: a few hundred numbers, and the scores since the last look.

    Args:
        profile: Of the model.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self._seen = {name: _Seen(bins) for name, bins in self._profile.features.items()}
        self._score = _Seen(self._profile.scores)
        self._scores: list[Floats] = []
        self._labels = self._frauds = 0
        self.rows = 0

    def add(self, vectors: Floats, scores: Floats) -> None:
        """Takes rows that were scored.

        Args:
            vectors: In the order of the profile's features, NaN where missing.
            scores: Calibrated.
        """
        for seen, column in zip(self._seen.values(), vectors.T, strict=True):
            seen.add(column)
        self._score.add(scores)
        self._scores.append(scores)
        self.rows += len(scores)

    def learn(self, fraud: Ints) -> None:
        """Takes labels, of whatever rows they are."""
        self._labels += len(fraud)
        self._frauds += int(fraud.sum())

    def look(self, threshold: float | None = None) -> Watched:
        """What is to be said now.

        Args:
            threshold: Scores from which on payments are stopped, for the estimate; the profile's 99th percentile
                without it.
        """
        findings = list(self._findings())
        findings.sort(key=lambda one: (_ORDER[one.level], -one.index, one.name))
        scores = np.concatenate(self._scores) if self._scores else np.zeros(0)
        return Watched(self.rows, tuple(findings), estimate(scores, threshold) if len(scores) else {})

    def _findings(self) -> Iterable[Finding]:
        if self.rows >= FEWEST:
            for name, seen in self._seen.items():
                if found := _broken(name, seen, self.rows) or _drifted(name, seen, self.rows):
                    yield found
            if self._profile.scores.cuts and (found := _drifted("score", self._score, self.rows)):
                yield found
        if self._labels >= FEWEST and (found := self._label()):
            yield found

    def _label(self) -> Finding | None:
        base, rate = self._profile.base_rate, self._frauds / self._labels
        error = float(np.sqrt(max(base * (1 - base), 1e-12) * (1 / self._labels + 1 / max(1, self._profile.rows))))
        index = stability(np.array([base, 1 - base]), np.array([rate, 1 - rate]))
        z = abs(rate - base) / error
        # A share of a rare class hardly moves the index: what counts is that chance does not explain it, and its size.
        if z < 5 or not (rate > 1.5 * base or rate < base / 1.5):  # noqa: PLR2004 - standard errors
            return None
        level = Level.ACT if rate > 2 * base or rate < base / 2 else Level.WATCH
        return Finding("label", level, max(index, z), f"{rate:.3%} of payments are fraud, {base:.3%} in training")


def _broken(name: str, seen: _Seen, rows: int) -> Finding | None:
    bins, missing = seen.bins, seen.counts[-1] / rows
    index = stability(np.array(bins.shares), seen.counts / rows)
    if missing > bins.missing + MISSING_JUMP:
        return Finding(name, Level.BROKEN, index, f"{missing:.1%} missing, {bins.missing:.1%} in training")
    held = rows - int(seen.counts[-1])
    if held >= FEWEST and bins.distinct >= min(FROZEN, MOST_DISTINCT) and seen.low == seen.high:
        return Finding(name, Level.BROKEN, index, f"always {seen.low:.6g}, many values in training")
    if held and seen.outside > OUTSIDE * held and bins.high > bins.low:
        span = f"{bins.low:.6g} to {bins.high:.6g}"
        return Finding(name, Level.BROKEN, index, f"{seen.outside / held:.1%} far outside {span}: another unit?")
    return None


def _drifted(name: str, seen: _Seen, rows: int) -> Finding | None:
    index = stability(np.array(seen.bins.shares), seen.counts / rows)
    # What equal shares give by chance, with three standard deviations: small windows must not cry wolf.
    bins = len(seen.counts) - 1
    chance = (bins + 3 * np.sqrt(2 * bins)) / rows
    if index < WATCH + chance:
        return None
    level = Level.ACT if index >= ACT + chance else Level.WATCH
    place = int(np.argmax(np.abs(seen.counts / rows - np.array(seen.bins.shares))))
    share, before = seen.counts[place] / rows, seen.bins.shares[place]
    return Finding(name, level, index, f"{_range(seen.bins, place)}: {share:.1%} of rows, {before:.1%} in training")


def _range(bins: Bins, place: int) -> str:
    if place == len(bins.shares) - 1:
        return "missing"
    if not bins.cuts:
        return "any value"
    if place == 0:
        return f"at most {bins.cuts[0]:.6g}"
    if place == len(bins.cuts):
        return f"above {bins.cuts[-1]:.6g}"
    return f"{bins.cuts[place - 1]:.6g} to {bins.cuts[place]:.6g}"


def estimate(scores: Floats, threshold: float | None = None) -> dict[str, Any]:
    """What a model catches, from its calibrated probabilities alone, before any label is known.

    A payment of probability p counts as p frauds and 1 - p genuine payments. That is right as long as calibration
    holds: it sees a change of who pays, not a change of what fraud looks like.

    Source: "confidence-based performance estimation", as NannyML names it.

    Args:
        scores: Calibrated probabilities.
        threshold: From which on payments are stopped; the 99th percentile of the scores without it.
    """
    cut = float(np.quantile(scores, 0.99)) if threshold is None else threshold
    stop = scores >= cut
    expected = float(scores.sum())
    ranking = Ranking(np.concatenate([scores, scores]), _halves(len(scores)), np.concatenate([scores, 1 - scores]))
    return {
        "threshold": cut,
        "fraud_rate": float(scores.mean()),
        "precision": float(scores[stop].mean()) if stop.any() else 0.0,
        "recall": float(scores[stop].sum() / expected) if expected else 0.0,
        "false_positive_rate": float((1 - scores[stop]).sum() / max(1e-12, float((1 - scores).sum()))),
        "ap": ranking.curve().average_precision,
    }


def _halves(count: int) -> Ints:
    return np.concatenate([np.ones(count, np.int64), np.zeros(count, np.int64)])
