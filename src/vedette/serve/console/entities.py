"""Pages of entities: find one, and everything that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from vedette.act.grouping import Alert
from vedette.core.clock import DAY
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.judge.decisions.register import Filters, Row
from vedette.run.investigation.reaching import APP, KEY, PERSON, is_ours
from vedette.run.platform import Platform
from vedette.sense.sightings import TOPIC, Cursor
from vedette.serve.console import listing, neighbours
from vedette.serve.console.page import show
from vedette.serve.filters import After, moment_of, to_entity
from vedette.serve.policy import Served
from vedette.serve.routes.entities import reach_of
from vedette.serve.session import Visitor, look

router = APIRouter()

EVENTS = 25
FOUND = 60
RISKIEST = 15
RECENT = 15
TAIL = 400
"""Newest records of the log that the list of recent entities is made from."""
ALERTS = 200
SPANS = {"7 days": 7 * DAY, "a day": DAY, "an hour": DAY // 24}
"""How long before its last event a graph begins."""
REACHING = frozenset({KEY, APP, PERSON})
"""Types of what acts, and so can be compromised."""

Looks = Annotated[Visitor, look("events", "read")]


class Ranked(NamedTuple):
    """An entity with its risk."""

    entity: Entity
    risk: float
    alerts: int


@router.get("/entities")
def show_entities(
    request: Request, visitor: Looks, platform: Served, q: Annotated[str, Query(max_length=400)] = ""
) -> HTMLResponse:
    """Search; without one, the riskiest and the most recent."""
    tenant, now = visitor.tenant, platform.clock.now()
    found = [
        Ranked(entity, platform.alerts.risk(tenant, entity, now), 0)
        for entity in platform.sightings.search(tenant, q, limit=FOUND)
    ]
    return show(
        request,
        visitor,
        "entities.html",
        fragment="found",
        q=q.strip(),
        found=found,
        most=FOUND,
        riskiest=_riskiest(platform, tenant) if visitor.may("alerts", "read") else None,
        recent=_recent(platform, tenant),
    )


def _riskiest(platform: Platform, tenant: str) -> list[Ranked]:
    """Entities of the gravest alerts by their risk now."""
    counts: dict[Entity, int] = {}
    for alert in platform.alerts.find(tenant, limit=ALERTS):
        if alert.entity is not None:
            counts[alert.entity] = counts.get(alert.entity, 0) + 1
    now = platform.clock.now()
    ranked = [Ranked(entity, platform.alerts.risk(tenant, entity, now), count) for entity, count in counts.items()]
    return sorted(ranked, key=lambda each: (-each.risk, -each.alerts, each.entity))[:RISKIEST]


class _Named(msgspec.Struct):
    """What of an event the list of recent entities needs."""

    tenant: str
    event_time: int
    entities: tuple[Entity, ...] = ()


_named = msgspec.json.Decoder(_Named).decode


def _recent(platform: Platform, tenant: str) -> list[tuple[Entity, int]]:
    """Entities of the log's newest events, and when; the newest first."""
    log, found = platform.log, dict[Entity, int]()
    for partition in range(log.partitions(TOPIC)):
        start = max(0, log.end(TOPIC, partition) - TAIL)
        for record in log.read(TOPIC, partition, start, TAIL):
            try:
                event = _named(record.value)
            except msgspec.MsgspecError:
                continue
            if event.tenant == tenant:
                for entity in event.entities:
                    found[entity] = max(found.get(entity, 0), event.event_time)
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:RECENT]


