"""The tables of the review queue."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from vedette.act.reviewing.nouns import About, Item, ItemState, Opinion
from vedette.core.db import LONG, Migration, create, sa

METADATA = sa.MetaData()
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
OWED = sa.Table(
    "review_label",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("fraud", sa.Integer, nullable=False),
    sa.Column("time", LONG, nullable=False),
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
MIGRATIONS = (Migration(1, "review queue", create(METADATA)),)


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
    )


def to_opinion(row: Any) -> Opinion:
    """What one person said."""
    return Opinion(row.reviewer, bool(row.fraud), row.note, row.time, row.fence)
