"""The journal of correlations: what must be known again after a restart, in state.db.

One row holds the contributions of one batch of one topic partition for one tenant. Rows are written after the batch's
signals and before its place in the log moves. So a killed process either reads the batch again and finds its moments
there, or finds them missing and makes the same signals again, with the same ids: nothing is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from vedette.core.db import LONG, Database, Migration, create, insert_new, sa
from vedette.judge.correlation.correlator import Contribution

_METADATA = sa.MetaData()
_ROW = sa.Table(
    "correlation_journal",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("start", LONG, primary_key=True),
    sa.Column("written", LONG, nullable=False),
    sa.Column("expires", LONG, nullable=False),
    sa.Column("tide", LONG, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("correlation_expiry", "tenant", "expires"),
    sqlite_strict=True,
)
_LOW = sa.Table(
    "correlation_low",
    sa.MetaData(),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("low", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (
    Migration(1, "correlations", create(_METADATA)),
    Migration(2, "how far they are settled", create(_LOW.metadata)),
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Contribution]).decode


class Entry(NamedTuple):
    """What one batch brought for one tenant."""

    tenant: str
    topic: str
    partition: int
    start: int
    """Offset of the batch's first record."""
    tide: int
    """How far event time had come, microseconds UTC; 0 when that could not be told."""
    expires: int
    """Event time from which on none of it can matter."""
    contributions: Sequence[Contribution]


class Journal:
    """Contributions in a database.

    Args:
        database: state.db, or its PostgreSQL schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written = 0
        database.migrate("correlations", MIGRATIONS)

    def keep(self, entries: Sequence[Entry]) -> None:
        """Adds the entries of a batch; one that is there, of a batch that is read again, is replaced."""
        if not entries:
            return
        with self._database.begin() as connection:
            for one in entries:
                self._written += 1
                place = {
                    "tenant": one.tenant,
                    "topic": one.topic,
                    "partition": one.partition,
                    "start": one.start,
                }
                connection.execute(sa.delete(_ROW).where(*(_ROW.c[name] == value for name, value in place.items())))
                connection.execute(
                    sa.insert(_ROW).values(
                        **place,
                        written=self._written,
                        expires=one.expires,
                        tide=one.tide,
                        body=_encode(one.contributions),
                    )
                )

    def forget(self, tenant: str, until: int) -> None:
        """Drops what can matter no more at an event time, and remembers that time."""
        with self._database.begin() as connection:
            connection.execute(sa.delete(_ROW).where((_ROW.c.tenant == tenant) & (_ROW.c.expires <= until)))
            if not insert_new(connection, _LOW, tenant=tenant, low=until):
                connection.execute(sa.update(_LOW).where(_LOW.c.tenant == tenant).values(low=until))

    def lows(self) -> dict[str, int]:
        """Tenant -> the time of the last `forget`."""
        with self._database.read() as connection:
            return {row.tenant: row.low for row in connection.execute(sa.select(_LOW))}

    def entries(self) -> Iterator[Entry]:
        """Everything that is kept, in the order of writing."""
        with self._database.read() as connection:
            self._written = connection.execute(sa.select(sa.func.max(_ROW.c.written))).scalar() or 0
            for row in connection.execute(sa.select(_ROW).order_by(_ROW.c.written)):
                place = row.tenant, row.topic, row.partition, row.start
                yield Entry(*place, row.tide, row.expires, _decode(row.body))
