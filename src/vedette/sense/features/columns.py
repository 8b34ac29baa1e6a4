"""A table as the kernel takes it: whole numbers, entities numbered as they appear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vedette.expr.nodes import Node
from vedette.sense.features import layout
from vedette.sense.features.feature import FeatureSet, Field
from vedette.sense.features.filters import Condition, paths_of
from vedette.sense.features.state import Ints, compile_plan
from vedette.sense.features.table import Column, encoded, event_times
from vedette.sense.features.values import JOINT, MAX_SCALED, NOTHING, to_key, to_mark, to_scaled

REMEMBERED = 100_000
"""Answers of a condition that are kept from piece to piece."""


class Coding:
    """What pieces of one history share: entity rows by id, and what conditions answered.

    Entities are numbered as the online engine does: by the event that names the entity first, then by view.

    Args:
        features: Definitions.
    """

    def __init__(self, features: FeatureSet) -> None:
        self.conditions = [_Asked(node) for node in features.conditions]
        self.ids: tuple[dict[str, int], ...] = tuple({} for _ in features.views)
        """Entity row of each id, one mapping per view; empty for a view without a key."""
        self.count = 1
        """Entity rows needed; the first is nobody's."""

    def give(self, found: Sequence[tuple[Ints, Sequence[str]]]) -> list[Ints]:
        """Entity rows of one table's events, view by view; -1 where there is none.

        Args:
            found: For each view a code from 0 for each event, -1 where there is no entity, and the id of each code.
        """
        rows, unknown, turns = [], [], []
        for view, (codes, keys) in enumerate(found):
            mine = np.full(len(keys) + 1, -1, np.int64)
            mine[:-1] = np.fromiter(map(self.ids[view].get, keys, repeat(-1)), np.int64, len(keys))
            first = np.zeros(len(keys) + 1, np.int64)
            first[codes[::-1]] = np.arange(len(codes))[::-1]
            missing = np.flatnonzero(mine[:-1] < 0)
            missing = missing[np.argsort(first[missing])]
            rows.append(mine)
            unknown.append(missing)
            turns.append(first[missing] * len(found) + view)
        every = np.sort(np.concatenate(turns))
        for view, (missing, turn) in enumerate(zip(unknown, turns, strict=True)):
            rows[view][missing] = numbers = self.count + np.searchsorted(every, turn)
            keys = found[view][1]
            self.ids[view].update(zip([keys[code] for code in missing.tolist()], numbers.tolist(), strict=True))
        self.count += len(every)
        return [mine[codes] for mine, (codes, _) in zip(rows, found, strict=True)]


@dataclass(frozen=True, slots=True)
class Columns:
    """A table in log order, ready for the kernel."""

    rows: Ints
    """One input row per event, and the room that was asked for."""
    count: int
    """Events; rows behind them are room for others."""

    @property
    def times(self) -> Ints:
        """Event times, microseconds."""
        return self.rows[: self.count, layout.R_TIME]


def to_columns(table: pa.Table, features: FeatureSet, coding: Coding | None = None, *, room: int = 0) -> Columns:
    """Kernel input of a table from `read_table`.

    Args:
        table: The next rows of a history.
        features: Definitions.
        coding: Of the history; grows. Without it the table is all there is.
        room: Empty rows to make behind those of the events.
    """
    plan, count = compile_plan(features), len(table)
    coding = coding or Coding(features)
    rows = np.zeros((count + room, plan.width), np.int64)
    rows[:count, layout.R_TIME] = event_times(table, features)
    fields = [_field(table, field) for field in features.fields]
    met = [condition.met(table) for condition in coding.conditions]
    keys = {path: _keys(table[path]) for path in dict.fromkeys(path for view in features.views for path in view.keys)}
    entities = coding.give([_entities(len(table), [keys[path] for path in view.keys]) for view in features.views])
    for place, view in enumerate(features.views):
        at = layout.R_VIEWS + place * plan.stride
        rows[:count, at] = entities[place]
        for offset, measure in enumerate(view.measures, at + 1):
            rows[:count, offset] = fields[measure.field] if measure.field >= 0 else 1
            if measure.where is not None:
                rows[:count, offset][~met[features.conditions.index(measure.where)]] = layout.MISSING
    return Columns(rows, count)


class _Asked:
    """A condition, asked once for each different combination of what it reads."""

    def __init__(self, node: Node) -> None:
        self._paths = list(dict.fromkeys(paths_of(node)))
        self._condition = Condition(node)
        self._known: dict[tuple[Any, ...], bool] = {}

    def met(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Whether each row meets it."""
        combined = np.zeros(len(table), np.int64)
        held: list[list[Any]] = []
        for path in self._paths:
            codes, values = encoded(table[path])
            combined = combined * (len(values) + 1) + codes
            held.append([*values, None])
        seen, inverse = np.unique(combined, return_inverse=True)
        answers = np.zeros(len(seen), np.bool_)
        for place, code in enumerate(seen.tolist()):
            found = []
            for values in reversed(held):
                code, at = divmod(code, len(values))  # noqa: PLW2901 - the digits of the code, the last path first
                found.append(values[at])
            answers[place] = self._holds(found)
        met: npt.NDArray[np.bool_] = answers[inverse]
        return met

    def _holds(self, values: list[Any]) -> bool:
        """For the values of the paths, the last one first. 1 and true are two values."""
        key = (*values, *map(type, values))
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = self._condition.holds(dict(zip(reversed(self._paths), values, strict=True)))
        return self._known[key]


def _field(table: pa.Table, field: Field) -> Ints:
    column: Column = table[field.path]
    if not field.scale:
        codes, values = encoded(column)
        keys = map(to_key, values)
        marks: Ints = np.array([NOTHING if key is None else to_mark(key) for key in keys] + [NOTHING], np.int64)
        return marks[codes]
    if pa.types.is_floating(column.type):
        product = column.cast(pa.float64()).fill_null(math.nan).to_numpy() * field.scale
        usable = np.isfinite(product) & (np.abs(product) <= MAX_SCALED)
        scaled: Ints = np.where(usable, np.rint(np.where(usable, product, 0)), 0).astype(np.int64)
        scaled[~usable] = layout.MISSING
        return scaled
    return np.array([to_scaled(value, field.scale) for value in column.to_pylist()], np.int64)


def _entities(count: int, parts: list[Any]) -> tuple[Ints, list[str]]:
    """A code from 0 for each distinct entity, -1 where there is none; and the id of each code."""
    if not parts:
        return np.full(count, -1), []
    coded = (parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, JOINT)).dictionary_encode()
    codes: Ints = coded.indices.fill_null(-1).cast(pa.int64()).to_numpy()
    return codes, coded.dictionary.to_pylist()


def _keys(column: Column) -> Any:
    """A pyarrow array of the id that each value stands for; null where it is none."""
    codes, values = encoded(column)
    return pa.array([*map(to_key, values), None], pa.string()).take(pa.array(codes, pa.int64()))
