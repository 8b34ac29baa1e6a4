"""Alerts that come after a case was opened join it, by the law that gathered those it was opened with.

An open alert that was made after an open case joins it when it hangs together with the case's alerts as `gathering`
says. Of two cases the one that was opened first takes it. An exercise or a hunt gathers nothing, nor does a case that
is closed. Nothing is kept between turns but what was looked at: what a kill leaves undone the next turn does, and an
alert joins once, whoever looks.
"""

from __future__ import annotations

from collections.abc import Sequence

from vedette.act.cases.nouns import Case, CaseFilter, CaseState
from vedette.act.cases.phases import Phase
from vedette.act.grouping import Alert, AlertState
from vedette.act.queue import AlertFilter, Sort
from vedette.core.clock import MICROS
from vedette.core.errors import ConflictError
from vedette.run.cases.casefile import alerts_of
from vedette.run.cases.gathering import MAX_ALERTS, MAX_LOOKED, about, join, reach
from vedette.run.parts import Parts

OPERATOR = "gathering"
"""Who adds what joins."""
MAX_CASES = 50
"""Open cases of a tenant that alerts are compared with: those that changed last."""
MAX_KNOWN = 20_000
"""Alerts of which it is remembered what they reach."""
MAX_FRESH = 50
"""Alerts whose events are read in one turn; the others are read in the next ones."""
SETTLED = 60 * MICROS
"""An alert that changed since is read again: the index may not have had its events."""

_OPEN = CaseFilter(state=tuple(state for state in CaseState if state is not CaseState.CLOSED))
_NEW = AlertFilter(state=(AlertState.NEW, AlertState.IN_PROGRESS))


class Joining:
    """Looks at the newest alerts of all tenants that have open cases.

    Args:
        parts: Where alerts and cases are.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reached: dict[str, tuple[int, frozenset[str]]] = {}
        """Alert -> how many signals it had, and what it reached."""
        self._looked: dict[str, object] = {}
        """Tenant -> what there was at the last look, when nothing was left to read."""

    def turn(self) -> int:
        """Looks once; gives how many alerts joined."""
        tenants = self._parts.access.tenants()
        found = {tenant: self._cases(tenant) for tenant in tenants}
        return sum(self._turn(tenant, cases) for tenant, cases in found.items() if cases)

    def _cases(self, tenant: str) -> list[Case]:
        page = self._parts.cases.page(tenant, _OPEN, limit=MAX_CASES).cases
        held = [case for case in page if case.alerts and case.phase is not Phase.PREPARATION]
        return sorted(held, key=lambda case: (case.created_time, case.id))

    def _turn(self, tenant: str, cases: Sequence[Case]) -> int:
        parts, since = self._parts, cases[0].created_time
        newest = parts.alerts.page(tenant, _NEW, sort=Sort.NEWEST, limit=MAX_LOOKED).alerts
        if not any(alert.created_time > since for alert in newest):
            return 0
        there = [(case.id, case.alerts) for case in cases], [(alert.id, alert.signal_count) for alert in newest]
        if self._looked.get(tenant) == there:
            return 0
        free = [alert for alert in newest if parts.cases.of_alert(tenant, alert.id) is None]
        if len(self._reached) > MAX_KNOWN:
            self._reached.clear()
        whole, joined = self._read(tenant, free), 0
        for case in cases:
            if len(case.alerts) < MAX_ALERTS and any(alert.created_time > case.created_time for alert in free):
                held = alerts_of(parts, tenant, case.alerts)
                whole &= self._read(tenant, held)
                joined += self._join(tenant, case, held, free)
        if whole and not joined:
            self._looked[tenant] = there
        return joined

    def _join(self, tenant: str, case: Case, held: Sequence[Alert], free: list[Alert]) -> int:
        """Links what belongs to a case, and takes it out of what is free."""
        later = {alert.id for alert in free if alert.created_time > case.created_time}
        known = {alert.id: alert for alert in (*held, *free)}
        reached = {name: self._reached[name][1] for name in known if name in self._reached}
        names = [alert.id for alert in held]
        found = join(names, reached, {name: about(alert) for name, alert in known.items()})
        joins = [name for name in found if name in later]
        for name in joins:
            self._link(tenant, case, name, _shared(name, found, reached))
        free[:] = [alert for alert in free if alert.id not in joins]
        return len(joins)

    def _link(self, tenant: str, case: Case, alert_id: str, why: str) -> None:
        try:
            self._parts.cases.link_alert(tenant, case.id, alert_id, operator=OPERATOR, why=why)
        except ConflictError:
            return  # somebody put it into another case meanwhile

    def _read(self, tenant: str, alerts: Sequence[Alert]) -> bool:
        """Reads what alerts reach that are not known; whether all of these are known now, for good."""
        settled = self._parts.clock.now() - SETTLED
        unread = [alert for alert in alerts if self._reached.get(alert.id, (0,))[0] != alert.signal_count]
        young = [alert for alert in alerts if alert.updated_time > settled and alert not in unread]
        for alert in (*unread, *young)[:MAX_FRESH]:
            self._reached[alert.id] = alert.signal_count, reach(self._parts, tenant, [alert])[alert.id]
        return not young and len(unread) <= MAX_FRESH


def _shared(name: str, found: Sequence[str], reached: dict[str, frozenset[str]]) -> str:
    """What an alert has in common with those that were reached before it."""
    before = found[: found.index(name)]
    held = frozenset[str]().union(*(reached.get(each, frozenset()) for each in before))
    return ", ".join(sorted(reached[name] & held)[:3])[:200]
