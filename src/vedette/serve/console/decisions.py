"""Pages of decisions: the list, and one decision with everything that led to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError, NotFoundError
from vedette.judge.decisions.register import MINUTE, Place, to_amount
from vedette.judge.models.model import Model
from vedette.judge.whatif import find_whatif
from vedette.run.pipeline.indexing import decided_entities
from vedette.run.platform import Platform
from vedette.serve.console import anatomy, listing
from vedette.serve.console.page import show
from vedette.serve.filters import After, moment_of
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

router = APIRouter()

PAGE = 50
COUNTED = 100_000
"""Most decisions that a list counts; beyond, it says `more than`."""

Looks = Annotated[Visitor, look("decisions", "read")]


@router.get("/decisions")
def show_decisions(request: Request, visitor: Looks, platform: Served, after: After = "") -> HTMLResponse:
    """Decisions, newest first."""
    query, tenant = request.query_params, visitor.tenant
    filters = listing.to_filters(query, platform.clock.now())
    start = moment_of(after)
    place = Place(*start) if start else None
    rows = platform.register.find(tenant, filters, after=place, limit=PAGE + 1)
    more = listing.without(query, after=f"{rows[PAGE - 1].time}.{rows[PAGE - 1].seq}") if len(rows) > PAGE else ""
    held = platform.register.span(tenant)
    since = filters.since if filters.since is not None else held[0] if held else 0
    until = filters.until if filters.until is not None else held[1] + MINUTE if held else 0
    rest = listing.without(query, "span", "since", "until", "after")
    return show(
        request,
        visitor,
        "decisions.html",
        fragment="list",
        rows=rows[:PAGE],
        total=platform.register.count(tenant, filters, most=COUNTED),
        most=COUNTED,
        filters=filters,
        query=query,
        actions=list(Action),
        reasons=platform.register.reasons(),
        chart=listing.to_chart(platform.register.minutes(tenant, since, until), since, until) if held else None,
        spans=[("All", f"/decisions?{rest}", not query.get("span") and not query.get("since"))]
        + [
            (
                each.value,
                f"/decisions?{listing.without(query, 'since', 'until', 'after', span=each)}",
                query.get("span") == each,
            )
            for each in listing.Span
        ],
        empty_store=held is None,
        next_url=f"/decisions?{more}" if more else "",
        first_url=f"/decisions?{listing.without(query, 'after')}" if after else "",
        headline=listing.headline,
        payer=listing.payer,
    )


@router.get("/decisions/{event_id:whole}")
def show_decision(request: Request, visitor: Looks, event_id: str, platform: Served) -> HTMLResponse:
    """One decision."""
    record = _find(platform, visitor.tenant, event_id)
    entities = decided_entities(platform.sources)(record.source, record.event)
    sees_alerts, sees_labels = visitor.may("alerts", "read"), visitor.may("labels", "read")
    return show(
        request,
        visitor,
        "decision.html",
        record=record,
        anatomy=anatomy.take_apart(platform, record, entities),
        entities=entities,
        amount=to_amount(record.source, record.event),
        alerts=anatomy.linked_alerts(platform, record, entities) if sees_alerts else None,
        charge=anatomy.linked_charge(platform, record) if visitor.may("charges", "read") else None,
        labels=platform.sightings.labels(platform.log, visitor.tenant, event_id) if sees_labels else None,
        now_model=platform.desk.scoring.model,
    )


@router.get("/console/data/whatif")
def show_whatif(
    request: Request, visitor: Looks, platform: Served, event: Annotated[str, Query(max_length=512)]
) -> HTMLResponse:
    """What would have changed the decision; asked by the decision's page once it is shown."""
    record = _find(platform, visitor.tenant, event)
    scorer = platform.desk.scorer_of(record) if record.model else None
    try:
        found = find_whatif(
            record,
            model=scorer if isinstance(scorer, Model) else None,
            rules=platform.desk.rules_of(record),
            monotonic=platform.clock.monotonic,
        )
    except ConflictError:
        found = None  # decided by versions that do not run any more: what they would say cannot be asked
    return show(
        request, visitor, "whatif.html", record=record, search=found, amount=to_amount(record.source, record.event)
    )


def _find(platform: Platform, tenant: str, event_id: str) -> Decision:
    record = platform.desk.find(tenant, event_id)
    if record is None:
        raise NotFoundError("decision.event.unknown", "no decision on an event of that id", at=event_id[:64])
    return record
