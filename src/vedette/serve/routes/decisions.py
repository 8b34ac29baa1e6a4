"""Decisions and labels. Deciding itself is answered by `hot`, in front of these routes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.core.errors import NotFoundError
from vedette.core.label import Label
from vedette.judge.decisions.lines import DecisionLine, to_line
from vedette.judge.decisions.register import Place
from vedette.serve.filters import After, DecisionQuery, moment_of
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, convert, reads, reply

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


class LabelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The truth about an event, as it was learned."""

    event_id: str
    fraud: bool
    observed_time: int | None = None
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
    filters = msgspec.structs.replace(wanted, merchants=tuple(sorted(caller.principal.accounts)))
    start = moment_of(after)
    rows = platform.register.find(caller.tenant, filters, after=Place(*start) if start else None, limit=limit + 1)
    following = f"{rows[limit - 1].time}.{rows[limit - 1].seq}" if len(rows) > limit else ""
    return reply({"data": rows[:limit], "has_more": bool(following), "next": following})


@router.get("/decisions/{event_id}")
def read_decision(caller: Annotated[Caller, allow("decisions", "read")], event_id: str, platform: Served) -> Response:
    """The recorded decision of an event."""
    return reply(_find(platform, caller.tenant, event_id))


@router.post("/labels", status_code=202, openapi_extra=reads(LabelRequest, {"event_id": "1", "fraud": True}))
async def label(caller: Annotated[Caller, allow("labels", "write")], body: JsonBody, platform: Served) -> Response:
    """Takes the truth about an event; features know it from then on, and never before."""
    told: LabelRequest = convert(body, LabelRequest)
    now = platform.clock.now()
    observed = now if told.observed_time is None else min(told.observed_time, now)
    learned = Label(
        event_id=told.event_id, tenant=caller.tenant, fraud=told.fraud, observed_time=observed, kind=told.kind
    )
    await platform.desk.learn(learned)
    return reply({"event_id": told.event_id}, 202)


def _find(platform: Served, tenant: str, event_id: str) -> DecisionLine:
    found = platform.desk.find(tenant, event_id)
    if found is None:
        raise NotFoundError("decision.event.unknown", "no decision on an event of that id", at=event_id[:64])
    return to_line(found)
