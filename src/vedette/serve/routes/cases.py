"""Cases: the work, its people, its evidence, whom to tell, and the review."""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from vedette.act.cases import CaseRole, CaseState, Phase
from vedette.act.cases.nouns import PRIVY, Belief, Stance
from vedette.act.cases.reports import Kind, facts, make_report, to_html, to_markdown
from vedette.act.cases.review import Change, Part
from vedette.core.errors import DataError
from vedette.core.signal import Level
from vedette.prove.access import Principal
from vedette.run.cases.casefile import open_group, read_case
from vedette.run.cases.exporting import export_case
from vedette.run.cases.fixtures import events_of, to_test
from vedette.run.cases.pacing import fetch_pace
from vedette.serve.filters import CaseQuery
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, NDJSON, JsonBody, Moment, convert, reads, reply

router = APIRouter(prefix="/v1", tags=["cases"])

_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Reader = Annotated[Caller, allow("cases", "read")]
Writer = Annotated[Caller, allow("cases", "write")]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request."""


class CaseRequest(_Body, frozen=True):
    """A case to open, by itself or for an alert."""

    title: str
    level: Level = Level.MEDIUM
    alert_id: str = ""
    phase: Phase = Phase.ANALYSIS
    """`preparation` for an exercise or a hunt."""
    group_id: str = ""
    """Group of alerts; the case is opened with all of them, under the group's title."""


class CaseChange(_Body, frozen=True):
    """New state, phase or owner of a case."""

    state: CaseState | None = None
    phase: Phase | None = None
    owner: str | None = None
    """Id of a person; empty: nobody."""


class NoteRequest(_Body, frozen=True):
    """A note for the timeline."""

    text: str
    privileged: bool = False
    """Only for the commander and counsel of the case."""


class AlertRequest(_Body, frozen=True):
    """An alert that belongs to the case."""

    alert_id: str


class TaskRequest(_Body, frozen=True):
    """Something to do."""

    title: str
    owner: str = ""
    due: Moment = 0
    """Microseconds UTC; 0: without a deadline."""


class HypothesisRequest(_Body, frozen=True):
    """Something that may explain what happened."""

    title: str


class WeightRequest(_Body, frozen=True):
    """Evidence for or against a hypothesis."""

    speaks: Stance
    reference: str
    confidence: int
    """0 to 100: how sure you are of the hypothesis now."""
    text: str = ""


class BeliefRequest(_Body, frozen=True):
    """What became of a hypothesis."""

    state: Belief
    root: str = ""
    """Of a confirmed one: the first event of the cause."""


class ObservableRequest(_Body, frozen=True):
    """Something to look for elsewhere."""

    type: str
    value: str


class ClockRequest(_Body, frozen=True):
    """A duty to tell somebody."""

    notice: str
    aware: Moment = 0
    """When we knew, microseconds UTC; 0: when the case was opened."""


class Move(StrEnum):
    """What can be done with a notice."""

    DRAFT = "draft"
    APPROVE = "approve"
    SEND = "send"
    WAIVE = "waive"


class MoveRequest(_Body, frozen=True):
    """What to do with a notice."""

    move: Move
    text: str = ""
    """To approve: the words to send; empty: the draft as it is."""
    reference: str = ""
    """To send: what its recipient gave back. To waive: the reason."""


class EvidenceRequest(_Body, frozen=True):
    """Bytes to keep as evidence."""

    name: str
    how: str
    """By what means it was taken."""
    content: str
    """Base64."""


class WaiverRequest(_Body, frozen=True):
    """Containment before evidence."""

    reason: str
    action: str = ""
    """One action; empty: all of this case."""


class ReviewRequest(_Body, frozen=True):
    """A part of the review."""

    text: str
    evidence: list[str] = []


class ChangeRequest(_Body, frozen=True):
    """What was changed for good."""

    what: Change
    reference: str
    """Rule, control, test or commit; of `none` the reason."""


@router.post(
    "/cases",
    status_code=201,
    openapi_extra=reads(CaseRequest, {"title": "API key used from a new place", "level": "high"}),
)
def open_case(caller: Writer, body: JsonBody, platform: Served) -> Response:
    """Opens a case; for an alert that has one, gives that one."""
    wanted: CaseRequest = convert(body, CaseRequest)
    if wanted.group_id:
        return reply(open_group(platform, caller.tenant, wanted.group_id, operator=caller.principal.id), 201)
    if wanted.alert_id:
        platform.alerts.get(caller.tenant, wanted.alert_id)
    case = platform.cases.open(
        caller.tenant,
        wanted.title,
        operator=caller.principal.id,
        level=wanted.level,
        alert_id=wanted.alert_id,
        phase=wanted.phase,
    )
    return reply(case, 201)


