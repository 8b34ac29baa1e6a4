"""Events pushed over HTTP, as NDJSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import RawBody, reply

router = APIRouter(prefix="/v1", tags=["events"])

_BODY = {"requestBody": {"required": True, "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


@router.post("/events", status_code=202, openapi_extra=_BODY)
def push_events(
    body: RawBody,
    caller: Annotated[Caller, allow("events", "write")],
    platform: Served,
    source: Annotated[str, Query(description="Name of the source of every record.", min_length=1)],
    batch: Annotated[str, Query(description="Your own id of this batch: sent again, it counts once.", min_length=1)],
) -> Response:
    """Takes a batch of records, one a line. The answer counts them: `read = appended + quarantined + duplicate`."""
    counts = platform.intake(caller.tenant).push(source, batch, body)
    for name, each in counts.items():
        platform.meters.source(name, "quarantined", each.quarantined)
    return reply(counts, 202)
