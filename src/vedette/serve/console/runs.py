"""A playbook's run as people look at it: each step with its state, and the decision that it waits for."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.act.approvals import Approval, ApprovalState
from vedette.act.playbooks.playbook import ActionStep, ApprovalStep, Playbook, Step, walk
from vedette.act.playbooks.responder import RunView
from vedette.core.errors import NotFoundError, VedetteError
from vedette.core.execute import Outcome, StepRecord
from vedette.serve.console.choices import Names
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter()

GOING = frozenset({"queued", "running", "waiting"})


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One step for people."""

    label: str
    state: str
    """`done`, `failed`, `waiting`, `running`, `next`, `skipped`, `denied`, `expired`."""
    text: str = ""
    result: dict[str, Any] = {}
    code: str = ""
    time: int = 0


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One run for people."""

    view: RunView
    steps: list[Line]
    live: bool
    """More may happen: the page asks again."""


def shown_run(platform: Served, tenant: str, run_id: str, names: Names) -> Shown:
    """A run with its steps.

    Raises:
        NotFoundError: `playbook.run.unknown`.
    """
    view = platform.responder.show(tenant, run_id)
    asked = {each.step: each for each in platform.approvals.find(tenant, run_id=run_id)}
    return Shown(view=view, steps=lines(view, platform.playbooks.get(view.playbook), asked, names), live=_live(view))


def _live(view: RunView) -> bool:
    return view.state in GOING


def lines(view: RunView, playbook: Playbook | None, asked: dict[str, Approval], names: Names) -> list[Line]:
    """The steps of a run in the playbook's order; of a playbook that is gone, those that were recorded."""
    records = {record.name: record for record in view.steps}
    if playbook is None or playbook.version != view.version:
        return [_recorded(record.name, record) for record in view.steps if not record.name.startswith("run.")]
    branch = {
        step.id for each in walk(playbook.steps) if isinstance(each, ApprovalStep) for step in walk(each.on_denied)
    }
    found: list[Line] = []
    going = _live(view)
    for step in walk(playbook.steps):
        line = _line(step, records, asked, names)
        if line is None and step.id in branch:
            continue
        if line is None and isinstance(step, ActionStep):
            state = "next" if going else "skipped"
            if going and view.state == "running" and not any(each.state in {"next", "running"} for each in found):
                state = "running"
            line = Line(label=_label(step), state=state)
        if line is not None:
            found.append(line)
    return found


def _line(step: Step, records: dict[str, StepRecord], asked: dict[str, Approval], names: Names) -> Line | None:
    if isinstance(step, ApprovalStep):
        return _asked(asked[step.id], names) if step.id in asked else None
    record = records.get(step.id) or records.get(f"{step.id}.failed")
    return _recorded(_label(step), record) if record else None


def _label(step: Step) -> str:
    return (step.action if isinstance(step, ActionStep) else step.id).replace("_", " ")


def _asked(approval: Approval, names: Names) -> Line:
    said = {
        ApprovalState.PENDING: "waiting",
        ApprovalState.APPROVED: "done",
        ApprovalState.DENIED: "denied",
        ApprovalState.EXPIRED: "expired",
        ApprovalState.WITHDRAWN: "skipped",
    }
    by = f"{approval.state} by {names(approval.decided_by)}" if approval.decided_by else approval.title
    reason = f": {approval.reason}" if approval.reason else ""
    state, time = said[approval.state], approval.decided_time or approval.requested_time
    return Line(label="approval", state=state, text=f"{by}{reason}", time=time)


def _recorded(label: str, record: StepRecord) -> Line:
    try:
        outcome = msgspec.convert(record.output, Outcome)
    except msgspec.ValidationError:
        return Line(label=label, state="done", time=record.ended_time)
    result = outcome.value if isinstance(outcome.value, dict) else {}
    state = "done" if outcome.ok else "failed"
    return Line(
        label=label, state=state, result=result, code=outcome.code, text=outcome.message, time=record.ended_time
    )


@router.get("/runs/{run_id}", response_model=None)
def show_run(
    request: Request,
    visitor: Annotated[Visitor, look("playbooks", "read")],
    platform: Served,
    run_id: str,
    was: str = "",
) -> Response:
    """The panel of one run; by itself it leads to its case."""
    names = Names(platform, visitor.tenant)
    found = shown_run(platform, visitor.tenant, run_id, names)
    if "hx-request" not in request.headers:
        place = f"/cases/{found.view.case_id}" if found.view.case_id else "/approvals"
        return RedirectResponse(f"{place}#{run_id}", 303)
    # What the case says changes with its run: the page is loaded again when the run is over, or asks for something.
    if found.view.state != was and (not found.live or found.view.approval):
        return Response("", 200, {"hx-refresh": "true"})
    return show(request, visitor, "run.html", shown=found, names=names)


@router.post("/runs/{run_id}/decision", response_model=None)
def decide(
    *,
    visitor: Annotated[Visitor, act("playbooks", "approve", fresh=True)],
    platform: Served,
    run_id: str,
    seen: Annotated[str, Form()],
    approve: Annotated[str, Form()],
    step: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
) -> Response:
    """A person decides on what they saw; a refusal is shown where they decided."""
    tenant = visitor.tenant
    case_id = platform.responder.show(tenant, run_id).case_id
    if not seen:
        raise NotFoundError("approvals.approval.unknown", "nothing was looked at")
    try:
        platform.responder.decide(
            tenant,
            run_id,
            by=visitor.principal.id,
            approve=approve == "yes",
            seen=seen,
            step=step,
            reason=reason.strip(),
        )
    except VedetteError as error:
        return RedirectResponse(f"/cases/{case_id}?refused={error.code}#approval-{run_id}", 303)
    return RedirectResponse(f"/cases/{case_id}#{run_id}", 303)


@router.get("/approvals", response_model=None)
def list_approvals(
    request: Request, visitor: Annotated[Visitor, look("playbooks", "read")], platform: Served
) -> Response:
    """What waits for a person, the earliest deadline first, what was decided before, and every run with its error."""
    tenant = visitor.tenant
    waiting = platform.approvals.find(tenant, pending=True)
    before = [each for each in platform.approvals.find(tenant, limit=500) if each.state is not ApprovalState.PENDING]
    before.sort(key=lambda each: -(each.decided_time or each.deadline))
    listed = platform.responder.find(tenant, limit=1_000)
    runs = {run.id: run.case_id for run in listed if run.case_id}
    return show(
        request,
        visitor,
        "approvals.html",
        waiting=waiting,
        before=before[:50],
        cases=runs,
        listed=listed[:100],
        names=Names(platform, tenant),
    )
