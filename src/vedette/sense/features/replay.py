"""Offline features: the online kernel over a history, in sequence order, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vedette.sense.features import kernel, layout
from vedette.sense.features.columns import Coding, Columns, to_columns
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.state import Floats, Ints, State, compile_plan
from vedette.sense.features.table import Labels, Progress
from vedette.sense.labels import places

CHUNK = 1 << 17
"""Rows taken at a time: enough for most entities to have several, few enough for what is computed to fit memory."""
RESERVED = 1 << 26
"""Words that the pools of a history start with: more than one that serves, so that growing them rarely copies any."""

W_OBSERVED, W_ROW, W_FRAUD, W_TIME, W_ENTITIES = range(5)
"""Columns of `Replay.waiting`: when it becomes known, row of its event, truth, time of its event, entities by view."""


class Replay:
    """Features of a history that is handed over in pieces, equal to the bit to those of the whole at once.

    Holds what the online engine would: the state of entities (`Plan.bytes_of` each), and of the labels of past rows
    those that are not known yet. Memory does not grow with rows. A piece costs some 8 bytes for each of its rows and
    columns, in and out.

    Args:
        features: Definitions.
    """

    def __init__(self, features: FeatureSet) -> None:
        self._features = features
        self._plan = compile_plan(features)
        self.state = State(self._plan, reserved=RESERVED)
        self.coding = Coding(features)
        self.rows = 0
        """Rows taken."""
        self.mark = int(layout.NEVER)
        """Newest event time."""
        self.stale = 0
        """Labels that become known too late to count."""
        self.waiting: Ints = np.zeros((0, W_ENTITIES + len(features.views)), np.int64)
        """Labels that time has not reached."""
        self.entities: Ints = np.zeros((0, len(features.views)), np.int64)
        """Entity rows of the last piece's events, view by view; -1 where there is none."""
        self.learned: Ints = np.zeros(0, np.int64)
        """Rows whose labels the last piece made known, in order."""

    def take(
        self,
        table: pa.Table,
        labels: Labels | None = None,
        wanted: npt.NDArray[np.bool_] | None = None,
        *,
        into: Floats | None = None,
    ) -> Floats:
        """Features of the next rows, and the state after them.

        Args:
            table: From `read_table`; the rows that follow those of before.
            labels: Of these rows, which are counted from 0.
            wanted: Rows to give features of; all without it. Every row updates the state either way.
            into: What an earlier call gave and nobody needs any more: is written over where it has room.
        """
        plan, state = self._plan, self.state
        columns = to_columns(table, self._features, self.coding, room=len(self.waiting))
        due = self._due(columns, labels)
        state.room_entities(self.coding.count)
        state.entities = self.coding.count
        mine = np.ones(columns.count, np.bool_) if wanted is None else wanted
        slots = np.where(mine, np.cumsum(mine) - 1, -1)
        given = int(mine.sum())
        out = np.empty((given, len(self._features.names))) if into is None or len(into) < given else into[:given]
        for view in range(len(plan.views)):
            _run_view(state, columns, due, view=view, slots=slots, out=out)
        kernel.run_ratios(plan.views, plan.ops, out)
        self.entities = columns.rows[: columns.count, layout.R_VIEWS :: plan.stride].copy()
        # The kernel has taken the entities from events that came too late: their labels count as little.
        own = self.waiting[:, W_ROW] >= self.rows
        self.waiting[own, W_ENTITIES:] = self.entities[self.waiting[own, W_ROW] - self.rows]
        self.rows += columns.count
        return out

    def _due(self, columns: Columns, labels: Labels | None) -> Ints:
        """Labels that become known among these rows, `[place, observed, row, fraud]`, in that order.

        Events of earlier pieces are put behind those of this one, for the kernel to find their time and entities.
        """
        if labels is not None and len(labels.rows):
            self.waiting = np.concatenate([self.waiting, self._usable(columns, labels)])
        place = places(
            columns.times, observed=self.waiting[:, W_OBSERVED], rows=self.waiting[:, W_ROW] - self.rows, mark=self.mark
        )
        self.mark = int(columns.times.max(initial=self.mark))
        known = place < columns.count
        found, place = self.waiting[known], place[known]
        self.waiting = self.waiting[~known]
        order = np.lexsort((found[:, W_ROW], found[:, W_OBSERVED], place))
        found, place = found[order], place[order]
        self.learned = np.sort(found[:, W_ROW])
        row = found[:, W_ROW] - self.rows
        past = np.flatnonzero(row < 0)
        row[past] = behind = np.arange(columns.count, columns.count + len(past))
        columns.rows[behind, layout.R_TIME] = found[past, W_TIME]
        columns.rows[behind, layout.R_VIEWS :: self._plan.stride] = found[past, W_ENTITIES:]
        return np.ascontiguousarray(np.stack([place, found[:, W_OBSERVED], row, found[:, W_FRAUD]], axis=1))

    def _usable(self, columns: Columns, labels: Labels) -> Ints:
        times = columns.times[labels.rows]
        usable = labels.observed - times <= self._features.label.keep
        self.stale += len(usable) - int(usable.sum())
        rows = labels.rows[usable]
        told = [labels.observed[usable], rows + self.rows, labels.fraud[usable], times[usable]]
        unknown = np.zeros((len(rows), len(self._features.views)), np.int64)
        return np.concatenate([np.stack(told, axis=1), unknown], axis=1)


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
    taking, total = Replay(features), len(table)
    ordered = labels and labels.taken(np.argsort(labels.rows, kind="stable"))
    for first in range(0, total, chunk):
        stop = min(first + chunk, total)
        own = ordered and ordered.between(first, stop)
        yield taking.take(table.slice(first, chunk), own, None if wanted is None else wanted[first:stop])
        if progress:
            progress(stop, total)


def _run_view(state: State, columns: Columns, due: Ints, *, view: int, slots: Ints, out: Floats) -> None:
    """One view over all rows, entity by entity."""
    plan, rows = state.plan, columns.rows
    column = layout.R_VIEWS + view * plan.stride
    entities = rows[: columns.count, column]
    tables = (plan.views, view, plan.ops, state.scratch)
    if (entities < 0).any():
        kernel.run_plain(state.pool, state.lpool, state.ent, *tables, rows, 0, slots, out)
    order = kernel.by_entity(entities, state.entities)
    owners = rows[due[:, 2], column] if plan.views[view, layout.V_LABELS] else np.zeros(0, np.int64)
    labels = due[: len(owners)]
    by_owner = np.argsort(owners, kind="stable")
    labels, owners = labels[by_owner], owners[by_owner]
    at = label = 0
    while at < len(order) or label < len(labels):
        state.room()
        at, label = kernel.run_view(
            *(state.pool, state.heads, state.lpool, state.lheads, state.ent, plan.views, plan.ops, plan.cols),
            *(state.scratch, rows, view, order, labels, owners, at, label),
            *(slots, 0, out, plan.slack),
        )
