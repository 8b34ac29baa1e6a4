"""People of the caller's tenant: who they are, the roles they hold, the tokens they have."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Response

from vedette.core.errors import NotFoundError
from vedette.prove.access import Person, Role, Token
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import JsonBody, convert, page, reads, reply

router = APIRouter(prefix="/v1/people", tags=["people"])


class PersonRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person to add, without any role yet."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    accounts: tuple[str, ...] = ()
    """Accounts or merchants this person is bound to; none: all of the tenant."""


def _shown(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "name": person.name,
        "roles": sorted(person.roles),
        "accounts": sorted(person.accounts),
        "disabled": person.disabled,
    }


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "created": token.created,
        "expires": token.expires,
        "revoked": token.revoked,
        "last_used": token.last_used,
    }


@router.post("", status_code=201, openapi_extra=reads(PersonRequest, {"name": "Ada Byron"}))
def create_person(caller: Annotated[Caller, allow("people", "write")], body: JsonBody, platform: Served) -> Response:
    """Adds a person without any role. The first token comes from `vedette people token`: nobody else may hold it."""
    wanted: PersonRequest = convert(body, PersonRequest)
    people = platform.access.people
    person = people.create(caller.tenant, wanted.name, accounts=wanted.accounts, by=caller.principal.id)
    return reply(_shown(person), 201)


@router.get("")
def list_people(caller: Annotated[Caller, allow("people", "read")], platform: Served) -> Response:
    """Everybody, disabled people too."""
    return page([_shown(person) for person in platform.access.people.list(caller.tenant)])


@router.get("/{person_id}")
def read_person(caller: Annotated[Caller, allow("people", "read")], person_id: str, platform: Served) -> Response:
    """A person with the tokens issued, without their secrets."""
    person = platform.access.people.get(caller.tenant, person_id)
    tokens = platform.access.tokens(caller.tenant, person_id)
    return reply({**_shown(person), "tokens": [_token(token) for token in tokens]})


@router.put("/{person_id}/roles/{role}")
def grant_role(
    caller: Annotated[Caller, allow("people", "write")], person_id: str, role: Role, platform: Served
) -> Response:
    """Gives a role; held already, nothing changes. Nobody gives a role to oneself."""
    return reply(_shown(platform.access.people.grant(caller.tenant, person_id, role, by=caller.principal.id)))


@router.delete("/{person_id}/roles/{role}")
def withdraw_role(
    caller: Annotated[Caller, allow("people", "write")], person_id: str, role: Role, platform: Served
) -> Response:
    """Takes a role away; not held, nothing changes."""
    return reply(_shown(platform.access.people.withdraw(caller.tenant, person_id, role, by=caller.principal.id)))


@router.delete("/{person_id}/tokens/{token_id}")
def revoke_token(
    caller: Annotated[Caller, allow("people", "write")], person_id: str, token_id: str, platform: Served
) -> Response:
    """Ends a token for good. Again changes nothing."""
    access = platform.access
    if token_id not in {token.id for token in access.tokens(caller.tenant, person_id)}:
        raise NotFoundError("access.token.unknown", "this person has no token of that id", at=token_id[:64])
    return reply(_token(access.revoke_token(caller.tenant, token_id, by=caller.principal.id)))


@router.delete("/{person_id}")
def disable_person(caller: Annotated[Caller, allow("people", "write")], person_id: str, platform: Served) -> Response:
    """Ends a person's access for good; the record of them stays."""
    return reply(_shown(platform.access.people.disable(caller.tenant, person_id, by=caller.principal.id)))
