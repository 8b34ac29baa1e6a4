"""The file of a case, gathered from every room: people's work, alerts, and the money that the ledger says moved."""

from __future__ import annotations

from collections.abc import Sequence

from vedette.act.cases.file import Affected, CaseFile, Pace, pace
from vedette.act.cases.nouns import Case
from vedette.act.grouping import Alert
from vedette.act.groups import MAX_GROUPS
from vedette.core.decision import Action
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.judge.decisions.register import Filters, Row
from vedette.move import chart
from vedette.move.charge import load as load_charge
from vedette.move.events import CHARGE, SOURCE
from vedette.run.cases.gathering import gather
from vedette.run.investigation.seeing import Named, named
from vedette.run.parts import Parts
from vedette.run.pipeline import decided
from vedette.sense.sightings import Cursor

MAX_ALERTS = 200
MAX_ENTITIES = 20
MAX_DECISIONS = 1_000
PAGE = 200
MONEY_TYPES = ("key", "card", "customer", "user", "account", "device")
"""Entities whose payments are the case's money; a merchant's whole turnover is not."""


def read_case(parts: Parts, tenant: str, case_id: str, *, reader: str = "") -> CaseFile:
    """All that is known of a case, as a reader may see it.

    Args:
        parts: Where.
        tenant: Whose.
        case_id: Which.
        reader: Id of the person who reads; empty: nothing that is privileged.

    Raises:
        NotFoundError: `cases.case.unknown`.
    """
    case = parts.cases.get(tenant, case_id)
    alerts = alerts_of(parts, tenant, case.alerts)
    entries, after = [], 0
    while part := parts.cases.timeline(tenant, case_id, after=after, reader=reader):
        entries += part
        after = part[-1].seq
    return CaseFile(
        case=case,
        now=parts.clock.now(),
        alerts=tuple(alerts),
        entries=tuple(entries),
        members=tuple(parts.circle.members(tenant, case_id)),
        tasks=tuple(parts.work.tasks(tenant, case_id)),
        hypotheses=tuple(parts.work.hypotheses(tenant, case_id)),
        observables=tuple(parts.work.observables(tenant, case_id)),
        clocks=tuple(parts.clocks.find(tenant, case_id)),
        evidence=tuple(parts.cases.evidence(tenant, case_id)),
        links=tuple(parts.custody.links(tenant, case_id)),
        review=parts.reviews.get(tenant, case_id),
        phases=parts.cases.phases(tenant, case_id),
        money=tuple(affected(parts, tenant, alerts)),
        names={person.id: person.name for person in parts.access.people.list(tenant)},
    )


def open_group(parts: Parts, tenant: str, group_id: str, *, operator: str) -> Case:
    """Opens the one case of a group of alerts, and links them all with what else is of the same incident (`gathering`).

    Alerts of another case stay there.

    Raises:
        NotFoundError: `alerts.group.unknown`: no open alerts make this group now.
    """
    group = next((one for one in parts.merging.groups(tenant, limit=MAX_GROUPS) if one.id == group_id), None)
    if group is None:
        raise NotFoundError("alerts.group.unknown", "no such group of open alerts", at=group_id[:64])
    first = next((alert for alert in group.alerts if parts.cases.of_alert(tenant, alert)), group.alerts[0])
    case = parts.cases.open(tenant, group.title, operator=operator, level=group.level, alert_id=first)
    for alert_id in gather(parts, tenant, group.alerts[:MAX_ALERTS]):
        if parts.cases.of_alert(tenant, alert_id) is None:
            parts.cases.link_alert(tenant, case.id, alert_id, operator=operator)
    return parts.cases.get(tenant, case.id)


def alerts_of(parts: Parts, tenant: str, alert_ids: Sequence[str]) -> list[Alert]:
    """The alerts that are at hand, by their first event."""
    found: list[Alert] = []
    for alert_id in alert_ids[-MAX_ALERTS:]:
        try:
            found.append(parts.alerts.get(tenant, alert_id))
        except NotFoundError:
            continue
    return sorted(found, key=lambda alert: (alert.first_time, alert.id))


