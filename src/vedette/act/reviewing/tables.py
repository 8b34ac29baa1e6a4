"""The tables of the review queue."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from vedette.act.reviewing.nouns import About, Item, ItemState, News, Opinion, TakenBack
from vedette.core.db import LONG, Connection, Migration, create, sa

METADATA = sa.MetaData()
_LATER = sa.MetaData()
ITEM = sa.Table(
    "review_item",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_time", LONG, nullable=False),
    sa.Column("exposure", LONG, nullable=False),
    sa.Column("cost", LONG, nullable=False),
    sa.Column("eyes", sa.Integer, nullable=False),
    sa.Column("sampled", sa.Integer, nullable=False),
    sa.Column("given", sa.Integer, nullable=False, server_default="0"),
    sa.Column("disputed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("holder", sa.Text, nullable=False, server_default=""),
    sa.Column("lease_until", LONG, nullable=False, server_default="0"),
    sa.Column("fence", LONG, nullable=False, server_default="0"),
    sa.Column("fraud", sa.Integer),
    sa.Column("done_time", LONG, nullable=False, server_default="0"),
    sa.Column("told", sa.Integer, nullable=False, server_default="0"),
    sa.Column("taken_back", sa.Integer, nullable=False, server_default="0"),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("review_item_dearest", "tenant", "state", "cost", "id"),
    sa.Index("review_item_oldest", "tenant", "state", "created_time", "told"),
    sa.Index("review_item_held", "tenant", "holder"),
    sqlite_strict=True,
)
OPINION = sa.Table(
    "review_opinion",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("reviewer", sa.Text, primary_key=True),
    sa.Column("fraud", sa.Integer, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("fence", LONG, nullable=False),
    sqlite_strict=True,
)
_FIRST_OWED = sa.Table(
    "review_label",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("fraud", sa.Integer, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
OWED = sa.Table(
    "review_owed",
    _LATER,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    # Of the claim under which it was settled: an item that was taken back may owe a second label beside the first.
    sa.Column("fence", LONG, primary_key=True, autoincrement=False),
    sa.Column("fraud", sa.Integer, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
TAKEN_BACK = sa.Table(
    "review_taken_back",
    _LATER,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("turn", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("fraud", sa.Integer),
    sa.Column("done_time", LONG, nullable=False),
    sa.Column("said", sa.Text, nullable=False),
    sqlite_strict=True,
)
NEWS = sa.Table(
    "review_news",
    _LATER,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("time", LONG, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("fraud", sa.Integer),
    sqlite_strict=True,
)
CURSOR = sa.Table(
    "review_cursor",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", LONG, nullable=False),
    sqlite_strict=True,
)


def _take_back(connection: Connection) -> None:
    if "taken_back" not in {column["name"] for column in sa.inspect(connection).get_columns("review_item")}:
        connection.exec_driver_sql("alter table review_item add column taken_back integer not null default 0")
    create(_LATER)(connection)
    first = sa.select(_FIRST_OWED, ITEM.c.fence).join(
        ITEM, (ITEM.c.tenant == _FIRST_OWED.c.tenant) & (ITEM.c.id == _FIRST_OWED.c.item_id)
    )
    for row in connection.execute(first).all():
        connection.execute(OWED.insert().values(**row._mapping))  # noqa: SLF001 - its public mapping
    connection.execute(_FIRST_OWED.delete())


MIGRATIONS = (
    Migration(1, "review queue", create(METADATA)),
    Migration(2, "verdicts taken back, news from elsewhere", _take_back),
)


def item_id(tenant: str, event_id: str) -> str:
    """The id of the item about an event: the same whoever asks, so that a record read twice makes one."""
    return "rv_" + hashlib.sha256(msgspec.json.encode([tenant, event_id])).hexdigest()[:26]


def to_item(row: Any, now: int) -> Item:
    """An item as it stands at a time."""
    live = row.lease_until > now
    return Item(
        id=row.id,
        tenant=row.tenant,
        state=ItemState(row.state),
        about=msgspec.json.decode(row.body, type=About),
        created_time=row.created_time,
        exposure_minor=row.exposure,
        cost_minor=row.cost,
        eyes=row.eyes,
        given=row.given,
        disputed=bool(row.disputed),
        holder=row.holder if live else "",
        lease_until=row.lease_until if live else 0,
        fence=row.fence,
        fraud=None if row.fraud is None else bool(row.fraud),
        done_time=row.done_time,
        taken_back=row.taken_back,
    )


def to_opinion(row: Any) -> Opinion:
    """What one person said."""
    return Opinion(row.reviewer, bool(row.fraud), row.note, row.time, row.fence)


def to_taken_back(row: Any) -> TakenBack:
    """One turn of an item that was taken back."""
    fraud = None if row.fraud is None else bool(row.fraud)
    said = msgspec.json.decode(row.said, type=tuple[Opinion, ...])
    return TakenBack(row.person, row.time, row.why, fraud, row.done_time, said)


def to_news(row: Any) -> News:
    """What came another way."""
    return News(row.kind, row.time, None if row.fraud is None else bool(row.fraud))
