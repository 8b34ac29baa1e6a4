"""Connections: what platforms may do in the caller's account, and what the caller may do in others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response

from vedette.prove.access import Connection, Mode
from vedette.prove.access.policy import format_scopes, parse_scopes
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, page, reads, reply

router = APIRouter(prefix="/v1/connections", tags=["connections"])

_ASKED = {"platform": "market", "scopes": "charges:write,payouts:read", "mode": "test", "days": 90}


class ConnectionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a platform may do. `scopes` is text such as `charges:write,payouts:read`."""

    platform: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    """Tenant that gets it."""
    scopes: str
    mode: Mode = Mode.TEST
    days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 90
    """Until it ends."""
    merchants: tuple[str, ...] = ()
    """Merchants it is bound to; none: all of the account."""


@router.post("", status_code=201, openapi_extra=reads(ConnectionRequest, _ASKED))
def give_connection(
    caller: Annotated[Caller, allow("connections", "write")], body: JsonBody, platform: Served
) -> Response:
    """Lets a platform act in this account until then. One given to it before, for the same mode, ends with it."""
    wanted: ConnectionRequest = convert(body, ConnectionRequest)
    made = platform.access.connections.give(
        caller.tenant,
        wanted.platform,
        scopes=parse_scopes(wanted.scopes),
        mode=wanted.mode,
        expires_s=wanted.days * 86_400,
        merchants=wanted.merchants,
        by=caller.principal.id,
    )
    return reply(_shown(made), 201)


@router.get("")
def list_connections(
    caller: Annotated[Caller, allow("connections", "read")],
    platform: Served,
    side: Annotated[Literal["given", "held"], Query()] = "given",
) -> Response:
    """What this account gave to platforms; `side=held`: what others gave to it. Ended ones too, oldest first."""
    known = platform.access.connections
    found = known.given(caller.tenant) if side == "given" else known.held(caller.tenant)
    return page([_shown(each) for each in found])


@router.delete("/{connection_id}")
def revoke_connection(
    caller: Annotated[Caller, allow("connections", "revoke")], connection_id: str, platform: Served
) -> Response:
    """Takes back what a platform may do, from its next request on. Again changes nothing."""
    return reply(_shown(platform.access.connections.revoke(caller.tenant, connection_id, by=caller.principal.id)))


def _shown(found: Connection) -> dict[str, Any]:
    return {
        "id": found.id,
        "account": found.account,
        "platform": found.platform,
        "mode": found.mode,
        "scopes": format_scopes(found.scopes),
        "merchants": sorted(found.merchants),
        "created": found.created,
        "expires": found.expires,
        "revoked": found.revoked,
    }
