"""The order of severity, kept in the queue's own column: what assets and risk make of an alert, as time goes on.

An alert comes into the queue as grave as its rule says. Some seconds later it is weighed with what it names: the worth
of its assets and the risk of its entities, as `attention.severity` has it, and again whenever those have changed. The
order is severity, then the risk of the riskiest entity in steps of ten, then age, the oldest first. The law is
`attention.severity` alone; the column is where its answer is sorted by, and may lag behind it by a turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from vedette.act.alert_tables import ALERT, ENTITY, urgency
from vedette.act.attention import Attention, graver, worth_of
from vedette.act.grouping import AlertState
from vedette.act.risk import RELEVANT, faded, to_risk
from vedette.core.clock import MICROS, Clock
from vedette.core.db import Database, sa
from vedette.core.signal import Level

MAX_WEIGHED = 50_000
"""Newest pairs of alert and entity that one turn weighs; older ones keep the place they have."""
BATCH = 500
AGAIN = 600 * MICROS
"""Risk fades: alerts are weighed anew after this time even when nothing has changed."""
_OPEN = {str(AlertState.NEW), str(AlertState.IN_PROGRESS)}
_LEVELS = {level.severity_id: level for level in Level}


class Urgency:
    """Weighs the open alerts of all tenants.

    Args:
        database: Where the alerts are.
        clock: Risk fades by it.
        attention: What assets are worth.
    """

    def __init__(self, database: Database, clock: Clock, attention: Attention) -> None:
        self._database = database
        self._clock = clock
        self._attention = attention
        self._seen: dict[str, tuple[int, int]] = {}
        self._worth: dict[str, Any] = {}

    def weigh(self, tenant: str) -> int:
        """Puts the tenant's open alerts into their places; gives how many moved. Again changes nothing."""
        now = self._clock.now()
        newest = sa.select(sa.func.max(ALERT.c.updated_time)).where(ALERT.c.tenant == tenant)
        with self._database.read() as connection:
            changed = connection.execute(newest).scalar() or 0
            seen, last = self._seen.get(tenant, (-1, 0))
            if changed == seen and now - last < AGAIN:
                return 0
            rows = connection.execute(self._recent(tenant, now)).all()
        places = self._places(rows, now)
        held = {row.alert_id: row.urgency for row in rows}
        moved = {name: place for name, place in places.items() if place != held[name]}
        names, here = sorted(moved), (ALERT.c.tenant == tenant) & (ALERT.c.id == sa.bindparam("name"))
        change = ALERT.update().where(here).values(urgency=sa.bindparam("place"))
        for start in range(0, len(names), BATCH):
            # Some at a time: who takes signals does not wait for a whole turn.
            some = [{"name": name, "place": moved[name]} for name in names[start : start + BATCH]]
            with self._database.begin(synced=False) as connection:
                connection.execute(change, some)
        self._seen[tenant] = changed, now
        return len(moved)

    @staticmethod
    def _recent(tenant: str, now: int) -> sa.Select[Any]:
        names = ("last_time", "created_time", "fades", "severity_id", "state", "urgency")
        return (
            sa.select(ENTITY.c.entity, ENTITY.c.alert_id, *(ALERT.c[name] for name in names))
            .join(ALERT, (ALERT.c.tenant == ENTITY.c.tenant) & (ALERT.c.id == ENTITY.c.alert_id))
            .where(ALERT.c.tenant == tenant, ALERT.c.updated_time > now - RELEVANT)
            .order_by(ALERT.c.updated_time.desc())
            .limit(MAX_WEIGHED)
        )

    def _places(self, rows: Any, now: int) -> dict[str, int]:
        """Open alert -> its place in the order."""
        points: defaultdict[str, list[float]] = defaultdict(list)
        names: defaultdict[str, list[str]] = defaultdict(list)
        of: dict[str, Any] = {}
        for row in rows:
            if row.state != str(AlertState.SUPPRESSED) and row.last_time > now - RELEVANT:
                points[row.entity].append(faded(row.fades, max(now, row.last_time)))
            if row.state in _OPEN:
                names[row.alert_id].append(row.entity)
                of[row.alert_id] = row
        risks: Mapping[str, float] = {entity: to_risk(each) for entity, each in points.items()}
        found: dict[str, int] = {}
        for name, row in of.items():
            worth = [self._worth_of(entity) for entity in names[name]]
            risk = max((risks.get(entity, 0.0) for entity in names[name]), default=0.0)
            level = graver(_LEVELS[row.severity_id], worth, risk)
            found[name] = urgency(level.severity_id, risk, row.created_time)
        return found

    def _worth_of(self, entity: str) -> Any:
        if entity not in self._worth:
            if len(self._worth) > MAX_WEIGHED:
                self._worth.clear()
            self._worth[entity] = worth_of(entity, self._attention.assets)
        return self._worth[entity]
