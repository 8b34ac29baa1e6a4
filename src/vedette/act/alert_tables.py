"""The tables of alerts, and the row an alert is kept in: its body, and the columns the queue filters and orders by.

Texts that strangers wrote are cut before they enter an index: PostgreSQL refuses an entry above 2,704 bytes, and one
long name must not stop the stream.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from vedette.act.grouping import Alert
from vedette.act.risk import fades
from vedette.core.db import LONG, Connection, Migration, create, sa
from vedette.core.event import Entity

MAX_NAME = 200
"""Longest rule id, source, entity type or assignee that is filtered by, in bytes."""
MAX_TAGS = 500
"""Longest list of tags that is filtered by, in bytes."""
MAX_KEY = 600
"""Longest entity key kept as it is, in bytes; of a longer one its beginning and its hash."""
MAX_WORDS = 4_000
"""How much of title and entities can be searched, in characters."""
BATCH = 1_000
_TIME_BITS = 52
"""Microseconds until the year 2112; with severity and risk above them a place still fits 18 digits."""

METADATA = sa.MetaData()
ALERT = sa.Table(
    "alert",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("severity_id", sa.Integer, nullable=False),
    sa.Column("last_time", LONG, nullable=False),
    sa.Column("rule_id", sa.Text, nullable=False, server_default=""),
    sa.Column("source", sa.Text, nullable=False, server_default=""),
    sa.Column("entity_type", sa.Text, nullable=False, server_default=""),
    sa.Column("assignee", sa.Text, nullable=False, server_default=""),
    sa.Column("tags", sa.Text, nullable=False, server_default=""),
    sa.Column("created_time", LONG, nullable=False, server_default="0"),
    sa.Column("fades", LONG, nullable=False, server_default="0"),
    sa.Column("words", sa.Text, nullable=False, server_default=""),
    sa.Column("updated_time", LONG, nullable=False, server_default="0"),
    sa.Column("urgency", LONG, nullable=False, server_default="0"),
    sa.Column("body", sa.Text, nullable=False),
    # In the order of a state's queue, with all that it is filtered by: what does not fit is passed over in the index.
    sa.Index(
        "alert_riskiest",
        *("tenant", "state", "fades", "id", "severity_id", "rule_id", "source", "entity_type", "assignee", "tags"),
    ),
    sa.Index(
        "alert_urgent",
        *("tenant", "state", "urgency", "id", "severity_id", "rule_id", "source", "entity_type", "assignee", "tags"),
    ),
    sa.Index("alert_changed", "tenant", "updated_time", "state"),
    sa.Index(
        "alert_newest",
        *("tenant", "state", "created_time", "id", "severity_id", "rule_id", "source", "entity_type", "assignee"),
    ),
    sa.Index(
        "alert_created",
        *("tenant", "created_time", "state", "severity_id", "rule_id", "source", "entity_type", "assignee", "tags"),
    ),
    sqlite_strict=True,
)
FACETS = ("state", "severity_id", "rule_id", "source", "entity_type", "assignee", "tags")
"""Columns that the queue counts by."""
_CELLS = sa.MetaData()
CELL = sa.Table(
    "alert_cell",
    _CELLS,
    sa.Column("tenant", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Integer if name == "severity_id" else sa.Text, primary_key=True) for name in FACETS),
    sa.Column("alerts", sa.Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""How many alerts look alike to the facets, kept by the database itself.

SQLite alone has it: with one writer at a time nobody waits for a count. On PostgreSQL, where writers would wait for
each other in a circle, the counts are taken from an index when they are asked for.
"""
SIGNAL = sa.Table(
    "alert_signal",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, nullable=False),
    sa.Column("event_time", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("alert_signal_alert", "tenant", "alert_id", "event_time"),
    sqlite_strict=True,
)
ENTITY = sa.Table(
    "alert_entity",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sqlite_strict=True,
)
CURSOR = sa.Table(
    "alert_cursor",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", LONG, nullable=False),
    sqlite_strict=True,
)
REJECT = sa.Table(
    "alert_reject",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("log_offset", LONG, primary_key=True),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_strict=True,
)


def _widen(connection: Connection) -> None:
    """Gives a table of before the queue's columns, filled from the bodies; finds nothing to do in a fresh one."""
    look = sa.inspect(connection)
    held = {column["name"] for column in look.get_columns("alert")}
    indexes = {index["name"] for index in look.get_indexes("alert")}
    missing = [column for column in ALERT.columns if column.name not in held]
    for column in missing:
        kind = column.type.compile(connection.dialect)
        default = "0" if isinstance(column.type, sa.BigInteger) else "''"
        connection.exec_driver_sql(f"alter table alert add column {column.name} {kind} not null default {default}")
    if missing:
        _refill(connection)
    if "alert_queue" in indexes:
        connection.exec_driver_sql("drop index alert_queue")
    for index in ALERT.indexes:
        if index.name not in indexes:
            index.create(connection)


def _refill(connection: Connection) -> None:
    after = ("", "")
    place = sa.tuple_(ALERT.c.tenant, ALERT.c.id)
    while True:
        query = sa.select(ALERT.c.tenant, ALERT.c.id, ALERT.c.body).where(place > sa.tuple_(*after))
        rows = connection.execute(query.order_by(ALERT.c.tenant, ALERT.c.id).limit(BATCH)).all()
        for row in rows:
            values = to_new_row(msgspec.json.decode(row.body, type=Alert))
            connection.execute(
                ALERT.update().where(ALERT.c.tenant == row.tenant, ALERT.c.id == row.id).values(**values)
            )
        if len(rows) < BATCH:
            return
        after = (rows[-1].tenant, rows[-1].id)


