"""Events pushed over HTTP, as NDJSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import NDJSON, LinesBody, reply

router = APIRouter(prefix="/v1", tags=["events"])

_LINE = (
    '{"TRANSACTION_ID": 1, "TX_DATETIME": "2026-03-02 10:00:00", "CUSTOMER_ID": 7, "TERMINAL_ID": 9, "TX_AMOUNT": 12.5}'
)
_BODY = {
    "requestBody": {"required": True, "content": {NDJSON: {"schema": {"type": "string"}, "example": f"{_LINE}\n"}}}
}


@router.post("/events", status_code=202, openapi_extra=_BODY)
def push_events(
    caller: Annotated[Caller, allow("events", "write")],
    body: LinesBody,
    platform: Served,
    source: Annotated[
        str, Query(description="Name of the source of every record.", min_length=1, examples=["card_transactions"])
    ],
    batch: Annotated[
        str,
        Query(description="Your own id of this batch: sent again, it counts once.", min_length=1, examples=["b-17"]),
    ],
) -> Response:
    """Takes a batch of records, one a line. The answer counts them: `read = appended + quarantined + duplicate`."""
    counts = platform.intake(caller.tenant).push(source, batch, body)
    return reply(counts, 202)
