"""The alert store: signals from the log become alerts, exactly once in effect.

The consumer's place in the log is a row of the same transaction as the alerts it changes, and every signal id is kept:
a killed consumer, a record delivered twice and a signal written twice all count once. Every read names a tenant and
sees nothing of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import msgspec

from vedette.act import quieting, silences
from vedette.act.alert_tables import ALERT, CURSOR, ENTITY, MIGRATIONS, REJECT, SIGNAL, entity_key, to_new_row, to_row
from vedette.act.grouping import DEFAULT, Alert, AlertState, merge, reopen, to_alert
from vedette.act.queue import (
    MAX_PAGE,
    AlertFilter,
    AlertPage,
    Facets,
    Sort,
    alerts_of,
    count_since,
    fetch_facets,
    fetch_hours,
    fetch_page,
)
from vedette.act.risk import RELEVANT, faded, risk, to_risk
from vedette.core.db import Connection, Database, insert_all_new, insert_new, sa
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.core.log import Log
from vedette.core.signal import Level, Signal
from vedette.judge.grouping import Grouping
from vedette.judge.sigma.card import NO_CARD, Card

TOPIC = "signal"
BATCH = 500
MAX_RISK_ALERTS = 1_000
"""Newest alerts of an entity that its risk looks at."""


class Progress(msgspec.Struct):
    """What a consumer did: read = applied + duplicate + rejected."""

    read: int = 0
    applied: int = 0
    duplicate: int = 0
    rejected: int = 0


class Alerts:
    """Alerts of all tenants in one database.

    Args:
        database: state.db, or its PostgreSQL schema.
        groupings: Rule id -> how its signals are grouped, where its card does not say.
        default: For the rules not named.
        cards: (Rule id, version) -> its card: how its signals are grouped, and what is suppressed.
    """

    def __init__(
        self,
        database: Database,
        groupings: Mapping[str, Grouping] | None = None,
        default: Grouping = DEFAULT,
        *,
        cards: Callable[[str, str], Card] = lambda _rule, _version: NO_CARD,
    ) -> None:
        self._database = database
        self._groupings = dict(groupings or {})
        self._default = default
        self._cards = cards
        database.migrate("alerts", MIGRATIONS)
        database.migrate("quieting", quieting.MIGRATIONS)
        database.migrate("silence", silences.MIGRATIONS)

    def consume(self, log: Log, *, limit: int = BATCH) -> Progress:
        """Takes what is new in the log, at most `limit` records a partition, and marks it taken in the same commit."""
        progress = Progress()
        for partition in range(log.partitions(TOPIC)):
            with self._database.begin() as connection:
                self._consume(connection, log, partition, limit, progress)
        return progress

    def _consume(self, connection: Connection, log: Log, partition: int, limit: int, progress: Progress) -> None:
        topic = self._database.placed(TOPIC)
        place = (CURSOR.c.topic == topic) & (CURSOR.c.partition == partition)
        start = {"topic": topic, "partition": partition, "next_offset": 0}
        insert_new(connection, CURSOR, **start)
        # Two consumers of one partition take turns here.
        offset: int = connection.execute(sa.select(CURSOR.c.next_offset).where(place).with_for_update()).scalar_one()
        records = log.read(TOPIC, partition, offset, limit)
        signals: list[tuple[Signal, int]] = []
        for record in records:
            try:
                signals.append((msgspec.json.decode(record.value, type=Signal), record.time))
            except msgspec.MsgspecError as error:
                reason = {"code": "alerts.signal.malformed", "reason": str(error)[:500]}
                row = {"topic": TOPIC, "partition": partition, "log_offset": record.offset, **reason}
                insert_new(connection, REJECT, **row)
                progress.rejected += 1
        applied = self._apply(connection, signals)
        progress.read += len(records)
        progress.applied += applied
        progress.duplicate += len(signals) - applied
        if records:
            connection.execute(CURSOR.update().where(place).values(next_offset=records[-1].offset + 1))

    def place(self, partition: int) -> int:
        """Offset of the next record to take from a partition of the log."""
        where = (CURSOR.c.topic == self._database.placed(TOPIC)) & (CURSOR.c.partition == partition)
        with self._database.read() as connection:
            return connection.execute(sa.select(CURSOR.c.next_offset).where(where)).scalar() or 0

    def known(self, tenant: str, signal_ids: Sequence[str]) -> set[str]:
        """Those of some signals that have been taken already."""
        found: set[str] = set()
        with self._database.read() as connection:
            for start in range(0, len(signal_ids), BATCH):
                some = signal_ids[start : start + BATCH]
                where = (SIGNAL.c.tenant == tenant) & SIGNAL.c.id.in_(some)
                found.update(connection.execute(sa.select(SIGNAL.c.id).where(where)).scalars())
        return found

    def count_of(self, tenant: str, rule_id: str) -> int:
        """How many alerts of a rule there are, of every state."""
        mine = (ALERT.c.tenant == tenant) & (ALERT.c.rule_id == rule_id)
        with self._database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(ALERT).where(mine)).scalar_one()

    def of_signal(self, tenant: str, signal_id: str) -> str:
        """Id of the alert that a signal is in; empty for one that was not taken."""
        here = (SIGNAL.c.tenant == tenant) & (SIGNAL.c.id == signal_id)
        with self._database.read() as connection:
            return connection.execute(sa.select(SIGNAL.c.alert_id).where(here)).scalar() or ""

    def apply(self, signals: Sequence[tuple[Signal, int]]) -> int:
        """Adds (signal, log time) pairs; gives how many were new. All or none."""
        with self._database.begin() as connection:
            return self._apply(connection, signals)

    def _apply(self, connection: Connection, signals: Sequence[tuple[Signal, int]]) -> int:
        # By tenant and id, the first of each: a batch may hold a signal twice.
        batch: dict[tuple[str, str], tuple[Signal, Alert]] = {}
        windows = silences.read_windows(connection, sorted({signal.tenant for signal, _ in signals}))
        for signal, log_time in signals:
            card = self._cards(signal.rule_id, signal.rule_version)
            grouping = card.group or self._groupings.get(signal.rule_id, self._default)
            alert = to_alert(signal, grouping, log_time)
            if window := silences.covering(windows.get(signal.tenant, ()), signal):
                alert = msgspec.structs.replace(alert, state=AlertState.SUPPRESSED, suppressed_by=window)
            if signal.shadow:
                quieting.count_shadow(connection, signal, alert)
                continue
            batch.setdefault((signal.tenant, signal.id), (signal, alert))
        fresh: dict[str, list[Alert]] = {}
        count = 0
        for tenant in sorted({tenant for tenant, _ in batch}):
            rows = [_signal_row(*pair) for (owner, _), pair in batch.items() if owner == tenant]
            added = insert_all_new(connection, SIGNAL, rows, "id")
            count += len(added)
            for signal_id in added:
                signal, alert = batch[tenant, signal_id]
                if signal.alert:
                    fresh.setdefault(alert.id, []).append(alert)
        self._upsert(connection, [reduce(_join, fresh[alert_id]) for alert_id in sorted(fresh)])
        return count

    def _upsert(self, connection: Connection, added: Sequence[Alert]) -> None:
        """Makes or grows alerts, in id order: two writers on PostgreSQL never wait for each other in a circle."""
        inserted = insert_all_new(connection, ALERT, list(map(to_new_row, added)), "id")
        known: dict[str, frozenset[Entity]] = {}
        wholes: list[Alert] = []
        for part in added:
            whole = part
            if part.id not in inserted:
                held = load_alert(connection, part.tenant, part.id, lock=True)
                known[part.id] = frozenset(held.entities)
                whole = reopen(_join(held, part), part.last_time)
                here = (ALERT.c.tenant == part.tenant) & (ALERT.c.id == part.id)
                connection.execute(ALERT.update().where(here).values(**to_row(whole)))
            wholes.append(whole)
        named = [
            {"tenant": part.tenant, "entity": entity_key(entity), "alert_id": part.id}
            for part in added
            for entity in sorted(set(part.entities) - known.get(part.id, frozenset()))
        ]
        insert_all_new(connection, ENTITY, named, "alert_id")
        for whole in wholes:
            law = self._cards(whole.rule_id, whole.rule_version).suppress
            if law:
                quieting.settle(connection, whole, law)

    def shadows(self, tenant: str) -> dict[tuple[str, str], quieting.Shadow]:
        """(Rule id, version) -> what it would have raised while it ran in shadow."""
        with self._database.read() as connection:
            return quieting.shadows(connection, tenant)

    def get(self, tenant: str, alert_id: str) -> Alert:
        """One alert.

        Raises:
            NotFoundError: `alerts.alert.unknown`, also for another tenant's.
        """
        with self._database.read() as connection:
            return load_alert(connection, tenant, alert_id)

    def find(
        self, tenant: str, *, states: Sequence[AlertState] = (), entity: Entity | None = None, limit: int = 100
    ) -> list[Alert]:
        """The riskiest alerts, at most `MAX_PAGE`."""
        return self.page(tenant, AlertFilter(state=tuple(states), entity=entity), limit=limit).alerts

    def page(
        self,
        tenant: str,
        wanted: AlertFilter,
        *,
        sort: Sort = Sort.RISK,
        after: str = "",
        limit: int = 100,
        now: int = 0,
    ) -> AlertPage:
        """One page of the queue.

        Args:
            tenant: Whose.
            wanted: Which alerts.
            sort: In which order.
            after: `next` of the page before; empty: the first page.
            limit: Most alerts of the page, at most `MAX_PAGE`.
            now: For the filter by age, microseconds UTC.

        Raises:
            DataError: `alerts.cursor.invalid`.
        """
        with self._database.read() as connection:
            return fetch_page(connection, tenant, wanted, sort=sort, after=after, limit=limit, now=now)

    def facets(self, tenant: str, wanted: AlertFilter, *, now: int) -> Facets:
        """What each further choice would leave of the queue."""
        with self._database.read() as connection:
            return fetch_facets(connection, tenant, wanted, now=now)

    def count_since(self, tenant: str, wanted: AlertFilter, *, now: int, since: int) -> int:
        """How many of these alerts were made after a time, microseconds UTC."""
        with self._database.read() as connection:
            return count_since(connection, tenant, wanted, now=now, since=since)

    def hours(self, tenant: str, *, since: int, until: int) -> dict[tuple[int, Level], int]:
        """(Start of an hour, level) -> alerts that were made in it, of those made in [since, until)."""
        with self._database.read() as connection:
            return fetch_hours(connection, tenant, since=since, until=until)

    def newest(self, tenant: str) -> int:
        """When the tenant's last alert was made, microseconds UTC; 0 when there is none."""
        query = sa.select(sa.func.max(ALERT.c.created_time)).where(ALERT.c.tenant == tenant)
        with self._database.read() as connection:
            return connection.execute(query).scalar() or 0

    def count(self, tenant: str) -> int:
        """How many alerts the tenant has, of every state."""
        query = sa.select(sa.func.count()).select_from(ALERT).where(ALERT.c.tenant == tenant)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def signals(self, tenant: str, alert_id: str, *, limit: int = 100) -> list[Signal]:
        """The alert's signals by event time, oldest first."""
        here = (SIGNAL.c.tenant == tenant) & (SIGNAL.c.alert_id == alert_id)
        query = sa.select(SIGNAL.c.body).where(here).order_by(SIGNAL.c.event_time, SIGNAL.c.id)
        with self._database.read() as connection:
            bodies = connection.execute(query.limit(min(limit, MAX_PAGE))).scalars().all()
        return [msgspec.json.decode(body, type=Signal) for body in bodies]

    def risk(self, tenant: str, entity: Entity, at: int) -> float:
        """Risk of an entity at a time (microseconds UTC), 0 to 99.9, from its alerts of the last ten half-lives."""
        query = (
            sa.select(ALERT.c.body)
            .where(ALERT.c.tenant == tenant, ALERT.c.last_time > at - RELEVANT)
            .where(ALERT.c.id.in_(alerts_of(tenant, entity)))
            .order_by(ALERT.c.last_time.desc(), ALERT.c.id)
            .limit(MAX_RISK_ALERTS)
        )
        return risk(self._alerts(query), at)

    def risks(self, tenant: str, entities: Sequence[Entity], at: int) -> dict[Entity, int]:
        """Whole risks of entities at a time, 0 to 99, in one indexed question; those without alerts are left out.

        The same as `risk`, but for the rounding: what it needs of an alert is in the columns.
        """
        named = {entity_key(entity): entity for entity in entities}
        query = (
            sa.select(ENTITY.c.entity, ALERT.c.fades, ALERT.c.last_time)
            .join(ALERT, (ALERT.c.tenant == ENTITY.c.tenant) & (ALERT.c.id == ENTITY.c.alert_id))
            .where(ENTITY.c.tenant == tenant, ENTITY.c.entity.in_(sorted(named)))
            .where(ALERT.c.last_time > at - RELEVANT, ALERT.c.state != str(AlertState.SUPPRESSED))
            .order_by(ALERT.c.last_time.desc())
            .limit(MAX_RISK_ALERTS * max(1, len(named)))
        )
        held: dict[str, list[float]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                held.setdefault(row.entity, []).append(faded(row.fades, max(at, row.last_time)))
        return {named[key]: int(to_risk(points)) for key, points in held.items()}

    def rejects(self) -> list[dict[str, Any]]:
        """Log records that were no signals: topic, partition, log_offset, code, reason. For operators."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(REJECT).order_by(REJECT.c.log_offset).limit(MAX_PAGE))
            return [dict(row) for row in rows.mappings()]

    def _alerts(self, query: sa.Select[Any]) -> list[Alert]:
        with self._database.read() as connection:
            return [msgspec.json.decode(body, type=Alert) for body in connection.execute(query).scalars()]


def _join(held: Alert, part: Alert) -> Alert:
    """Two parts of one alert; kept quiet by a window only as long as every signal lies in one."""
    whole = merge(held, part)
    loud = not part.suppressed_by.startswith(silences.PREFIX)
    if loud and held.suppressed_by.startswith(silences.PREFIX) and not held.state_time:
        return msgspec.structs.replace(whole, state=AlertState.NEW, suppressed_by="")
    return whole


def load_alert(connection: Connection, tenant: str, alert_id: str, *, lock: bool = False) -> Alert:
    """One alert inside a transaction; `lock` keeps others from changing it until the end.

    Raises:
        NotFoundError: `alerts.alert.unknown`.
    """
    query = sa.select(ALERT.c.body).where(ALERT.c.tenant == tenant, ALERT.c.id == alert_id)
    body = connection.execute(query.with_for_update() if lock else query).scalar()
    if body is None:
        raise NotFoundError("alerts.alert.unknown", "no such alert", at=alert_id)
    return msgspec.json.decode(body, type=Alert)


def _signal_row(signal: Signal, alert: Alert) -> dict[str, Any]:
    return {
        "tenant": signal.tenant,
        "id": signal.id,
        "alert_id": alert.id,
        "event_time": signal.event_time,
        "body": msgspec.json.encode(signal).decode(),
    }
