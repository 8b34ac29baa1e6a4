"""History as columns: reads Parquet, CSV and NDJSON tables, and turns them into what the kernel takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.state import Ints
from vedette.sense.features.values import paths, to_fraud

BLOCK_BYTES = 16 << 20
"""Bytes of text parsed at a time; also the longest record."""
AT_ONCE = 1 << 20
"""Rows of a piece when the whole is wanted anyway."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of a table's rows."""

    rows: Ints
    fraud: Ints
    observed: Ints
    """Microseconds UTC."""

    def taken(self, which: npt.NDArray[Any]) -> Labels:
        """Those at some places, or where a mask is true."""
        return Labels(self.rows[which], self.fraud[which], self.observed[which])

    def between(self, first: int, stop: int) -> Labels:
        """Those of rows from `first` to before `stop`, counted from `first`; they must stand in the order of rows."""
        low, high = np.searchsorted(self.rows, [first, stop])
        return Labels(self.rows[low:high] - first, self.fraud[low:high], self.observed[low:high])


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
    return pa.concat_tables(read_tables(files, features, rows=AT_ONCE, left_out=left_out), promote_options="permissive")


def read_tables(
    files: Sequence[Path],
    features: FeatureSet,
    *,
    rows: int,
    left_out: Callable[[Path, int], None] | None = None,
) -> Iterator[pa.Table]:
    """What `read_table` reads, piece by piece; of a Parquet file no more is held than a piece and its pages.

    Text is parsed whole, because the type of a column is that of all its values.

    Args:
        files: What to read; row order is log order.
        features: Definitions.
        rows: Most rows of a piece.
        left_out: Called with a file and how many of its rows were left out, when any were.

    Raises:
        DataError: As `read_table`, when the file's turn comes.
    """
    for file in files:
        dropped = 0
        for table in _pieces(file, features, rows):
            needed = [path for path in paths(features) if path not in (features.event_id, features.label.path)]
            for column in needed:
                if column not in table.column_names:
                    raise DataError("features.table.column", f"`{file}` has no column `{column}`", at=str(file))
            kept = _typed(_covered(table, features), features)
            dropped += len(table) - len(kept)
            yield kept
        if left_out and dropped:
            left_out(file, dropped)


def rows_of(files: Sequence[Path]) -> int:
    """Rows that Parquet files say they hold; 0 for others, which say nothing."""
    return sum(pa.parquet.read_metadata(file).num_rows for file in files if file.name.endswith(".parquet"))


def _pieces(file: Path, features: FeatureSet, rows: int) -> Iterator[pa.Table]:
    wanted = [*paths(features), *(name for name, _ in features.when)]
    try:
        if not file.name.endswith(".parquet"):
            table = _parsed(file)
            table = table.select([column for column in wanted if column in table.column_names])
            yield from (table.slice(first, rows) for first in range(0, max(len(table), 1), rows))
            return
        with pa.parquet.ParquetFile(file) as held:
            schema = held.schema_arrow
            names = [column for column in wanted if column in schema.names]
            yield pa.schema([schema.field(name) for name in names]).empty_table()
            for batch in held.iter_batches(rows, columns=names):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError("features.table.unreadable", f"cannot read `{file}`: {error!s:.200}") from error


def _parsed(file: Path) -> pa.Table:
    stream: Any
    with pa.input_stream(str(file), compression="detect") as stream:
        if file.name.removesuffix(".gz").endswith(".csv"):
            return pa.csv.read_csv(stream, read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES))
        return pa.json.read_json(stream, read_options=pa.json.ReadOptions(block_size=BLOCK_BYTES))


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


def encoded(column: Column) -> tuple[Ints, list[Any]]:
    """A code for each row, and the value of each code; null has the code behind the last."""
    whole = column.combine_chunks().dictionary_encode()
    values = whole.dictionary.to_pylist()
    return whole.indices.fill_null(len(values)).to_numpy(zero_copy_only=False), values


def to_labels(table: pa.Table, features: FeatureSet, *, delay: int) -> Labels:
    """Labels that the table carries itself, each known `delay` microseconds after its event.

    Raises:
        DataError: `features.table.column` when the label's column is missing.
    """
    if features.label.path not in table.column_names:
        raise DataError("features.table.column", f"no column `{features.label.path}` to take labels from")
    codes, values = encoded(table[features.label.path])
    known = [-1 if (fraud := to_fraud(value)) is None else fraud for value in values]
    truth = np.array([*known, -1], np.int64)[codes]
    rows = np.flatnonzero(truth >= 0)
    return Labels(rows, truth[rows], event_times(table, features)[rows] + delay)


Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""
