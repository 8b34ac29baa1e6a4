"""History as columns: reads Parquet, CSV and NDJSON tables, and turns them into what the kernel takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from vedette.core.clock import MICROS, from_datetime
from vedette.core.errors import DataError
from vedette.expr.nodes import Node
from vedette.sense.features import layout
from vedette.sense.features.feature import FeatureSet, Field, View
from vedette.sense.features.filters import Condition, paths_of
from vedette.sense.features.state import Ints, compile_plan
from vedette.sense.features.values import JOINT, MAX_SCALED, NOTHING, paths, to_fraud, to_key, to_mark, to_scaled
from vedette.sense.labels import places

BLOCK_BYTES = 16 << 20
"""Bytes of text parsed at a time; also the longest record."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of a table's rows."""

    rows: Ints
    fraud: Ints
    observed: Ints
    """Microseconds UTC."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A table in log order, ready for the kernel."""

    rows: Ints
    """One input row per event."""
    entities: int
    """Entity rows needed."""
    ids: tuple[Mapping[str, int], ...]
    """Entity row of each id, one mapping per view; empty for a view without a key."""

    @property
    def times(self) -> Ints:
        """Event times, microseconds."""
        return self.rows[:, layout.R_TIME]


Column = Any
"""A pyarrow chunked array."""


def read_table(
    files: Sequence[Path], features: FeatureSet, *, left_out: Callable[[Path, int], None] | None = None
) -> pa.Table:
    """The columns that the features read, of all files in the order given; other columns are left out.

    Parquet, CSV with a header line, or NDJSON by the file's ending; `.gz` is unpacked. Rows without a usable event time
    are left out, and rows that the definitions' `when` leaves out; a file that lacks one of its columns has only rows
    that they are about.

    Args:
        files: What to read; row order is log order.
        features: Definitions.
        left_out: Called with a file and how many of its rows were left out, when any were.

    Raises:
        DataError: `features.table.unreadable`, `features.table.column` (a path that no column has).
    """
    tables = []
    for file in files:
        try:
            table = _read(file, features)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError("features.table.unreadable", f"cannot read `{file}`: {error!s:.200}") from error
        needed = [path for path in paths(features) if path not in (features.event_id, features.label.path)]
        for column in needed:
            if column not in table.column_names:
                raise DataError("features.table.column", f"`{file}` has no column `{column}`", at=str(file))
        table = _covered(table, features)
        tables.append(_typed(table, features))
        if left_out and len(table) > len(tables[-1]):
            left_out(file, len(table) - len(tables[-1]))
    return pa.concat_tables(tables, promote_options="permissive")


def _read(file: Path, features: FeatureSet) -> pa.Table:
    wanted = [*paths(features), *(name for name, _ in features.when)]
    name = file.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        schema = pa.parquet.read_schema(file)
        return pa.parquet.read_table(file, columns=[column for column in wanted if column in schema.names])
    stream: Any
    with pa.input_stream(str(file), compression="detect") as stream:
        if name.endswith(".csv"):
            table = pa.csv.read_csv(stream, read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES))
        else:
            table = pa.json.read_json(stream, read_options=pa.json.ReadOptions(block_size=BLOCK_BYTES))
    return table.select([column for column in wanted if column in table.column_names])


def _covered(table: pa.Table, features: FeatureSet) -> pa.Table:
    """The rows that the features are about, without the columns that only say so."""
    for name, text in features.when:
        if name in table.column_names:
            table = table.filter(pc.equal(table[name].cast(pa.string()), pa.scalar(text)))
            table = table if name in paths(features) else table.drop_columns([name])
    return table


def _typed(table: pa.Table, features: FeatureSet) -> pa.Table:
    """Event times as microseconds UTC; rows without one are dropped."""
    place = table.column_names.index(features.event_time)
    times = _to_times(table[features.event_time])
    table = table.set_column(place, features.event_time, times)
    return table if not times.null_count else table.filter(times.is_valid())


def _to_times(column: Column) -> Column:
    """Timestamps, ISO 8601 text (without a zone: UTC), or whole seconds since 1970, as timestamp[us]; else null."""
    if pa.types.is_integer(column.type):
        return pc.multiply(column.cast(pa.int64()), MICROS).cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type):
        # Casting an aware column to a naive one keeps the instant in UTC.
        return column.cast(pa.timestamp("us"), safe=False)
    return pa.chunked_array([pa.array([_to_time(value) for value in column.to_pylist()], pa.timestamp("us"))])


