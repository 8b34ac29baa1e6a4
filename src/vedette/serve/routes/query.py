"""Queries over the tenant's events."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Response

from vedette.sense.query import Budget, run_query
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, reads

router = APIRouter(prefix="/v1", tags=["query"])

BUDGET = Budget(seconds=10.0, memory_mb=512, rows=5_000)
"""What one query over HTTP may cost; the command line allows more."""
_SELECT = {"sql": "select source, count(*) as n from cloudtrail group by all"}


class QueryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One SELECT of DuckDB's SQL; values for `?` in it are bound, never put into the text."""

    sql: str
    parameters: tuple[str | int | float | bool | None, ...] = ()


@router.post("/query", openapi_extra=reads(QueryRequest, _SELECT))
def query(caller: Annotated[Caller, allow("query", "read")], body: JsonBody, platform: Served) -> Response:
    """Rows of one SELECT over the tenant's own tables, with a deadline and a limit on memory and rows."""
    wanted: QueryRequest = convert(body, QueryRequest)
    answer = run_query(platform.store, caller.tenant, wanted.sql, parameters=wanted.parameters, budget=BUDGET)
    shape = {"columns": answer.table.column_names, "rows": answer.table.to_pylist(), "cut": answer.cut}
    return Response(msgspec.json.encode(shape, enc_hook=str), media_type="application/json")
