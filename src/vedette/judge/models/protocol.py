"""How a fraud model is trained and judged: which rows, and which numbers.

A day is a UTC date. T is the first test day and D the days until a label is known. Training rows are the N days that
end at T - D - 1: between them and T lie D days whose labels nobody knows yet. Test rows are those of T and the days
after it, less those of customers already known to be compromised.

Source: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vedette.core.clock import DAY

KNOWN_BEFORE = 7
"""Days before the oldest label that is still unknown at T from which a fraud makes its customer known compromised."""
TOP = 100
"""Customers that investigators can look at in a day."""
FALSE_POSITIVE_RATES = ("0.001", "0.005", "0.01")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def to_days(times: Ints) -> Ints:
    """Days since 1970-01-01 of times in microseconds."""
    days: Ints = times // DAY
    return days


def train_rows(days: Ints, *, start: int, count: int) -> Mask:
    """Rows of `count` days from `start`."""
    rows: Mask = (days >= start) & (days < start + count)
    return rows


def judged_rows(days: Ints, customers: Ints, fraud: Ints, *, start: int, count: int, delay: int) -> Mask:
    """Rows of `count` days from `start`, less those of customers known to be compromised by the row's day.

    Known are frauds from day `start - 7 - delay` to the row's day less `delay + 1`.

    Args:
        days: Day of each row.
        customers: A number for each customer, from 0; -1 for rows without one, which are kept.
        fraud: 1 for fraud.
        start: First test day.
        count: Test days.
        delay: Days until a label is known.
    """
    rows = train_rows(days, start=start, count=count)
    # First day in the look-back on which each customer was defrauded: from then + delay on, everyone knows.
    counted = (fraud == 1) & (days >= start - KNOWN_BEFORE - delay) & (customers >= 0)
    first = np.full(int(customers.max(initial=-1)) + 2, np.iinfo(np.int64).max)
    np.minimum.at(first, customers[counted], days[counted])
    known: Mask = first[customers] <= days - delay - 1
    return rows & ~known


def evaluate(scores: Floats, fraud: Ints, days: Ints, customers: Ints) -> dict[str, Any]:
    """Everything that is reported about a model's scores of test rows.

    Ranges: every number is 0..1. `naive_baseline` is the model that calls everything genuine.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    base = float(fraud.mean()) if len(fraud) else 0.0
    both = 0 < base < 1
    return {
        "ap": float(average_precision_score(fraud, scores)) if both else base,
        "auc": float(roc_auc_score(fraud, scores)) if both else 0.5,
        "cp100": card_precision(scores, fraud, days, customers),
        "recall_at_fpr": {rate: recall_at(scores, fraud, float(rate)) for rate in FALSE_POSITIVE_RATES},
        "base_rate": base,
        "naive_baseline": {"accuracy": 1 - base, "ap": base, "recall": 0.0},
    }


def recall_at(scores: Floats, fraud: Ints, rate: float) -> float:
    """Largest share of frauds caught by a threshold that accuses at most `rate` of the genuine rows."""
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], fraud[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    caught, accused = np.cumsum(truth)[ends], np.cumsum(1 - truth)[ends]
    frauds, genuine = int(truth.sum()), int((1 - truth).sum())
    allowed = caught[accused <= rate * genuine]
    return float(allowed.max() / frauds) if frauds and len(allowed) else 0.0


def card_precision(scores: Floats, fraud: Ints, days: Ints, customers: Ints, *, top: int = TOP) -> float:
    """Share of compromised customers among the `top` highest of a day, mean over days.

    A customer's score is that of its riskiest row of the day. Customers found on an earlier day are left out. Ties go
    to the lower customer number.
    """
    found: set[int] = set()
    shares = []
    for day in np.unique(days):
        rows = (days == day) & ~np.isin(customers, list(found))
        names, place = np.unique(customers[rows], return_inverse=True)
        best = np.full(len(names), -np.inf)
        guilty = np.zeros(len(names), np.int64)
        np.maximum.at(best, place, scores[rows])
        np.maximum.at(guilty, place, fraud[rows])
        highest = np.argsort(-best, kind="stable")[:top]
        shares.append(guilty[highest].sum() / top)
        found |= set(names[highest][guilty[highest] == 1].tolist())
    return float(np.mean(shares)) if shares else 0.0
