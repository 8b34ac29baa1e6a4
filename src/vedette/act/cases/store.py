"""What every part of a case does in a transaction: load it, add a line to its timeline, keep an item of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from vedette.act.cases.nouns import MAX_LIST, MAX_TEXT, Case, CaseState
from vedette.act.cases.phases import Phase
from vedette.act.cases.tables import ALERT, CASE, ENTRY, ITEM, MIGRATIONS
from vedette.act.timeline import Body, Entry, Noted, Withheld
from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import DataError, NotFoundError
from vedette.core.ids import Ids
from vedette.core.signal import Level

T = TypeVar("T")


class Store:
    """Where a part of the cases keeps what it keeps.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of entries.
        ids: Ids of what is made.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        database.migrate("cases", MIGRATIONS)

    def _add(
        self, connection: Connection, tenant: str, case_id: str, operator: str, body: Body, *, key: str = ""
    ) -> bool:
        """Adds an entry; with a `key`, once. True when it was added."""
        return add_entry(connection, tenant, case_id, operator, body, self._clock.now(), key)

    def _items(self, tenant: str, case_id: str, kind: str, shape: type[T]) -> list[T]:
        with self._database.read() as connection:
            load(connection, tenant, case_id)
            return items(connection, tenant, case_id, kind, shape)


def add_entry(  # noqa: PLR0917 - the columns of a row
    connection: Connection, tenant: str, case_id: str, operator: str, body: Body, now: int, key: str = ""
) -> bool:
    """Adds an entry inside the transaction that holds the case's lock: numbers have no gaps."""
    query = sa.select(CASE.c.next_seq).where(this(tenant, case_id)).with_for_update()
    seq: int = connection.execute(query).scalar_one()
    row = {"time": now, "operator": operator, "body": msgspec.json.encode(body).decode()}
    if not insert_new(connection, ENTRY, tenant=tenant, case_id=case_id, seq=seq, key=key or f"#{seq}", **row):
        return False
    connection.execute(CASE.update().where(this(tenant, case_id)).values(next_seq=seq + 1, updated_time=now))
    return True


def load(connection: Connection, tenant: str, case_id: str, *, lock: bool = False) -> Case:
    """One case; `lock` keeps others from changing it until the transaction ends.

    Raises:
        NotFoundError: `cases.case.unknown`, also for another tenant's.
    """
    query = CASE.select().where(this(tenant, case_id))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError("cases.case.unknown", "no such case", at=case_id)
    return to_case(row, linked(connection, tenant, [case_id]).get(case_id, ()))


def read_entries(
    connection: Connection, tenant: str, case_id: str, *, after: int = 0, limit: int = MAX_LIST, privy: bool = False
) -> list[Entry]:
    """Entries in order; what is privileged is withheld unless the reader is privy."""
    query = ENTRY.select().where(here(ENTRY, tenant, case_id), ENTRY.c.seq > after).order_by(ENTRY.c.seq).limit(limit)
    found = []
    for row in connection.execute(query).all():
        body: Any = msgspec.json.decode(row.body, type=Body)
        if isinstance(body, Noted) and body.privileged and not privy:
            body = Withheld()
        found.append(Entry(row.seq, row.time, row.operator, body))
    return found


def read_all(connection: Connection, tenant: str, case_id: str, *, privy: bool = False) -> list[Entry]:
    """The whole timeline, however long."""
    found: list[Entry] = []
    while len(part := read_entries(connection, tenant, case_id, after=len(found), privy=privy)) == MAX_LIST:
        found += part
    return found + part


def items(connection: Connection, tenant: str, case_id: str, kind: str, shape: type[T]) -> list[T]:
    """The items of a kind, oldest first."""
    query = sa.select(ITEM.c.body).where(here(ITEM, tenant, case_id), ITEM.c.kind == kind)
    rows = connection.execute(query.order_by(ITEM.c.time, ITEM.c.id).limit(MAX_LIST)).scalars()
    return [msgspec.json.decode(body, type=shape) for body in rows]


def find_item(connection: Connection, tenant: str, case_id: str, kind: str, item_id: str, shape: type[T]) -> T:  # noqa: PLR0917
    """One item.

    Raises:
        NotFoundError: `cases.<kind>.unknown`.
    """
    query = sa.select(ITEM.c.body).where(_item(tenant, case_id, kind, item_id))
    body = connection.execute(query).scalar()
    if body is None:
        raise NotFoundError(f"cases.{kind}.unknown", f"no such {kind} in this case", at=item_id[:64])
    return msgspec.json.decode(body, type=shape)


def keep_item(  # noqa: PLR0917 - the columns of a row
    connection: Connection, tenant: str, case_id: str, kind: str, item_id: str, body: Any, *, time: int, alarm: int = 0
) -> bool:
    """Keeps an item as it is now. True when it is a new one."""
    text = msgspec.json.encode(body).decode()
    name = {"tenant": tenant, "case_id": case_id, "kind": kind, "id": item_id}
    if insert_new(connection, ITEM, **name, time=time, alarm=alarm, body=text):
        return True
    connection.execute(ITEM.update().where(_item(tenant, case_id, kind, item_id)).values(body=text, alarm=alarm))
    return False


def drop_item(connection: Connection, tenant: str, case_id: str, kind: str, item_id: str) -> bool:
    """Takes an item out. True when there was one."""
    query = ITEM.delete().where(_item(tenant, case_id, kind, item_id)).returning(ITEM.c.id)
    return connection.execute(query).first() is not None


def due_items(connection: Connection, kind: str, now: int) -> list[tuple[str, str, str]]:
    """(Tenant, case, item) of which somebody is to be told by now, of all tenants."""
    query = sa.select(ITEM.c.tenant, ITEM.c.case_id, ITEM.c.id).where(
        ITEM.c.alarm > 0, ITEM.c.alarm <= now, ITEM.c.kind == kind
    )
    return [(row.tenant, row.case_id, row.id) for row in connection.execute(query.order_by(ITEM.c.alarm).limit(100))]


def linked(connection: Connection, tenant: str, case_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Case -> its alerts, in order of linking."""
    query = sa.select(ALERT.c.case_id, ALERT.c.alert_id).where(ALERT.c.tenant == tenant)
    query = query.where(ALERT.c.case_id.in_(case_ids)).order_by(ALERT.c.case_id, ALERT.c.seq)
    found: dict[str, tuple[str, ...]] = {}
    for case_id, alert_id in connection.execute(query).all():
        found[case_id] = (*found.get(case_id, ()), alert_id)
    return found


def to_case(row: Any, alerts: tuple[str, ...]) -> Case:
    """The case of a row."""
    words = Level(row.level), CaseState(row.state), Phase(row.phase)
    return Case(row.id, row.tenant, row.title, *words, row.created_time, row.updated_time, alerts, row.owner)


def check_text(text: str) -> None:
    """Refuses a text that says nothing or too much.

    Raises:
        DataError: `cases.text.invalid`.
    """
    if not text.strip() or len(text) > MAX_TEXT:
        raise DataError("cases.text.invalid", f"the text must have 1 to {MAX_TEXT} characters")


def here(table: sa.Table, tenant: str, case_id: str) -> Any:
    """The rows of a case."""
    return (table.c.tenant == tenant) & (table.c.case_id == case_id)


def this(tenant: str, case_id: str) -> Any:
    """The row of a case itself."""
    return (CASE.c.tenant == tenant) & (CASE.c.id == case_id)


def _item(tenant: str, case_id: str, kind: str, item_id: str) -> Any:
    return here(ITEM, tenant, case_id) & (ITEM.c.kind == kind) & (ITEM.c.id == item_id)
