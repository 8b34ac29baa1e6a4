"""Profile: how a model's inputs and scores lay when it was trained, small enough to stand beside it.

Each feature has ten bins of equally many training rows, and one more for missing values; scores have bins of their own
that part the rare high ones. What serves later is counted into the same bins and compared (`drift`).

Example:
    >>> import numpy as np
    >>> x, scores = np.arange(100.0), np.linspace(0, 1, 100)
    >>> profile = make_profile(x.reshape(-1, 1), scores, np.zeros(100, int), names=("x",))
    >>> [round(share, 2) for share in profile.features["x"].shares]
    [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.core.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 10
SCORE_BINS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Shares of rows below the cuts between bins of scores."""
FORMAT = 1


class Bins(msgspec.Struct, frozen=True):
    """How one number lay."""

    cuts: tuple[float, ...]
    """A value of at most the first is in the first bin, and so on; above the last: the last but one."""
    shares: tuple[float, ...]
    """Of rows in each bin; the last one is of missing values."""
    distinct: int = 0
    """Different values among the rows, at most `MOST_DISTINCT`."""
    low: float = 0.0
    high: float = 0.0
    """Smallest and largest value that was not missing."""

    def count(self, values: Floats) -> Ints:
        """Rows in each bin."""
        bins = np.searchsorted(np.array(self.cuts), values, side="left")
        bins[np.isnan(values)] = len(self.cuts) + 1
        return np.bincount(bins, minlength=len(self.shares)).astype(np.int64)

    @property
    def missing(self) -> float:
        """Share of missing values."""
        return self.shares[-1]


MOST_DISTINCT = 1_000


class Profile(msgspec.Struct, frozen=True):
    """What a model's inputs and scores were like."""

    features: Mapping[str, Bins]
    scores: Bins
    """Of calibrated scores of rows that their scorer was not trained on."""
    base_rate: float
    rows: int
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self, order="deterministic") + b"\n"


def make_profile(
    vectors: Floats, scores: Floats, fraud: Ints, *, names: Sequence[str], weights: Floats | None = None
) -> Profile:
    """The profile of training rows.

    Args:
        vectors: One row per event, NaN where missing.
        scores: Calibrated, of some of the rows.
        fraud: 1 for fraud.
        names: Of the features.
        weights: How many payments each row stands for; only the base rate counts them.
    """
    shares = np.linspace(0, 1, BINS + 1)[1:-1]
    return Profile(
        {name: _bins(column, shares) for name, column in zip(names, vectors.T, strict=True)},
        _bins(scores, np.array(SCORE_BINS)),
        float(np.average(fraud, weights=weights)),
        len(vectors),
    )


def read_profile(content: bytes, *, at: str = "") -> Profile:
    """A profile from its file.

    Raises:
        DataError: `model.profile.invalid`.
    """
    try:
        profile = msgspec.json.decode(content, type=Profile)
    except msgspec.MsgspecError as error:
        raise DataError("model.profile.invalid", "no profile of a model", at=at) from error
    bins = (profile.scores, *profile.features.values())
    if profile.format != FORMAT or any(len(one.shares) != len(one.cuts) + 2 for one in bins):
        raise DataError("model.profile.invalid", "the profile is damaged, or of another version", at=at)
    return profile


def _bins(values: Floats, shares: Floats) -> Bins:
    held = values[~np.isnan(values)]
    if not len(held):
        return Bins((), (0.0, 1.0 if len(values) else 0.0))
    cuts = np.unique(np.quantile(held, shares, method="lower"))
    cuts = cuts[cuts < held.max()]
    empty = Bins(tuple(cuts.tolist()), (0.0,) * (len(cuts) + 2))
    counts = empty.count(values) / len(values)
    distinct = min(len(np.unique(held)), MOST_DISTINCT)
    return Bins(empty.cuts, tuple(counts.tolist()), distinct, float(held.min()), float(held.max()))
