"""A transaction of known statements in one round trip, in the words of PostgreSQL's own protocol.

All statements, the commit among them, are sent before the first answer is read; the server begins with the first while
the others are still made. It stops at the first that fails, and does not reach the commit then.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from psycopg import OperationalError
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

from vedette.core.db import Connection
from vedette.core.errors import TransientError

_PREPARED: Final = "vedette_prepared"


class Statement(NamedTuple):
    """One statement by its name, with its values."""

    name: str
    values: tuple[str, ...] = ()
    """Each as PostgreSQL writes it."""


_BEGIN: Final = Statement("vedette_begin")
_COMMIT: Final = Statement("vedette_commit")
_AROUND: Final[Mapping[str, str]] = {_BEGIN.name: "begin", _COMMIT.name: "commit"}


class RefusedError(Exception):
    """The server refused a statement; nothing of the transaction was kept.

    Args:
        name: Of the statement.
        state: SQLSTATE.
    """

    def __init__(self, name: str, state: str) -> None:
        super().__init__(name, state)
        self.name = name
        self.state = state


def commit(connection: Connection, texts: Mapping[str, str], statements: Iterable[Statement]) -> None:
    """Does the statements in one transaction, and returns once the server told that it is committed.

    Args:
        connection: From `Database.own`; void after anything but `RefusedError`.
        texts: Name -> statement, with `$1` for its first value; prepared once on every connection.
        statements: In order, each sent as it comes. Their answers are not looked at: a statement fails where something
            does not hold.

    Raises:
        RefusedError: Nothing was kept.
        TransientError: `core.db.unavailable`: the connection broke; whether it was committed is not known.
    """
    pg: Any = connection.connection.dbapi_connection.pgconn  # type: ignore[union-attr]
    try:
        _prepare(connection, pg, texts)
        pg.enter_pipeline_mode()
        names = [_BEGIN.name]
        _send(pg, _BEGIN)
        for statement in statements:
            names.append(statement.name)
            _send(pg, statement)
            _flush(pg)
        names.append(_COMMIT.name)
        _send(pg, _COMMIT)
        pg.pipeline_sync()
        _flush(pg)
        results = _results(pg, len(names))
        pg.exit_pipeline_mode()
    except OperationalError as error:
        _drop(connection, pg)
        message = f"the database cannot do this now: {type(error).__name__}"
        raise TransientError("core.db.unavailable", message, retry_after=1.0) from error
    except BaseException:
        _drop(connection, pg)
        raise
    for name, (status, detail) in zip(names, results, strict=True):
        if status == ExecStatus.FATAL_ERROR:
            # Not by the driver, which would forget what is prepared.
            pg.exec_(b"rollback")
            raise RefusedError(name, detail)
    if results[-1] != (ExecStatus.COMMAND_OK, "COMMIT"):
        # A commit that the server turned into a rollback is no error to it.
        _drop(connection, pg)
        raise RefusedError(_COMMIT.name, "")


def _drop(connection: Connection, pg: Any) -> None:
    pg.finish()
    connection.invalidate()


def _prepare(connection: Connection, pg: Any, texts: Mapping[str, str]) -> None:
    known: set[str] = connection.info.setdefault(_PREPARED, set())
    for name, text in {**_AROUND, **texts}.items() if not known.issuperset(texts) else ():
        if name not in known:
            result = pg.prepare(name.encode(), text.encode())
            if pg.status != ConnStatus.OK:
                raise OperationalError("the connection broke")
            if result.status != ExecStatus.COMMAND_OK:
                raise RefusedError(name, _state(result))
            known.add(name)


def _send(pg: Any, statement: Statement) -> None:
    pg.send_query_prepared(statement.name.encode(), [value.encode() for value in statement.values])


def _flush(pg: Any) -> None:
    if not pg.flush():
        return
    waiting = select.poll()
    waiting.register(pg.socket, select.POLLIN | select.POLLOUT)
    while pg.flush():
        waiting.poll()
        pg.consume_input()


def _results(pg: Any, count: int) -> list[tuple[int, str]]:
    """Status of each statement, with its tag, or its SQLSTATE if it failed."""
    waiting = select.poll()
    waiting.register(pg.socket, select.POLLIN)
    found: list[tuple[int, str]] = []
    while True:
        while pg.is_busy():
            waiting.poll()
            pg.consume_input()
        result = pg.get_result()
        if pg.status != ConnStatus.OK:
            raise OperationalError("the connection broke")
        if result is None:
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            break
        failed = result.status == ExecStatus.FATAL_ERROR
        found.append((result.status, _state(result) if failed else (result.command_status or b"").decode()))
    if len(found) != count:
        raise OperationalError("not as many answers as statements")
    return found


def _state(result: Any) -> str:
    return (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
