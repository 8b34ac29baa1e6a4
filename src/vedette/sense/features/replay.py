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

CHUNK = 1 << 18
"""Rows taken at a time: enough for most entities to have several, few enough for what is computed to fit memory."""


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
    total, width = len(columns.rows), int(state.plan.ops[:, layout.O_OUT].max()) + 1
    state.room_entities(columns.entities)
    state.entities = columns.entities
    for first in range(0, total, chunk):
        stop = min(first + chunk, total)
        mine = want[first:stop]
        slots = np.where(mine, np.cumsum(mine) - 1, -1)
        out = np.empty((int(mine.sum()), width))
        # Labels are in the order of their places: those of these rows follow those of the rows before.
        due = known[slice(*np.searchsorted(known[:, 0], [first or -1, stop]))]
        for view in range(len(state.plan.views)):
            _run_view(state, columns.rows, due, view=view, first=first, slots=slots, out=out)
        kernel.run_ratios(state.plan.views, state.plan.ops, out)
        yield out
        if progress:
            progress(stop, total)


def _run_view(state: State, rows: Ints, due: Ints, *, view: int, first: int, slots: Ints, out: Floats) -> None:
    """One view over rows from `first` on, entity by entity."""
    plan = state.plan
    column = layout.R_VIEWS + view * plan.stride
    entities = rows[first : first + len(slots), column]
    tables = (plan.views, view, plan.ops, state.scratch)
    if (entities < 0).any():
        kernel.run_plain(state.pool, state.lpool, state.ent, *tables, rows, first, slots, out)
    order = np.argsort(entities, kind="stable")
    order = order[np.searchsorted(entities[order], 0) :]
    owners = rows[due[:, 2], column] if plan.views[view, layout.V_LABELS] else np.zeros(0, np.int64)
    labels = due[: len(owners)]
    by_owner = np.argsort(owners, kind="stable")
    labels, owners = labels[by_owner], owners[by_owner]
    at = label = 0
    while at < len(order) or label < len(labels):
        state.room()
        at, label = kernel.run_view(
            *(state.pool, state.heads, state.lpool, state.lheads, state.ent, plan.views, plan.ops, plan.cols),
            *(state.scratch, rows, view, order + first, labels, owners, at, label),
            *(slots, first, out, plan.slack),
        )
