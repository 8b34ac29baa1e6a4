"""Apps of the tenant, and connections: what platforms may do in it, and what it may do in other accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.core.errors import DataError, VedetteError
from vedette.prove.access import Connection, IssuedApp, Mode
from vedette.prove.access.policy import LENT, format_scopes
from vedette.serve.console.keys import MAX_ACCOUNTS, MAX_NAME, OVERLAPS, REFUSALS, scopes_of, state_of, text_of
from vedette.serve.console.login import again, sorry
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter(tags=["console"])

Reading = Annotated[Visitor, look("connections", "read")]
Giving = Annotated[Visitor, act("connections", "write", fresh=True)]
Revoking = Annotated[Visitor, act("connections", "revoke")]
Making = Annotated[Visitor, act("apps", "write", fresh=True)]
Ending = Annotated[Visitor, act("apps", "revoke")]
Field = Annotated[str, Form()]

LIFETIMES = {30: "in 30 days", 90: "in 90 days", 365: "in a year"}
"""Days until a connection ends."""
PLACE = "/connections"


@router.get(PLACE, response_model=None)
def list_connections(request: Request, visitor: Reading, platform: Served) -> Response:
    """Apps and connections, ended ones last."""
    return _list(request, visitor, platform)


@router.post(PLACE, response_model=None)
def give_connection(
    *,
    request: Request,
    visitor: Giving,
    platform: Served,
    scope: Annotated[list[str] | None, Form()] = None,
    to: Field = "",
    mode: Annotated[Mode, Form()] = Mode.TEST,
    days: Annotated[int, Form()] = 90,
    merchants: Field = "",
) -> Response:
    """Lets a platform act in this account."""
    try:
        if days not in LIFETIMES or not to.strip():
            raise DataError("connections.form.invalid", "name the platform and say until when it holds")
        platform.access.connections.give(
            visitor.tenant,
            text_of(to, MAX_NAME),
            scopes=scopes_of(scope or []),
            mode=mode,
            expires_s=days * 86_400,
            merchants=text_of(merchants, MAX_ACCOUNTS).replace(",", " ").split(),
            by=visitor.principal.id,
        )
    except REFUSALS as error:
        return _list(request, visitor, platform, error)
    return RedirectResponse(PLACE, 303)


@router.post(PLACE + "/{connection_id}/revoke", response_model=None)
def revoke_connection(visitor: Revoking, platform: Served, connection_id: str) -> Response:
    """Takes back what a platform may do, from its next request on."""
    platform.access.connections.revoke(visitor.tenant, connection_id, by=visitor.principal.id)
    return RedirectResponse(PLACE, 303)


@router.post("/apps", response_model=None)
def create_app(
    *,
    request: Request,
    visitor: Making,
    platform: Served,
    scope: Annotated[list[str] | None, Form()] = None,
    mode: Annotated[Mode, Form()] = Mode.TEST,
    name: Field = "",
) -> Response:
    """Makes an app and shows its client secret this once."""
    try:
        issued = platform.access.apps.create(
            visitor.tenant,
            text_of(name, MAX_NAME),
            scopes=scopes_of(scope or []),
            mode=mode,
            by=visitor.principal.id,
        )
    except REFUSALS as error:
        return _list(request, visitor, platform, error)
    return _list(request, visitor, platform, issued=issued)


@router.post("/apps/{app_id}/roll", response_model=None)
def roll_app(
    request: Request, visitor: Making, platform: Served, app_id: str, overlap: Annotated[int, Form()] = 0
) -> Response:
    """Gives an app a new client secret and shows it this once."""
    try:
        issued = platform.access.apps.roll(visitor.tenant, app_id, overlap=overlap, by=visitor.principal.id)
    except REFUSALS as error:
        return _list(request, visitor, platform, error)
    return _list(request, visitor, platform, issued=issued)


@router.post("/apps/{app_id}/disable", response_model=None)
def disable_app(visitor: Ending, platform: Served, app_id: str) -> Response:
    """Ends an app for good, and with it every token."""
    platform.access.apps.disable(visitor.tenant, app_id, by=visitor.principal.id)
    return RedirectResponse(PLACE, 303)


def _list(
    request: Request,
    visitor: Visitor,
    platform: Served,
    error: VedetteError | None = None,
    *,
    issued: IssuedApp | None = None,
) -> Response:
    access, now = platform.access, platform.clock.now()
    apps = [
        {"app": app, "scopes": format_scopes(app.scopes).split(",")}
        for app in (access.apps.list(visitor.tenant) if visitor.may("apps", "read") else [])
    ]
    page = show(
        request,
        visitor,
        "connections.html",
        given=_rows(access.connections.given(visitor.tenant), now),
        held=_rows(access.connections.held(visitor.tenant), now),
        apps=sorted(apps, key=lambda row: (row["app"].disabled is not None, -row["app"].created)),
        scopes=sorted(LENT),
        overlaps=OVERLAPS,
        lifetimes=LIFETIMES,
        issued={"id": issued.app.id, "secret": issued.secret.reveal()} if issued else None,
        sorry=sorry(error),
    )
    return again(page, error)


def _rows(found: Sequence[Connection], now: int) -> list[dict[str, Any]]:
    ordered = sorted(found, key=lambda each: (not each.holds(now), -each.created))
    return [
        {"one": each, "state": state_of(each, now), "scopes": format_scopes(each.scopes).split(",")} for each in ordered
    ]
