"""Alerts and cases."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.act.cases import CaseState, Phase
from vedette.act.grouping import AlertState, Verdict
from vedette.act.queue import Sort
from vedette.act.triage import Changed
from vedette.core.signal import Level
from vedette.serve.filters import AlertQuery, CaseQuery
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, convert, reads, reply

router = APIRouter(prefix="/v1", tags=["alerts and cases"])

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


class CaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A case to open, by itself or for an alert."""

    title: str
    level: Level = Level.MEDIUM
    alert_id: str = ""


class CaseChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New state or phase of a case."""

    state: CaseState | None = None
    phase: Phase | None = None


class NoteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A note for the timeline."""

    text: str


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


@router.post(
    "/cases",
    status_code=201,
    openapi_extra=reads(CaseRequest, {"title": "API key used from a new place", "level": "high"}),
)
def open_case(caller: Annotated[Caller, allow("cases", "write")], body: JsonBody, platform: Served) -> Response:
    """Opens a case; for an alert that has one, gives that one."""
    wanted: CaseRequest = convert(body, CaseRequest)
    if wanted.alert_id:
        platform.alerts.get(caller.tenant, wanted.alert_id)
    case = platform.cases.open(
        caller.tenant, wanted.title, operator=caller.principal.id, level=wanted.level, alert_id=wanted.alert_id
    )
    return reply(case, 201)


@router.get("/cases")
def list_cases(
    caller: Annotated[Caller, allow("cases", "read")],
    platform: Served,
    wanted: CaseQuery,
    after: str = "",
    limit: _Limit = 100,
) -> Response:
    """Cases, newest change first. `next` of a page is the `after` of the following one."""
    found = platform.cases.page(caller.tenant, wanted, after=after, limit=limit)
    return reply({"data": found.cases, "has_more": bool(found.next), "next": found.next})


@router.get("/cases/{case_id}")
def read_case(caller: Annotated[Caller, allow("cases", "read")], case_id: str, platform: Served) -> Response:
    """A case with its timeline, evidence and tasks."""
    tenant, cases = caller.tenant, platform.cases
    return reply(
        {
            "case": cases.get(tenant, case_id),
            "timeline": cases.timeline(tenant, case_id),
            "evidence": cases.evidence(tenant, case_id),
            "tasks": cases.tasks(tenant, case_id),
        }
    )


@router.patch("/cases/{case_id}", openapi_extra=reads(CaseChange, {"phase": "containment"}))
def change_case(
    caller: Annotated[Caller, allow("cases", "write")], case_id: str, body: JsonBody, platform: Served
) -> Response:
    """Moves a case to another state or phase."""
    change: CaseChange = convert(body, CaseChange)
    case = platform.cases.get(caller.tenant, case_id)
    if change.phase is not None:
        case = platform.cases.set_phase(caller.tenant, case_id, change.phase, operator=caller.principal.id)
    if change.state is not None:
        case = platform.cases.set_state(caller.tenant, case_id, change.state, operator=caller.principal.id)
    return reply(case)


@router.post(
    "/cases/{case_id}/notes", status_code=201, openapi_extra=reads(NoteRequest, {"text": "asked the merchant"})
)
def add_note(
    caller: Annotated[Caller, allow("cases", "write")], case_id: str, body: JsonBody, platform: Served
) -> Response:
    """Adds a note to the timeline."""
    note: NoteRequest = convert(body, NoteRequest)
    platform.cases.note(caller.tenant, case_id, note.text, operator=caller.principal.id)
    return reply({"case": case_id}, 201)
