"""Groups of alerts, merges, snoozes and windows of maintenance: what makes many alerts few."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.core.clock import MICROS
from vedette.core.errors import DataError
from vedette.serve.console.page import show
from vedette.serve.filters import to_entity
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH = "/alerts"
SIZE = 100
MAX_SHOWN = 8
HOUR = 3_600 * MICROS
MAX_HOURS = 24 * 30

Reader = Annotated[Visitor, look("alerts", "read")]
Worker = Annotated[Visitor, act("alerts", "write")]
Text = Annotated[str, Form()]


@router.get(f"{PATH}/groups", response_model=None)
def show_groups(request: Request, visitor: Reader, platform: Served) -> Response:
    """The open alerts of the last day as groups, and what is kept quiet."""
    tenant = visitor.tenant
    groups = platform.merging.groups(tenant, limit=SIZE)
    return show(
        request,
        visitor,
        "groups.html",
        found=groups,
        shown=MAX_SHOWN,
        windows=platform.silence.windows(tenant),
        overdue=", ".join(f"{count} {level}" for level, count in platform.ages.overdue(tenant).items()),
    )


def beside(platform: Served, tenant: str, alert_id: str) -> dict[str, Any]:
    """What the page of an alert shows of those that are like it."""
    found = platform.merging.similar(tenant, alert_id, limit=6)
    merge_id = platform.merging.of_alert(tenant, alert_id)
    return {
        "similar": [(platform.alerts.get(tenant, each.alert_id), each) for each in found],
        "merge": platform.merging.get(tenant, merge_id) if merge_id else None,
        "snoozed": platform.silence.snoozed(tenant).get(alert_id, 0),
    }


@router.post(f"{PATH}/merge", response_model=None)
def merge(
    visitor: Worker, platform: Served, title: Text, alert: Annotated[list[str] | None, Form()] = None
) -> Response:
    """Puts alerts together."""
    chosen = alert or []
    platform.merging.merge(visitor.tenant, chosen, title=title, operator=visitor.principal.id, origin=visitor.origin)
    return _back(chosen)


@router.post(f"{PATH}/unmerge", response_model=None)
def unmerge(visitor: Worker, platform: Served, alert: Annotated[list[str] | None, Form()] = None) -> Response:
    """Takes alerts out of their merge."""
    chosen = alert or []
    platform.merging.unmerge(visitor.tenant, chosen, operator=visitor.principal.id, origin=visitor.origin)
    return _back(chosen)


@router.post(f"{PATH}/snooze", response_model=None)
def snooze(
    *,
    visitor: Worker,
    platform: Served,
    alert: Annotated[list[str] | None, Form()] = None,
    hours: Annotated[int, Form()] = 4,
    reason: Text,
) -> Response:
    """Keeps alerts quiet for some hours."""
    chosen, until = alert or [], platform.clock.now() + _hours(hours) * HOUR
    me = visitor.principal.id
    platform.silence.snooze(visitor.tenant, chosen, until, operator=me, reason=reason, origin=visitor.origin)
    return _back(chosen)


@router.post(f"{PATH}/windows", response_model=None)
def maintain(
    *,
    visitor: Worker,
    platform: Served,
    about: Text,
    hours: Annotated[int, Form()] = 4,
    reason: Text,
    end: Text = "",
) -> Response:
    """Opens a window of maintenance from now on, or ends one."""
    tenant, me, now = visitor.tenant, visitor.principal.id, platform.clock.now()
    if end:
        platform.silence.end(tenant, end, operator=me, origin=visitor.origin)
    else:
        entity = to_entity(about.strip())
        until = now + _hours(hours) * HOUR
        platform.silence.maintain(
            tenant, since=now, until=until, entity=entity, operator=me, reason=reason, origin=visitor.origin
        )
    return RedirectResponse(f"{PATH}/groups", 303)


def _hours(hours: int) -> int:
    if not 1 <= hours <= MAX_HOURS:
        raise DataError("alerts.snooze.until", f"1 to {MAX_HOURS} hours", at="$.hours")
    return hours


def _back(alerts: list[str]) -> Response:
    return RedirectResponse(f"{PATH}/{alerts[0]}" if len(alerts) == 1 else f"{PATH}/groups", 303)
