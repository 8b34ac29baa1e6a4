"""Intelligence: indicators and how long they may be believed, actors and how we stand, collections, and hunts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from vedette.core.clock import DAY
from vedette.core.errors import DataError, NotFoundError, VedetteError
from vedette.run.intel.actors import coverage_of, find_actor, find_actors, make_profile
from vedette.run.platform import Platform
from vedette.run.rules.coverage import State
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.bundle import kept_attack
from vedette.sense.intel.indicator import FOREVER, Indicator, Tlp
from vedette.sense.intel.library import indicator_of
from vedette.sense.intel.library_tables import NEVER, Kept
from vedette.sense.intel.values import Kind
from vedette.sense.intel.writing import BY_HAND
from vedette.serve.console.listing import without
from vedette.serve.console.login import again, sorry
from vedette.serve.console.page import show
from vedette.serve.filters import to_time
from vedette.serve.policy import Served
from vedette.serve.routes.intel import reason_of
from vedette.serve.session import Visitor, act, look

SHOWN = 50
"""Rows of a page."""
ASKED = ("value", "kind", "collection", "label", "state", "as_of")
"""Fields of the form that finds indicators."""
POINTS = 60
"""Points of the line of decay."""
LONGEST = 730 * DAY
"""Longest time of which decay is drawn."""

_UNTOLD: dict[str, Any] = {"told": False, "source": "", "entities": (), "event_id": ""}
"""What a sighting may leave open."""

router = APIRouter(tags=["console"], include_in_schema=False)

Reading = Annotated[Visitor, look("indicators", "read")]
Holding = Annotated[Visitor, act("indicators", "write")]


@router.get("/intel", response_model=None)
def list_indicators(request: Request, visitor: Reading, platform: Served) -> Response:
    """Indicators that match a value, of a kind or collection, as they are known or were known at a time."""
    query, error = request.query_params, None
    found: list[Kept] = []
    at = platform.clock.now()
    try:
        asked = _asked(query)
        at = asked.as_of or at
        found = platform.library.indicators(visitor.tenant, asked, after=_after(query), limit=SHOWN + 1)
    except DataError as problem:
        error = problem
    rows = [{"one": indicator_of(one), "kept": one, "score": indicator_of(one).score(at)} for one in found[:SHOWN]]
    following = f"/intel?{without(query, after=str(found[SHOWN - 1].seq))}" if len(found) > SHOWN else ""
    page = show(
        request,
        visitor,
        "intel.html",
        rows=rows,
        asked={name: query.get(name, "") for name in ASKED},
        kinds=[("", "Any kind"), *((str(kind), str(kind)) for kind in Kind)],
        collections=[("", "Any collection"), *((one.name, one.name) for one in _collections(platform, visitor))],
        count=platform.library.count(visitor.tenant),
        following=following,
        forever=FOREVER,
        sorry=sorry(error),
    )
    return again(page, error)


@router.get("/intel/indicators/{indicator_id}", response_model=None)
def show_indicator(
    request: Request, visitor: Reading, platform: Served, indicator_id: str, as_of: str = ""
) -> Response:
    """One indicator: where from, how long it may be believed, where it was seen, its versions."""
    return _indicator(request, visitor, platform, indicator_id, as_of=to_time(as_of, "as_of") or 0)


@router.post("/intel/indicators/{indicator_id}/hold", response_model=None)
def hold_indicator(
    *,
    request: Request,
    visitor: Holding,
    platform: Served,
    indicator_id: str,
    reason: Annotated[str, Form()] = "",
    release: Annotated[bool, Form()] = False,
) -> Response:
    """Holds an indicator back for a reason, or lets it go again."""
    try:
        platform.library.hold(visitor.tenant, indicator_id, "" if release else reason_of(reason, needed=True))
    except DataError as error:
        return _indicator(request, visitor, platform, indicator_id, error=error)
    return RedirectResponse(f"/intel/indicators/{indicator_id}", 303)


@router.get("/intel/actors", response_model=None)
def list_actors(
    request: Request,
    visitor: Reading,
    platform: Served,
    q: Annotated[str, Query(max_length=200)] = "",
    technique: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """The groups of the imported ATT&CK."""
    imported = kept_attack(platform.settings.home)
    found = find_actors(imported.attack, q, technique) if imported else []
    return show(
        request,
        visitor,
        "intel_actors.html",
        attack=imported.attack if imported else None,
        rows=found,
        q=q,
        technique=technique,
    )


@router.get("/intel/actors/{actor}", response_model=None)
def show_actor(request: Request, visitor: Reading, platform: Served, actor: str) -> Response:
    """An actor's techniques, our coverage and alerts of each, and its indicators."""
    imported = kept_attack(platform.settings.home)
    if imported is None:
        raise NotFoundError("intel.attack.missing", "no ATT&CK is imported", hint="vedette intel import attack FILE")
    attack = imported.attack
    found = make_profile(
        attack,
        find_actor(attack, actor),
        coverage_of(platform, visitor.tenant, attack),
        hits=lambda rule: platform.alerts.count_of(visitor.tenant, rule),
        library=platform.library,
        tenant=visitor.tenant,
    )
    order = list(State)
    rows = sorted(found.techniques, key=lambda row: (-row.hits, order.index(row.state), row.technique))
    return show(
        request,
        visitor,
        "intel_actor.html",
        actor=found,
        rows=rows,
        hits=sum(row.hits for row in rows),
        indicators=[indicator_of(one) for one in found.indicators],
        rules_shown=visitor.may("rules", "read"),
    )


