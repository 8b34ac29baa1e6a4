"""Events of what money did, on their way to the log.

They are written in the transaction of the effect, so there is no effect without its event and no event without its
effect. `run.pipeline.telling` brings them to the log and forgets them here. Of several services on one database each
brings its own to its own log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.event import Event

_FIRST = sa.MetaData()


def _columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("place", LONG, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


sa.Table("told_event", _FIRST, *_columns(), sqlite_strict=True)
_told = sa.Table("told_event", sa.MetaData(), *_columns(), sa.Column("service", sa.Text, nullable=False))
_cursors = sa.Table(
    "told_cursor",
    _FIRST,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("place", LONG, nullable=False),
    sqlite_strict=True,
)


def _second(connection: Connection) -> None:
    connection.execute(sa.text("alter table told_event add column service text not null default ''"))


_MIGRATIONS = (
    Migration(1, "events on their way to the log", create(_FIRST)),
    Migration(2, "whose log they are for", _second),
)
_decode = msgspec.json.Decoder(Event).decode


class Waiting(NamedTuple):
    """An event that is not known to be in the log."""

    place: int
    event: Event


class Told:
    """Events that wait, and how far each reader of a log has come.

    Args:
        db: The database of the effects; migrated here.
    """

    def __init__(self, db: Database) -> None:
        self.db = db
        db.migrate("told", _MIGRATIONS)

    def tell(self, connection: Connection, events: Sequence[Event]) -> None:
        """Writes events in the caller's transaction."""
        if events:
            rows = [
                {"tenant": event.tenant, "body": msgspec.json.encode(event), "service": self.db.service}
                for event in events
            ]
            connection.execute(_told.insert(), rows)

    def waiting(self, limit: int) -> list[Waiting]:
        """What waits for this service's log, oldest first."""
        query = (
            sa.select(_told.c.place, _told.c.body)
            .where(_told.c.service == self.db.service)
            .order_by(_told.c.place)
            .limit(limit)
        )
        with self.db.read() as connection:
            return [Waiting(row.place, _decode(row.body)) for row in connection.execute(query)]

    def forget(self, connection: Connection, told: Sequence[Waiting]) -> None:
        """Drops events that are in the log."""
        connection.execute(_told.delete().where(_told.c.place.in_([one.place for one in told])))

    def cursor(self, name: str) -> int:
        """Where a reader stands; 0 when it never moved."""
        with self.db.read() as connection:
            return (
                connection.execute(sa.select(_cursors.c.place).where(_cursors.c.name == self.db.placed(name))).scalar()
                or 0
            )

    def move(self, connection: Connection, name: str, place: int) -> None:
        """Notes where a reader stands, in the caller's transaction."""
        name = self.db.placed(name)
        if not insert_new(connection, _cursors, name=name, place=place):
            connection.execute(_cursors.update().where(_cursors.c.name == name).values(place=place))