@router.get("/cases")
def list_cases(caller: Reader, platform: Served, wanted: CaseQuery, after: str = "", limit: _Limit = 100) -> Response:
    """Cases, newest change first. `next` of a page is the `after` of the following one."""
    found = platform.cases.page(caller.tenant, wanted, after=after, limit=limit, reader=caller.principal.id)
    return reply({"data": found.cases, "has_more": bool(found.next), "next": found.next})


@router.get("/cases/pace")
def read_pace(caller: Reader, platform: Served) -> Response:
    """Times to detect, acknowledge and contain, and the share of false alerts, by rule; computed from events."""
    return reply(fetch_pace(platform, caller.tenant))


@router.get("/notices")
def list_notices(_caller: Reader, platform: Served) -> Response:
    """The known duties to tell somebody, with their deadlines and templates."""
    return reply({"data": list(platform.clocks.notices.values()), "has_more": False})


@router.get("/cases/{case_id}")
def read_case_file(caller: Reader, case_id: str, platform: Served) -> Response:
    """A case with its timeline, people, tasks, hypotheses, clocks, evidence, review and money."""
    file = read_case(platform, caller.tenant, case_id, reader=caller.principal.id)
    shape = {name: getattr(file, name) for name in file.__struct_fields__ if name not in {"names", "entries", "now"}}
    return reply({**shape, "timeline": file.entries})


