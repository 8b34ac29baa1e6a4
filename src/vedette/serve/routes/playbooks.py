"""Playbook runs: plan, start, watch, approve."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Response

from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, page, reads, reply

router = APIRouter(prefix="/v1/playbooks", tags=["playbooks"])

_START = {"playbook": "compromised_api_key", "alert_id": "al_17", "inputs": {"account": "m_9"}}


class RunRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run to start, or with `dry_run` only to plan."""

    playbook: str
    alert_id: str
    inputs: dict[str, Any] = {}
    dry_run: bool = False


class ApprovalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person's decision on what a run asks for."""

    approve: bool
    seen: Annotated[str, msgspec.Meta(min_length=1)]
    """Hash of the request that was looked at: another one is refused."""
    step: str = ""
    reason: str = ""


@router.post("/runs", status_code=201, openapi_extra=reads(RunRequest, _START))
def start_run(caller: Annotated[Caller, allow("playbooks", "run")], body: JsonBody, platform: Served) -> Response:
    """Starts the run of this alert and playbook version; again gives the same run. `dry_run` answers with the plan."""
    wanted: RunRequest = convert(body, RunRequest)
    playbook = platform.playbook(wanted.playbook)
    if wanted.dry_run:
        plan = platform.plan(
            caller.tenant, playbook, wanted.alert_id, requester=caller.principal.id, inputs=wanted.inputs
        )
        return reply({"plan": plan})
    alert = platform.alerts.get(caller.tenant, wanted.alert_id)
    view = platform.responder.start(
        caller.tenant,
        playbook,
        wanted.alert_id,
        requester=caller.principal.id,
        inputs=wanted.inputs,
        authors=platform.authors(caller.tenant, alert.rule_id),
    )
    return reply(view, 201)


@router.get("/runs")
def list_runs(caller: Annotated[Caller, allow("playbooks", "read")], platform: Served) -> Response:
    """Runs, newest first."""
    return page(platform.responder.find(caller.tenant))


@router.get("/runs/{run_id}")
def read_run(caller: Annotated[Caller, allow("playbooks", "read")], run_id: str, platform: Served) -> Response:
    """A run with its recorded steps and, when it waits, the approval it asks for."""
    return reply(platform.responder.show(caller.tenant, run_id))


@router.post(
    "/runs/{run_id}/approvals",
    openapi_extra=reads(ApprovalRequest, {"approve": True, "seen": "9f2c...", "reason": "confirmed with the merchant"}),
)
def decide_approval(
    caller: Annotated[Caller, allow("playbooks", "approve")], run_id: str, body: JsonBody, platform: Served
) -> Response:
    """A person approves or denies. Not the one who asked, nor the rule's or the playbook's owner; never an API key."""
    wanted: ApprovalRequest = convert(body, ApprovalRequest)
    decided = platform.responder.decide(
        caller.tenant,
        run_id,
        by=caller.principal.id,
        approve=wanted.approve,
        seen=wanted.seen,
        step=wanted.step,
        reason=wanted.reason,
    )
    return reply(decided)