def _index(connection: Connection) -> None:
    """Makes the indexes that are missing, as far as their columns are there."""
    look = sa.inspect(connection)
    held = {index["name"] for index in look.get_indexes("alert")}
    columns = {column["name"] for column in look.get_columns("alert")}
    for index in ALERT.indexes:
        if index.name not in held and {column.name for column in index.columns} <= columns:
            index.create(connection)


def _weigh(connection: Connection) -> None:
    """Gives a table of before the times of change and urgencies, in one statement: there may be millions of rows."""
    held = {column["name"] for column in sa.inspect(connection).get_columns("alert")}
    missing = [name for name in ("updated_time", "urgency") if name not in held]
    for name in missing:
        kind = ALERT.c[name].type.compile(connection.dialect)
        connection.exec_driver_sql(f"alter table alert add column {name} {kind} not null default 0")
    if missing:
        lite = connection.dialect.name == "sqlite"
        changed = "json_extract(body, '$.updated_time')" if lite else "(body::json ->> 'updated_time')::bigint"
        scale, most = 1 << _TIME_BITS, (1 << _TIME_BITS) - 1
        connection.exec_driver_sql(
            f"update alert set updated_time = {changed}, urgency = severity_id * 10 * {scale} + {most} - created_time"
        )
    _index(connection)


def _count_cells(connection: Connection) -> None:
    for name in ("alert_facets", "alert_fades", "alert_created"):
        connection.exec_driver_sql(f"drop index if exists {name}")
    _index(connection)
    if connection.dialect.name != "sqlite":
        return
    create(_CELLS)(connection)
    names = ("tenant", *FACETS)
    columns = ", ".join(names)
    connection.exec_driver_sql(
        f"insert into alert_cell ({columns}, alerts) select {columns}, count(*) from alert group by {columns}"
    )
    added = ", ".join(f"new.{name}" for name in names)
    same = " and ".join(f"{name} = old.{name}" for name in names)
    changed = " or ".join(f"new.{name} <> old.{name}" for name in names)
    count = (
        f"insert into alert_cell ({columns}, alerts) values ({added}, 1) "
        f"on conflict ({columns}) do update set alerts = alerts + 1;"
    )
    forget = f"update alert_cell set alerts = alerts - 1 where {same};"
    for name, event, body in (
        ("alert_counted", "after insert on alert", count),
        ("alert_recounted", f"after update of {columns} on alert when {changed}", forget + count),
        ("alert_uncounted", "after delete on alert", forget),
    ):
        connection.exec_driver_sql(f"create trigger {name} {event} begin {body} end")


MIGRATIONS = (
    Migration(1, "alerts", create(METADATA)),
    Migration(2, "columns of the queue", _widen),
    Migration(3, "counts of the queue", _count_cells),
    Migration(4, "urgency and times of change", _weigh),
)


def to_row(alert: Alert) -> dict[str, Any]:
    """The row of an alert."""
    keys = [entity.key for entity in ((alert.entity,) if alert.entity else ()) + alert.entities]
    return {
        "tenant": alert.tenant,
        "id": alert.id,
        "state": str(alert.state),
        "severity_id": alert.severity_id,
        "last_time": alert.last_time,
        "rule_id": cut(alert.rule_id),
        "source": cut(alert.source),
        "entity_type": cut(alert.entity.type if alert.entity else ""),
        "assignee": cut(alert.assignee),
        "tags": cut(" ".join(alert.tags), MAX_TAGS),
        "created_time": alert.created_time,
        "fades": fades(alert),
        "updated_time": alert.updated_time,
        "words": _plain("\n".join([alert.title, alert.rule_id, *keys])[:MAX_WORDS].casefold()),
        "body": msgspec.json.encode(alert).decode(),
    }


def to_new_row(alert: Alert) -> dict[str, Any]:
    """The row of an alert that is new: as urgent as its rule says, until that is weighed with what it names."""
    return to_row(alert) | {"urgency": urgency(alert.severity_id, 0.0, alert.created_time)}


def urgency(severity_id: int, risk: float, created_time: int) -> int:
    """Place in the order of severity: the graver first, then the riskier in steps of ten, then the older.

    Args:
        severity_id: 1 to 5, with what assets and risk make of it.
        risk: Of the riskiest thing that it names, 0 to 99.9.
        created_time: When it was made, microseconds UTC.
    """
    step = severity_id * 10 + min(9, int(risk // 10))
    return (step << _TIME_BITS) + max(0, (1 << _TIME_BITS) - 1 - created_time)


def entity_key(entity: Entity) -> str:
    """The key by which an entity's alerts are found."""
    key = entity.key
    if len(_plain(key).encode()) <= MAX_KEY:
        return _plain(key)
    return f"{cut(key, MAX_KEY)}#{hashlib.sha256(key.encode()).hexdigest()}"


def cut(text: str, size: int = MAX_NAME) -> str:
    """A text as it stands in a column of an index."""
    return _plain(text).encode()[:size].decode(errors="ignore")


def _plain(text: str) -> str:
    # PostgreSQL keeps no NUL in a text.
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
