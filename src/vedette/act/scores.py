"""Scores: how each rule does in front of people. Counted from its alerts and from what people found them to be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import msgspec

from vedette.act.alert_tables import ALERT
from vedette.act.grouping import AlertState, Verdict
from vedette.core.clock import MICROS
from vedette.core.db import Database, sa
from vedette.core.signal import Level

HOUR = 3_600 * MICROS
MAX_JUDGED = 5_000
"""Most resolved alerts whose verdicts are read, the newest."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One rule."""

    alerts: int = 0
    open: int = 0
    """New or in progress."""
    last_time: int = 0
    """Event time of its newest signal, microseconds UTC; 0 when it never fired."""
    verdicts: Mapping[Verdict, int] = {}

    @property
    def judged(self) -> int:
        """Alerts with a verdict."""
        return sum(self.verdicts.values())

    @property
    def false_share(self) -> float | None:
        """Share of the judged alerts that were false; None while nobody judged one."""
        return self.verdicts.get(Verdict.FALSE_POSITIVE, 0) / self.judged if self.judged else None


class _Judged(msgspec.Struct):
    verdict: Verdict | None = None


_OPEN = (AlertState.NEW, AlertState.IN_PROGRESS)


def fetch_scores(database: Database, tenant: str, *, rule: str = "") -> dict[str, Score]:
    """Rule id -> its score, for every rule that ever made an alert; of one rule when it is named."""
    mine = [ALERT.c.tenant == tenant, *([ALERT.c.rule_id == rule] if rule else [])]
    totals = (
        sa.select(ALERT.c.rule_id, ALERT.c.state, sa.func.count(), sa.func.max(ALERT.c.last_time))
        .where(*mine)
        .group_by(ALERT.c.rule_id, ALERT.c.state)
    )
    judged = (
        sa.select(ALERT.c.rule_id, ALERT.c.body)
        .where(*mine, ALERT.c.state == str(AlertState.RESOLVED))
        .order_by(ALERT.c.created_time.desc())
        .limit(MAX_JUDGED)
    )
    count: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    last: dict[str, int] = {}
    verdicts: defaultdict[str, Counter[Verdict]] = defaultdict(Counter)
    with database.read() as connection:
        for name, state, alerts, newest in connection.execute(totals):
            count[name] += alerts
            waiting[name] += alerts if state in _OPEN else 0
            last[name] = max(last.get(name, 0), newest)
        for name, body in connection.execute(judged):
            found = msgspec.json.decode(body, type=_Judged).verdict
            if found is not None:
                verdicts[name][found] += 1
    return {
        name: Score(alerts=count[name], open=waiting[name], last_time=last[name], verdicts=dict(verdicts[name]))
        for name in count
    }


def fetch_hours(database: Database, tenant: str, rule: str, since: int) -> list[tuple[int, Level, int]]:
    """Alerts of a rule from a time on, as (start of the hour of their newest signal, level, count)."""
    hour = (ALERT.c.last_time - ALERT.c.last_time % HOUR).label("hour")
    query = (
        sa.select(hour, ALERT.c.severity_id, sa.func.count())
        .where(ALERT.c.tenant == tenant, ALERT.c.rule_id == rule, ALERT.c.last_time >= since)
        .group_by(hour, ALERT.c.severity_id)
        .order_by(hour, ALERT.c.severity_id)
    )
    levels = {level.severity_id: level for level in Level}
    with database.read() as connection:
        return [(start, levels[severity], alerts) for start, severity, alerts in connection.execute(query)]
