"""What a report found, day by day: one row a tenant, report and day, the newest of a day."""

from __future__ import annotations

from typing import Any

import msgspec

from vedette.core.clock import DAY, to_iso
from vedette.core.db import LONG, Database, Migration, create, insert_new, sa

_METADATA = sa.MetaData()
_TREND = sa.Table(
    "trend",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("report", sa.Text, primary_key=True),
    sa.Column("day", LONG, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "reports by day", create(_METADATA)),)
MAX_DAYS = 400
"""Most days that are given, the newest."""


class Trend:
    """Reports by day.

    Args:
        database: state.db, or its PostgreSQL schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("trend", MIGRATIONS)

    def keep(self, tenant: str, report: str, time: int, figures: dict[str, Any]) -> None:
        """Keeps a report's figures for the day of a time (microseconds UTC), in place of an earlier one of that day."""
        key = {"tenant": tenant, "report": report, "day": time // DAY}
        body = msgspec.json.encode(figures).decode()
        with self._database.begin() as connection:
            if not insert_new(connection, _TREND, **key, body=body):
                here = sa.and_(*(_TREND.c[name] == value for name, value in key.items()))
                connection.execute(_TREND.update().where(here).values(body=body))

    def of(self, tenant: str, report: str) -> list[tuple[str, dict[str, Any]]]:
        """(day as ISO date, figures), the oldest first."""
        query = (
            sa.select(_TREND.c.day, _TREND.c.body)
            .where(_TREND.c.tenant == tenant, _TREND.c.report == report)
            .order_by(_TREND.c.day.desc())
            .limit(MAX_DAYS)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [(to_iso(day * DAY)[:10], msgspec.json.decode(body)) for day, body in reversed(rows)]
