"""Playbook runs: plan, start, watch, approve."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from vedette.act.actions import Signature
from vedette.act.playbooks.plan import radius
from vedette.act.playbooks.playbook import Playbook, TriggerType, walk
from vedette.act.playbooks.responder import Occasion
from vedette.core.errors import DataError, NotFoundError
from vedette.run.cases.hooks import take_hook
from vedette.serve.policy import Caller, Served, allow, anyone
from vedette.serve.shapes import JsonBody, convert, page, reads, reply

router = APIRouter(prefix="/v1/playbooks", tags=["playbooks"])

_HOOK_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"id": {"type": "string"}}, "additionalProperties": True},
                "example": {"id": "evt_1"},
            }
        },
    },
}
_START = {"playbook": "compromised_api_key", "alert_id": "al_17", "inputs": {"account": "m_9"}}


class RunRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run to start, or with `dry_run` only to plan."""

    playbook: str
    alert_id: str = ""
    """What it answers; empty: it is started by hand under `key`."""
    inputs: dict[str, Any] = {}
    dry_run: bool = False
    key: str = ""
    """Without an alert: the same key has one run of a playbook version."""


class WebhookRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What another system tells."""

    data: dict[str, Any] = {}
    """As `${trigger.data...}` reads it."""


class RerunRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to begin again."""

    step: str


class ApprovalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person's decision on what a run asks for."""

    approve: bool
    seen: Annotated[str, msgspec.Meta(min_length=1)]
    """Hash of the request that was looked at: another one is refused."""
    step: str = ""
    reason: str = ""


@router.get("")
def list_playbooks(_caller: Annotated[Caller, allow("playbooks", "read")], platform: Served) -> Response:
    """The playbooks that can be started: what each needs, what starts it by itself, what it may touch."""
    return reply([_shown(playbook) for playbook in platform.playbooks.values()])


@router.get("/actions")
def list_actions(_caller: Annotated[Caller, allow("playbooks", "read")], platform: Served) -> Response:
    """What playbooks can do here: arguments, secrets, scopes, how a repeat is told, and what takes it back."""
    return reply([_declared(signature) for signature in platform.signatures.values()])


@router.post("/runs", status_code=201, openapi_extra=reads(RunRequest, _START))
def start_run(caller: Annotated[Caller, allow("playbooks", "run")], body: JsonBody, platform: Served) -> Response:
    """Starts the run of this alert and playbook version; again gives the same run. `dry_run` answers with the plan."""
    wanted: RunRequest = convert(body, RunRequest)
    playbook, who = platform.playbook(wanted.playbook), caller.principal.id
    if wanted.dry_run:
        plan = platform.plan(caller.tenant, playbook, wanted.alert_id, requester=who, inputs=wanted.inputs)
        return reply({"plan": plan, "blast": radius(plan, playbook.caps)})
    if not wanted.alert_id:
        occasion = Occasion(key=f"hand:{wanted.key}", trigger={"type": "hand", "by": who})
        if not wanted.key:
            raise DataError("playbook.key.missing", "a run without an alert needs a `key`", at="$.key")
        return reply(
            platform.responder.launch(caller.tenant, playbook, occasion, requester=who, inputs=wanted.inputs), 201
        )
    alert = platform.alerts.get(caller.tenant, wanted.alert_id)
    view = platform.responder.start(
        caller.tenant,
        playbook,
        wanted.alert_id,
        requester=who,
        inputs=wanted.inputs,
        authors=platform.authors(caller.tenant, alert.rule_id),
    )
    return reply(view, 201)


@router.post("/webhook", status_code=202, openapi_extra=reads(WebhookRequest, {"data": {"host": "web-7"}}))
def take_webhook(
    caller: Annotated[Caller, allow("playbooks", "run")],
    playbook: Annotated[str, Query(max_length=64, examples=["look_at_host"])],
    body: JsonBody,
    platform: Served,
    delivery: Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=200)],
) -> Response:
    """Starts a playbook that has the trigger `webhook`, once for each `Idempotency-Key`."""
    book = platform.playbook(playbook)
    if not any(trigger.type is TriggerType.WEBHOOK for trigger in book.triggers):
        raise NotFoundError("playbook.trigger.none", "this playbook is not started by webhooks", at=playbook[:64])
    wanted: WebhookRequest = convert(body, WebhookRequest)
    told = {"type": "webhook", "by": caller.principal.id, "data": wanted.data}
    occasion = Occasion(key=f"webhook:{delivery}", trigger=told)
    return reply(platform.responder.launch(caller.tenant, book, occasion, requester=caller.principal.id), 202)


@router.post("/hooks/{tenant}/{playbook}", status_code=202, dependencies=[anyone()], openapi_extra=_HOOK_BODY)
async def take_signed(request: Request, platform: Served, tenant: str, playbook: str) -> Response:
    """A webhook that another system signs starts the playbook whose trigger names its scheme, once a delivery."""
    body, headers = await request.body(), request.headers.raw
    run = await run_in_threadpool(take_hook, platform, tenant, playbook, body, headers)
    return reply({"status": "started", "run": run}, 202) if run else reply({"status": "repeated"})


@router.get("/runs")
def list_runs(
    caller: Annotated[Caller, allow("playbooks", "read")],
    platform: Served,
    state: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006 - the framework copies it
    playbook: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Runs, newest first; `state` (repeatable) also knows `overdue`: those not heard of in time."""
    return page(platform.responder.find(caller.tenant, playbook=playbook, states=state, limit=limit))


@router.get("/runs/{run_id}")
def read_run(caller: Annotated[Caller, allow("playbooks", "read")], run_id: str, platform: Served) -> Response:
    """A run with its recorded steps and, when it waits, the approval it asks for."""
    return reply(platform.responder.show(caller.tenant, run_id))


@router.post("/runs/{run_id}/cancel")
def cancel_run(caller: Annotated[Caller, allow("playbooks", "run")], run_id: str, platform: Served) -> Response:
    """Stops a run before its next step, with all its branches; what it asked for is withdrawn."""
    return reply(platform.responder.cancel(caller.tenant, run_id))


@router.post("/runs/{run_id}/resume")
def resume_run(caller: Annotated[Caller, allow("playbooks", "run")], run_id: str, platform: Served) -> Response:
    """Lets a cancelled or stuck run go on after its last finished step."""
    return reply(platform.responder.resume(caller.tenant, run_id))


@router.post("/runs/{run_id}/rerun", status_code=201, openapi_extra=reads(RerunRequest, {"step": "freeze"}))
def rerun(
    caller: Annotated[Caller, allow("playbooks", "run")], run_id: str, body: JsonBody, platform: Served
) -> Response:
    """Begins a run that is over again from a step, as a new run; what came before is carried, not done again."""
    wanted: RerunRequest = convert(body, RerunRequest)
    who = caller.principal.id
    return reply(platform.responder.rerun(caller.tenant, run_id, step=wanted.step, requester=who), 201)


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


def _shown(playbook: Playbook) -> dict[str, Any]:
    names = ("id", "version", "title", "owner", "description", "inputs", "triggers", "caps")
    steps = [step.id for step in walk(playbook.steps)]
    return {name: getattr(playbook, name) for name in names} | {"digest": playbook.digest, "steps": steps}


def _declared(signature: Signature) -> dict[str, Any]:
    arguments = {
        name: {"type": spec.type.__name__, "required": spec.required, "secret": spec.secret}
        for name, spec in signature.arguments.items()
    }
    names = ("name", "text", "drastic", "contains", "touches", "scopes", "repeats", "undo")
    return {name: getattr(signature, name) for name in names} | {"arguments": arguments}
