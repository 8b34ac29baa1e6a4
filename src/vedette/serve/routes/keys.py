"""API keys of the caller's tenant."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Response

from vedette.prove.access import ApiKey, Mode
from vedette.prove.access.policy import format_scopes, parse_scopes
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, page, reads, reply

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make. `scopes` is text such as `charges:write,decisions:read`."""

    scopes: str
    mode: Mode = Mode.TEST
    name: str = ""
    accounts: tuple[str, ...] = ()


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "mode": key.mode,
        "scopes": format_scopes(key.scopes),
        "accounts": sorted(key.accounts),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
    }


@router.post("", status_code=201, openapi_extra=reads(KeyRequest, {"scopes": "charges:write", "mode": "test"}))
def create_key(caller: Annotated[Caller, allow("keys", "write")], body: JsonBody, platform: Served) -> Response:
    """Makes a key. Its secret is in this answer and nowhere else."""
    wanted: KeyRequest = convert(body, KeyRequest)
    issued = platform.access.issue_key(
        caller.tenant,
        scopes=parse_scopes(wanted.scopes),
        mode=wanted.mode,
        name=wanted.name,
        accounts=wanted.accounts,
        by=caller.principal.id,
    )
    return reply({**_shown(issued.key), "secret": issued.secret.reveal()}, 201)


@router.get("")
def list_keys(caller: Annotated[Caller, allow("keys", "read")], platform: Served) -> Response:
    """All keys, ended ones too, oldest first."""
    return page([_shown(key) for key in platform.access.keys(caller.tenant)])


@router.delete("/{key_id}")
def revoke_key(caller: Annotated[Caller, allow("keys", "revoke")], key_id: str, platform: Served) -> Response:
    """Ends a key for good, from the next request on. Again changes nothing."""
    return reply(_shown(platform.access.revoke_key(caller.tenant, key_id, by=caller.principal.id)))
