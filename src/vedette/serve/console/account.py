"""A person's own account: password, second factor, sessions."""

from __future__ import annotations

from io import BytesIO
from typing import Annotated

import segno
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.core.errors import ConflictError, NotFoundError, VedetteError
from vedette.prove.access import Live, Pending
from vedette.prove.access.passwords import MIN_LENGTH
from vedette.prove.secrets import Secret
from vedette.serve.console.login import REFUSALS, again, check_same, sorry
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Elsewhere, Visitor, act, carry_on, find, keep, local, look, to_login

router = APIRouter(prefix="/account", tags=["console"])

Looking = Annotated[Visitor, look()]
Acting = Annotated[Visitor, act()]
Sure = Annotated[Visitor, act(fresh=True)]
Field = Annotated[str, Form()]


@router.get("", response_model=None)
def show_account(request: Request, visitor: Looking, platform: Served) -> Response:
    """Password, second factor and sessions of whoever looks."""
    return _account(request, visitor, platform)


@router.post("/password", response_model=None)
def change_password(
    *, request: Request, visitor: Acting, platform: Served, current: Field = "", password: Field = "", again: Field = ""
) -> Response:
    """Sets another password and ends every other session."""
    try:
        check_same(password, again)
        opened = platform.access.logins.change(_live(request), current, password, origin=visitor.origin)
    except (*REFUSALS, ConflictError) as error:
        return _account(request, visitor, platform, error)
    response = RedirectResponse("/account", 303)
    keep(request, response, opened)
    return response


@router.post("/sessions/{session_id}/end", response_model=None)
def end_session(visitor: Acting, platform: Served, session_id: str) -> Response:
    """Ends one of the visitor's own sessions."""
    me = visitor.principal.id
    platform.access.sessions.end(visitor.tenant, me, session_id, by=me)
    return RedirectResponse("/account", 303)


@router.post("/codes", response_model=None)
def fresh_codes(request: Request, visitor: Sure, platform: Served) -> Response:
    """Makes new recovery codes and shows them this once."""
    me = visitor.principal.id
    codes = platform.access.factors.issue_codes(visitor.tenant, me, by=me)
    return _codes(request, visitor, codes, "/account")


@router.get("/factor", response_model=None)
def show_factor(request: Request, visitor: Looking, platform: Served, next: str = "/account") -> Response:  # noqa: A002
    """Sets up an authenticator: asks for the password, then shows what to scan."""
    return _factor(request, visitor, platform, next)


@router.post("/factor", response_model=None)
def begin_factor(
    *,
    request: Request,
    visitor: Acting,
    platform: Served,
    password: Field = "",
    next: Field = "/account",  # noqa: A002
) -> Response:
    """Begins to set up an authenticator. Needs the password, and the second factor of who has one already."""
    access = platform.access
    if access.factors.state(visitor.tenant, visitor.principal.id).any and not visitor.fresh:
        raise Elsewhere("/confirm?next=/account/factor")
    try:
        access.logins.check(_live(request), password, origin=visitor.origin)
    except REFUSALS as error:
        return _factor(request, visitor, platform, next, error)
    access.factors.enrol(visitor.tenant, visitor.principal.id, visitor.name)
    return _factor(request, visitor, platform, next)


@router.get("/factor.svg", response_model=None)
def show_picture(visitor: Looking, platform: Served) -> Response:
    """The authenticator that is being set up, as a picture to scan; nothing once it is confirmed."""
    pending = platform.access.factors.pending(visitor.tenant, visitor.principal.id, visitor.name)
    if pending is None:
        raise NotFoundError("access.factor.none", "no authenticator is being set up")
    out = BytesIO()
    picture = segno.make(pending.uri.reveal(), error="m", micro=False)
    picture.save(out, kind="svg", scale=6, border=4, dark="#000", light="#fff", xmldecl=False, nl=False)
    return Response(out.getvalue(), media_type="image/svg+xml")


@router.post("/factor/confirm", response_model=None)
def confirm_factor(
    *,
    request: Request,
    visitor: Acting,
    platform: Served,
    code: Field = "",
    next: Field = "/account",  # noqa: A002
) -> Response:
    """Takes the first code of the new authenticator, shows the recovery codes this once, and opens a new session."""
    access = platform.access
    try:
        codes = access.factors.confirm(visitor.tenant, visitor.principal.id, code, origin=visitor.origin)
    except (*REFUSALS, ConflictError) as error:
        return _factor(request, visitor, platform, next, error)
    opened = access.sessions.renew(visitor.session, proven=True, origin=visitor.origin)
    response = _codes(request, carry_on(visitor, opened), codes, next)
    keep(request, response, opened)
    return response


def _live(request: Request) -> Live:
    found = find(request)
    if found is None:
        raise to_login(request)
    return found[0]


def _account(request: Request, visitor: Visitor, platform: Served, error: VedetteError | None = None) -> Response:
    access, me = platform.access, visitor.principal.id
    page = show(
        request,
        visitor,
        "account.html",
        person=access.people.get(visitor.tenant, me),
        state=access.factors.state(visitor.tenant, me),
        login=access.logins.states(visitor.tenant).get(me),
        sessions=access.sessions.list(visitor.tenant, me),
        least=MIN_LENGTH,
        sorry=sorry(error),
    )
    return again(page, error)


def _factor(
    request: Request, visitor: Visitor, platform: Served, place: str, error: VedetteError | None = None
) -> Response:
    factors = platform.access.factors
    pending: Pending | None = factors.pending(visitor.tenant, visitor.principal.id, visitor.name)
    state = factors.state(visitor.tenant, visitor.principal.id)
    if state.any and not visitor.fresh:
        raise Elsewhere("/confirm?next=/account/factor")
    page = show(
        request,
        visitor,
        "factor.html",
        next=local(place),
        pending=pending.key.reveal() if pending else None,
        again=state.authenticator,
        sorry=sorry(error),
    )
    return again(page, error)


def _codes(request: Request, visitor: Visitor, codes: list[Secret], place: str) -> Response:
    shown = [code.reveal() for code in codes]
    return show(request, visitor, "codes.html", codes=shown, next=local(place))
