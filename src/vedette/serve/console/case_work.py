"""What people do on the page of a case beside its timeline: tasks, hypotheses, notices, evidence, the review."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.responses import RedirectResponse

from vedette.act.cases import Case, CaseRole
from vedette.act.cases.nouns import Belief, Stance
from vedette.act.cases.reports import Kind, facts, make_report, to_markdown
from vedette.act.cases.review import Change, Part
from vedette.core.clock import MICROS
from vedette.core.errors import DataError
from vedette.run.cases.casefile import read_case
from vedette.run.cases.exporting import export_case
from vedette.run.cases.pacing import fetch_pace
from vedette.run.investigation.steps import Steps
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.routes.cases import check_command
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH = "/cases"
HOUR = 3_600 * MICROS
MAX_HOURS = 24 * 90

Reader = Annotated[Visitor, look("cases", "read")]
Worker = Annotated[Visitor, act("cases", "write")]
Teller = Annotated[Visitor, act("cases", "notify")]
Text = Annotated[str, Form()]


def back(case_id: str, place: str = "") -> Response:
    """The way back to the page of a case."""
    return RedirectResponse(f"{PATH}/{quote(case_id, safe='')}{f'#{place}' if place else ''}", 303)


def work_of(platform: Served, visitor: Visitor, case: Case) -> dict[str, Any]:
    """What the panels beside the timeline show."""
    tenant, case_id, me = visitor.tenant, case.id, visitor.principal.id
    review = platform.reviews.get(tenant, case_id)
    members = platform.circle.members(tenant, case_id)
    clocks = platform.clocks.find(tenant, case_id)
    running = {clock.id for clock in clocks}
    mine = {member.role for member in members if member.person == me}
    return {
        "tasks": platform.work.tasks(tenant, case_id),
        "hypotheses": platform.work.hypotheses(tenant, case_id),
        "observables": platform.work.observables(tenant, case_id),
        "members": members,
        "people": [person for person in platform.access.people.list(tenant) if not person.disabled],
        "roles": list(CaseRole),
        "privy": not mine.isdisjoint({CaseRole.COMMANDER, CaseRole.LEGAL}),
        "clocks": [(clock, platform.clocks.notices.get(clock.id)) for clock in clocks],
        "mine": mine,
        "notices": [each for each in platform.clocks.notices.values() if each.id not in running],
        "links": platform.custody.links(tenant, case_id),
        "review": review,
        "review_parts": list(Part),
        "changes": list(Change),
        "phase_times": platform.cases.phases(tenant, case_id),
        "reports": list(Kind),
        "steps": Steps(platform, platform.store).all(tenant, case_id),
    }


@router.get(f"{PATH}/pace", response_model=None)
def show_pace(request: Request, visitor: Reader, platform: Served) -> Response:
    """How quick the responses were, and how often each rule was wrong."""
    return show(request, visitor, "pace.html", pace=fetch_pace(platform, visitor.tenant))


@router.get(f"{PATH}/{{case_id}}/report", response_model=None)
def show_report(
    *,
    request: Request,
    visitor: Reader,
    platform: Served,
    case_id: str,
    kind: Kind = Kind.BRIEF,
    markdown: bool = False,
    pdf: bool = False,
) -> Response:
    """A report as a page to print, as Markdown, or as PDF."""
    made = make_report(read_case(platform, visitor.tenant, case_id, reader=visitor.principal.id), kind)
    if markdown:
        headers = {"content-disposition": f'attachment; filename="{kind}.md"', "cache-control": "no-store"}
        return Response(to_markdown(made), 200, headers, "text/markdown; charset=utf-8")
    if pdf:
        from vedette.act.cases.pdf import to_pdf

        headers = {"content-disposition": f'attachment; filename="{kind}.pdf"', "cache-control": "no-store"}
        return Response(to_pdf(made), 200, headers, "application/pdf")
    here = f"{PATH}/{quote(case_id, safe='')}"
    tabs = [(each.value, f"{here}/report?kind={each}") for each in Kind]
    return show(request, visitor, "case_report.html", report=made, case_url=here, tabs=tabs, kind=kind.value)


@router.post(f"{PATH}/{{case_id}}/tasks", response_model=None)
def add_task(
    *, visitor: Worker, platform: Served, case_id: str, title: Text, owner: Text = "", hours: Annotated[int, Form()] = 0
) -> Response:
    """Adds something to do."""
    if not 0 <= hours <= MAX_HOURS:
        raise DataError("cases.task.due", f"a task is due within {MAX_HOURS} hours")
    due = platform.clock.now() + hours * HOUR if hours else 0
    me = visitor.principal.id
    platform.work.add_task(visitor.tenant, case_id, title.strip(), operator=me, owner=owner, due=due)
    return back(case_id, "tasks")


@router.post(f"{PATH}/{{case_id}}/tasks/{{task_id}}/done", response_model=None)
def finish_task(visitor: Worker, platform: Served, case_id: str, task_id: str) -> Response:
    """Marks it done."""
    platform.work.finish_task(visitor.tenant, case_id, task_id, operator=visitor.principal.id)
    return back(case_id, "tasks")


@router.post(f"{PATH}/{{case_id}}/people", response_model=None)
def change_people(
    *,
    visitor: Worker,
    platform: Served,
    case_id: str,
    person: Text,
    case_role: Annotated[CaseRole, Form()],
    take: Annotated[bool, Form()] = False,
) -> Response:
    """Gives a role in the case, or takes it."""
    platform.access.people.get(visitor.tenant, person)
    if not take:
        check_command(platform, visitor.principal, case_id, case_role, visitor.origin)
    change = platform.circle.take if take else platform.circle.give
    change(visitor.tenant, case_id, person, case_role, operator=visitor.principal.id)
    return back(case_id, "people")


@router.post(f"{PATH}/{{case_id}}/hypotheses", response_model=None)
def suppose(visitor: Worker, platform: Served, case_id: str, title: Text) -> Response:
    """Adds a hypothesis."""
    platform.work.suppose(visitor.tenant, case_id, title.strip(), operator=visitor.principal.id)
    return back(case_id, "hypotheses")


@router.post(f"{PATH}/{{case_id}}/hypotheses/{{hypothesis_id}}", response_model=None)
def weigh(
    *,
    visitor: Worker,
    platform: Served,
    case_id: str,
    hypothesis_id: str,
    speaks: Annotated[Stance | None, Form()] = None,
    reference: Text = "",
    confidence: Annotated[int, Form()] = 50,
    state: Annotated[Belief | None, Form()] = None,
    root: Text = "",
) -> Response:
    """Adds evidence for or against a hypothesis, or settles it."""
    tenant, me = visitor.tenant, visitor.principal.id
    if speaks is not None:
        found: dict[str, Any] = {"speaks": speaks, "reference": reference.strip(), "confidence": confidence}
        platform.work.weigh(tenant, case_id, hypothesis_id, operator=me, **found)
    if state is not None:
        platform.work.settle(tenant, case_id, hypothesis_id, state, operator=me, root=root.strip())
    return back(case_id, "hypotheses")


@router.post(f"{PATH}/{{case_id}}/clocks", response_model=None)
def start_clock(visitor: Worker, platform: Served, case_id: str, notice: Text) -> Response:
    """Starts the clock of a notice."""
    platform.clocks.start(visitor.tenant, case_id, notice, operator=visitor.principal.id)
    return back(case_id, "notices")


@router.post(f"{PATH}/{{case_id}}/clocks/{{notice}}", response_model=None)
def move_clock(
    *, visitor: Teller, platform: Served, case_id: str, notice: str, move: Text, text: Text = "", reference: Text = ""
) -> Response:
    """Drafts, approves, sends or waives a notice."""
    tenant, me, clocks = visitor.tenant, visitor.principal.id, platform.clocks
    match move:
        case "draft":
            clocks.draft(tenant, case_id, notice, facts(read_case(platform, tenant, case_id)), operator=me)
        case "approve":
            clocks.approve(tenant, case_id, notice, operator=me, text=text)
        case "send":
            clocks.send(tenant, case_id, notice, reference=reference, operator=me)
        case "waive":
            clocks.waive(tenant, case_id, notice, reason=reference, operator=me)
        case _:
            raise DataError("request.field.invalid", "a notice is drafted, approved, sent or waived", at="$.move")
    return back(case_id, "notices")


@router.post(f"{PATH}/{{case_id}}/evidence", response_model=None)
def collect(visitor: Worker, platform: Served, case_id: str, file: UploadFile, how: Text) -> Response:
    """Keeps a file as evidence."""
    content, name = file.file.read(), file.filename or "file"
    me = visitor.principal.id
    platform.custody.collect(visitor.tenant, case_id, name=name[:200], content=content, how=how, operator=me)
    return back(case_id, "evidence")


@router.post(f"{PATH}/{{case_id}}/bundle", response_model=None)
def export(visitor: Worker, platform: Served, case_id: str, to: Text) -> Response:
    """The case's evidence with its chain and proofs."""
    if not to.strip():
        raise DataError("cases.text.invalid", "say who gets it", at="$.to")
    lines = export_case(platform, visitor.tenant, case_id, to=to.strip()[:200], operator=visitor.principal.id)
    headers = {"content-disposition": 'attachment; filename="case.bundle"', "cache-control": "no-store"}
    return Response(b"".join(lines), 200, headers, "application/x-ndjson")


@router.post(f"{PATH}/{{case_id}}/review", response_model=None)
def write_review(
    visitor: Worker, platform: Served, case_id: str, part: Annotated[Part, Form()], text: Text
) -> Response:
    """Writes a part of the review."""
    platform.reviews.write(visitor.tenant, case_id, part, text, operator=visitor.principal.id)
    return back(case_id, "review")


@router.post(f"{PATH}/{{case_id}}/changes", response_model=None)
def link_change(
    visitor: Worker, platform: Served, case_id: str, what: Annotated[Change, Form()], reference: Text
) -> Response:
    """Links what was changed for good."""
    platform.reviews.change(visitor.tenant, case_id, what, reference.strip(), operator=visitor.principal.id)
    return back(case_id, "review")
