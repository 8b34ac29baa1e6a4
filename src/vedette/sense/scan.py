"""Rules' SQL over rows of the event store: a walled connection with the functions that such SQL calls.

Like `query`, a scan sees nothing but the rows it was given, as an Arrow dataset; files, network, settings and Python
objects are shut off before the SQL runs. Unlike there, the SQL is our own: it is printed from rules, never written by
a person, and may call functions of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from vedette.core.errors import DataError
from vedette.expr.sql.functions import FUNCTIONS, Function, column
from vedette.expr.sql.macros import macros
from vedette.sense.query import WALL

TABLE = "events"
"""What the rows are called in the SQL."""
MEMORY_MB = 1_024
THREADS = 2
BATCH = 10_000
"""Rows of one piece of an answer."""

_TYPES: dict[str, Any] = {
    "VARCHAR[]": pa.list_(pa.string()),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "INTEGER": pa.int32(),
}


@contextmanager
def scanning(rows: pads.Dataset | pa.Table, *, threads: int = THREADS, memory_mb: int = MEMORY_MB) -> Iterator[Scan]:
    """A connection that holds the rows and nothing else.

    Args:
        rows: What the SQL calls `TABLE`.
        threads: Most threads of one query.
        memory_mb: Most memory of one query.
    """
    with duckdb.connect(":memory:") as connection:
        for name, function in FUNCTIONS.items():
            connection.create_function(
                name,
                _vectorised(function),
                list(function.takes),
                function.gives,
                type="arrow",
                null_handling="special",
            )
        for statement in macros():
            connection.execute(statement)
        connection.register(TABLE, rows)
        connection.execute(f"SET memory_limit = '{int(memory_mb)}MB'")
        connection.execute(f"SET threads = {int(threads)}")
        # Pushed below, a condition on what a layer computes would be computed again there, once for each use.
        connection.execute("SET disabled_optimizers = 'filter_pushdown'")
        for statement in WALL:
            connection.execute(statement)
        yield Scan(connection)


class Scan:
    """Runs SQL over the rows it was opened with. One answer at a time.

    Args:
        connection: From `scanning`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def run(self, text: str) -> Iterator[pa.RecordBatch]:
        """The answer of a query, in pieces of at most `BATCH` rows.

        Raises:
            DataError: `scan.run.failed`, `scan.memory.exceeded`.
        """
        try:
            yield from self._connection.sql(text).to_arrow_reader(BATCH)
        except duckdb.OutOfMemoryException as error:
            raise DataError("scan.memory.exceeded", "the rules need more memory", hint="fewer at once") from error
        except (duckdb.Error, pa.ArrowException) as error:
            raise DataError("scan.run.failed", str(error).strip().split("\n", 1)[0]) from error


def refused_patterns(patterns: Iterable[str]) -> dict[str, str]:
    """Regular expressions that this engine's RE2, an older one than ours, does not take, each with its words."""
    found: dict[str, str] = {}
    with duckdb.connect(":memory:") as connection:
        for pattern in sorted(set(patterns)):
            try:
                connection.execute("SELECT regexp_matches('', ?)", [pattern]).fetchall()
            except duckdb.Error as error:
                found[pattern] = str(error).strip().split("\n", 1)[0]
    return found


def _vectorised(function: Function) -> Any:
    """A function over Arrow columns. DuckDB counts the parameters, so that each number has its own shape."""

    def give(*columns: Any) -> Any:
        return pa.array(column(function, *(one.to_pylist() for one in columns)), _TYPES[function.gives])

    def of_one(one: Any) -> Any:
        return give(one)

    def of_two(one: Any, two: Any) -> Any:
        return give(one, two)

    def of_four(one: Any, two: Any, three: Any, four: Any) -> Any:
        return give(one, two, three, four)

    return {1: of_one, 2: of_two, 4: of_four}[len(function.takes)]
