"""What people and playbooks did about events, as hops of a trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from vedette.act.alert_tables import ENTITY, SIGNAL, entity_key
from vedette.act.alerts import Alerts
from vedette.act.cases import Cases
from vedette.act.timeline import (
    ApprovalRequested,
    ApprovalSettled,
    Body,
    Entry,
    RunFinished,
    RunStarted,
    StepFinished,
)
from vedette.core.db import Database, sa
from vedette.core.event import Entity
from vedette.core.hop import Hop, HopKind
from vedette.core.signal import Signal

_OF_RUN = (RunStarted, StepFinished, ApprovalRequested, ApprovalSettled, RunFinished)
_TOLD = ("playbook", "step", "action", "decision", "state", "after", "what", "alert_id", "code")
"""Fields of entries that say what happened in words of ours."""


def signals_on(
    state: Database, tenant: str, event_id: str, event_time: int, entities: Sequence[Entity]
) -> list[tuple[Signal, str]]:
    """The signals that rules raised on one event, each with the id of its alert; found by what the event is about."""
    about = sa.select(ENTITY.c.alert_id).where(
        ENTITY.c.tenant == tenant, ENTITY.c.entity.in_([entity_key(entity) for entity in entities])
    )
    query = sa.select(SIGNAL.c.body, SIGNAL.c.alert_id).where(
        SIGNAL.c.tenant == tenant, SIGNAL.c.alert_id.in_(about), SIGNAL.c.event_time == event_time
    )
    with state.read() as connection:
        rows = connection.execute(query.order_by(SIGNAL.c.id)).all()
    found = [(msgspec.json.decode(row.body, type=Signal), row.alert_id) for row in rows]
    return [(signal, alert) for signal, alert in found if signal.event_id == event_id]


def hops_of_signals(signals: Iterable[Signal]) -> Iterator[Hop]:
    """One for each signal, at its event's time."""
    for signal in signals:
        text = f"{signal.rule_id} on {signal.source} {signal.event_id}{' (shadow)' if signal.shadow else ''}"
        yield Hop(time=signal.event_time, kind=HopKind.SIGNAL, id=signal.id, text=text, resource="alerts")


def hops_of_alerts(alerts: Alerts, cases: Cases, tenant: str, ids: Iterable[str]) -> Iterator[Hop]:
    """Alerts, and everything in the cases that hold them: linking, runs, approvals, steps, evidence."""
    seen: set[str] = set()
    for id_ in ids:
        alert = alerts.get(tenant, id_)
        text = f"{alert.level} {alert.title} ({alert.signal_count} signals): {alert.state}"
        yield Hop(time=alert.created_time, kind=HopKind.ALERT, id=id_, text=text, resource="alerts")
        case = cases.of_alert(tenant, id_)
        if case and case not in seen:
            seen.add(case)
            yield from (_entry(case, entry) for entry in cases.timeline(tenant, case))


def _entry(case: str, entry: Entry) -> Hop:
    told, of_run = entry.body, isinstance(entry.body, _OF_RUN)
    return Hop(
        time=entry.time,
        kind=HopKind.RUN if of_run else HopKind.CASE,
        id=told.run_id if isinstance(told, _OF_RUN) else case,
        text=f"{_words(told)} (by {entry.operator})",
        resource="playbooks" if of_run else "cases",
    )


def _words(told: Body) -> str:
    """One line. What people wrote is in the case: a trace does not repeat it."""
    kind = str(type(told).__struct_config__.tag).replace("_", " ")
    return " ".join([f"{kind}:", *(str(said) for name in _TOLD if (said := getattr(told, name, "")))]).removesuffix(":")
