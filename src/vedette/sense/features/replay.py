"""Offline features: the online kernel over a whole table, in sequence order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vedette.sense.features import kernel, layout
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.state import Floats, Ints, State, compile_plan
from vedette.sense.features.table import Columns, Labels, Progress, label_order, to_columns

CHUNK = 1 << 16
"""Rows between two reports of progress."""


def replay(
    features: FeatureSet,
    table: pa.Table,
    *,
    labels: Labels | None = None,
    wanted: npt.NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Features of a table's rows, equal to the bit to what `Engine` gives for the same events and labels in log order.

    Args:
        features: Definitions.
        table: From `read_table`; row order is log order.
        labels: From `to_labels`; without them label features are missing.
        wanted: Rows to return; all without it. Every row updates the state either way.
        progress: Called now and then with rows done and rows in all.

    Returns:
        One row per wanted row, one column per feature; 8 bytes each.
    """
    parts = list(replay_parts(features, table, labels=labels, wanted=wanted, progress=progress))
    return np.concatenate(parts) if parts else np.empty((0, len(features.names)))


def replay_parts(
    features: FeatureSet,
    table: pa.Table,
    *,
    labels: Labels | None = None,
    wanted: npt.NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> Iterator[Floats]:
    """The rows of `replay` in parts that fit memory."""
    plan = compile_plan(features)
    columns = to_columns(table, features)
    known = np.zeros((0, 4), np.int64) if labels is None else label_order(labels, columns, keep=features.label.keep)
    want = np.ones(len(table), np.bool_) if wanted is None else wanted
    yield from advance(State(plan), columns, known, want, chunk=chunk, progress=progress)


def advance(
    state: State,
    columns: Columns,
    known: Ints,
    want: npt.NDArray[np.bool_],
    *,
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> Iterator[Floats]:
    """Takes all of a table into an empty state; gives the features of the wanted rows, in parts.

    Args:
        state: Changed as rows are taken.
        columns: The table.
        known: Labels from `label_order`. Those whose place is behind the last row are not taken.
        want: Rows to give features of.
        chunk: Rows of a part.
        progress: Called after each part with rows done and rows in all.
    """
    plan, total = state.plan, len(columns.rows)
    state.room_entities(columns.entities)
    state.entities = columns.entities
    at = label = 0
    while at < total:
        stop = min(at + chunk, total)
        out = np.empty((int(want[at:stop].sum()), int(plan.ops[:, layout.O_OUT].max()) + 1))
        filled = 0
        while at < stop:
            state.room()
            at, label, filled = kernel.run(
                *(state.pool, state.heads, state.lpool, state.lheads, state.ent),
                *(plan.views, plan.ops, plan.cols, state.scratch),
                *(columns.rows, known, at, label, stop, want, out, filled, plan.slack),
            )
        yield out
        if progress:
            progress(at, total)
