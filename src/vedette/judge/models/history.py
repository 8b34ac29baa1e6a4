"""Labelled history and what training and judging need of it: days, customers, truth, money, kinds of fraud, weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.judge.models import protocol
from vedette.sense.features import kernel
from vedette.sense.features.columns import to_columns
from vedette.sense.features.feature import MICRO, Aggregation, FeatureSet, Field
from vedette.sense.features.replay import replay
from vedette.sense.features.table import event_times, to_labels
from vedette.sense.features.values import to_scaled

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Report = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps in all."""

MAX_KINDS = 50
"""Most kinds of fraud that are told apart."""
LEAST_PROPENSITY = 0.001
"""A payment let through less often than this would outweigh a thousand others: it is refused."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Reports to nobody."""


@dataclass(frozen=True, slots=True)
class Extras:
    """Columns of the history that no feature reads."""

    kind: str = ""
    """Kind of fraud, such as `card_testing`; empty, `0` or nothing for a genuine payment."""
    propensity: str = ""
    """Probability with which the payment was let through, above 0 to 1; nothing counts as 1."""
    segment: str = ""
    """What the report tells apart, such as the merchant's country."""


@dataclass(frozen=True, slots=True)
class History:
    """A labelled table and what the protocol needs of it. One entry per row."""

    table: pa.Table
    days: Ints
    """Since 1970-01-01."""
    customers: Ints
    """Number of the first keyed view's entity; -1 without one."""
    fraud: Ints
    """1 fraud, 0 genuine, -1 not labelled."""
    amounts: Floats
    """Minor units; 0 where the definitions name no amount of money."""
    kinds: npt.NDArray[np.object_] | None
    """Kind of fraud of each row; None when the history does not tell."""
    weights: Floats | None
    """How many payments each row stands for: 1 / propensity; None when all stand for themselves."""
    segments: npt.NDArray[np.object_] | None = None
    """Segment of each row; None when none is asked for."""

    def weights_of(self, rows: Mask) -> Floats | None:
        """Weights of some rows."""
        return None if self.weights is None else self.weights[rows]


def reading(features: FeatureSet, extras: Extras) -> FeatureSet:
    """The definitions with what else is to be read from the files; the features stay what they are."""
    named = ((extras.kind, 0), (extras.propensity, MICRO), (extras.segment, 0))
    more = [Field(f"_{name}", name, scale) for name, scale in named if name]
    return dataclasses.replace(features, fields=(*features.fields, *more))


def to_history(table: pa.Table, features: FeatureSet, extras: Extras = Extras()) -> History:
    """History from `read_table`.

    Raises:
        DataError: `model.features.entity`, `model.history.kinds`, `model.history.propensity`.
    """
    view = next((place for place, view in enumerate(features.views) if view.key), None)
    if view is None:
        raise DataError("model.features.entity", "the protocol needs a view with a key")
    columns = to_columns(table, features)
    stride = (columns.rows.shape[1] - kernel.R_VIEWS) // len(features.views)
    labels = to_labels(table, features, delay=0)
    fraud = np.full(len(table), -1, np.int64)
    fraud[labels.rows] = labels.fraud
    return History(
        table,
        protocol.to_days(event_times(table, features)),
        columns.rows[:, kernel.R_VIEWS + view * stride].copy(),
        fraud,
        _amounts(table, features),
        _kinds(table, extras.kind) if extras.kind else None,
        _weights(table, extras.propensity) if extras.propensity else None,
        _kinds(table, extras.segment) if extras.segment else None,
    )


def _amounts(table: pa.Table, features: FeatureSet) -> Floats:
    """Minor units, from the first feature that is an amount of money."""
    for feature in (feature for view in features.views for feature in view.features):
        if feature.aggregation is Aggregation.VALUE and feature.measure is not None:
            field = features.fields[feature.measure.field]
            if field.scale not in (0, MICRO):
                column: Any = table[field.path]
                values = np.array([to_scaled(value, field.scale) for value in column.to_pylist()], np.float64)
                return np.where(values == kernel.MISSING, 0.0, values)
    return np.zeros(len(table))


def _kinds(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    column = [_kind(value) for value in table[name].to_pylist()]
    if len(set(column)) > MAX_KINDS:
        raise DataError("model.history.kinds", f"`{name:.80}` has more than {MAX_KINDS} values")
    return np.array(column, object)


def _kind(value: object) -> str:
    return "" if value in (None, 0, "0", "") else str(value)[:80]


def _weights(table: pa.Table, name: str) -> Floats:
    shares = np.array([1.0 if value is None else value for value in table[name].to_pylist()], np.float64)
    if not ((shares >= LEAST_PROPENSITY) & (shares <= 1)).all():
        raise DataError(
            "model.history.propensity", f"`{name:.80}` holds shares that are not {LEAST_PROPENSITY}..1", at=name[:80]
        )
    weights: Floats = 1 / shares
    return weights


def features_of(history: History, features: FeatureSet, wanted: Mask, *, delay: int, report: Report = silent) -> Floats:
    """Features of the wanted rows. Rows after the last of them are not read at all.

    Args:
        history: The rows.
        features: Definitions.
        wanted: Which rows.
        delay: Microseconds from an event until its label may enter a feature.
        report: Called with progress.
    """
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


def trained_rows(history: History, *, start: int, days: int) -> Mask:
    """Labelled rows of the training days."""
    return protocol.train_rows(history.days, start=start, count=days) & (history.fraud >= 0)


def judged_rows(history: History, *, start: int, days: int, delay: int) -> Mask:
    """Labelled rows of the test days, by the protocol.

    Args:
        history: The rows.
        start: First test day.
        days: Test days.
        delay: Microseconds until a label is known; rounded up to days.

    Raises:
        DataError: `model.test.rows` when there are none.
    """
    rows = protocol.judged_rows(
        history.days, history.customers, history.fraud, start=start, count=days, delay=-(-delay // DAY)
    ) & (history.fraud >= 0)
    if not rows.any():
        raise DataError("model.test.rows", "the events hold no labelled rows of the test days")
    return rows
