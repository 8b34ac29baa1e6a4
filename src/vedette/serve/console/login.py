"""Logging in, the steps that may follow, and logging out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.core.errors import DataError, DeniedError, TransientError, VedetteError
from vedette.prove.access import Live, Opened
from vedette.prove.access.factors import CODES
from vedette.prove.access.passwords import MIN_LENGTH
from vedette.prove.access.sessions import Step
from vedette.serve.console.page import show
from vedette.serve.errors import headers_of, status_of
from vedette.serve.policy import Served
from vedette.serve.session import (
    Guest,
    Visitor,
    act,
    client_of,
    drop,
    find,
    keep,
    local,
    look,
    to_login,
    way_on,
)

router = APIRouter(tags=["console"])

Begun = Annotated[Visitor, look(partial=True)]
Sent = Annotated[Visitor, act(partial=True)]
Field = Annotated[str, Form()]

REFUSALS = (DeniedError, DataError, TransientError)
"""What a form is shown again for, with the reason."""


@router.get("/login", response_model=None)
def show_login(request: Request, guest: Guest, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """The login form; who is logged in goes on."""
    return RedirectResponse(local(next), 303) if guest else _login(request, next)


@router.post("/login", response_model=None)
def log_in(
    *,
    request: Request,
    _guest: Guest,
    platform: Served,
    name: Field = "",
    password: Field = "",
    next: Field = "/",  # noqa: A002
) -> Response:
    """Opens a session in the place of the one that the browser may have had."""
    access = platform.access
    try:
        opened = access.logins.log_in(name, password, origin=client_of(request))
    except (DeniedError, TransientError) as error:
        return _login(request, next, error, name)
    before = find(request)
    if before:
        held = before[0].session
        access.sessions.end(held.tenant, held.person, held.id, by=held.person)
    return _go_on(request, platform, opened, next)


@router.post("/logout", response_model=None)
def log_out(request: Request, visitor: Sent, platform: Served) -> Response:
    """Ends the session."""
    sessions = platform.access.sessions
    sessions.end(visitor.tenant, visitor.principal.id, visitor.session, by=visitor.principal.id)
    response = RedirectResponse("/login", 303)
    drop(request, response)
    return response


@router.get("/password", response_model=None)
def show_password(request: Request, visitor: Begun, next: str = "/") -> Response:  # noqa: A002
    """The form that sets a password of one's own after a one-time password."""
    live = _live(request)
    if live.step is not Step.PASSWORD:
        return RedirectResponse(way_on(live, next) if live.step else "/account", 303)
    return _password(request, visitor, next)


@router.post("/password", response_model=None)
def set_password(
    *,
    request: Request,
    visitor: Sent,
    platform: Served,
    password: Field = "",
    again: Field = "",
    next: Field = "/",  # noqa: A002
) -> Response:
    """Sets it, and goes on in a new session."""
    live = _live(request)
    if live.step is not Step.PASSWORD:
        return RedirectResponse(way_on(live, next) if live.step else "/account", 303)
    try:
        check_same(password, again)
        opened = platform.access.logins.change(live, "", password, origin=visitor.origin)
    except REFUSALS as error:
        return _password(request, visitor, next, error)
    return _go_on(request, platform, opened, next)


@router.get("/confirm", response_model=None)
def show_confirm(request: Request, visitor: Begun, platform: Served, next: str = "/") -> Response:  # noqa: A002
    """Asks for the second factor; who has none yet sets one up first."""
    live = _live(request)
    if live.step is Step.PASSWORD:
        return RedirectResponse(way_on(live, next), 303)
    if not platform.access.factors.state(visitor.tenant, visitor.principal.id).any:
        return RedirectResponse(f"/account/factor?next={quote(local(next))}", 303)
    return _confirm(request, visitor, platform, next)


@router.post("/confirm", response_model=None)
def confirm(
    *,
    request: Request,
    visitor: Sent,
    platform: Served,
    code: Field = "",
    next: Field = "/",  # noqa: A002
) -> Response:
    """Takes a code, and goes on in a new session, which decides for ten minutes what needs a second factor."""
    access = platform.access
    try:
        access.factors.prove(visitor.tenant, visitor.principal.id, code, origin=visitor.origin)
    except REFUSALS as error:
        return _confirm(request, visitor, platform, next, error)
    opened = access.sessions.renew(visitor.session, proven=True, origin=visitor.origin)
    return _go_on(request, platform, opened, next)


def check_same(password: str, again: str) -> None:
    """Lets a new password pass that was typed the same twice.

    Raises:
        DataError: `access.password.differ`.
    """
    if password != again:
        raise DataError("access.password.differ", "the two passwords differ", hint="type the same one twice")


def sorry(error: VedetteError | None) -> dict[str, str] | None:
    """A refusal as templates show it."""
    if error is None:
        return None
    return {"title": error.message[:1].upper() + error.message[1:], "hint": error.hint, "code": error.code}


def again(response: Response, error: VedetteError | None) -> Response:
    """A form shown again has the status and the headers of its refusal."""
    if error is not None:
        response.status_code = status_of(error)
        response.headers.update(headers_of(error))
    return response


def _go_on(request: Request, platform: Served, opened: Opened, place: str) -> Response:
    live = platform.access.sessions.find(opened.secret.reveal())
    response = RedirectResponse(way_on(live, place) if live else "/login", 303)
    keep(request, response, opened)
    return response


def _live(request: Request) -> Live:
    found = find(request)
    if found is None:
        raise to_login(request)
    return found[0]


def _login(request: Request, place: str, error: VedetteError | None = None, name: str = "") -> Response:
    page = show(request, None, "login.html", next=local(place), name=name[:64], sorry=sorry(error))
    return again(page, error)


def _password(request: Request, visitor: Visitor, place: str, error: VedetteError | None = None) -> Response:
    page = show(
        request, None, "password.html", csrf=visitor.csrf, next=local(place), least=MIN_LENGTH, sorry=sorry(error)
    )
    return again(page, error)


def _confirm(
    request: Request, visitor: Visitor, platform: Served, place: str, error: VedetteError | None = None
) -> Response:
    state = platform.access.factors.state(visitor.tenant, visitor.principal.id)
    page = show(
        request,
        None,
        "confirm.html",
        csrf=visitor.csrf,
        next=local(place),
        state=state,
        total=CODES,
        sorry=sorry(error),
    )
    return again(page, error)
