"""Hunts: a hypothesis, the query that would show it, what its runs found, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Response

from vedette.run.investigation.hunts import Hunts, HuntState, SavedHunt
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, reads, reply

router = APIRouter(prefix="/v1/hunts", tags=["hunts"])

Reader = Annotated[Caller, allow("cases", "read")]
Writer = Annotated[Caller, allow("cases", "write")]
Keeper = Annotated[Caller, allow("query", "write")]

_HUNT = {
    "name": "quiet-trail",
    "hypothesis": "somebody stops the audit trail",
    "sql": "select 1 as one where false",
    "techniques": ["T1562"],
}


class HuntRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hunt to save; its author is the caller."""

    name: str
    hypothesis: str
    sql: str
    """One SELECT over the tenant's events: rows are hits."""
    techniques: tuple[str, ...] = ()


class StandingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a hunt; what is left out stays."""

    state: HuntState | None = None
    found: str | None = None
    case: str = ""
    """A case to link."""
    rule: str = ""
    """A rule to link."""


def told(hunts: Hunts, tenant: str, hunt: SavedHunt) -> dict[str, Any]:
    """A hunt with its runs and what became of it."""
    return {"hunt": hunt, "standing": hunts.standing(tenant, hunt.name), "runs": hunts.runs(tenant, hunt.name)}


@router.get("")
def list_hunts(caller: Reader, platform: Served) -> Response:
    """The hunts by name, each with its runs and what became of it."""
    hunts = Hunts(platform, platform.store)
    return reply({"data": [told(hunts, caller.tenant, one) for one in hunts.all(caller.tenant)], "has_more": False})


@router.post("", status_code=201, openapi_extra=reads(HuntRequest, _HUNT))
def save_hunt(caller: Keeper, body: JsonBody, platform: Served) -> Response:
    """Saves a hunt. Its query is fixed from then on: another query is another hunt."""
    wanted: HuntRequest = convert(body, HuntRequest)
    hunts = Hunts(platform, platform.store)
    hunt = SavedHunt(
        name=wanted.name,
        hypothesis=wanted.hypothesis,
        sql=wanted.sql,
        techniques=wanted.techniques,
        author=caller.principal.id,
    )
    hunts.save(caller.tenant, hunt)
    return reply(told(hunts, caller.tenant, hunt), 201)


@router.get("/{hunt}")
def read_hunt(caller: Reader, hunt: str, platform: Served) -> Response:
    """A hunt with its runs and what became of it."""
    hunts = Hunts(platform, platform.store)
    return reply(told(hunts, caller.tenant, hunts.get(caller.tenant, hunt)))


@router.patch("/{hunt}", openapi_extra=reads(StandingRequest, {"found": "nobody stopped it"}))
def change_hunt(caller: Writer, hunt: str, body: JsonBody, platform: Served) -> Response:
    """Says what was found, settles a hunt, or links a case or rule that came of it."""
    wanted: StandingRequest = convert(body, StandingRequest)
    change: dict[str, Any] = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    hunts = Hunts(platform, platform.store)
    return reply(hunts.change(caller.tenant, hunt, operator=caller.principal.id, **change))


@router.post("/{hunt}/runs")
def run_hunt(caller: Keeper, hunt: str, platform: Served) -> Response:
    """Runs a hunt: rows open a case or go on in it; none is evidence, with its date, that nothing was there."""
    made, answer = Hunts(platform, platform.store).run(caller.tenant, hunt, operator=caller.principal.id)
    rows = msgspec.json.decode(msgspec.json.encode(answer.table.to_pylist(), enc_hook=str))
    return reply({"run": made, "rows": rows})