def _to_time(value: object) -> int | None:
    try:
        return from_datetime(datetime.fromisoformat(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def event_times(table: pa.Table, features: FeatureSet) -> Ints:
    """Event times of a table from `read_table`, microseconds UTC."""
    times: Ints = table[features.event_time].cast(pa.int64()).to_numpy()
    return times


def to_labels(table: pa.Table, features: FeatureSet, *, delay: int) -> Labels:
    """Labels that the table carries itself, each known `delay` microseconds after its event.

    Raises:
        DataError: `features.table.column` when the label's column is missing.
    """
    if features.label.path not in table.column_names:
        raise DataError("features.table.column", f"no column `{features.label.path}` to take labels from")
    column = table[features.label.path].to_pylist()
    truth = np.array([-1 if (fraud := to_fraud(value)) is None else fraud for value in column], np.int64)
    rows = np.flatnonzero(truth >= 0)
    return Labels(rows, truth[rows], event_times(table, features)[rows] + delay)


def to_columns(table: pa.Table, features: FeatureSet) -> Columns:
    """Kernel input of a table from `read_table`."""
    plan = compile_plan(features)
    rows = np.zeros((len(table), plan.width), np.int64)
    rows[:, layout.R_TIME] = event_times(table, features)
    fields = [_field(table, field) for field in features.fields]
    met = [_met(table, condition) for condition in features.conditions]
    entities = 1
    ids: list[Mapping[str, int]] = []
    for place, view in enumerate(features.views):
        at = layout.R_VIEWS + place * plan.stride
        codes, numbers = _entities(table, view)
        rows[:, at] = np.where(codes < 0, -1, codes + entities)
        ids.append({key: number + entities for key, number in numbers.items()})
        entities += len(numbers)
        for offset, measure in enumerate(view.measures, at + 1):
            rows[:, offset] = fields[measure.field] if measure.field >= 0 else 1
            if measure.where is not None:
                rows[~met[features.conditions.index(measure.where)], offset] = layout.MISSING
    return Columns(rows, entities, tuple(ids))


def _met(table: pa.Table, node: Node) -> npt.NDArray[np.bool_]:
    """Whether each row meets a condition; it is asked once for each different combination of what it reads."""
    paths_read = list(dict.fromkeys(paths_of(node)))
    combined = np.zeros(len(table), np.int64)
    held: list[list[Any]] = []
    for path in paths_read:
        encoded = table[path].combine_chunks().dictionary_encode()
        values = [*encoded.dictionary.to_pylist(), None]
        codes = encoded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
        combined = combined * len(values) + codes
        held.append(values)
    seen, inverse = np.unique(combined, return_inverse=True)
    condition = Condition(node)
    answers = np.zeros(len(seen), np.bool_)
    for place, code in enumerate(seen.tolist()):
        data = {}
        for path, values in zip(reversed(paths_read), reversed(held), strict=True):
            code, at = divmod(code, len(values))  # noqa: PLW2901 - the digits of the code, the last path first
            data[path] = values[at]
        answers[place] = condition.holds(data)
    met: npt.NDArray[np.bool_] = answers[inverse]
    return met


def _field(table: pa.Table, field: Field) -> Ints:
    column: Column = table[field.path]
    if not field.scale:
        encoded = column.combine_chunks().dictionary_encode()
        keys = [to_key(value) for value in encoded.dictionary.to_pylist()]
        marks = np.array([NOTHING if key is None else to_mark(key) for key in keys] + [NOTHING], np.int64)
        text: Ints = marks[encoded.indices.fill_null(len(keys)).to_numpy(zero_copy_only=False)]
        return text
    if pa.types.is_floating(column.type):
        product = column.cast(pa.float64()).fill_null(math.nan).to_numpy() * field.scale
        usable = np.isfinite(product) & (np.abs(product) <= MAX_SCALED)
        scaled: Ints = np.where(usable, np.rint(np.where(usable, product, 0)), 0).astype(np.int64)
        scaled[~usable] = layout.MISSING
        return scaled
    return np.array([to_scaled(value, field.scale) for value in column.to_pylist()], np.int64)


def _entities(table: pa.Table, view: View) -> tuple[Ints, Mapping[str, int]]:
    """A number from 0 for each distinct entity, -1 where there is none; and the number of each id."""
    if not view.keys:
        return np.full(len(table), -1), {}
    codes, numbers = _codes(table[view.keys[0]])
    for path in view.keys[1:]:
        more, others = _codes(table[path])
        both = np.where((codes < 0) | (more < 0), -1, codes * max(len(others), 1) + more)
        seen, inverse = np.unique(both, return_inverse=True)
        before, after = list(numbers), list(others)
        parts = (divmod(code, max(len(others), 1)) for code in seen.tolist() if code >= 0)
        numbers = {f"{before[a]}{JOINT}{after[b]}": place for place, (a, b) in enumerate(parts)}
        codes = inverse - (1 if len(seen) and seen[0] < 0 else 0)
    return codes, numbers


def _codes(column: Column) -> tuple[Ints, Mapping[str, int]]:
    """A number from 0 for each distinct id, -1 where there is none; and the number of each id."""
    encoded = column.combine_chunks().dictionary_encode()
    keys = [to_key(value) for value in encoded.dictionary.to_pylist()]
    numbers: dict[str, int] = {}
    by_code = np.array([-1 if key is None else numbers.setdefault(key, len(numbers)) for key in keys] + [-1], np.int64)
    codes = encoded.indices.fill_null(len(keys)).to_numpy(zero_copy_only=False)
    return by_code[codes], numbers


def label_order(labels: Labels, columns: Columns, *, keep: int) -> Ints:
    """Labels as the kernel takes them, `[place, observed, row, fraud]`, in the order they become known."""
    usable = labels.observed - columns.times[labels.rows] <= keep
    rows, observed, fraud = labels.rows[usable], labels.observed[usable], labels.fraud[usable]
    place = places(columns.times, observed=observed, rows=rows)
    order = np.lexsort((rows, observed, place))
    return np.ascontiguousarray(np.stack([place, observed, rows, fraud], axis=1)[order])


Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""
