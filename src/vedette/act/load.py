"""How long people take over an alert, from what they did with those before."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

import msgspec

from vedette.act.alert_tables import ALERT
from vedette.act.grouping import AlertState
from vedette.act.triage import CHANGE
from vedette.core.clock import MICROS
from vedette.core.db import Database, sa

DEFAULT_MINUTES = 10.0
"""Of an alert where nobody took any in hand yet: an assumption, and told as one."""
LONGEST_MINUTES = 8 * 60.0
"""Longer than a shift is taken for one that was left lying."""
ENOUGH = 5
"""Alerts of a rule, or in all, from which on their median counts."""
MAX_CHANGES = 20_000
"""Most changes that are read, the newest."""


class Minutes(msgspec.Struct, frozen=True):
    """Minutes of a person's work for one alert."""

    usual: float = DEFAULT_MINUTES
    by_rule: dict[str, float] = {}
    """For rules with enough history."""
    measured: int = 0
    """Alerts that it was measured on; 0: `usual` is the assumption."""

    def of(self, rule_id: str) -> float:
        """Minutes for an alert of a rule."""
        return self.by_rule.get(rule_id, self.usual)


class _Standing(msgspec.Struct):
    state: AlertState


class _Turn(msgspec.Struct):
    after: _Standing


def fetch_minutes(database: Database, tenant: str) -> Minutes:
    """Medians of the times from taking an alert in hand to resolving it, by rule and in all."""
    mine = (ALERT.c.tenant == CHANGE.c.tenant) & (ALERT.c.id == CHANGE.c.alert_id)
    query = (
        sa.select(CHANGE.c.alert_id, ALERT.c.rule_id, CHANGE.c.time, CHANGE.c.body)
        .join(ALERT, mine)
        .where(CHANGE.c.tenant == tenant)
        .order_by(CHANGE.c.time.desc())
        .limit(MAX_CHANGES)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    taken: dict[str, int] = {}
    found: defaultdict[str, list[float]] = defaultdict(list)
    for row in reversed(rows):
        state = msgspec.json.decode(row.body, type=_Turn).after.state
        if state is AlertState.IN_PROGRESS:
            taken.setdefault(row.alert_id, row.time)
        elif state is AlertState.RESOLVED and row.alert_id in taken:
            minutes = (row.time - taken.pop(row.alert_id)) / MICROS / 60
            if minutes <= LONGEST_MINUTES:
                found[row.rule_id].append(minutes)
    every = [minutes for held in found.values() for minutes in held]
    return Minutes(
        usual=round(median(every), 1) if len(every) >= ENOUGH else DEFAULT_MINUTES,
        by_rule={name: round(median(held), 1) for name, held in found.items() if len(held) >= ENOUGH},
        measured=len(every) if len(every) >= ENOUGH else 0,
    )
