"""Approvals: what waits for a person, what was decided, and the decision itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.act.approvals import ApprovalState
from vedette.core.errors import NotFoundError, VedetteError
from vedette.serve.console.choices import Names
from vedette.serve.console.page import show
from vedette.serve.console.runs import Reader, run_page
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act

router = APIRouter()


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
        if not case_id:
            return run_page(run_id, error.code)
        return RedirectResponse(f"/cases/{case_id}?refused={error.code}#approval-{run_id}", 303)
    return RedirectResponse(f"/cases/{case_id}#{run_id}", 303) if case_id else run_page(run_id)


@router.get("/approvals", response_model=None)
def list_approvals(request: Request, visitor: Reader, platform: Served) -> Response:
    """What waits for a person, the earliest deadline first, and what was decided before."""
    tenant = visitor.tenant
    waiting = platform.approvals.find(tenant, pending=True)
    before = [each for each in platform.approvals.find(tenant, limit=500) if each.state is not ApprovalState.PENDING]
    before.sort(key=lambda each: -(each.decided_time or each.deadline))
    runs = {run.id: run.case_id for run in platform.responder.find(tenant, limit=1_000)}
    return show(
        request,
        visitor,
        "approvals.html",
        waiting=waiting,
        before=before[:50],
        cases=runs,
        names=Names(platform, tenant),
    )
