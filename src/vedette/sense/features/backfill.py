"""Backfill: the online engine as labelled history leaves it, made by the offline kernel over the whole table."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vedette.core.errors import DataError
from vedette.core.label import Label
from vedette.sense.features import layout
from vedette.sense.features.engine import Engine, History
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.replay import advance
from vedette.sense.features.state import State, compile_plan
from vedette.sense.features.table import Columns, Labels, Progress, label_order, to_columns, to_labels
from vedette.sense.features.values import to_key

Mask = npt.NDArray[np.bool_]


def backfill(
    features: FeatureSet, table: pa.Table, *, delay: int, until: int, progress: Progress | None = None
) -> Engine:
    """An engine that knows the table, equal to the bit to one that took its events and labels one by one.

    Args:
        features: Definitions.
        table: From `read_table`; row order is log order. Rows without an id take no label later.
        delay: Microseconds from an event until its label is known.
        until: Labels known after this time are left out: they have not come yet. Microseconds UTC.
        progress: Called now and then with rows done and rows in all.

    Raises:
        DataError: `features.backfill.duplicate` when two rows have one id; `features.table.column`.
    """
    ids = _event_ids(table, features)
    labels = _known(to_labels(table, features, delay=delay), ids, until)
    columns = _numbered(to_columns(table, features), features)
    order = label_order(labels, columns, keep=features.label.keep)
    behind = int(np.searchsorted(order[:, 0], len(table)))
    state = State(compile_plan(features))
    for _ in advance(state, columns, order, np.zeros(len(table), np.bool_), progress=progress):
        pass
    labelled = np.zeros(len(table), np.bool_)
    labelled[order[:behind, 2]] = True
    engine = Engine(features)
    mark = int(columns.times.max(initial=layout.NEVER))
    events = _awaiting(features, columns, ids, ~labelled, mark)
    stale = len(labels.rows) - len(order)
    engine.adopt(History(state, columns.ids, events, mark, stale=stale))
    for _, observed, row, fraud in order[behind:].tolist():
        engine.learn(Label(event_id=ids[row], tenant="", fraud=bool(fraud), observed_time=observed))
    return engine


def _known(labels: Labels, ids: list[str], until: int) -> Labels:
    """Labels that have come by `until` and name their event."""
    known = (labels.observed <= until) & np.array([bool(ids[row]) for row in labels.rows], np.bool_)
    return Labels(labels.rows[known], labels.fraud[known], labels.observed[known])


def _event_ids(table: pa.Table, features: FeatureSet) -> list[str]:
    if not features.event_id or features.event_id not in table.column_names:
        return [""] * len(table)
    ids = [to_key(value) or "" for value in table[features.event_id].to_pylist()]
    given = [one for one in ids if one]
    if len(set(given)) < len(given):
        raise DataError(
            "features.backfill.duplicate", "two rows have one id", hint="each event once", at=features.event_id
        )
    return ids


def _numbered(columns: Columns, features: FeatureSet) -> Columns:
    """Entity rows as the engine gives them: by the event that names the entity first, then by view."""
    stride = compile_plan(features).stride
    rank = np.zeros(columns.entities, np.int64)
    first = np.full(columns.entities, -1)
    for place in range(len(features.views)):
        mine = columns.rows[:, layout.R_VIEWS + place * stride]
        entities, rows = np.unique(mine, return_index=True)
        named = entities >= 0
        first[entities[named]] = rows[named] * len(features.views) + place
    rank[1:][np.argsort(first[1:], kind="stable")] = np.arange(1, columns.entities)
    for place in range(len(features.views)):
        mine = columns.rows[:, layout.R_VIEWS + place * stride]
        mine[mine >= 0] = rank[mine[mine >= 0]]
    ids = ({key: int(rank[row]) for key, row in held.items()} for held in columns.ids)
    return Columns(columns.rows, columns.entities, tuple(ids))


def _awaiting(
    features: FeatureSet, columns: Columns, ids: list[str], unlabelled: Mask, mark: int
) -> OrderedDict[str, tuple[int, ...]]:
    """What the engine remembers of events without a label, oldest forgotten first, by its own law."""
    events: OrderedDict[str, tuple[int, ...]] = OrderedDict()
    if not any(view.labelled for view in features.views):
        return events
    rule, stride = features.label, compile_plan(features).stride
    kept = np.flatnonzero(unlabelled)
    entities = columns.rows[kept][:, layout.R_VIEWS :: stride].tolist()
    for row, time, mine in zip(kept.tolist(), columns.times[kept].tolist(), entities, strict=True):
        if ids[row]:
            events[ids[row]] = (time, *mine)
    horizon = mark - rule.keep - rule.lateness - features.lateness
    while events and next(iter(events.values()))[0] < horizon:
        events.popitem(last=False)
    return events
