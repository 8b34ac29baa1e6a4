"""One SELECT over one tenant's events, behind a wall.

Every query gets a connection of its own that holds nothing but the tenant's tables, as Arrow datasets filtered to that
tenant. Before the text runs, its syntax tree is checked: one SELECT, table functions from a short list, no function
that makes much out of little. Then files, network, extensions, settings and Python objects are shut off and the door is
locked; memory has a limit and a deadline interrupts what takes too long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from vedette.core.errors import DataError, TransientError
from vedette.sense.store import Store, check_tenant

MAX_TEXT = 100_000
"""Longest query, in characters."""

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
"""Table functions a query may call; none of them reaches outside of its arguments."""

REFUSED_FUNCTIONS = frozenset(
    {
        "repeat",
        "lpad",
        "rpad",
        "bar",
        "format",
        "printf",
        "list_resize",
        "array_resize",
        "write_log",
        "query",
        "query_table",
        "currval",
    }
    | {"nextval", "setseed", "getenv", "getvariable", "current_setting", "set_bit", "json_execute_serialized_sql"}
)
"""Scalar functions a query may not call: those that make gigabytes from a few bytes outside of the memory limit, and
those that tell of the process."""

_SCHEMAS = frozenset({"", "main"})
WALL = (
    "SET python_enable_replacements = false",
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
"""Statements after which a connection reaches nothing but what it holds."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one query may cost."""

    seconds: float = 30.0
    """Deadline, wall time."""
    memory_mb: int = 1_024
    threads: int = 2
    rows: int = 10_000
    """Most rows of an answer; the rest is cut off and `Answer.cut` says so."""


_BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query."""

    table: pa.Table
    cut: bool
    """True when there were more than `Budget.rows` rows."""


def run_query(
    store: Store,
    tenant: str,
    text: str,
    *,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
    budget: Budget = _BUDGET,
) -> Answer:
    """Runs one SELECT over a tenant's tables: one per source, and `quarantine`.

    Args:
        store: The event store.
        tenant: Whose rows the query sees; no other tenant's are reachable from it.
        text: DuckDB SQL. Fields of a record are `data->>'$.name'`.
        parameters: Values for `?`, or by name for `$name`. Bound, never put into the text.
        budget: Limits.

    Raises:
        DataError: `query.text.too_long`, `query.text.syntax`, `query.text.not_select`, `query.function.refused`,
            `query.table.refused`, `query.run.failed`, `query.memory.exceeded`, `store.tenant.name`.
        TransientError: `query.deadline.exceeded`.
    """
    check_tenant(tenant)
    if len(text) > MAX_TEXT:
        raise DataError("query.text.too_long", f"{len(text)} characters, the limit is {MAX_TEXT}")
    with duckdb.connect(":memory:") as connection:
        _check(connection, text)
        for name in store.names():
            dataset = store.table(name).dataset([tenant])
            if dataset is not None:
                connection.register(name, dataset)
        connection.execute(f"SET memory_limit = '{int(budget.memory_mb)}MB'")
        connection.execute(f"SET threads = {int(budget.threads)}")
        for statement in WALL:
            connection.execute(statement)
        return _run(connection, text, parameters, budget)


def _check(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Refuses what is not one SELECT of allowed parts, by the engine's own parser."""
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise DataError("query.text.syntax", _first_line(error)) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise DataError("query.text.not_select", "a query is exactly one SELECT")
    row = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
    tree = orjson.loads(row[0])
    if tree.get("error"):
        raise DataError("query.text.not_select", "a query is exactly one SELECT")
    for node in _walk(tree):
        _check_node(node)


def _check_node(node: Mapping[str, Any]) -> None:
    if node.get("type") == "TABLE_FUNCTION":
        function = node.get("function") or {}
        name = str(function.get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise DataError("query.function.refused", f"the table function `{name}` may not be used")
    elif node.get("type") == "SHOW_REF":
        raise DataError("query.text.not_select", "a query is exactly one SELECT")
    elif node.get("type") == "BASE_TABLE":
        schema, catalog = str(node.get("schema_name", "")).lower(), str(node.get("catalog_name", ""))
        if schema not in _SCHEMAS or catalog:
            raise DataError("query.table.refused", f"the schema `{schema or catalog}` may not be read")
    name = str(node.get("function_name", "")).lower()
    if name in REFUSED_FUNCTIONS:
        raise DataError("query.function.refused", f"the function `{name}` may not be used")


def _walk(tree: Any) -> Iterator[Mapping[str, Any]]:
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            yield node
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)


def _run(
    connection: duckdb.DuckDBPyConnection, text: str, parameters: Sequence[Any] | Mapping[str, Any], budget: Budget
) -> Answer:
    expired = threading.Event()
    with _deadline(connection, budget.seconds, expired):
        try:
            table: pa.Table = connection.sql(text, params=parameters or None).limit(budget.rows + 1).to_arrow_table()
        except duckdb.OutOfMemoryException as error:
            raise DataError(
                "query.memory.exceeded", f"the query needs more than {budget.memory_mb} MB", hint="narrow it with WHERE"
            ) from error
        except (duckdb.Error, pa.ArrowException) as error:
            if not expired.is_set():
                raise DataError("query.run.failed", _first_line(error)) from error
        if expired.is_set():
            raise TransientError(
                "query.deadline.exceeded", f"stopped after {budget.seconds:g} s", hint="narrow it with WHERE on `date`"
            )
    return Answer(table.slice(0, budget.rows), cut=table.num_rows > budget.rows)


@contextmanager
def _deadline(connection: duckdb.DuckDBPyConnection, seconds: float, expired: threading.Event) -> Iterator[None]:
    """Interrupts the connection once the time is over, and again until the block ends: one call can come too early."""
    done = threading.Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        expired.set()
        while not done.wait(0.05):
            connection.interrupt()

    thread = threading.Thread(target=watch, name="query-deadline", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return text[:1].lower() + text[1:]
