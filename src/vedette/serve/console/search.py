"""One field for everything: an id leads to its page, words to what holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from vedette.act.cases import CaseFilter
from vedette.act.queue import AlertFilter
from vedette.core.errors import DeniedError, NotFoundError
from vedette.core.event import Entity
from vedette.run.platform import Platform
from vedette.serve.console.format import entity_url
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

router = APIRouter()

MAX_TEXT = 400
SHOWN = 12
"""Most results of one kind."""


class Exact(NamedTuple):
    """A thing whose id was asked for."""

    label: str
    url: str


@router.get("/search", response_model=None)
def search(
    request: Request,
    visitor: Annotated[Visitor, look()],
    platform: Served,
    q: Annotated[str, Query(max_length=MAX_TEXT)] = "",
) -> Response:
    """The page of an id that is known, else what holds the words."""
    if visitor.principal.accounts:
        raise DeniedError("access.denied", "the search goes over all merchants", hint="open your own decisions")
    text = q.strip()
    exact = list(_exact(platform, visitor, text)) if text else []
    if len(exact) == 1:
        return RedirectResponse(exact[0].url, 303)
    found: dict[str, Any] = {"entities": [], "alerts": [], "cases": []}
    if text and visitor.may("events", "read"):
        found["entities"] = platform.sightings.search(visitor.tenant, text, limit=SHOWN)
    if text and visitor.may("alerts", "read"):
        found["alerts"] = platform.alerts.page(visitor.tenant, AlertFilter(text=text), limit=SHOWN).alerts
    if text and visitor.may("cases", "read"):
        found["cases"] = platform.cases.page(visitor.tenant, CaseFilter(text=text), limit=SHOWN).cases
    total = len(exact) + sum(map(len, found.values()))
    return show(request, visitor, "search.html", q=text, exact=exact, found=found, total=total)


def _exact(platform: Platform, visitor: Visitor, text: str) -> Iterator[Exact]:
    """Things of this very id that the visitor may see."""
    tenant, name = visitor.tenant, quote(text, safe="")
    if visitor.may("alerts", "read") and _try(lambda: platform.alerts.get(tenant, text)):
        yield Exact("Alert", f"/alerts/{name}")
    if visitor.may("cases", "read") and _try(lambda: platform.cases.get(tenant, text)):
        yield Exact("Case", f"/cases/{name}")
    if visitor.may("decisions", "read"):
        if platform.desk.find(tenant, text) is not None:
            yield Exact("Decision", f"/decisions/{name}")
        charge = _try(lambda: platform.charges.get(tenant, text)) if visitor.may("charges", "read") else None
        if charge:
            yield Exact("Charge", f"/decisions/{quote(charge.decision.event_id, safe='')}")
    if visitor.may("people", "read") and _try(lambda: platform.access.people.get(tenant, text)):
        yield Exact("Person", f"/people/{name}")
    if visitor.may("events", "read"):
        kind, colon, rest = text.partition(":")
        named = Entity(kind, rest) if colon and kind and rest else Entity("key", text)
        if _seen(platform, tenant, named):
            yield Exact("Entity", entity_url(named))


def _seen(platform: Platform, tenant: str, entity: Entity) -> bool:
    return bool(platform.sightings.seen(tenant, entity).count or platform.alerts.find(tenant, entity=entity, limit=1))


def _try(get: Callable[[], Any]) -> Any:
    """What `get` gives; None when there is no such thing."""
    try:
        return get()
    except NotFoundError:
        return None
