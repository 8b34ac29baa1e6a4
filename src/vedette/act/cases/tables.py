"""The tables of cases. Entries of a timeline cannot be changed or deleted: the database itself refuses."""

from __future__ import annotations

from typing import Any

import msgspec

from vedette.core.db import LONG, Connection, Migration, create, sa

_METADATA = sa.MetaData()


def _table(name: str, metadata: sa.MetaData, *columns: Any) -> sa.Table:
    tenant = sa.Column("tenant", sa.Text, primary_key=True)
    return sa.Table(name, metadata, tenant, *columns, sqlite_strict=True)


CASE = _table(
    "case_file",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("created_time", LONG, nullable=False),
    sa.Column("updated_time", LONG, nullable=False),
    sa.Column("next_seq", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False, server_default=""),
    sa.Index("case_file_queue", "tenant", "state", "updated_time"),
)
ENTRY = _table(
    "case_entry",
    _METADATA,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant", "case_id", "key"),
)
ALERT = _table(
    "case_alert",
    _METADATA,
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("case_id", sa.Text, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Index("case_alert_case", "tenant", "case_id"),
)
EVIDENCE = _table(
    "case_evidence",
    _METADATA,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
)
_TASK = _table(
    "case_task",
    _METADATA,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("time", LONG, nullable=False),
)
_ITEMS = sa.MetaData()
ITEM = _table(
    "case_item",
    _ITEMS,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sa.Column("alarm", LONG, nullable=False, server_default="0"),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("case_item_alarm", "alarm"),
)
"""What stands in a case beside its timeline, as it is now: tasks, hypotheses, members, clocks. `alarm` is when somebody
is to be told of it next, microseconds UTC; 0: never."""
LINK = _table(
    "case_link",
    _ITEMS,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("kept", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("case_link_waiting", "kept", "tenant", "case_id", "number"),
)
"""The chain of custody, link by link."""

_SEAL_SQLITE = (
    (
        "create trigger case_entry_no_update before update on case_entry begin "
        "select raise(abort, 'case entries are append-only'); end"
    ),
    (
        "create trigger case_entry_no_delete before delete on case_entry begin "
        "select raise(abort, 'case entries are append-only'); end"
    ),
)
_SEAL_POSTGRES = (
    (
        "create function case_entry_sealed() returns trigger language plpgsql as "
        "$$ begin raise exception 'case entries are append-only'; end $$"
    ),
    (
        "create trigger case_entry_sealed before update or delete on case_entry "
        "for each row execute function case_entry_sealed()"
    ),
)


def _create(connection: Connection) -> None:
    _METADATA.create_all(connection, checkfirst=False)
    for statement in _SEAL_SQLITE if connection.dialect.name == "sqlite" else _SEAL_POSTGRES:
        connection.exec_driver_sql(statement)


def _add_owner(connection: Connection) -> None:
    if "owner" not in {column["name"] for column in sa.inspect(connection).get_columns("case_file")}:
        connection.exec_driver_sql("alter table case_file add column owner text not null default ''")


def _add_items(connection: Connection) -> None:
    create(_ITEMS)(connection)
    for row in connection.execute(_TASK.select()).all():
        body = {"id": row.id, "title": row.title, "done": bool(row.done), "time": row.time}
        values = {"tenant": row.tenant, "case_id": row.case_id, "kind": "task", "id": row.id, "time": row.time}
        connection.execute(ITEM.insert().values(**values, alarm=0, body=msgspec.json.encode(body).decode()))


MIGRATIONS = (Migration(1, "cases", _create), Migration(2, "owners", _add_owner), Migration(3, "items", _add_items))
