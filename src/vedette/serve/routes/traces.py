"""Traces: the way of one request through every room."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Response

from vedette.prove.access import permit
from vedette.run.investigation.tracing import follow
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import reply

router = APIRouter(prefix="/v1/traces", tags=["traces"])


@router.get("/{trace_id}")
def read_trace(caller: Annotated[Caller, allow("decisions", "read")], trace_id: str, platform: Served) -> Response:
    """What became of a request, in order of time, by any id it left; of each step what the caller may read."""
    found = follow(platform, platform.desk.find, caller.tenant, trace_id)
    hops = tuple(hop for hop in found.hops if not permit(caller.principal, hop.resource, "read"))
    return reply(msgspec.structs.replace(found, hops=hops))