@router.get("/entities/{type}/{id:whole}")
def show_entity(
    *,
    request: Request,
    visitor: Looks,
    type: str,  # noqa: A002 - the path's name
    id: str,  # noqa: A002 - the path's name
    platform: Served,
    source: Annotated[str, Query(max_length=100)] = "",
    after: After = "",
) -> HTMLResponse:
    """One entity."""
    entity, tenant = Entity(type, id), visitor.tenant
    seen = platform.sightings.seen(tenant, entity)
    alerts = platform.alerts.find(tenant, entity=entity, limit=20) if visitor.may("alerts", "read") else None
    if not seen.count and not alerts and not is_ours(platform, tenant, entity):
        raise NotFoundError("entities.entity.unknown", "no event and no alert is about such an entity")
    start = moment_of(after)
    before = Cursor(*start) if start else None
    page = platform.sightings.timeline(tenant, entity, source=source, before=before, limit=EVENTS + 1)
    events = platform.sightings.events(platform.log, tenant, entity, page[:EVENTS])
    more = (
        listing.without(request.query_params, after=f"{page[EVENTS - 1].time}.{page[EVENTS - 1].place}")
        if len(page) > EVENTS
        else ""
    )
    sees_decisions = visitor.may("decisions", "read")
    decisions = platform.register.find(tenant, Filters(entity=entity), limit=10) if sees_decisions else []
    decided = {row.event_id: row for row in decisions}
    return show(
        request,
        visitor,
        "entity.html",
        fragment="timeline",
        entity=entity,
        seen=seen,
        risk=platform.alerts.risk(tenant, entity, platform.clock.now()),
        alerts=alerts,
        cases=_cases(platform, tenant, alerts or []) if visitor.may("cases", "read") else None,
        decisions=decisions,
        decided_total=platform.register.count(tenant, Filters(entity=entity)) if sees_decisions else 0,
        features=_features(platform, tenant, entity, decisions) if visitor.may("features", "read") else None,
        chart=_chart(platform, tenant, entity),
        events=[(event, neighbours.gist(event, platform.sources), decided.get(event.id)) for event in events],
        decided_places={(each.partition, each.offset + 1) for each in page if each.decided},
        source=source,
        sources=[("All", request.url.path, seen.count)]
        + [
            (name, f"{request.url.path}?{listing.without(request.query_params, 'after', source=name)}", count)
            for name, count in seen.sources.items()
        ],
        next_url=f"{request.url.path}?{more}" if more else "",
        first_url=f"{request.url.path}?{listing.without(request.query_params, 'after')}" if after else "",
        headline=listing.headline,
        reaches=visitor.may("keys", "read") and entity.type in REACHING,
    )


@router.get("/console/data/neighbours")
def show_neighbours(
    *,
    request: Request,
    visitor: Looks,
    platform: Served,
    entity: Annotated[str, Query(max_length=1_000)],
    since: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
    until: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
) -> HTMLResponse:
    """Who else stands in the entity's newest events of a time; asked by its page once it is shown."""
    about = to_entity(entity)
    events = neighbours.recent_events(platform, visitor.tenant, about, since=since, until=until)
    graph = neighbours.to_graph(platform, visitor.tenant, about, events)
    here = f"{request.url.path}?{listing.without(request.query_params, 'since', 'until')}"
    last = platform.sightings.seen(visitor.tenant, about).last
    spans = [("all", here, since is None and until is None)]
    spans += [(name, f"{here}&since={last - span}", since == last - span) for name, span in SPANS.items()]
    earlier = f"{here}&until={events[-1].event_time}" if len(events) == neighbours.WITHIN else ""
    return show(
        request,
        visitor,
        "neighbours.html",
        graph=graph,
        entity=about,
        events=events,
        spans=spans,
        earlier=earlier,
    )


@router.get("/console/data/reach")
def show_reach(
    request: Request,
    visitor: Annotated[Visitor, look("keys", "read")],
    platform: Served,
    entity: Annotated[str, Query(max_length=1_000)],
) -> HTMLResponse:
    """What it could and did reach, and what breaks when it is ended; asked by its page once it is shown."""
    about = to_entity(entity)
    return show(request, visitor, "reach.html", reach=reach_of(request, platform, visitor.tenant, about), entity=about)


def _cases(platform: Platform, tenant: str, alerts: Sequence[Alert]) -> list[Any]:
    ids = dict.fromkeys(found for alert in alerts if (found := platform.cases.of_alert(tenant, alert.id)))
    return [platform.cases.get(tenant, each) for each in ids]


def _features(
    platform: Platform, tenant: str, entity: Entity, decisions: Sequence[Row]
) -> tuple[int, list[tuple[str, float | None]]] | None:
    """The entity's features as its last decision read them, and when that was; None without one."""
    model = platform.desk.scoring.model
    if model is None or not decisions:
        return None
    names = {f.name for view in model.feature_set.views if view.entity == entity.type for f in view.features}
    for row in decisions:
        record = platform.desk.find(tenant, row.event_id)
        if record and any(name in names for name in record.features):
            return record.time, [(name, value) for name, value in record.features.items() if name in names]
    return None


def _chart(platform: Platform, tenant: str, entity: Entity) -> dict[str, Any]:
    """Its events over time by source."""
    bars = platform.sightings.histogram(tenant, entity)
    sources = sorted({source for _, counts in bars for source in counts})
    return {
        "kind": "bars",
        "time": True,
        "x": [start for start, _ in bars],
        "series": [{"name": name, "data": [counts.get(name, 0) for _, counts in bars]} for name in sources],
    }
