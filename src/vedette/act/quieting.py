"""What rules raise and people do not see: alerts that a rule's own law suppresses, and alerts of rules in shadow.

Suppression is settled in the transaction of the alert that changed: from the raised alert before it on, up to where
nothing changes any more. In order of event time that is one row; a late event looks at those behind it. People's
states stay: only a new alert becomes suppressed, and only what the law suppressed becomes new again.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from vedette.act.alert_tables import ALERT, to_row
from vedette.act.grouping import Alert, AlertState
from vedette.act.silences import PREFIX
from vedette.act.suppression import suppression_key
from vedette.core.clock import MICROS
from vedette.core.db import LONG, Connection, Migration, create, insert_new, sa
from vedette.core.signal import Signal
from vedette.judge.grouping import Suppression

_QUIET = sa.Table(
    "alert_quiet",
    sa.MetaData(),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("first_time", LONG, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Index("alert_quiet_key", "tenant", "key", "first_time", "alert_id"),
    sqlite_strict=True,
)
_SHADOWS = sa.MetaData()
_SHADOW = sa.Table(
    "alert_shadow",
    _SHADOWS,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("rule_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("signals", sa.Integer, nullable=False),
    sa.Column("first_time", LONG, nullable=False),
    sa.Column("last_time", LONG, nullable=False),
    sqlite_strict=True,
)
_SEEN = sa.Table(
    "alert_shadow_signal",
    _SHADOWS,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sqlite_strict=True,
)
MIGRATIONS = (
    Migration(1, "suppressed alerts", create(_QUIET.metadata)),
    Migration(2, "alerts of the shadow", create(_SHADOWS)),
)


def settle(connection: Connection, alert: Alert, law: Suppression) -> None:
    """Says anew which alerts of a key are suppressed, after one of them was made or changed.

    Args:
        connection: Of the transaction that changed it.
        alert: As it is now.
        law: Of its rule.
    """
    here = (_QUIET.c.tenant == alert.tenant) & (_QUIET.c.alert_id == alert.id)
    held = connection.execute(_QUIET.select().where(here)).first()
    key = suppression_key(alert, law)
    if held and (held.key, held.first_time) == (key, alert.first_time):
        return
    if held:
        connection.execute(_QUIET.delete().where(here))
        if held.key != key:
            _Chain(connection, alert.tenant, held.key, law.span_s).walk(held.first_time, held.first_time)
    if key is None:
        _mark(connection, alert.tenant, alert.id, "")
        return
    row = {"tenant": alert.tenant, "alert_id": alert.id, "key": key, "first_time": alert.first_time}
    insert_new(connection, _QUIET, **row, by=held.by if held else "")
    times = {alert.first_time, *((held.first_time,) if held and held.key == key else ())}
    _Chain(connection, alert.tenant, key, law.span_s).walk(min(times), max(times))


@dataclass(frozen=True, slots=True)
class _Chain:
    """The alerts of one key in the order of their first events."""

    connection: Connection
    tenant: str
    key: str
    span_s: int

    def walk(self, since: int, last: int) -> None:
        """Goes over them from the first change on, and marks those whose answer is another.

        Args:
            since: Event time of the first change, microseconds UTC.
            last: Of the last one.
        """
        mine = (_QUIET.c.tenant == self.tenant) & (_QUIET.c.key == self.key)
        order = (_QUIET.c.first_time, _QUIET.c.alert_id)
        before = _QUIET.select().where(mine, _QUIET.c.by == "", _QUIET.c.first_time < since)
        raised = self.connection.execute(before.order_by(*(each.desc() for each in order)).limit(1)).first()
        until = raised.first_time + self.span_s * MICROS if raised else -1
        by = raised.alert_id if raised else ""
        rows = self.connection.execute(_QUIET.select().where(mine, _QUIET.c.first_time >= since).order_by(*order))
        for row in rows.fetchall():
            quiet = by if row.first_time < until else ""
            if not quiet:
                until, by = row.first_time + self.span_s * MICROS, row.alert_id
            if quiet != row.by:
                at = (_QUIET.c.tenant == self.tenant) & (_QUIET.c.alert_id == row.alert_id)
                self.connection.execute(_QUIET.update().where(at).values(by=quiet))
                _mark(self.connection, self.tenant, row.alert_id, quiet)
            elif not quiet and row.first_time > last:
                return  # raised then and now, so nothing behind it changes


def _mark(connection: Connection, tenant: str, alert_id: str, by: str) -> None:
    here = (ALERT.c.tenant == tenant) & (ALERT.c.id == alert_id)
    body = connection.execute(sa.select(ALERT.c.body).where(here)).scalar_one()
    alert = msgspec.json.decode(body, type=Alert)
    state = alert.state
    if by and state is AlertState.NEW:
        state = AlertState.SUPPRESSED
    elif not by and alert.suppressed_by.startswith(PREFIX):
        return  # a window of people keeps it quiet, which is not for the rule's law to end
    elif not by and alert.suppressed_by and state is AlertState.SUPPRESSED and not alert.state_time:
        state = AlertState.NEW
    changed = msgspec.structs.replace(alert, suppressed_by=by, state=state)
    if changed != alert:
        connection.execute(ALERT.update().where(here).values(**to_row(changed)))


class Shadow(msgspec.Struct, frozen=True):
    """What a rule in shadow would have raised."""

    signals: int
    alerts: int
    first_time: int
    """Event time, microseconds UTC."""
    last_time: int


def count_shadow(connection: Connection, signal: Signal, alert: Alert) -> None:
    """Counts a signal of a rule in shadow, once, for the alert that it would have made."""
    if not insert_new(connection, _SEEN, tenant=signal.tenant, id=signal.id):
        return
    name = {
        "tenant": signal.tenant,
        "rule_id": signal.rule_id,
        "version": signal.rule_version,
        "alert_id": alert.id,
    }
    time = alert.first_time
    if insert_new(connection, _SHADOW, **name, signals=1, first_time=time, last_time=time):
        return
    here = sa.and_(*(_SHADOW.c[column] == value for column, value in name.items()))
    row = connection.execute(_SHADOW.select().where(here)).one()
    connection.execute(
        _SHADOW.update()
        .where(here)
        .values(signals=row.signals + 1, first_time=min(row.first_time, time), last_time=max(row.last_time, time))
    )


def shadows(connection: Connection, tenant: str) -> dict[tuple[str, str], Shadow]:
    """(Rule id, version) -> what was counted."""
    total = sa.func
    query = (
        sa.select(
            _SHADOW.c.rule_id,
            _SHADOW.c.version,
            total.sum(_SHADOW.c.signals),
            total.count(),
            total.min(_SHADOW.c.first_time),
            total.max(_SHADOW.c.last_time),
        )
        .where(_SHADOW.c.tenant == tenant)
        .group_by(_SHADOW.c.rule_id, _SHADOW.c.version)
    )
    return {(row[0], row[1]): Shadow(int(row[2]), row[3], row[4], row[5]) for row in connection.execute(query)}
