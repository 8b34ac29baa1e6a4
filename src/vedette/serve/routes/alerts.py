"""Alerts."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.act.attention import recipient, severity
from vedette.act.grouping import AlertState, Verdict
from vedette.act.queue import Sort
from vedette.act.triage import Changed
from vedette.core.clock import MICROS
from vedette.serve.filters import AlertQuery, to_entity
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, Moment, convert, reads, reply

router = APIRouter(prefix="/v1", tags=["alerts"])

_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


class AlertChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays."""

    state: AlertState | None = None
    verdict: Verdict | None = None
    """With `resolved`: what the alert was found to be. On a decision it becomes a label."""
    assignee: str | None = None
    """Id of the person who works on it; empty: nobody."""


class AlertChanges(AlertChange, frozen=True, forbid_unknown_fields=True):
    """The same change of several alerts."""

    alerts: list[str] = []


@router.get("/alerts")
def list_alerts(
    *,
    caller: Annotated[Caller, allow("alerts", "read")],
    platform: Served,
    wanted: AlertQuery,
    sort: Sort = Sort.SEVERITY,
    after: str = "",
    limit: _Limit = 100,
) -> Response:
    """Alerts, gravest first. `next` of a page is the `after` of the following one."""
    now = platform.clock.now()
    found = platform.alerts.page(caller.tenant, wanted, sort=sort, after=after, limit=limit, now=now)
    return reply({"data": found.alerts, "has_more": bool(found.next), "next": found.next})


@router.get("/alerts/facets")
def count_alerts(caller: Annotated[Caller, allow("alerts", "read")], platform: Served, wanted: AlertQuery) -> Response:
    """How many alerts the filter leaves, and how many each further choice would leave."""
    return reply(platform.alerts.facets(caller.tenant, wanted, now=platform.clock.now()))


@router.post(
    "/alerts/changes",
    openapi_extra=reads(AlertChanges, {"alerts": ["al_17"], "state": "resolved", "verdict": "benign"}),
)
def change_alerts(caller: Annotated[Caller, allow("alerts", "write")], body: JsonBody, platform: Served) -> Response:
    """Changes several alerts, all or none; gives the change's id, with which it can be undone for 30 seconds."""
    wanted: AlertChanges = convert(body, AlertChanges)
    return reply(_change(caller, platform, wanted.alerts, wanted))


@router.post("/alerts/changes/{change_id}/undo")
def undo_change(caller: Annotated[Caller, allow("alerts", "write")], change_id: str, platform: Served) -> Response:
    """Takes back a change of the last 30 seconds, where nothing came after it."""
    undone = platform.triage.undo(caller.tenant, change_id, operator=caller.principal.id, origin=caller.origin)
    return reply(undone)


@router.get("/alerts/{alert_id}")
def read_alert(caller: Annotated[Caller, allow("alerts", "read")], alert_id: str, platform: Served) -> Response:
    """An alert with the signals in it and the case it belongs to."""
    alert = platform.alerts.get(caller.tenant, alert_id)
    signals = platform.alerts.signals(caller.tenant, alert_id)
    return reply({"alert": alert, "signals": signals, "case": platform.cases.of_alert(caller.tenant, alert_id)})


@router.patch("/alerts/{alert_id}", openapi_extra=reads(AlertChange, {"state": "in_progress"}))
def change_alert(
    caller: Annotated[Caller, allow("alerts", "write")], alert_id: str, body: JsonBody, platform: Served
) -> Response:
    """Moves an alert to another state, with a verdict, or to another person."""
    change: AlertChange = convert(body, AlertChange)
    _change(caller, platform, [alert_id], change)
    return reply(platform.alerts.get(caller.tenant, alert_id))


def _change(caller: Caller, platform: Served, alerts: list[str], change: AlertChange) -> Changed:
    return platform.triage.change(
        caller.tenant,
        alerts,
        operator=caller.principal.id,
        state=change.state,
        verdict=change.verdict,
        assignee=change.assignee,
        origin=caller.origin,
    )


class MergeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Alerts that belong together."""

    alerts: list[str]
    title: str


class UnmergeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Alerts to take out of their merges."""

    alerts: list[str]


class SnoozeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Alerts to keep quiet until a time."""

    alerts: list[str]
    until: Moment
    """Microseconds UTC."""
    reason: str


class WindowRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A window of maintenance; everything that is named must fit."""

    since: Moment
    """Event time, microseconds UTC."""
    until: Moment
    reason: str
    rule: str = ""
    source: str = ""
    entity: str = ""
    """`type:id`."""


@router.get("/alert-groups")
def list_groups(caller: Annotated[Caller, allow("alerts", "read")], platform: Served, limit: _Limit = 100) -> Response:
    """The open alerts of the last day as groups, the highest score first."""
    return reply({"data": platform.merging.groups(caller.tenant, limit=limit), "has_more": False})


@router.post(
    "/alert-merges",
    status_code=201,
    openapi_extra=reads(MergeRequest, {"alerts": ["al_17", "al_18"], "title": "One stolen key"}),
)
def merge_alerts(caller: Annotated[Caller, allow("alerts", "write")], body: JsonBody, platform: Served) -> Response:
    """Puts alerts together; each of them keeps its signals, state and history."""
    wanted: MergeRequest = convert(body, MergeRequest)
    me = caller.principal.id
    made = platform.merging.merge(caller.tenant, wanted.alerts, title=wanted.title, operator=me, origin=caller.origin)
    return reply(made, 201)


@router.post("/alert-merges/undo", openapi_extra=reads(UnmergeRequest, {"alerts": ["al_17"]}))
def unmerge_alerts(caller: Annotated[Caller, allow("alerts", "write")], body: JsonBody, platform: Served) -> Response:
    """Takes alerts out of their merges; each stands by itself again as it is."""
    wanted: UnmergeRequest = convert(body, UnmergeRequest)
    me = caller.principal.id
    return reply({"taken": platform.merging.unmerge(caller.tenant, wanted.alerts, operator=me, origin=caller.origin)})


@router.post(
    "/alert-snoozes",
    openapi_extra=reads(SnoozeRequest, {"alerts": ["al_17"], "until": 4_000_000_000_000_000, "reason": "known"}),
)
def snooze_alerts(caller: Annotated[Caller, allow("alerts", "write")], body: JsonBody, platform: Served) -> Response:
    """Keeps open alerts quiet until a time; then they are as they were."""
    wanted: SnoozeRequest = convert(body, SnoozeRequest)
    me, why = caller.principal.id, wanted.reason
    done = platform.silence.snooze(
        caller.tenant, wanted.alerts, wanted.until, operator=me, reason=why, origin=caller.origin
    )
    return reply({"snoozed": done})


@router.get("/alert-windows")
def list_windows(caller: Annotated[Caller, allow("alerts", "read")], platform: Served) -> Response:
    """Windows of maintenance."""
    return reply({"data": platform.silence.windows(caller.tenant), "has_more": False})


@router.post(
    "/alert-windows",
    status_code=201,
    openapi_extra=reads(
        WindowRequest,
        {"since": 1_700_000_000_000_000, "until": 1_700_000_003_600_000, "reason": "upgrade", "entity": "host:db-1"},
    ),
)
def open_window(caller: Annotated[Caller, allow("alerts", "write")], body: JsonBody, platform: Served) -> Response:
    """Opens a window of maintenance: what fits it is kept and raises nobody."""
    wanted: WindowRequest = convert(body, WindowRequest)
    made = platform.silence.maintain(
        caller.tenant,
        since=wanted.since,
        until=wanted.until,
        rule=wanted.rule,
        source=wanted.source,
        entity=to_entity(wanted.entity) if wanted.entity else None,
        operator=caller.principal.id,
        reason=wanted.reason,
        origin=caller.origin,
    )
    return reply(made, 201)


@router.get("/alerts/{alert_id}/attention")
def read_attention(caller: Annotated[Caller, allow("alerts", "read")], alert_id: str, platform: Served) -> Response:
    """An alert's severity with its reasons, who gets it, how long it may wait, and the alerts most like it."""
    tenant, now = caller.tenant, platform.clock.now()
    alert = platform.alerts.get(tenant, alert_id)
    risks = {entity.key: platform.alerts.risk(tenant, entity, now) for entity in alert.entities}
    return reply(
        {
            "severity": severity(alert, platform.attention, risks),
            "recipient": recipient(alert, platform.attention, now),
            "age_s": alert.age(now) // MICROS,
            "limit_s": platform.attention.limit(alert.level) // MICROS,
            "similar": platform.merging.similar(tenant, alert_id),
        }
    )