@router.get("/intel/collections", response_model=None)
def list_collections(request: Request, visitor: Reading, platform: Served) -> Response:
    """Collections, what they follow and how that goes, and what could not be taken in."""
    counts = platform.library.count_each(visitor.tenant)
    rows = [{"one": one, "counts": counts.get(one.name, (0, 0))} for one in _collections(platform, visitor)]
    refused = platform.library.refused(visitor.tenant, SHOWN)
    return show(request, visitor, "intel_collections.html", rows=rows, refused=refused)


@router.get("/intel/hunts", response_model=None)
def list_hunts(request: Request, visitor: Reading, platform: Served) -> Response:
    """What became of hunts in stored events, the newest first."""
    before = to_time(request.query_params.get("before", ""), "before") or 0
    found = platform.library.hunts(visitor.tenant, limit=SHOWN + 1, before=before)
    return show(
        request,
        visitor,
        "intel_hunts.html",
        rows=found[:SHOWN],
        last=found[SHOWN - 1]["time"] if len(found) > SHOWN else 0,
        cases_shown=visitor.may("cases", "read"),
    )


def _indicator(
    request: Request,
    visitor: Visitor,
    platform: Platform,
    indicator_id: str,
    *,
    as_of: int = 0,
    error: VedetteError | None = None,
) -> Response:
    library = platform.library
    kept = library.get(visitor.tenant, indicator_id, as_of=as_of)
    own = indicator_of(kept)
    at = as_of or platform.clock.now()
    page = show(
        request,
        visitor,
        "intel_indicator.html",
        kept=kept,
        indicator=own,
        score=own.score(at),
        as_of=as_of,
        decay=_decay(own, at),
        versions=[(one, indicator_of(one)) for one in reversed(library.versions(visitor.tenant, indicator_id))][:SHOWN],
        sightings=[_UNTOLD | one for one in library.sightings(visitor.tenant, indicator_id, limit=SHOWN)],
        by_hand=own.held.startswith(BY_HAND),
        forever=FOREVER,
        current=kept.superseded == NEVER,
        may_hold=visitor.may("indicators", "write") and not as_of and bool(own.formula),
        events_shown=visitor.may("events", "read"),
        sorry=sorry(error),
    )
    return again(page, error)


def _decay(own: Indicator, at: int) -> dict[str, Any] | None:
    """Confidence by day of the event, from when it holds to when it matches no more; None for one that never did."""
    end = min(own.until, max(own.valid_from, own.seen) + LONGEST)
    if not own.formula or end <= own.valid_from:
        return None
    step = max(1, (end - own.valid_from) // POINTS)
    times = [own.valid_from + step * place for place in range(POINTS + 1)]
    line = {"name": "confidence", "data": [round(own.score(time), 1) for time in times]}
    return {"kind": "lines", "time": True, "x": times, "series": [line], "unit": "of 100", "now": at}


def _collections(platform: Platform, visitor: Visitor) -> list[Any]:
    return platform.library.collections(visitor.tenant)


def _asked(query: Any) -> Asked:
    """What the form asks for."""
    held = {"held": True, "matching": False}.get(query.get("state", ""))
    return Asked(
        value=query.get("value", "").strip(),
        kind=query.get("kind", ""),
        collection=query.get("collection", ""),
        label=query.get("label", "").strip(),
        as_of=to_time(query.get("as_of", ""), "as_of") or 0,
        held=held,
        within=Tlp.RED,
    )


def _after(query: Any) -> int:
    text = query.get("after", "")
    if text and not (text.isdecimal() and int(text) <= NEVER):
        raise DataError("intel.cursor.invalid", "not a page of this list", at="after")
    return int(text or 0)
