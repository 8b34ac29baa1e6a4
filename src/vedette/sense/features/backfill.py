"""Backfill: the online engine as labelled history leaves it, made by the offline kernel, piece by piece."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from vedette.core.errors import DataError
from vedette.core.label import Label
from vedette.sense.features.engine import Engine, History
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.replay import CHUNK, W_FRAUD, W_OBSERVED, W_ROW, Replay
from vedette.sense.features.state import Ints
from vedette.sense.features.table import Labels, Progress, event_times, to_labels
from vedette.sense.features.values import to_key


def backfill(
    features: FeatureSet,
    tables: pa.Table | Iterable[pa.Table],
    *,
    delay: int,
    until: int,
    progress: Progress | None = None,
    total: int = 0,
) -> Engine:
    """An engine that knows the history, equal to the bit to one that took its events and labels one by one.

    Holds what that engine holds, one piece of the history, and 16 bytes for each row with an id.

    Args:
        features: Definitions.
        tables: From `read_table` or `read_tables`; row order is log order. Rows without an id take no label later.
        delay: Microseconds from an event until its label is known.
        until: Labels known after this time are left out: they have not come yet. Microseconds UTC.
        progress: Called now and then with rows done and `total`.
        total: Rows in all, as far as known.

    Raises:
        DataError: `features.backfill.duplicate` when two rows have one id; `features.table.column`.
    """
    replay, awaiting, seen = Replay(features), _Awaiting(features), _Seen()
    if isinstance(tables, pa.Table):
        total = len(tables)
        tables = [tables.slice(first, CHUNK) for first in range(0, total, CHUNK)] or [tables]
    for table in tables:
        ids = _event_ids(table, features)
        seen.add(ids)
        labels = _known(to_labels(table, features, delay=delay), ids, until)
        first = replay.rows
        replay.take(table, labels, np.zeros(len(table), np.bool_))
        awaiting.take(table, ids, replay, first)
        if progress:
            progress(replay.rows, max(total, replay.rows))
    seen.check(features)
    engine = Engine(features)
    engine.adopt(History(replay.state, replay.coding.ids, awaiting.events(), replay.mark, stale=replay.stale))
    left = replay.waiting[np.lexsort((replay.waiting[:, W_ROW], replay.waiting[:, W_OBSERVED]))]
    for observed, row, fraud in left[:, [W_OBSERVED, W_ROW, W_FRAUD]].tolist():
        engine.learn(Label(event_id=awaiting.names.get(row, ""), tenant="", fraud=bool(fraud), observed_time=observed))
    return engine


def _known(labels: Labels, ids: list[str], until: int) -> Labels:
    """Labels that have come by `until` and name their event."""
    return labels.taken((labels.observed <= until) & np.array([bool(ids[row]) for row in labels.rows], np.bool_))


def _event_ids(table: pa.Table, features: FeatureSet) -> list[str]:
    if not features.event_id or features.event_id not in table.column_names:
        return [""] * len(table)
    return [to_key(value) or "" for value in table[features.event_id].to_pylist()]


class _Seen:
    """Ids of events, each as two hashes of 64 bits: two ids are never taken for one in practice."""

    def __init__(self) -> None:
        self._parts: list[Ints] = []

    def add(self, ids: list[str]) -> None:
        given = [one for one in ids if one]
        pairs = ((hash(one), hash(f"{one}\0")) for one in given)
        flat = np.fromiter((half for pair in pairs for half in pair), np.int64, 2 * len(given))
        self._parts.append(flat.reshape(-1, 2))

    def check(self, features: FeatureSet) -> None:
        held = np.concatenate(self._parts) if self._parts else np.zeros((0, 2), np.int64)
        held = held[np.lexsort((held[:, 1], held[:, 0]))]
        if (held[1:] == held[:-1]).all(axis=1).any():
            raise DataError(
                "features.backfill.duplicate", "two rows have one id", hint="each event once", at=features.event_id
            )


class _Awaiting:
    """Events without a label, oldest forgotten first, by the engine's own law."""

    def __init__(self, features: FeatureSet) -> None:
        self._features = features
        self._labelled = any(view.labelled for view in features.views)
        self._rows = np.zeros((0, 2 + len(features.views)), np.int64)
        """Row in the history, event time, entities."""
        self.names: dict[int, str] = {}
        """Row -> id."""

    def take(self, table: pa.Table, ids: list[str], replay: Replay, first: int) -> None:
        """Takes the events of a piece that `replay` has just taken, whose first row had this number."""
        if not self._labelled:
            return
        given = np.flatnonzero([bool(one) for one in ids])
        own = [given + first, event_times(table, self._features)[given]]
        held = np.concatenate([np.stack(own, axis=1), replay.entities[given]], axis=1)
        held = np.concatenate([self._rows, held])
        held = held[~np.isin(held[:, 0], replay.learned, assume_unique=True)]
        rule = self._features.label
        horizon = replay.mark - rule.keep - rule.lateness - self._features.lateness
        late = held[:, 1] >= horizon
        self._rows = held[int(late.argmax()) if late.any() else len(held) :]
        self.names = {row: self.names[row] if row < first else ids[row - first] for row in self._rows[:, 0].tolist()}

    def events(self) -> OrderedDict[str, tuple[int, ...]]:
        """Event time and entity rows by id."""
        return OrderedDict((self.names[row], tuple(told)) for row, *told in self._rows.tolist())
