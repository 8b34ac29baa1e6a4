"""The way of one request through every room, as a page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from vedette.core.hop import HopKind
from vedette.run.investigation.tracing import follow
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

router = APIRouter(tags=["console"], include_in_schema=False)

_PLACES = {
    HopKind.DECISION: "/decisions/",
    HopKind.ALERT: "/alerts/",
    HopKind.CASE: "/cases/",
    HopKind.RUN: "/runs/",
}


@router.get("/traces/{trace_id}")
def show_trace(
    request: Request, visitor: Annotated[Visitor, look("decisions", "read")], trace_id: str, platform: Served
) -> HTMLResponse:
    """What became of a request, in order of time; of each step what the visitor may read."""
    found = follow(platform, platform.desk.find, visitor.tenant, trace_id)
    hops = [hop for hop in found.hops if visitor.may(hop.resource, "read")]
    start = hops[0].time if hops else 0
    return show(
        request,
        visitor,
        "trace.html",
        trace=found,
        rows=[(hop, (hop.time - start) / 1_000_000, _PLACES.get(hop.kind, "")) for hop in hops],
        left_out=len(found.hops) - len(hops),
    )
