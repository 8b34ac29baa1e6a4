"""Files of events to decide on: Parquet, CSV and NDJSON, plain or gzip, one dictionary a row."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from vedette.core.errors import DataError
from vedette.sense.files import Limits, read_lines
from vedette.sense.sources import Source

BATCH_ROWS = 4_096
"""Rows decoded at a time."""
BLOCK_BYTES = 4 << 20
"""Bytes of CSV parsed at a time; also the longest row."""


class Row(NamedTuple):
    """One record of a file."""

    number: int
    """Row of a table or line of a text, from 1; the header of a CSV file is line 1."""
    data: dict[str, Any] | DataError


def read_rows(path: Path, source: Source) -> Iterator[Row]:
    """Every record of a file in order; one that cannot be read is its error, and the next one follows.

    Raises:
        DataError: `decision.file.unreadable` when the file cannot be opened, or a table breaks off.
    """
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from _parquet(path)
        elif name.endswith(".csv"):
            yield from _csv(path)
        else:
            yield from _lines(path, source)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise DataError("decision.file.unreadable", f"cannot read `{path}`: {reason:.200}") from error


def count_rows(path: Path) -> int | None:
    """How many rows a Parquet file has; None for others, where only reading tells."""
    if not path.name.endswith(".parquet"):
        return None
    try:
        return int(pa.parquet.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None


def _parquet(path: Path) -> Iterator[Row]:
    number = 1
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            for data in _to_rows(batch):
                yield Row(number, data)
                number += 1


def _csv(path: Path) -> Iterator[Row]:
    broken: list[int] = []

    def skip(row: pa.csv.InvalidRow) -> Literal["skip"]:
        broken.append(row.actual_columns)
        return "skip"

    number = 2
    with (
        pa.input_stream(str(path), compression="detect") as stream,
        pa.csv.open_csv(
            cast(IO[bytes], stream),
            read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(invalid_row_handler=skip),
        ) as reader,
    ):
        for batch in reader:
            for data in _to_rows(batch):
                yield Row(number, data)
                number += 1
            for columns in broken:
                # The parser does not say where the row was, only that it was in this block.
                message = f"a row before line {number} has {columns} columns, not {len(batch.schema.names)}"
                yield Row(number, DataError("decision.file.row", message))
            broken.clear()


def _to_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows with JSON values; a null is an absent field, a time is ISO 8601 text in microseconds."""
    plain = []
    for row in _micros(batch).to_pylist():
        data = {name: value for name, value in row.items() if value is not None}
        for name, value in data.items():
            if isinstance(value, datetime | date):
                data[name] = value.isoformat()
        plain.append(data)
    return plain


def _micros(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Nanosecond times cut to what a datetime holds."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            column = batch.column(place).cast(pa.timestamp("us", tz=field.type.tz), safe=False)
            batch = batch.set_column(place, field.name, column)
    return batch


def _lines(path: Path, source: Source) -> Iterator[Row]:
    for chunk in read_lines(path, limits=Limits()):
        bad: Collection[Any] = chunk.bad
        for number, data in zip(chunk.numbers, source.parse_many(chunk.lines), strict=True):
            yield Row(number, data)
        for record in bad:
            yield Row(record.line, DataError(record.code, record.message, at=f"{path}@{record.offset}"))
