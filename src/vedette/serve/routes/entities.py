"""Entities: what is known of one at a glance, and its events in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.run.investigation.reaching import Reach, Route, read_reach
from vedette.run.platform import Platform
from vedette.sense.sightings import Cursor, Seen
from vedette.serve.filters import After, moment_of
from vedette.serve.policy import Caller, RoutePolicy, Served, allow, policies
from vedette.serve.shapes import reply

router = APIRouter(prefix="/v1", tags=["entities"])

MAX_EVENTS = 100
"""Most events of one answer: each is read from the log."""

_Type = Annotated[str, Path(description="Such as `card`, `merchant`, `ip`, `key`.")]
_Id = Annotated[str, Path(description="As the events write it; percent-encode what a path may not hold.")]


class EntitySummary(msgspec.Struct, frozen=True, kw_only=True):
    """One entity."""

    type: str
    id: str
    risk: float
    """0 to 99.9, from its alerts, as of now."""
    first_time: int
    """Earliest event time, microseconds UTC."""
    last_time: int
    events: int
    decisions: int
    """How many of its events wanted a decision."""
    sources: dict[str, int]
    """Source -> events."""


# Before the route of the entity itself, whose id would take the last word of this path too.
@router.get("/entities/{type}/{id:whole}/events")
def list_entity_events(
    *,
    caller: Annotated[Caller, allow("events", "read")],
    type: _Type,  # noqa: A002 - the path's name
    id: _Id,  # noqa: A002 - the path's name
    platform: Served,
    source: Annotated[str, Query(max_length=100, description="Only of this source.")] = "",
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 50,
) -> Response:
    """An entity's events, newest first. `next` of a page is the `after` of the following one."""
    entity = Entity(type, id)
    _seen(platform, caller.tenant, entity)
    start = moment_of(after)
    before = Cursor(*start) if start else None
    page = platform.sightings.timeline(caller.tenant, entity, source=source, before=before, limit=limit + 1)
    events = platform.sightings.events(platform.log, caller.tenant, entity, page[:limit])
    following = f"{page[limit - 1].time}.{page[limit - 1].place}" if len(page) > limit else ""
    return reply({"data": events, "has_more": bool(following), "next": following})


@router.get("/entities/{type}/{id:whole}/reach")
def read_entity_reach(
    *,
    request: Request,
    caller: Annotated[Caller, allow("keys", "read")],
    type: _Type,  # noqa: A002 - the path's name
    id: _Id,  # noqa: A002 - the path's name
    platform: Served,
) -> Response:
    """What a key, an app or a person could reach and did reach, and what breaks when it is ended."""
    return reply(reach_of(request, platform, caller.tenant, Entity(type, id)))


@router.get("/entities/{type}/{id:whole}")
def read_entity(
    caller: Annotated[Caller, allow("events", "read")],
    type: _Type,  # noqa: A002 - the path's name
    id: _Id,  # noqa: A002 - the path's name
    platform: Served,
) -> Response:
    """An entity: when it was first and last seen, in how many events, and its risk now."""
    entity = Entity(type, id)
    seen = _seen(platform, caller.tenant, entity)
    return reply(
        EntitySummary(
            type=type,
            id=id,
            risk=platform.alerts.risk(caller.tenant, entity, platform.clock.now()),
            first_time=seen.first,
            last_time=seen.last,
            events=seen.count,
            decisions=seen.decided,
            sources=seen.sources,
        )
    )


def reach_of(request: Request, platform: Platform, tenant: str, entity: Entity) -> Reach:
    """What an entity reaches over the routes that this application serves."""
    table = policies(request.app.routes)
    return read_reach(platform, tenant, entity, routes_in(table), platform.playbooks)


def routes_in(table: Mapping[tuple[str, str], RoutePolicy | None]) -> list[Route]:
    """The routes of the API that ask for something."""
    return [
        Route(method, path, policy.resource, policy.verb, policy.by_account)
        for (method, path), policy in table.items()
        if policy and not policy.open and not policy.page
    ]


def _seen(platform: Platform, tenant: str, entity: Entity) -> Seen:
    seen = platform.sightings.seen(tenant, entity)
    if not seen.count:
        raise NotFoundError("entities.entity.unknown", "no event is about such an entity", at=entity.key[:64])
    return seen
