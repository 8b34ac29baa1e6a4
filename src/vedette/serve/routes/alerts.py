"""Alerts."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.act.grouping import AlertState, Verdict
from vedette.act.queue import Sort
from vedette.act.triage import Changed
from vedette.serve.filters import AlertQuery
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, convert, reads, reply

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
    sort: Sort = Sort.RISK,
    after: str = "",
    limit: _Limit = 100,
) -> Response:
    """Alerts, riskiest first. `next` of a page is the `after` of the following one."""
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