@router.patch("/cases/{case_id}", openapi_extra=reads(CaseChange, {"phase": "containment"}))
def change_case(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Moves a case to another state or phase, or gives it to a person."""
    change: CaseChange = convert(body, CaseChange)
    tenant, me = caller.tenant, caller.principal.id
    case = platform.cases.get(tenant, case_id)
    if change.owner is not None:
        case = platform.cases.set_owner(tenant, case_id, change.owner, operator=me)
    if change.phase is not None:
        case = platform.cases.set_phase(tenant, case_id, change.phase, operator=me)
    if change.state is not None:
        case = platform.cases.set_state(tenant, case_id, change.state, operator=me)
    return reply(case)


@router.post(
    "/cases/{case_id}/notes", status_code=201, openapi_extra=reads(NoteRequest, {"text": "asked the merchant"})
)
def add_note(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Adds a note to the timeline; a privileged one is read by the commander and counsel of the case alone."""
    note: NoteRequest = convert(body, NoteRequest)
    me = caller.principal.id
    platform.cases.note(caller.tenant, case_id, note.text, operator=me, privileged=note.privileged)
    return reply({"case": case_id}, 201)


@router.post("/cases/{case_id}/alerts", openapi_extra=reads(AlertRequest, {"alert_id": "al_17"}))
def link_alert(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Adds an alert to the case."""
    wanted: AlertRequest = convert(body, AlertRequest)
    platform.alerts.get(caller.tenant, wanted.alert_id)
    platform.cases.link_alert(caller.tenant, case_id, wanted.alert_id, operator=caller.principal.id)
    return reply(platform.cases.get(caller.tenant, case_id))


@router.post(
    "/cases/{case_id}/tasks", status_code=201, openapi_extra=reads(TaskRequest, {"title": "call the merchant"})
)
def add_task(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Adds something to do, with who is to do it and by when."""
    wanted: TaskRequest = convert(body, TaskRequest)
    more: dict[str, Any] = {"owner": wanted.owner, "due": wanted.due}
    made = platform.work.add_task(caller.tenant, case_id, wanted.title, operator=caller.principal.id, **more)
    return reply(made, 201)


@router.post("/cases/{case_id}/tasks/{task_id}/done")
def finish_task(caller: Writer, case_id: str, task_id: str, platform: Served) -> Response:
    """Marks a task done; again changes nothing."""
    platform.work.finish_task(caller.tenant, case_id, task_id, operator=caller.principal.id)
    return reply({"case": case_id, "task": task_id})


@router.post(
    "/cases/{case_id}/hypotheses",
    status_code=201,
    openapi_extra=reads(HypothesisRequest, {"title": "the key was taken from a build log"}),
)
def suppose(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Adds a hypothesis."""
    wanted: HypothesisRequest = convert(body, HypothesisRequest)
    return reply(platform.work.suppose(caller.tenant, case_id, wanted.title, operator=caller.principal.id), 201)


@router.post(
    "/cases/{case_id}/hypotheses/{hypothesis_id}/evidence",
    openapi_extra=reads(WeightRequest, {"speaks": "for", "reference": "al_17", "confidence": 70}),
)
def weigh(caller: Writer, case_id: str, hypothesis_id: str, body: JsonBody, platform: Served) -> Response:
    """Adds evidence for or against a hypothesis, and how sure one is then."""
    wanted: WeightRequest = convert(body, WeightRequest)
    made = platform.work.weigh(
        caller.tenant,
        case_id,
        hypothesis_id,
        speaks=wanted.speaks,
        reference=wanted.reference,
        confidence=wanted.confidence,
        text=wanted.text,
        operator=caller.principal.id,
    )
    return reply(made)


@router.post(
    "/cases/{case_id}/hypotheses/{hypothesis_id}/state", openapi_extra=reads(BeliefRequest, {"state": "refuted"})
)
def settle(caller: Writer, case_id: str, hypothesis_id: str, body: JsonBody, platform: Served) -> Response:
    """Confirms or refutes a hypothesis; a confirmed one names the first event of the cause."""
    wanted: BeliefRequest = convert(body, BeliefRequest)
    me = caller.principal.id
    return reply(
        platform.work.settle(caller.tenant, case_id, hypothesis_id, wanted.state, root=wanted.root, operator=me)
    )


@router.post(
    "/cases/{case_id}/observables",
    status_code=201,
    openapi_extra=reads(ObservableRequest, {"type": "ip", "value": "198.51.100.7"}),
)
def observe(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Adds something to look for elsewhere."""
    wanted: ObservableRequest = convert(body, ObservableRequest)
    me = caller.principal.id
    return reply(platform.work.observe(caller.tenant, case_id, wanted.type, wanted.value, operator=me), 201)


def check_command(platform: Served, principal: Principal, case_id: str, role: CaseRole, origin: str) -> None:
    """Lets the first commander or counsel of a case be named by few; the others are named by those in the role.

    Raises:
        DeniedError: `access.denied`.
    """
    members = platform.circle.members(principal.tenant, case_id)
    if role in PRIVY and not any(each.role in PRIVY for each in members):
        platform.access.authorize(principal, "cases", "command", target=case_id, origin=origin)


@router.put("/cases/{case_id}/members/{person_id}/{case_role}")
def give_role(caller: Writer, case_id: str, person_id: str, case_role: CaseRole, platform: Served) -> Response:
    """Gives a person a role in the case; its first commander or counsel is named by who may `cases` `command`."""
    platform.access.people.get(caller.tenant, person_id)
    check_command(platform, caller.principal, case_id, case_role, caller.origin)
    platform.circle.give(caller.tenant, case_id, person_id, case_role, operator=caller.principal.id)
    return reply({"data": platform.circle.members(caller.tenant, case_id), "has_more": False})


@router.delete("/cases/{case_id}/members/{person_id}/{case_role}")
def take_role(caller: Writer, case_id: str, person_id: str, case_role: CaseRole, platform: Served) -> Response:
    """Takes a role in the case from a person."""
    platform.access.people.get(caller.tenant, person_id)
    platform.circle.take(caller.tenant, case_id, person_id, case_role, operator=caller.principal.id)
    return reply({"data": platform.circle.members(caller.tenant, case_id), "has_more": False})


@router.post("/cases/{case_id}/clocks", status_code=201, openapi_extra=reads(ClockRequest, {"notice": "gdpr_33"}))
def start_clock(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Starts the clock of a notice, from awareness on."""
    wanted: ClockRequest = convert(body, ClockRequest)
    me = caller.principal.id
    return reply(platform.clocks.start(caller.tenant, case_id, wanted.notice, operator=me, aware=wanted.aware), 201)


@router.post("/cases/{case_id}/clocks/{notice}", openapi_extra=reads(MoveRequest, {"move": "draft"}))
def move_clock(
    caller: Annotated[Caller, allow("cases", "notify")], case_id: str, notice: str, body: JsonBody, platform: Served
) -> Response:
    """Drafts, approves, sends or waives a notice, as far as the caller's role in the case allows."""
    wanted: MoveRequest = convert(body, MoveRequest)
    tenant, me, clocks = caller.tenant, caller.principal.id, platform.clocks
    match wanted.move:
        case Move.DRAFT:
            told = facts(read_case(platform, tenant, case_id))
            return reply(clocks.draft(tenant, case_id, notice, told, operator=me))
        case Move.APPROVE:
            return reply(clocks.approve(tenant, case_id, notice, operator=me, text=wanted.text))
        case Move.SEND:
            return reply(clocks.send(tenant, case_id, notice, reference=wanted.reference, operator=me))
        case Move.WAIVE:
            return reply(clocks.waive(tenant, case_id, notice, reason=wanted.reference, operator=me))


@router.post(
    "/cases/{case_id}/evidence",
    status_code=201,
    openapi_extra=reads(EvidenceRequest, {"name": "shell.log", "how": "copied by hand", "content": "bHM="}),
)
def collect(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Keeps bytes as evidence: hashed, under the tree, with a link of custody."""
    wanted: EvidenceRequest = convert(body, EvidenceRequest)
    try:
        content = base64.b64decode(wanted.content, validate=True)
    except ValueError as error:
        raise DataError("request.field.invalid", "the content is not base64", at="$.content") from error
    made = platform.custody.collect(
        caller.tenant, case_id, name=wanted.name, how=wanted.how, content=content, operator=caller.principal.id
    )
    return reply(made, 201)


@router.get("/cases/{case_id}/bundle")
def export(
    caller: Writer,
    case_id: str,
    platform: Served,
    to: Annotated[str, Query(min_length=1, max_length=200, examples=["the auditor"])],
) -> Response:
    """The case's evidence with its chain and proofs, for who has no access here; the export is recorded."""
    lines = export_case(platform, caller.tenant, case_id, to=to, operator=caller.principal.id)
    return StreamingResponse(lines, media_type=NDJSON)


@router.post(
    "/cases/{case_id}/waivers",
    status_code=201,
    openapi_extra=reads(WaiverRequest, {"reason": "the attacker pays out at this moment"}),
)
def waive(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Lets containment go before evidence, in the caller's name."""
    wanted: WaiverRequest = convert(body, WaiverRequest)
    me = caller.principal.id
    platform.preservation.waive(caller.tenant, case_id, operator=me, reason=wanted.reason, action=wanted.action)
    return reply({"case": case_id}, 201)


@router.put("/cases/{case_id}/review/{part}", openapi_extra=reads(ReviewRequest, {"text": "A key was taken."}))
def write_review(caller: Writer, case_id: str, part: Part, body: JsonBody, platform: Served) -> Response:
    """Writes a part of the review: `happened`, `contained`, `found` or `changed`."""
    wanted: ReviewRequest = convert(body, ReviewRequest)
    me, rests = caller.principal.id, tuple(wanted.evidence)
    return reply(platform.reviews.write(caller.tenant, case_id, part, wanted.text, operator=me, evidence=rests))


@router.post(
    "/cases/{case_id}/changes",
    status_code=201,
    openapi_extra=reads(ChangeRequest, {"what": "detection", "reference": "secret_read_from_new_place"}),
)
def link_change(caller: Writer, case_id: str, body: JsonBody, platform: Served) -> Response:
    """Links what was changed for good, or says why nothing was."""
    wanted: ChangeRequest = convert(body, ChangeRequest)
    me = caller.principal.id
    return reply(platform.reviews.change(caller.tenant, case_id, wanted.what, wanted.reference, operator=me), 201)


@router.get("/cases/{case_id}/fixture")
def fixture(
    caller: Reader, case_id: str, platform: Served, source: Annotated[list[str] | None, Query()] = None
) -> Response:
    """A test of a rule made of the case's events, as rule files hold tests; `source` takes only events of these."""
    found = events_of(platform, caller.tenant, case_id)
    return reply(to_test(found, platform.sources.values(), f"case {case_id}", only=source or ()))


@router.get("/cases/{case_id}/report")
def report(
    *, caller: Reader, case_id: str, platform: Served, request: Request, kind: Kind = Kind.TECHNICAL
) -> Response:
    """A report of the case, as Markdown, or as HTML or PDF when that is accepted."""
    made = make_report(read_case(platform, caller.tenant, case_id, reader=caller.principal.id), kind)
    wanted = request.headers.get("accept", "")
    if "application/pdf" in wanted:
        from vedette.act.cases.pdf import to_pdf

        return Response(to_pdf(made), media_type="application/pdf")
    if "text/html" in wanted:
        return Response(to_html(made), media_type="text/html")
    return Response(to_markdown(made), media_type="text/markdown")
