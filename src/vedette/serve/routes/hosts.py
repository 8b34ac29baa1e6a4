"""Hosts: their processes as a tree, from stored events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from vedette.core.errors import DataError
from vedette.prove.access import Principal, permit
from vedette.run.investigation.hosts import read_host
from vedette.run.platform import Platform
from vedette.sense.history import Span
from vedette.sense.processes import LIMIT, MAX_LIMIT, Tree
from vedette.serve.filters import to_time
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import reply

router = APIRouter(prefix="/v1/hosts", tags=["hosts"])

Since = Annotated[str, Query(max_length=64, description="Event time from, ISO 8601 or microseconds.")]
Until = Annotated[str, Query(max_length=64, description="Event time to, not included; at most 31 days later.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most processes; the rest is counted.")]


@router.get("/{host:whole}/processes")
def read_processes(
    *,
    caller: Annotated[Caller, allow("events", "read")],
    host: Annotated[str, Path(description="As its events write it.")],
    platform: Served,
    since: Since = "",
    until: Until = "",
    limit: Limit = LIMIT,
) -> Response:
    """The processes of a host in a time, the day up to its newest event by default, as a tree with its alerts."""
    return reply(processes_of(platform, caller.principal, host, since, until, limit))


def processes_of(  # noqa: PLR0917 - what a page and a route ask of a host
    platform: Platform, principal: Principal, host: str, since: str, until: str, limit: int
) -> Tree:
    """The tree that a caller may see: without alerts for who may not read them.

    Raises:
        DataError: `hosts.span.invalid`, `event.time.unparsable`.
        NotFoundError: `hosts.host.unknown`.
    """
    start, end = to_time(since, "since"), to_time(until, "until")
    if (start is None) != (end is None):
        raise DataError("hosts.span.invalid", "give `since` and `until`, or none of them", at="$query")
    span = Span(start, end) if start is not None and end is not None else None
    alerts = None if permit(principal, "alerts", "read") else platform.alerts
    return read_host(platform.store, alerts, principal.tenant, host, span, limit=limit)
