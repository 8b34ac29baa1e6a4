"""The review queue: decisions that a person has to look at."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.act.reviewing.nouns import Item, ItemState
from vedette.act.reviewing.rows import MAX_NOTE
from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, convert, reads, reply

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])

Reader = Annotated[Caller, allow("reviews", "read")]
Reviewer = Annotated[Caller, allow("reviews", "write")]
_CURSOR = re.compile(r"(\d{1,18})\.(rv_[0-9a-f]{26})")
MAX_FENCE = (1 << 62) - 1


class ClaimRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which item to claim; the next one when none is named."""

    review: Annotated[str, msgspec.Meta(max_length=64)] = ""


class LeaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Under which claim."""

    fence: Annotated[int, msgspec.Meta(ge=0, le=MAX_FENCE)]


class VerdictRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the decided event was found to be."""

    fence: Annotated[int, msgspec.Meta(ge=0, le=MAX_FENCE)]
    """Number of the claim, as `claims` gave it."""
    fraud: bool
    note: Annotated[str, msgspec.Meta(max_length=MAX_NOTE)] = ""


class TakeBackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why what was said stands no more."""

    why: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NOTE)]


@router.get("")
def list_reviews(
    *,
    caller: Reader,
    platform: Served,
    state: ItemState = ItemState.OPEN,
    after: Annotated[str, Query(max_length=64, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """Decisions to look at, the highest expected cost first, and how the queue stands."""
    rows = platform.reviewing.find(caller.tenant, state=state, after=place_of(after), limit=limit)
    following = f"{rows[-1].cost_minor}.{rows[-1].id}" if len(rows) == limit else ""
    waiting = platform.reviewing.waiting(caller.tenant)
    return reply({"data": rows, "has_more": bool(following), "next": following, "waiting": waiting})


@router.get("/agreement")
def read_agreement(
    caller: Reader, platform: Served, days: Annotated[int, Query(ge=1, le=3_650, description="How far back.")] = 90
) -> Response:
    """How far reviewers agree beyond chance: Cohen's kappa over what two of them looked at."""
    since = max(0, platform.clock.now() - days * DAY)
    return reply(platform.reviewing.measure(caller.tenant, since=since))


@router.post("/claims", openapi_extra=reads(ClaimRequest, {"review": ""}))
def claim_review(caller: Reviewer, body: JsonBody, platform: Served) -> Response:
    """Claims an item for some minutes: the named one, else the dearest one that nobody holds; null: nothing waits."""
    wanted: ClaimRequest = convert(body, ClaimRequest)
    me = caller.principal.id
    return reply({"review": platform.reviewing.claim(caller.tenant, me, wanted.review, origin=caller.origin)})


@router.get("/{review_id}")
def read_review(caller: Reader, review_id: str, platform: Served) -> Response:
    """One item; what others said of it is told once it is done or disputed."""
    return reply(shown(platform, caller.tenant, review_id, reader=caller.principal.id))


@router.post("/{review_id}/renew", openapi_extra=reads(LeaseRequest, {"fence": 1}))
def renew_review(caller: Reviewer, review_id: str, body: JsonBody, platform: Served) -> Response:
    """Begins the claim's time anew, while it lasts."""
    wanted: LeaseRequest = convert(body, LeaseRequest)
    return reply(platform.reviewing.renew(caller.tenant, review_id, caller.principal.id, wanted.fence))


@router.post("/{review_id}/release", openapi_extra=reads(LeaseRequest, {"fence": 1}))
def release_review(caller: Reviewer, review_id: str, body: JsonBody, platform: Served) -> Response:
    """Gives an item back."""
    wanted: LeaseRequest = convert(body, LeaseRequest)
    me = caller.principal.id
    return reply(platform.reviewing.release(caller.tenant, review_id, me, wanted.fence, origin=caller.origin))


@router.post("/{review_id}/verdict", openapi_extra=reads(VerdictRequest, {"fence": 1, "fraud": True}))
def judge_review(caller: Reviewer, review_id: str, body: JsonBody, platform: Served) -> Response:
    """Gives a verdict under a claim that lasts. Once as many people agree as must, it is the label of the event."""
    told: VerdictRequest = convert(body, VerdictRequest)
    me, origin = caller.principal.id, caller.origin
    found = platform.reviewing.judge(
        caller.tenant, review_id, me, told.fence, fraud=told.fraud, note=told.note, origin=origin
    )
    return reply(found)


@router.post("/{review_id}/take-back", openapi_extra=reads(TakeBackRequest, {"why": "the customer called"}))
def take_back_review(caller: Reviewer, review_id: str, body: JsonBody, platform: Served) -> Response:
    """Sets aside what was said of an item: it is open again, and its label stands until people have judged anew."""
    told: TakeBackRequest = convert(body, TakeBackRequest)
    me, amending = caller.principal.id, platform.reviewing.amending
    return reply(amending.take_back(caller.tenant, review_id, me, why=told.why, origin=caller.origin))


def shown(platform: Served, tenant: str, review_id: str, *, reader: str) -> dict[str, object]:
    """An item with what its reader may know of what was said."""
    item: Item = platform.reviewing.get(tenant, review_id)
    amending = platform.reviewing.amending
    return {
        "review": item,
        "opinions": platform.reviewing.opinions(tenant, review_id, reader=reader),
        "taken_back": amending.taken_back(tenant, review_id, reader=reader),
        "news": amending.news(tenant, review_id, reader=reader),
    }


def place_of(after: str) -> tuple[int, str] | None:
    """Where a page of the queue goes on; None for its beginning.

    Raises:
        DataError: `request.cursor.invalid`.
    """
    if not after:
        return None
    place = _CURSOR.fullmatch(after)
    if place is None:
        raise DataError("request.cursor.invalid", "this is no `next` of a list", at="$query.after")
    return int(place[1]), place[2]
