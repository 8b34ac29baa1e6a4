"""The processes of a host as a page: the tree, and the same in order of time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from vedette.core.clock import to_iso
from vedette.sense.processes import LIMIT, MAX_LIMIT, timeline
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.routes.hosts import processes_of
from vedette.serve.session import Visitor, look

router = APIRouter()

LINES = 500
"""Most lines of the timeline."""

Looks = Annotated[Visitor, look("events", "read")]


@router.get("/hosts/{host:whole}/processes")
def show_processes(
    *,
    request: Request,
    visitor: Looks,
    host: str,
    platform: Served,
    since: Annotated[str, Query(max_length=64)] = "",
    until: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = LIMIT,
) -> HTMLResponse:
    """The processes of a host in a time."""
    tree = processes_of(platform, visitor.principal, host, since, until, limit)
    lines = timeline(tree)
    return show(
        request,
        visitor,
        "processes.html",
        tree=tree,
        since=to_iso(tree.start),
        until=to_iso(tree.end),
        limit=limit,
        lines=lines[:LINES],
        lines_left_out=max(0, len(lines) - LINES),
    )