def affected(parts: Parts, tenant: str, alerts: Sequence[Alert]) -> list[Affected]:
    """Money of the payments on what alerts are about, since the first of them, by currency.

    What moved is read from the ledger by the capture of each charge, never taken from what was decided.
    """
    behind = {alert.id: _behind(parts, tenant, alert) for alert in alerts}
    leads = {alert.entity for alert in alerts if alert.entity and _spends(alert.entity, behind[alert.id])}
    if not leads:
        return []
    since = min(time for alert in alerts for time in (alert.first_time, *(one.time for one in behind[alert.id])))
    rows: dict[str, Row] = {}
    charges: dict[str, str] = {}
    for entity in sorted(leads)[:MAX_ENTITIES]:
        found = parts.register.find(tenant, Filters(entity=entity, since=since), limit=MAX_DECISIONS)
        rows |= {row.event_id: row for row in found if row.currency and row.amount_minor is not None}
        charges |= _charges(parts, tenant, entity, since)
    sums: dict[str, list[int]] = {}
    for row in rows.values():
        held = sums.setdefault(row.currency, [0, 0, 0, 0, 0])
        stopped = row.action in {Action.BLOCK, Action.CHALLENGE}
        moved, returned = _moved(parts, tenant, charges.get(row.event_id, ""))
        each = (row.amount_minor or 0, (row.amount_minor or 0) if stopped else 0, moved, returned, 1)
        sums[row.currency] = [one + other for one, other in zip(held, each, strict=True)]
    return [
        Affected(currency=name, attempted=s[0], stopped=s[1], moved=s[2], returned=s[3], payments=s[4])
        for name, s in sorted(sums.items())
    ]


def _behind(parts: Parts, tenant: str, alert: Alert) -> list[Named]:
    """The events that raised an alert. What a correlation counted happened before the alert's own time."""
    signals = parts.alerts.signals(tenant, alert.id, limit=MAX_ALERTS)
    return [one for signal in signals for one in named(signal)]


def _spends(lead: Entity, behind: Sequence[Named]) -> bool:
    """Whether all payments on what an alert is about are its money.

    Not so of an API key that only payments speak against: most payments of a shop are honest, and all are made with
    its key. Of those, the cards and devices of other alerts tell which are meant.
    """
    shop = lead.type == "key" and all(one.source == decided.SOURCE for one in behind)
    return lead.type in MONEY_TYPES and not shop


def _charges(parts: Parts, tenant: str, entity: Entity, since: int) -> dict[str, str]:
    """Event -> the charge that was decided on it, of an entity's newest events."""
    found: dict[str, str] = {}
    before: Cursor | None = None
    for _ in range(MAX_DECISIONS // PAGE):
        page = parts.sightings.timeline(tenant, entity, source=SOURCE, before=before, limit=PAGE)
        recent = [sighting for sighting in page if sighting.time >= since]
        for event in parts.sightings.events(parts.log, tenant, entity, recent):
            if event.data.get("type") == CHARGE:
                found[event.id] = str(event.data.get("charge", ""))
        if len(recent) < PAGE:
            break
        before = page[-1].cursor
    return found


def _moved(parts: Parts, tenant: str, charge_id: str) -> tuple[int, int]:
    """What the ledger captured for a charge, and what was given back of it."""
    if not charge_id:
        return 0, 0
    captured = parts.ledger.lookup_transfers(tenant, [chart.to_id("capture", charge_id)])
    try:
        with parts.money.read() as connection:
            returned = load_charge(connection, tenant, charge_id).refunded_minor
    except NotFoundError:  # refused before it was one
        returned = 0
    return sum(transfer.amount for transfer in captured), returned


def pace_of(parts: Parts, tenant: str, case_id: str) -> tuple[set[str], Pace]:
    """The rules that raised a case, and how quick the response to it was."""
    alerts = alerts_of(parts, tenant, parts.cases.get(tenant, case_id).alerts)
    entries = parts.cases.timeline(tenant, case_id)
    return {alert.rule_id for alert in alerts}, pace(alerts, entries)
