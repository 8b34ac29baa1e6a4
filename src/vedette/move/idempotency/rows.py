"""The table of keys, and the few statements that read and change it.

A claim and its answer are written for every request that moves money, so the statements are text that the driver keeps
prepared: building them anew costs several times what they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from vedette.core.db import LONG, Connection, Migration, create, execute, marked, sa
from vedette.move.idempotency.nouns import Answer, Claim, Request

_CHUNK: Final = 1_000
"""Keys in one statement."""
_METADATA = sa.MetaData()
KEYS = sa.Table(
    "idempotency",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("point", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("lease_until", LONG, nullable=False),
    sa.Column("created", LONG, nullable=False),
    sa.Column("expires", LONG, nullable=False),
    sa.Column("context", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("body", sa.LargeBinary),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
sa.Index("idempotency_expires", KEYS.c.expires)
sa.Index(
    "idempotency_open",
    KEYS.c.operation,
    KEYS.c.lease_until,
    sqlite_where=KEYS.c.status.is_(None),
    postgresql_where=KEYS.c.status.is_(None),
)


def _add_headers(connection: Connection) -> None:
    kind = "blob" if connection.dialect.name == "sqlite" else "bytea"
    connection.exec_driver_sql(f"alter table idempotency add column headers {kind}")


MIGRATIONS = (Migration(1, "idempotency keys", create(_METADATA)), Migration(2, "headers of answers", _add_headers))


class Row(NamedTuple):
    """A key as it is stored."""

    tenant: str
    key: str
    operation: str
    fingerprint: bytes
    resource: str
    point: str
    fence: int
    lease_until: int
    created: int
    expires: int
    context: bytes
    status: int | None = None
    body: bytes | None = None
    headers: bytes | None = None

    def claim(self) -> Claim:
        """The right to carry it out at its present fence."""
        context = msgspec.json.decode(self.context)
        return Claim(self.tenant, self.key, self.resource, self.point, self.fence, self.created, context)

    def answer(self) -> Answer | None:
        """The stored answer."""
        if self.status is None:
            return None
        headers = tuple((name, value) for name, value in msgspec.json.decode(self.headers)) if self.headers else ()
        return Answer(self.status, self.body or b"", headers=headers, replayed=True)


_FRESH: Final = Row._fields[:11]
_ALL: Final = ", ".join(Row._fields)
_INSERT: Final = f"insert into idempotency ({', '.join(_FRESH)}) values "
_ONE: Final = f"({', '.join('?' * len(_FRESH))})"
_MINE: Final = "tenant = ? and key = ? and fence = ? and status is null"
_FINISH: Final = "update idempotency set status = ?, body = ?, headers = ?, lease_until = 0 where "


def insert_new(connection: Connection, rows: Sequence[Row]) -> set[str]:
    """Inserts the keys that are not taken; gives them."""
    made: set[str] = set()
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        statement = f"{_INSERT}{', '.join([_ONE] * len(some))} on conflict do nothing returning key"
        values = tuple(value for row in some for value in row[:11])
        made.update(row[0] for row in _execute(connection, statement, values).fetchall())
    return made


def among(connection: Connection, wanted: Sequence[Request | Claim], *, lock: bool = False) -> dict[str, Row]:
    """The rows of those keys, all of one tenant; locked in order of the keys."""
    keys = sorted({one.key for one in wanted})
    ending = " for update" if lock and connection.dialect.name != "sqlite" else ""
    rows: dict[str, Row] = {}
    for start in range(0, len(keys), _CHUNK):
        some = keys[start : start + _CHUNK]
        marks = ", ".join("?" * len(some))
        statement = f"select {_ALL} from idempotency where tenant = ? and key in ({marks}) order by key{ending}"
        found = _execute(connection, statement, (wanted[0].tenant, *some)).fetchall()
        rows |= {row[1]: Row._make(row) for row in found}
    return rows


def renew(connection: Connection, row: Row) -> None:
    """Puts a fresh row in the place of an expired one."""
    names = ", ".join(f"{name} = ?" for name in Row._fields[2:])
    values = (*row[2:], row.tenant, row.key)
    _execute(connection, f"update idempotency set {names} where tenant = ? and key = ?", values)


def change(connection: Connection, claim: Claim, values: Mapping[str, Any]) -> bool:
    """Changes the row of a claim that nobody took over; false when somebody did."""
    names = ", ".join(f"{name} = ?" for name in values)
    given = (*values.values(), claim.tenant, claim.key, claim.fence)
    return bool(_execute(connection, f"update idempotency set {names} where {_MINE}", given).rowcount)


def finish(connection: Connection, claim: Claim, answer: Answer) -> bool:
    """Stores the answer of a claim that nobody took over; false when somebody did."""
    given = (*_stored(answer), claim.tenant, claim.key, claim.fence)
    return bool(_execute(connection, _FINISH + _MINE, given).rowcount)


def finish_many(connection: Connection, answers: Sequence[tuple[Claim, Answer]]) -> None:
    """Stores the answers of claims that are held."""
    values = [(*_stored(answer), claim.tenant, claim.key) for claim, answer in answers]
    _execute(connection, f"{_FINISH}tenant = ? and key = ?", values)


def _stored(answer: Answer) -> tuple[int, bytes, bytes | None]:
    return answer.status, answer.body, msgspec.json.encode(answer.headers) if answer.headers else None


def _execute(connection: Connection, statement: str, values: Any) -> Any:
    return execute(connection, marked(connection, statement), values)
