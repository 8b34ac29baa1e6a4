"""The way of one request through every room, from any id that it left behind.

The trace id is the id of the decided event: the answer to a charge names it, its decision, signals and labels carry it,
and the charge that holds it leads to transfers and webhooks. Whoever has only an alert, a case, a transfer or a webhook
is led back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec

from vedette.act.hops import hops_of_alerts, hops_of_signals, signals_on
from vedette.core.decision import Decision
from vedette.core.errors import NotFoundError
from vedette.core.hop import Hop, HopKind
from vedette.core.signal import Signal
from vedette.move.charge import Charge, load
from vedette.move.hops import charge_of, hops_of_charge
from vedette.prove.audit import AuditRecord
from vedette.prove.trail import MAX_READ, read_trail
from vedette.run.parts import Parts
from vedette.run.pipeline.indexing import decided_entities

Find = Callable[[str, str], Decision | None]
"""Finds a tenant's decision by the id of its event."""
_HASH = 12
_ORDER = {kind: place for place, kind in enumerate(HopKind)}
"""Of steps at one time the cause comes first."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one request, or of an alert or case that is about several."""

    trace_id: str
    """Id of the decided event; empty where several events are behind what was asked for."""
    tenant: str
    asked: str
    """What it was found by."""
    hops: tuple[Hop, ...] = ()
    """In order of time."""


def follow(parts: Parts, find: Find, tenant: str, name: str) -> Trace:
    """Follows one request through every room.

    Args:
        parts: The installation.
        find: Its decisions.
        tenant: Whose.
        name: Id of a charge, refund, dispute, transfer, webhook, decided event, alert or case.

    Raises:
        NotFoundError: `trace.id.unknown`, also for another tenant's.
    """
    charge = _charge(parts, tenant, charge_of(parts.money, parts.disputes, tenant, name))
    decision = charge.decision if charge else find(tenant, name)
    if decision:
        charge = charge or _charge(parts, tenant, str(decision.event.get("charge", "")))
        hops = [*_of_decision(parts, decision), *(_of_money(parts, charge) if charge else ())]
        return _made(parts, tenant, name, hops, decision)
    alerts = _alerts(parts, tenant, name)
    signals = [signal for alert in alerts for signal in parts.alerts.signals(tenant, alert)]
    events = {signal.event_id for signal in signals}
    if len(events) == 1 and (decision := find(tenant, next(iter(events)))):
        return msgspec.structs.replace(follow(parts, find, tenant, decision.event_id), asked=name)
    return _made(parts, tenant, name, [*hops_of_signals(signals), *_of_alerts(parts, tenant, alerts)])


def _charge(parts: Parts, tenant: str, charge_id: str) -> Charge | None:
    if not charge_id:
        return None
    try:
        with parts.money.read() as connection:
            return load(connection, tenant, charge_id)
    except NotFoundError:
        return None


def _alerts(parts: Parts, tenant: str, name: str) -> Sequence[str]:
    with suppress(NotFoundError):
        return (parts.alerts.get(tenant, name).id,)
    with suppress(NotFoundError):
        return parts.cases.get(tenant, name).alerts
    hint = "give the id of a charge, refund, dispute, transfer, webhook, decided event, alert or case"
    raise NotFoundError("trace.id.unknown", "nothing here has that id", hint=hint, at=name[:64])


def _of_money(parts: Parts, charge: Charge) -> Iterator[Hop]:
    return hops_of_charge(parts.money, parts.ledger, parts.outbox, parts.disputes, charge)


def _of_alerts(parts: Parts, tenant: str, alerts: Sequence[str]) -> Iterator[Hop]:
    return hops_of_alerts(parts.alerts, parts.cases, tenant, alerts)


def _of_decision(parts: Parts, decision: Decision) -> Iterator[Hop]:
    tenant, event_id = decision.tenant, decision.event_id
    yield Hop(time=decision.time, kind=HopKind.DECISION, id=event_id, text=_decided(decision), resource="decisions")
    for label in parts.sightings.labels(parts.log, tenant, event_id):
        said = "fraud" if label.data.get("fraud") else "genuine"
        text = f"{said}, by {label.data.get('kind') or 'label'}"
        yield Hop(time=label.event_time, kind=HopKind.LABEL, id=label.id, text=text, resource="labels")
    entities = decided_entities(parts.sources)(decision.source, decision.event)
    found: list[tuple[Signal, str]] = signals_on(parts.state, tenant, event_id, decision.time, entities)
    yield from hops_of_signals(signal for signal, _ in found)
    yield from _of_alerts(parts, tenant, list(dict.fromkeys(alert for _, alert in found)))


def _decided(decision: Decision) -> str:
    fired = [rule.id for rule in decision.rules if rule.result == "fired"]
    scored = [] if decision.risk_score is None else [f"risk {decision.risk_score}"]
    model = [f"model {decision.model.id} {decision.model.sha256[:_HASH]}"] if decision.model else []
    return ", ".join(
        (
            f"{decision.action} in {decision.latency_us / 1000:.1f} ms",
            *scored,
            *([f"answered by policy: {decision.fallback}"] if decision.fallback else []),
            f"{len(decision.features)} features {decision.features_version[:_HASH]}".rstrip(),
            *model,
            f"rules {decision.rules_version[:_HASH]}{': ' + ' '.join(fired) if fired else ''}",
        )
    )


def _made(parts: Parts, tenant: str, name: str, hops: list[Hop], decision: Decision | None = None) -> Trace:
    about = {hop.id for hop in hops}
    trail = read_trail(parts.log, tenant, limit=MAX_READ).records
    hops += [_audited(record) for record in trail if record.target in about]
    hops.sort(key=lambda hop: (hop.time, _ORDER[hop.kind]))
    return Trace(
        trace_id=decision.event_id if decision else "",
        tenant=tenant,
        asked=name,
        hops=tuple(hops),
    )


def _audited(record: AuditRecord) -> Hop:
    outcome = "" if record.outcome == "success" else f": {record.outcome}"
    text = f"{record.action} on {record.target} by {record.actor}{outcome}"
    return Hop(time=record.time, kind=HopKind.AUDIT, id=record.id, text=text, resource="audit")
