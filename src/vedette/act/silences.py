"""Tables of what people keep quiet, and whether a window covers a signal. The consumer of signals asks here."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vedette.core.db import LONG, Connection, Migration, create, sa
from vedette.core.signal import Signal

PREFIX = "mw_"
"""How ids of windows begin; of an alert `suppressed_by`."""

_METADATA = sa.MetaData()
WAKE = sa.Table(
    "alert_wake",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("until", LONG, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Index("alert_wake_until", "until"),
    sqlite_strict=True,
)
WINDOW = sa.Table(
    "alert_window",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("since", LONG, nullable=False),
    sa.Column("until", LONG, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "snoozes and windows", create(_METADATA)),)


class Window(msgspec.Struct, frozen=True):
    """A time in which some alerts raise nobody."""

    id: str
    since: int
    """Event time from, microseconds UTC."""
    until: int
    """Event time to, not included."""
    rule: str
    source: str
    entity: str
    """`type:id`; empty: of any."""
    operator: str
    reason: str

    def covers(self, signal: Signal) -> bool:
        """Whether the signal happened in it and is what it is about."""
        return (
            self.since <= signal.event_time < self.until
            and self.rule in {"", signal.rule_id}
            and self.source in {"", signal.source}
            and (not self.entity or any(each.key == self.entity for each in signal.entities))
        )


def read_windows(connection: Connection, tenants: Sequence[str]) -> dict[str, list[Window]]:
    """Tenant -> its windows."""
    found: dict[str, list[Window]] = {}
    rows = connection.execute(WINDOW.select().where(WINDOW.c.tenant.in_(tenants)).order_by(WINDOW.c.id)).mappings()
    for row in rows:
        held = {str(name): value for name, value in row.items() if name != "tenant"}
        found.setdefault(row["tenant"], []).append(Window(**held))
    return found


def covering(windows: Sequence[Window], signal: Signal) -> str:
    """Id of a window that covers a signal; empty for none."""
    return next((window.id for window in windows if window.covers(signal)), "")
