"""Is it up, what does it count."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from vedette.serve.policy import Caller, Served, allow, anyone
from vedette.serve.shapes import reply

router = APIRouter(tags=["operations"])


@router.get("/healthz", dependencies=[anyone()])
async def health() -> Response:
    """The process answers. Says nothing else, to anyone."""
    return reply({"status": "ok"})


@router.get("/v1/readiness")
def readiness(caller: Annotated[Caller, allow("metrics", "read")], platform: Served) -> Response:
    """How far each stage is behind the log, in records."""
    lags = platform.lags()
    return reply({"status": "ok", "lag_records": lags, "tenant": caller.tenant})


@router.get("/metrics", response_class=Response)
def metrics(caller: Annotated[Caller, allow("metrics", "read")], platform: Served) -> Response:
    """Counters, gauges and histograms as Prometheus text; scrape it with a key that has `metrics:read`."""
    del caller
    return Response(platform.meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
