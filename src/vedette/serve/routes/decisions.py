"""Decisions and labels. Deciding itself is answered by `deciding`, in front of these routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from vedette.act.reviewing.amending import VERDICT
from vedette.core.decision import Decision
from vedette.core.errors import NotFoundError, VedetteError
from vedette.core.label import Label
from vedette.judge.decisions.lines import to_line
from vedette.judge.decisions.register import Place, Row
from vedette.judge.reasons import load_words, merchant_view
from vedette.run.payments.explaining import account_for
from vedette.serve.filters import After, DecisionQuery, moment_of
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, Moment, convert, reads, reply

router = APIRouter(prefix="/v1", tags=["decisions"])

_EVENT = {
    "TRANSACTION_ID": 1,
    "TX_DATETIME": "2026-03-02 10:00:00",
    "CUSTOMER_ID": 7,
    "TERMINAL_ID": 9,
    "TX_AMOUNT": 12.5,
}


class DecisionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to decide on: the source's own fields. `source` is the model's own when left out."""

    event: dict[str, Any]
    source: str = ""


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to decide on, in this order."""

    events: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MAX_PAGE)]
    source: str = ""


class OutcomeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a payment that was decided on."""

    fraud: bool = True
    observed_time: Moment | None = None
    """Microseconds UTC; now when left out. Never later than now."""


class LabelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The truth about an event, as it was learned."""

    event_id: str
    fraud: bool
    observed_time: Moment | None = None
    """Microseconds UTC; now when left out. Never later than now."""
    kind: str = "dispute"


@router.post("/decisions", openapi_extra=reads(DecisionRequest, {"event": _EVENT}))
async def decide(caller: Annotated[Caller, allow("decisions", "write")], body: JsonBody, platform: Served) -> Response:
    """Decides on an event within 50 ms; a part that stalls is named in `fallback`. Once per event id."""
    wanted: DecisionRequest = convert(body, DecisionRequest)
    event = platform.desk.take(caller.tenant, wanted.event, wanted.source)
    return reply(to_line(await platform.desk.decide(event)))


@router.get("/decisions")
def list_decisions(
    *,
    caller: Annotated[Caller, allow("decisions", "read", by_account=True)],
    platform: Served,
    wanted: DecisionQuery,
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """Decisions, newest event first; a caller bound to merchants sees theirs. `next` is the `after` that follows."""
    bound = tuple(sorted(caller.principal.accounts))
    filters = msgspec.structs.replace(wanted, merchants=bound)
    if bound:
        # By such a filter a merchant would read the score that it is not shown.
        filters = msgspec.structs.replace(filters, risk_at_least=None, reason="")
    start = moment_of(after)
    rows = platform.register.find(caller.tenant, filters, after=Place(*start) if start else None, limit=limit + 1)
    following = f"{rows[limit - 1].time}.{rows[limit - 1].seq}" if len(rows) > limit else ""
    shown = [_without_score(row) for row in rows[:limit]] if bound else rows[:limit]
    return reply({"data": shown, "has_more": bool(following), "next": following})


@router.get("/decisions/{event_id}")
def read_decision(caller: Annotated[Caller, allow("decisions", "read")], event_id: str, platform: Served) -> Response:
    """The recorded decision of an event."""
    return reply(to_line(_find(platform, caller.tenant, event_id)))


@router.get("/decisions/{event_id}/explanation")
def explain(
    caller: Annotated[Caller, allow("decisions", "read", by_account=True)],
    event_id: str,
    platform: Served,
    view: Annotated[Literal["full", "merchant"], Query()] = "full",
) -> Response:
    """Why a decision is what it is. A caller bound to merchants has their view only: no score, value or threshold."""
    record = _find(platform, caller.tenant, event_id)
    bound = caller.principal.accounts
    merchant = str(record.event.get("merchant", ""))
    if bound and merchant not in bound:
        raise _unknown(event_id)
    rules = platform.desk.rules_of(record)
    if bound or view == "merchant":
        return reply(merchant_view(record, rules, load_words(), merchant=merchant))
    return reply(account_for(record, scorer=platform.desk.scorer_of(record), rules=rules))


@router.post("/decisions/batch", openapi_extra=reads(BatchRequest, {"events": [_EVENT]}))
def decide_batch(caller: Annotated[Caller, allow("decisions", "write")], body: JsonBody, platform: Served) -> Response:
    """Decides on up to 500 events in order, without a deadline; what one is refused with stands in its place."""
    wanted: BatchRequest = convert(body, BatchRequest)
    return reply(
        {"data": [_line(found) for found in platform.desk.decide_batch(caller.tenant, wanted.events, wanted.source)]}
    )


@router.post("/decisions/{event_id}/dispute", status_code=202, openapi_extra=reads(OutcomeRequest, {"fraud": True}))
async def dispute(
    caller: Annotated[Caller, allow("labels", "write")], event_id: str, body: JsonBody, platform: Served
) -> Response:
    """A payer disputes the payment: fraud, unless the request says that it is about something else."""
    return await _outcome(caller, event_id, convert(body, OutcomeRequest), "dispute", platform)


@router.post("/decisions/{event_id}/refund", status_code=202, openapi_extra=reads(OutcomeRequest, {"fraud": False}))
async def refund(
    caller: Annotated[Caller, allow("labels", "write")], event_id: str, body: JsonBody, platform: Served
) -> Response:
    """The payment was given back; only one that was given back as fraudulent teaches something."""
    told: OutcomeRequest = convert(body, OutcomeRequest)
    if not told.fraud:
        await run_in_threadpool(_find, platform, caller.tenant, event_id)
        return reply({"event_id": event_id, "learned": False}, 202)
    return await _outcome(caller, event_id, told, "refund", platform)


@router.post("/decisions/{event_id}/review", status_code=202, openapi_extra=reads(OutcomeRequest, {"fraud": False}))
async def review(
    caller: Annotated[Caller, allow("labels", "write")], event_id: str, body: JsonBody, platform: Served
) -> Response:
    """What a person found who looked at the payment: fraud or genuine; 409 where more people must agree."""
    await run_in_threadpool(platform.reviewing.check_one_may, caller.tenant, event_id)
    return await _outcome(caller, event_id, convert(body, OutcomeRequest), VERDICT, platform)


@router.post("/labels", status_code=202, openapi_extra=reads(LabelRequest, {"event_id": "1", "fraud": True}))
async def label(caller: Annotated[Caller, allow("labels", "write")], body: JsonBody, platform: Served) -> Response:
    """Takes the truth about an event; features know it from then on. A verdict: 409 where more people must agree."""
    told: LabelRequest = convert(body, LabelRequest)
    if told.kind == VERDICT:
        await run_in_threadpool(platform.reviewing.check_one_may, caller.tenant, told.event_id)
    await _learn(platform, caller.tenant, told.event_id, told, told.kind)
    return reply({"event_id": told.event_id}, 202)


async def _outcome(caller: Caller, event_id: str, told: OutcomeRequest, kind: str, platform: Served) -> Response:
    """Learns what became of a decision; one of another tenant is as unknown as none."""
    await run_in_threadpool(_find, platform, caller.tenant, event_id)
    await _learn(platform, caller.tenant, event_id, told, kind)
    return reply({"event_id": event_id, "learned": True}, 202)


async def _learn(platform: Served, tenant: str, event_id: str, told: OutcomeRequest | LabelRequest, kind: str) -> None:
    now = platform.clock.now()
    observed = now if told.observed_time is None else min(told.observed_time, now)
    learned = Label(event_id=event_id, tenant=tenant, fraud=told.fraud, observed_time=observed, kind=kind)
    await platform.desk.learn(learned)


def _without_score(row: Row) -> Row:
    """The row as a merchant may see it; why, in plain words, is told by the decision's explanation."""
    return msgspec.structs.replace(row, score=None, risk_score=None, reasons=(), model=None)


def _line(found: Decision | VedetteError) -> Any:
    return to_line(found) if isinstance(found, Decision) else {"error": found.to_dict()}


def _find(platform: Served, tenant: str, event_id: str) -> Decision:
    found = platform.desk.find(tenant, event_id)
    if found is None:
        raise _unknown(event_id)
    return found


def _unknown(event_id: str) -> NotFoundError:
    return NotFoundError("decision.event.unknown", "no decision on an event of that id", at=event_id[:64])
