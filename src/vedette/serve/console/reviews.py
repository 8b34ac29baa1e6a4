"""The review queue: what waits, and one decision to look at, judged by keyboard one after the other."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from vedette.act.reviewing.nouns import ItemState
from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.serve.console.choices import Names
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.routes.reviews import place_of, shown
from vedette.serve.session import Visitor, act, look

router = APIRouter()

PATH = "/reviews"
SIZE = 50
DAYS = 90
"""How far back agreement is measured."""
VERDICTS = {"fraud": True, "genuine": False}

Reader = Annotated[Visitor, look("reviews", "read")]
Reviewer = Annotated[Visitor, act("reviews", "write")]
Text = Annotated[str, Form()]
Fence = Annotated[int, Form(ge=0, lt=1 << 62)]


@router.get(PATH, response_model=None)
def list_reviews(
    *,
    request: Request,
    visitor: Reader,
    platform: Served,
    state: ItemState = ItemState.OPEN,
    after: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Decisions to look at, the highest expected cost first."""
    tenant, queue, now = visitor.tenant, platform.reviewing, platform.clock.now()
    items = queue.find(tenant, state=state, after=place_of(after), limit=SIZE)
    following = f"{items[-1].cost_minor}.{items[-1].id}" if len(items) == SIZE else ""
    return show(
        request,
        visitor,
        "reviews.html",
        items=items,
        state=state,
        states=[(each.value, f"{PATH}?state={each}", each is state) for each in ItemState],
        waiting=queue.waiting(tenant),
        measured=queue.measure(tenant, since=max(0, now - DAYS * DAY)),
        days=DAYS,
        names=Names(platform, tenant),
        law=queue.law,
        next_url=f"{PATH}?state={state}&after={following}" if following else "",
        first_url=f"{PATH}?state={state}" if after else "",
    )


@router.post(f"{PATH}/claims", response_model=None)
def claim(visitor: Reviewer, platform: Served, review: Text = "") -> Response:
    """Claims an item, the next one without a name, and leads to it."""
    return _on(visitor, platform, review)


@router.get(f"{PATH}/{{review_id}}", response_model=None)
def show_review(request: Request, visitor: Reader, platform: Served, review_id: str) -> Response:
    """One decision to look at."""
    tenant, queue, me = visitor.tenant, platform.reviewing, visitor.principal.id
    item = queue.get(tenant, review_id)
    context: dict[str, Any] = {
        "item": item,
        **shown(platform, tenant, review_id, reader=me),
        "mine": item.holder == me and item.state is ItemState.OPEN,
        "names": Names(platform, tenant),
        "law": queue.law,
        "late": item.age(platform.clock.now()) > queue.law.age_us,
    }
    return show(request, visitor, "review.html", **context)


@router.post(f"{PATH}/{{review_id}}/verdict", response_model=None)
def judge(  # noqa: PLR0917 - one form
    visitor: Reviewer, platform: Served, review_id: str, fence: Fence, verdict: Text, note: Text = ""
) -> Response:
    """Gives a verdict and leads to the next item."""
    if verdict not in VERDICTS:
        raise DataError("reviews.verdict.unknown", f"`{verdict[:40]}` is no verdict", hint="`fraud` or `genuine`")
    me = visitor.principal.id
    platform.reviewing.judge(
        visitor.tenant, review_id, me, fence, fraud=VERDICTS[verdict], note=note, origin=visitor.origin
    )
    return _on(visitor, platform)


@router.post(f"{PATH}/{{review_id}}/take-back", response_model=None)
def take_back(visitor: Reviewer, platform: Served, review_id: str, why: Text = "") -> Response:
    """Sets aside what was said and leads to the item, which is open again."""
    me, amending = visitor.principal.id, platform.reviewing.amending
    amending.take_back(visitor.tenant, review_id, me, why=why, origin=visitor.origin)
    return RedirectResponse(f"{PATH}/{review_id}", 303)


@router.post(f"{PATH}/{{review_id}}/renew", response_model=None)
def renew(visitor: Reviewer, platform: Served, review_id: str, fence: Fence) -> Response:
    """Begins the claim's time anew."""
    platform.reviewing.renew(visitor.tenant, review_id, visitor.principal.id, fence)
    return RedirectResponse(f"{PATH}/{review_id}", 303)


@router.post(f"{PATH}/{{review_id}}/release", response_model=None)
def release(visitor: Reviewer, platform: Served, review_id: str, fence: Fence) -> Response:
    """Gives an item back and leads to the queue."""
    me = visitor.principal.id
    platform.reviewing.release(visitor.tenant, review_id, me, fence, origin=visitor.origin)
    return RedirectResponse(PATH, 303)


def _on(visitor: Visitor, platform: Served, review: str = "") -> Response:
    found = platform.reviewing.claim(visitor.tenant, visitor.principal.id, review.strip(), origin=visitor.origin)
    return RedirectResponse(f"{PATH}/{found.id}" if found else PATH, 303)
