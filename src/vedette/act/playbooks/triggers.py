"""What starts playbooks by itself: new alerts, new cases, intervals of a schedule.

Each occasion is kept with the run that it started, in one transaction, so that it starts a playbook once, whatever
kill comes in between and whatever version the playbook has by then. A playbook answers what came after it was first
seen here with a trigger: switching one on does not answer last year's alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from vedette.act.alerts import Alerts
from vedette.act.cases import Cases
from vedette.act.grouping import Alert, AlertState
from vedette.act.playbooks.playbook import Playbook, Trigger, TriggerType
from vedette.act.playbooks.responder import Occasion, Responder
from vedette.act.queue import AlertFilter, Sort
from vedette.core.clock import MICROS, Clock, to_iso
from vedette.core.db import LONG, Database, Migration, create, insert_new, sa
from vedette.core.errors import VedetteError

LOOK = 200
"""Alerts of a page, and newest cases that one look takes in."""
PAGES = 50
"""So many pages of new alerts are looked at; a storm above 10,000 between two looks is answered in part."""
OVERLAP_S = 600.0
"""How far before the newest alert of the last look the next one begins: alerts may come out of order."""

_METADATA = sa.MetaData()
_ARMED = sa.Table(
    "playbook_armed",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("playbook", sa.Text, primary_key=True),
    sa.Column("since", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "triggers", create(_METADATA)),)

REQUESTER = "trigger"
"""Who asks for a run that nobody asked for."""

Told = Callable[[str, str, VedetteError], None]
"""(tenant, playbook, what went wrong)"""


class Triggers:
    """Starts playbooks.

    Args:
        responder: Starts their runs.
        database: state.db, or its PostgreSQL schema.
        alerts: Where new ones are seen.
        cases: Likewise.
        clock: Says which interval it is.
        authors: (tenant, rule id) -> who wrote the rule: none of them may approve.
        tell: Told of a playbook that could not be started; the others are.
    """

    def __init__(
        self,
        responder: Responder,
        database: Database,
        *,
        alerts: Alerts,
        cases: Cases,
        clock: Clock,
        authors: Callable[[str, str], tuple[str, ...]] = lambda _tenant, _rule: (),
        tell: Told = lambda _tenant, _playbook, _error: None,
    ) -> None:
        self._responder = responder
        self._database = database
        self._alerts = alerts
        self._cases = cases
        self._clock = clock
        self._authors = authors
        self._tell = tell
        self._seen: dict[str, int] = {}
        """Tenant -> when the newest alert of the looks before was made. After a restart all since the arming count."""
        self._newer: dict[str, int] = {}
        database.migrate("triggers", MIGRATIONS)

    def turn(self, tenants: Iterable[str], playbooks: Mapping[str, Playbook]) -> int:
        """Looks once; gives how many runs were started."""
        count = 0
        self._seen |= self._newer
        for tenant in tenants:
            for playbook in playbooks.values():
                for trigger in playbook.triggers:
                    count += self._look(tenant, playbook, trigger, self._since(tenant, playbook))
        return count

    def _since(self, tenant: str, playbook: Playbook) -> int:
        here = (_ARMED.c.tenant == tenant) & (_ARMED.c.playbook == playbook.id)
        query = sa.select(_ARMED.c.since).where(here)
        with self._database.read() as connection:
            held = connection.execute(query).scalar()
        if held is None:
            with self._database.begin() as connection:
                row = {"tenant": tenant, "playbook": playbook.id}
                insert_new(connection, _ARMED, **row, since=self._clock.now())
                held = connection.execute(query).scalar_one()
        return max(int(held), 0)

    def _look(self, tenant: str, playbook: Playbook, trigger: Trigger, since: int) -> int:
        match trigger.type:
            case TriggerType.ALERT:
                return self._alert(tenant, playbook, trigger, since)
            case TriggerType.CASE:
                return self._case(tenant, playbook, trigger, since)
            case TriggerType.SCHEDULE:
                return self._schedule(tenant, playbook, trigger, since)
            case TriggerType.WEBHOOK:
                return 0

    def _alert(self, tenant: str, playbook: Playbook, trigger: Trigger, since: int) -> int:
        found = self._newest(tenant, since)
        count = sum(self._answer(tenant, playbook, alert) for alert in found if fits(trigger, alert))
        if found:
            self._newer[tenant] = max(self._newer.get(tenant, 0), found[0].created_time)
        return count

    def _newest(self, tenant: str, since: int) -> Sequence[Alert]:
        """The alerts made since, or since a while before the last look, newest first."""
        horizon = max(since, self._seen.get(tenant, 0) - round(OVERLAP_S * MICROS))
        found: list[Alert] = []
        after = ""
        for _ in range(PAGES):
            page = self._alerts.page(tenant, AlertFilter(), sort=Sort.NEWEST, after=after, limit=LOOK)
            found += [alert for alert in page.alerts if alert.created_time >= horizon]
            after = page.next
            if not after or page.alerts[-1].created_time < horizon:
                break
        return found

    def _answer(self, tenant: str, playbook: Playbook, alert: Alert) -> int:
        def start() -> None:
            self._responder.start(
                tenant,
                playbook,
                alert.id,
                requester=REQUESTER,
                authors=self._authors(tenant, alert.rule_id),
                trigger={"type": "alert"},
                once=f"alert:{alert.id}",
            )

        return self._start(tenant, playbook, f"alert:{alert.id}", start)

    def _case(self, tenant: str, playbook: Playbook, trigger: Trigger, since: int) -> int:
        count = 0
        for case in self._cases.find(tenant, limit=LOOK):
            if case.created_time < since or (trigger.levels and str(case.level) not in trigger.levels):
                continue
            told = {"type": "case", "id": case.id, "title": case.title, "level": str(case.level)}
            occasion = Occasion(key=f"case:{case.id}", trigger=told, case_id=case.id)
            count += self._launch(tenant, playbook, occasion)
        return count

    def _schedule(self, tenant: str, playbook: Playbook, trigger: Trigger, since: int) -> int:
        width = round(trigger.every_s * MICROS)
        start = self._clock.now() // width * width
        if start < since:
            return 0
        told = {"type": "schedule", "start": to_iso(start), "start_time": start, "every_s": trigger.every_s}
        return self._launch(tenant, playbook, Occasion(key=f"schedule:{start}", trigger=told))

    def _launch(self, tenant: str, playbook: Playbook, occasion: Occasion) -> int:
        def start() -> None:
            self._responder.launch(tenant, playbook, occasion, requester=REQUESTER, once=occasion.key)

        return self._start(tenant, playbook, occasion.key, start)

    def _start(self, tenant: str, playbook: Playbook, occasion: str, start: Callable[[], None]) -> int:
        if self._responder.fired(tenant, playbook.id, occasion):
            return 0
        try:
            start()
        except VedetteError as error:
            self._tell(tenant, playbook.id, error)
            return 0
        return 1


def fits(trigger: Trigger, alert: Alert) -> bool:
    """An open alert of one of the rules and levels; one that people or rules keep quiet starts nothing."""
    return (
        alert.state not in (AlertState.SUPPRESSED, AlertState.RESOLVED)
        and not alert.suppressed_by
        and (not trigger.rules or alert.rule_id in trigger.rules)
        and (not trigger.levels or str(alert.level) in trigger.levels)
    )
