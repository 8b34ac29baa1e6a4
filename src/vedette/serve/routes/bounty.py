"""Reports of weaknesses, as people outside send them in."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.act.bounty.report import OPEN, ReportState
from vedette.act.bounty.reports import MAX_NAME, MAX_TEXT, MAX_TITLE
from vedette.act.bounty.rubric import MAX_VECTOR, Facts
from vedette.core.errors import ConflictError
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, Moment, convert, page, reads, reply

router = APIRouter(prefix="/v1/reports", tags=["reports"])

Reader = Annotated[Caller, allow("reports", "read")]
Writer = Annotated[Caller, allow("reports", "write")]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
MAX_DAYS = 3_650


class ReportRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A report as it came."""

    title: Annotated[str, msgspec.Meta(max_length=MAX_TITLE)]
    text: Text
    reporter: Name
    asset: Name
    external_id: Name = ""
    """Its id where it came from; the same one comes once."""
    time: Moment = 0
    """When it came, microseconds UTC; now when left out."""


class TriageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What triage found."""

    cwe: Annotated[str, msgspec.Meta(max_length=20)]
    verified: bool
    vector: Annotated[str, msgspec.Meta(max_length=MAX_VECTOR)] = ""
    """CVSS 3.1 or 4.0."""
    other_tenant: bool = False
    self_only: bool = False
    by_design: bool = False
    root: Name = ""
    """The cause in few words: what shares it is a duplicate."""


class MoveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To which state."""

    state: ReportState
    reason: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


class ExtensionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much later the disclosure is, as was agreed."""

    days: Annotated[int, msgspec.Meta(ge=1, le=MAX_DAYS)]
    reason: Annotated[str, msgspec.Meta(max_length=2_000)]


class SayRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the thread."""

    text: Text
    reporter: bool = False
    """The reporter said it."""
    internal: bool = False
    """Not for the reporter."""


_REPORT = {"title": "Notes of others", "text": "Change the id.", "reporter": "mira", "asset": "api"}
_FOUND = {"cwe": "CWE-639", "verified": True, "other_tenant": True, "root": "notes are read by id alone"}


@router.post("", status_code=201, openapi_extra=reads(ReportRequest, _REPORT))
def file_report(caller: Writer, body: JsonBody, platform: Served) -> Response:
    """Takes a report of a weakness; its clocks begin. One whose `external_id` is known is given back."""
    told: ReportRequest = convert(body, ReportRequest)
    made = platform.bounty.file(caller.tenant, operator=caller.principal.id, **msgspec.structs.asdict(told))
    return reply(made, 201)


@router.get("")
def list_reports(
    caller: Reader,
    platform: Served,
    state: Annotated[list[ReportState] | None, Query(description="Open ones without it.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """Reports, the next clock first."""
    return page(list(platform.bounty.find(caller.tenant, states=state or OPEN, limit=limit)))


@router.get("/standing")
def read_standing(caller: Reader, platform: Served) -> Response:
    """How many reports are in which state and over a clock, and the median times to triage and to the fix."""
    return reply(platform.bounty.standing(caller.tenant))


@router.get("/{report_id}")
def read_report(caller: Reader, report_id: str, platform: Served) -> Response:
    """A report with its thread, its duplicates and the clock that runs."""
    report = platform.bounty.get(caller.tenant, report_id)
    thread = platform.bounty.thread(caller.tenant, report_id)
    due = dict(zip(("clock", "due"), report.clock, strict=True))
    twins = platform.bounty.duplicates(caller.tenant, report_id)
    return reply({"report": report, "thread": thread, "duplicates": twins, **due})


@router.post("/{report_id}/triage", openapi_extra=reads(TriageRequest, _FOUND))
def triage_report(caller: Writer, report_id: str, body: JsonBody, platform: Served) -> Response:
    """Weighs a report by the rubric, starts the clock of its fix, and links it with what has the same root cause."""
    told: TriageRequest = convert(body, TriageRequest)
    values = msgspec.structs.asdict(told)
    root = values.pop("root")
    found = platform.bounty.triage(caller.tenant, report_id, Facts(**values), root=root, operator=caller.principal.id)
    return reply(found)


@router.post("/{report_id}/state", openapi_extra=reads(MoveRequest, {"state": "closed", "reason": "no weakness"}))
def move_report(caller: Writer, report_id: str, body: JsonBody, platform: Served) -> Response:
    """Moves a report to another state."""
    told: MoveRequest = convert(body, MoveRequest)
    me = caller.principal.id
    return reply(platform.bounty.move(caller.tenant, report_id, told.state, operator=me, reason=told.reason))


@router.post("/{report_id}/extensions", openapi_extra=reads(ExtensionRequest, {"days": 7, "reason": "agreed by mail"}))
def extend_report(caller: Writer, report_id: str, body: JsonBody, platform: Served) -> Response:
    """Puts the disclosure off, as was agreed with the reporter; in all by no more than the rubric allows."""
    told: ExtensionRequest = convert(body, ExtensionRequest)
    me = caller.principal.id
    return reply(platform.bounty.extend(caller.tenant, report_id, told.days, reason=told.reason, operator=me))


@router.post("/{report_id}/messages", status_code=201, openapi_extra=reads(SayRequest, {"text": "We can see it."}))
def say_of_report(caller: Writer, report_id: str, body: JsonBody, platform: Served) -> Response:
    """Adds a line to the thread with the reporter."""
    told: SayRequest = convert(body, SayRequest)
    author = platform.bounty.get(caller.tenant, report_id).reporter if told.reporter else caller.principal.id
    made = platform.bounty.say(
        caller.tenant,
        report_id,
        told.text,
        author=author,
        ours=not told.reporter,
        internal=told.internal and not told.reporter,
    )
    return reply(made, 201)


@router.post("/{report_id}/case")
def open_report_case(caller: Annotated[Caller, allow("cases", "write")], report_id: str, platform: Served) -> Response:
    """Opens the case in which a report is worked on, or gives the one that it has."""
    return reply(platform.cases.get(caller.tenant, case_of(platform, caller.tenant, report_id, caller.principal.id)))


def case_of(platform: Served, tenant: str, report_id: str, operator: str) -> str:
    """Id of a report's case, which is opened when there is none.

    Raises:
        ConflictError: `bounty.triage.missing`: nobody knows yet how bad it is.
    """
    report = platform.bounty.get(tenant, report_id)
    if report.case_id:
        return report.case_id
    if report.weighed is None:
        raise ConflictError("bounty.triage.missing", "a case needs a level: triage the report first", at=report_id)
    made = platform.cases.open(tenant, report.title, operator=operator, level=report.weighed.level)
    platform.bounty.link(tenant, report_id, made.id, operator=operator)
    return made.id
