"""Who is not to be woken: alerts that people snooze until a time, and windows of maintenance.

A snoozed alert is suppressed until its time and then new again, unless somebody touched it meanwhile. Signals of a
window (by event time) make alerts that are suppressed from the start; one signal outside of every window raises the
alert. Both are counted and kept as every alert is; nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vedette.act.alert_tables import ALERT, to_row
from vedette.act.alerts import load_alert
from vedette.act.grouping import AlertState
from vedette.act.silences import MIGRATIONS, WAKE, WINDOW, Window, read_windows
from vedette.core.clock import DAY, MICROS, Clock
from vedette.core.db import Database, insert_new, sa
from vedette.core.errors import DataError, NotFoundError
from vedette.core.event import Entity
from vedette.core.ids import Ids
from vedette.prove.audit import Audit

MAX_SNOOZE = 30 * DAY
MAX_WINDOW = 30 * DAY
MAX_WINDOWS = 500
MAX_REASON = 500
BATCH = 200


class Silence:
    """Snoozes and windows of all tenants.

    Args:
        database: Where the alerts are.
        clock: Times.
        ids: Ids of windows.
        audit: Told of everything that makes quiet.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids, audit: Audit) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        database.migrate("silence", MIGRATIONS)

    def snooze(
        self, tenant: str, alert_ids: Sequence[str], until: int, *, operator: str, reason: str, origin: str = ""
    ) -> int:
        """Suppresses open alerts until a time; gives how many.

        Args:
            tenant: Whose.
            alert_ids: Which; those that are not open stay as they are.
            until: Microseconds UTC, within 30 days.
            operator: Who wants quiet.
            reason: Why.
            origin: Where the request came from.

        Raises:
            DataError: `alerts.snooze.until`, `alerts.snooze.reason`.
            NotFoundError: `alerts.alert.unknown`.
        """
        now = self._clock.now()
        if not now < until <= now + MAX_SNOOZE:
            raise DataError("alerts.snooze.until", "a snooze ends within 30 days", at="$.until")
        _check_reason(reason)
        done = []
        with self._database.begin() as connection:
            for alert_id in sorted(set(alert_ids)):
                alert = load_alert(connection, tenant, alert_id, lock=True)
                if alert.state not in {AlertState.NEW, AlertState.IN_PROGRESS}:
                    continue
                name = {"tenant": tenant, "alert_id": alert_id}
                connection.execute(WAKE.delete().where(WAKE.c.tenant == tenant, WAKE.c.alert_id == alert_id))
                insert_new(connection, WAKE, **name, until=until, operator=operator, reason=reason, state=alert.state)
                quiet = msgspec.structs.replace(alert, state=AlertState.SUPPRESSED, state_time=alert.last_time)
                here = (ALERT.c.tenant == tenant) & (ALERT.c.id == alert_id)
                connection.execute(ALERT.update().where(here).values(**to_row(quiet)))
                done.append(alert_id)
        for alert_id in done:
            self._tell(tenant, "alerts.snooze", operator, alert_id, origin, reason)
        return len(done)

    def wake(self) -> int:
        """Raises snoozed alerts whose time has come, of all tenants; gives how many."""
        now, count = self._clock.now(), 0
        with self._database.read() as connection:
            due = connection.execute(WAKE.select().where(WAKE.c.until <= now).limit(BATCH)).all()
        for row in due:
            with self._database.begin() as connection:
                alert = load_alert(connection, row.tenant, row.alert_id, lock=True)
                here = (ALERT.c.tenant == row.tenant) & (ALERT.c.id == row.alert_id)
                if alert.state is AlertState.SUPPRESSED:
                    state = AlertState(row.state)
                    awake = msgspec.structs.replace(alert, state=state, state_time=0)
                    connection.execute(ALERT.update().where(here).values(**to_row(awake)))
                    count += 1
                connection.execute(WAKE.delete().where(WAKE.c.tenant == row.tenant, WAKE.c.alert_id == row.alert_id))
        return count

    def snoozed(self, tenant: str) -> dict[str, int]:
        """Snoozed alert -> until when, microseconds UTC."""
        with self._database.read() as connection:
            query = sa.select(WAKE.c.alert_id, WAKE.c.until).where(WAKE.c.tenant == tenant)
            return {row.alert_id: row.until for row in connection.execute(query)}

    def maintain(
        self,
        tenant: str,
        *,
        since: int,
        until: int,
        operator: str,
        reason: str,
        rule: str = "",
        source: str = "",
        entity: Entity | None = None,
        origin: str = "",
    ) -> Window:
        """Opens a window of maintenance: what fits all that is named is kept and raises nobody.

        Args:
            tenant: Whose.
            since: Event time from, microseconds UTC.
            until: Event time to, within 30 days of `since`.
            operator: Who answers for it.
            reason: Why.
            rule: Of this rule only.
            source: Of this source only.
            entity: About this entity only.
            origin: Where the request came from.

        Raises:
            DataError: `alerts.window.times`, `alerts.window.wide`: it must name something; `alerts.window.many`.
        """
        if not 0 < since < until <= since + MAX_WINDOW:
            raise DataError("alerts.window.times", "a window is at most 30 days long, and ends after it begins")
        if not (rule or source or entity):
            raise DataError("alerts.window.wide", "name a rule, a source or an entity: a window over all is blindness")
        _check_reason(reason)
        made = Window(self._ids.new("mw"), since, until, rule, source, entity.key if entity else "", operator, reason)
        mine = WINDOW.c.tenant == tenant
        with self._database.begin() as connection:
            connection.execute(WINDOW.delete().where(mine, WINDOW.c.until < self._clock.now() - MAX_WINDOW))
            held = connection.execute(sa.select(sa.func.count()).select_from(WINDOW).where(mine)).scalar_one()
            if held >= MAX_WINDOWS:
                raise DataError("alerts.window.many", f"there are {MAX_WINDOWS} windows already")
            connection.execute(WINDOW.insert().values(tenant=tenant, **msgspec.structs.asdict(made)))
        self._tell(tenant, "alerts.window", operator, made.id, origin, reason)
        return made

    def end(self, tenant: str, window_id: str, *, operator: str, origin: str = "") -> None:
        """Ends a window now; what it kept quiet stays so.

        Raises:
            NotFoundError: `alerts.window.unknown`.
        """
        here = (WINDOW.c.tenant == tenant) & (WINDOW.c.id == window_id)
        with self._database.begin() as connection:
            row = connection.execute(WINDOW.select().where(here)).first()
            if row is None:
                raise NotFoundError("alerts.window.unknown", "no such window", at=window_id[:64])
            until = min(row.until, self._clock.now() // MICROS * MICROS)
            if until <= row.since:
                connection.execute(WINDOW.delete().where(here))
            else:
                connection.execute(WINDOW.update().where(here).values(until=until))
        self._tell(tenant, "alerts.window.end", operator, window_id, origin, "")

    def windows(self, tenant: str) -> list[Window]:
        """The windows, by their ids."""
        with self._database.read() as connection:
            return read_windows(connection, [tenant]).get(tenant, [])

    def _tell(self, tenant: str, action: str, operator: str, target: str, origin: str, reason: str) -> None:  # noqa: PLR0917
        detail = {"reason": reason[:200]} if reason else {}
        self._audit.record(tenant, action, actor=operator, target=target, origin=origin, detail=detail)


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > MAX_REASON:
        raise DataError("alerts.snooze.reason", f"say why, in at most {MAX_REASON} characters", at="$.reason")
