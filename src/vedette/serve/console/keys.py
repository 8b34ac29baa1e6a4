"""API keys of the tenant: make, roll and revoke them. A secret is shown once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.core.clock import MICROS
from vedette.core.errors import ConflictError, DataError, DefinitionError, VedetteError
from vedette.prove.access import POLICY, ApiKey, Connection, IssuedKey, Level, Mode
from vedette.prove.access.access import MAX_OVERLAP
from vedette.prove.access.policy import format_scopes, parse_scopes
from vedette.prove.dlp import refuse_pans
from vedette.serve.console.login import again, sorry
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter(prefix="/keys", tags=["console"])

Reading = Annotated[Visitor, look("keys", "read")]
Sure = Annotated[Visitor, act("keys", "write", fresh=True)]
Revoking = Annotated[Visitor, act("keys", "revoke")]
Field = Annotated[str, Form()]

SCOPES = sorted({resource for (resource, _), need in POLICY.items() if need.key})
"""Resources that a key may have a scope for."""
OVERLAPS = {0: "at once", 3_600: "in an hour", 86_400: "in a day", MAX_OVERLAP: "in seven days"}
"""Seconds for which a rolled key may still be used."""
LIFETIMES = {0: "never", 30: "in 30 days", 90: "in 90 days", 365: "in a year"}
"""Days until a new key ends."""
MAX_NAME = 100
MAX_ACCOUNTS = 1_000
"""Characters of the accounts that a key is bound to."""

REFUSALS = (DataError, DefinitionError, ConflictError)


@router.get("", response_model=None)
def list_keys(request: Request, visitor: Reading, platform: Served) -> Response:
    """All keys, ended ones last."""
    return _list(request, visitor, platform)


@router.post("", response_model=None)
def create_key(
    *,
    request: Request,
    visitor: Sure,
    platform: Served,
    scope: Annotated[list[str] | None, Form()] = None,
    mode: Annotated[Mode, Form()] = Mode.TEST,
    name: Field = "",
    accounts: Field = "",
    days: Annotated[int, Form()] = 0,
) -> Response:
    """Makes a key and shows its secret this once."""
    try:
        issued = platform.access.issue_key(
            visitor.tenant,
            scopes=scopes_of(scope or []),
            mode=mode,
            name=text_of(name, MAX_NAME),
            accounts=text_of(accounts, MAX_ACCOUNTS).replace(",", " ").split(),
            expires=_expires(platform, days),
            by=visitor.principal.id,
        )
    except REFUSALS as error:
        return _list(request, visitor, platform, error)
    return _list(request, visitor, platform, issued=issued)


@router.post("/{key_id}/roll", response_model=None)
def roll_key(
    request: Request, visitor: Sure, platform: Served, key_id: str, overlap: Annotated[int, Form()] = 0
) -> Response:
    """Replaces a key by one of the same reach and shows its secret this once."""
    try:
        issued = platform.access.roll_key(visitor.tenant, key_id, overlap=overlap, by=visitor.principal.id)
    except REFUSALS as error:
        return _list(request, visitor, platform, error)
    return _list(request, visitor, platform, issued=issued)


@router.post("/{key_id}/revoke", response_model=None)
def revoke_key(visitor: Revoking, platform: Served, key_id: str) -> Response:
    """Ends a key for good, from its next request on."""
    platform.access.revoke_key(visitor.tenant, key_id, by=visitor.principal.id)
    return RedirectResponse("/keys", 303)


def scopes_of(chosen: list[str]) -> dict[str, Level]:
    """What the selects of a form chose.

    Raises:
        DataError: `keys.scope.none`.
    """
    wanted = parse_scopes(",".join(each for each in chosen if each))
    if not wanted:
        raise DataError("keys.scope.none", "a key needs at least one scope", hint="choose what it may read or write")
    return wanted


def text_of(text: str, limit: int) -> str:
    """A line of a form, tidied.

    Raises:
        DataError: `keys.text.invalid`, `request.pan_refused`.
    """
    plain = " ".join(text.split())
    if len(plain) > limit or not plain.isprintable():
        raise DataError("keys.text.invalid", "this text cannot be kept", hint=f"at most {limit} characters")
    refuse_pans({"text": plain})
    return plain


def _expires(platform: Served, days: int) -> int | None:
    if days not in LIFETIMES:
        raise DataError("keys.lifetime.invalid", "a key cannot last that long", hint=f"one of {sorted(LIFETIMES)} days")
    return platform.clock.now() + days * 86_400 * MICROS if days else None


def state_of(key: ApiKey | Connection, now: int) -> str:
    """`active`, `revoked` or `expired`."""
    if key.revoked is not None:
        return "revoked"
    return "expired" if key.expires is not None and key.expires <= now else "active"


def _list(
    request: Request,
    visitor: Visitor,
    platform: Served,
    error: VedetteError | None = None,
    *,
    issued: IssuedKey | None = None,
) -> Response:
    now = platform.clock.now()
    rows = [
        {"key": key, "state": state_of(key, now), "scopes": format_scopes(key.scopes).split(",")}
        for key in platform.access.keys(visitor.tenant)
    ]
    page = show(
        request,
        visitor,
        "keys.html",
        rows=sorted(rows, key=lambda row: (row["state"] != "active", -row["key"].created)),
        scopes=SCOPES,
        overlaps=OVERLAPS,
        lifetimes=LIFETIMES,
        issued={"id": issued.key.id, "secret": issued.secret.reveal()} if issued else None,
        sorry=sorry(error),
    )
    return again(page, error)
