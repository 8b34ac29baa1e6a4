"""Reports of weaknesses: what waits, and one report with its clocks, its thread and what triage found."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from vedette.act.bounty.report import OPEN, ReportState
from vedette.act.bounty.rubric import Facts
from vedette.serve.console.choices import Names
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.routes.bounty import case_of
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH = "/reports"
SIZE = 100

Reader = Annotated[Visitor, look("reports", "read")]
Writer = Annotated[Visitor, act("reports", "write")]
Text = Annotated[str, Form()]


@router.get(PATH, response_model=None)
def list_reports(
    request: Request, visitor: Reader, platform: Served, state: Annotated[list[ReportState] | None, Query()] = None
) -> Response:
    """Reports, the next clock first; open ones when nothing is asked."""
    tenant = visitor.tenant
    return show(
        request,
        visitor,
        "reports.html",
        reports=platform.bounty.find(tenant, states=state or OPEN, limit=SIZE),
        standing=platform.bounty.standing(tenant),
        shown=state[0] if state else "",
    )


@router.post(PATH, response_model=None)
def file_report(  # noqa: PLR0917 - one form
    visitor: Writer, platform: Served, title: Text, reporter: Text, asset: Text, text: Text
) -> Response:
    """Takes a report in."""
    me = visitor.principal.id
    made = platform.bounty.file(visitor.tenant, title=title, text=text, reporter=reporter, asset=asset, operator=me)
    return RedirectResponse(f"{PATH}/{made.id}", 303)


@router.get(f"{PATH}/{{report_id}}", response_model=None)
def show_report(request: Request, visitor: Reader, platform: Served, report_id: str) -> Response:
    """One report."""
    tenant = visitor.tenant
    report = platform.bounty.get(tenant, report_id)
    return show(
        request,
        visitor,
        "report.html",
        report=report,
        thread=platform.bounty.thread(tenant, report_id),
        duplicates=platform.bounty.duplicates(tenant, report_id),
        moves=platform.bounty.moves(report),
        weaknesses=list(platform.bounty.rubric.weaknesses.items()),
        names=Names(platform, tenant),
        late=0 < report.clock[1] < platform.clock.now(),
    )


@router.post(f"{PATH}/{{report_id}}/triage", response_model=None)
def triage_report(
    *,
    visitor: Writer,
    platform: Served,
    report_id: str,
    cwe: Text,
    vector: Text = "",
    root: Text = "",
    found: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Weighs a report by what was found."""
    names = set(found or [])
    facts = Facts(
        cwe=cwe.strip(),
        vector=vector.strip(),
        verified="verified" in names,
        other_tenant="other_tenant" in names,
        self_only="self_only" in names,
        by_design="by_design" in names,
    )
    platform.bounty.triage(visitor.tenant, report_id, facts, root=root, operator=visitor.principal.id)
    return _back(report_id)


@router.post(f"{PATH}/{{report_id}}/state", response_model=None)
def move_report(
    visitor: Writer, platform: Served, report_id: str, state: Annotated[ReportState, Form()], reason: Text = ""
) -> Response:
    """Moves a report to another state."""
    platform.bounty.move(visitor.tenant, report_id, state, operator=visitor.principal.id, reason=reason)
    return _back(report_id)


@router.post(f"{PATH}/{{report_id}}/extensions", response_model=None)
def extend_report(
    visitor: Writer, platform: Served, report_id: str, days: Annotated[int, Form(ge=1, le=3_650)], reason: Text
) -> Response:
    """Puts the disclosure off."""
    platform.bounty.extend(visitor.tenant, report_id, days, reason=reason, operator=visitor.principal.id)
    return _back(report_id)


@router.post(f"{PATH}/{{report_id}}/messages", response_model=None)
def say(visitor: Writer, platform: Served, report_id: str, text: Text, who: Text = "us") -> Response:
    """Adds a line to the thread: ours, the reporter's, or one among ourselves."""
    theirs = who == "reporter"
    author = platform.bounty.get(visitor.tenant, report_id).reporter if theirs else visitor.principal.id
    platform.bounty.say(visitor.tenant, report_id, text, author=author, ours=not theirs, internal=who == "internal")
    return _back(report_id)


@router.post(f"{PATH}/{{report_id}}/case", response_model=None)
def open_case(visitor: Annotated[Visitor, act("cases", "write")], platform: Served, report_id: str) -> Response:
    """Opens the report's case, or leads to the one it has."""
    return RedirectResponse(f"/cases/{case_of(platform, visitor.tenant, report_id, visitor.principal.id)}", 303)


def _back(report_id: str) -> Response:
    return RedirectResponse(f"{PATH}/{report_id}", 303)
