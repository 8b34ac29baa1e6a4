"""Tables of webhooks on their way out. Times are microseconds UTC; 0: never."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from vedette.core.db import LONG, Connection, Migration, create, sa

METADATA = sa.MetaData()
endpoints = sa.Table(
    "webhook_endpoint",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("enabled", sa.Integer, nullable=False),
    sa.Column("created", LONG, nullable=False),
    sa.Column("scheme", sa.Text, nullable=False),
    sa.Column("ordered", LONG, nullable=False),
    sa.Column("place", LONG, nullable=False),
    sa.Column("failures", LONG, nullable=False),
    sa.Column("paused_until", LONG, nullable=False),
    sa.Column("last_success", LONG, nullable=False),
    sa.Column("last_failure", LONG, nullable=False),
    sa.Column("last_error", sa.Text, nullable=False),
    sqlite_strict=True,
)
deliveries = sa.Table(
    "webhook_delivery",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("endpoint_id", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", LONG, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("created", LONG, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("place", LONG, nullable=False),
    sa.Column("settled", LONG, nullable=False),
    sqlite_strict=True,
)


class DeliveryStatus(StrEnum):
    """Where a delivery is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


# Literals, not bound values: a partial index serves only a query that repeats its condition word for word.
WAITING: Final = deliveries.c.status == sa.literal_column("'waiting'")
SETTLED: Final = deliveries.c.status != sa.literal_column("'waiting'")
sa.Index("webhook_delivery_due", deliveries.c.next_at, sqlite_where=WAITING, postgresql_where=WAITING)
sa.Index(
    "webhook_delivery_order",
    deliveries.c.tenant,
    deliveries.c.endpoint_id,
    deliveries.c.subject,
    deliveries.c.place,
    sqlite_where=WAITING,
    postgresql_where=WAITING,
)
sa.Index("webhook_delivery_settled", deliveries.c.settled, sqlite_where=SETTLED, postgresql_where=SETTLED)


def _widen(connection: Connection) -> None:
    """Gives tables of before what was added since; finds nothing to do in fresh ones."""
    look = sa.inspect(connection)
    for table in (endpoints, deliveries):
        held = {column["name"] for column in look.get_columns(table.name)}
        for column in table.columns:
            if column.name not in held:
                kind = column.type.compile(connection.dialect)
                usual = "'timestamped'" if column is endpoints.c.scheme else "''"
                default = usual if isinstance(column.type, sa.Text) else "0"
                connection.exec_driver_sql(
                    f"alter table {table.name} add column {column.name} {kind} not null default {default}"
                )
                if column is deliveries.c.settled:
                    connection.exec_driver_sql(
                        "update webhook_delivery set settled = created where status <> 'waiting'"
                    )
        indexes = {index["name"] for index in look.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection)


MIGRATIONS = (
    Migration(1, "webhook endpoints and deliveries", create(METADATA)),
    Migration(2, "schemes, order and health of endpoints", _widen),
)
