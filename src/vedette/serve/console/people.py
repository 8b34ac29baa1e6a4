"""People of the tenant: who they are, what they may do, how they log in."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from vedette.core.errors import DataError, NotFoundError, VedetteError
from vedette.prove.access import IssuedPassword, Role
from vedette.prove.dlp import refuse_pans
from vedette.serve.console.login import REFUSALS, again, sorry
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, act, look

router = APIRouter(prefix="/people", tags=["console"])

Reading = Annotated[Visitor, look("people", "read")]
Writing = Annotated[Visitor, act("people", "write")]
Sure = Annotated[Visitor, act("people", "write", fresh=True)]

MAX_NAME = 200
DUTIES: dict[Role, str] = {
    Role.ANALYST: "Works alerts and cases",
    Role.RESPONDER: "Runs playbooks, contains attacks, approves",
    Role.RISK: "Owns payment rules, limits and labels; approves",
    Role.MODEL: "Trains and releases models",
    Role.COMPLIANCE: "Reads all that is evidence",
    Role.MERCHANT: "Sees and moves the merchant's own money",
    Role.ADMIN: "Manages people, keys and settings",
}
"""What each role is for, as people read it."""


@router.get("", response_model=None)
def list_people(request: Request, visitor: Reading, platform: Served) -> Response:
    """Everybody, disabled people too."""
    return _list(request, visitor, platform)


@router.post("", response_model=None)
def create_person(request: Request, visitor: Writing, platform: Served, name: Annotated[str, Form()] = "") -> Response:
    """Adds a person without any role."""
    try:
        wanted = _name(name)
    except DataError as error:
        return _list(request, visitor, platform, error, name)
    person = platform.access.people.create(visitor.tenant, wanted, by=visitor.principal.id)
    return RedirectResponse(_page(person.id), 303)


@router.get("/{person_id}", response_model=None)
def show_person(request: Request, visitor: Reading, platform: Served, person_id: str) -> Response:
    """One person with roles, login, sessions and tokens."""
    return _person(request, visitor, platform, person_id)


@router.post("/{person_id}/grant", response_model=None)
def grant_role(
    request: Request, visitor: Sure, platform: Served, person_id: str, role: Annotated[Role, Form()]
) -> Response:
    """Gives a role. Nobody gives one to oneself."""
    try:
        platform.access.people.grant(visitor.tenant, person_id, role, by=visitor.principal.id)
    except REFUSALS as error:
        return _person(request, visitor, platform, person_id, error)
    return RedirectResponse(_page(person_id), 303)


@router.post("/{person_id}/withdraw", response_model=None)
def withdraw_role(visitor: Writing, platform: Served, person_id: str, role: Annotated[Role, Form()]) -> Response:
    """Takes a role away and ends the person's sessions."""
    platform.access.people.withdraw(visitor.tenant, person_id, role, by=visitor.principal.id)
    return RedirectResponse(_page(person_id), 303)


@router.post("/{person_id}/password", response_model=None)
def issue_password(request: Request, visitor: Sure, platform: Served, person_id: str) -> Response:
    """Makes a one-time password and shows it this once."""
    try:
        issued = platform.access.logins.issue(visitor.tenant, person_id, by=visitor.principal.id)
    except REFUSALS as error:
        return _person(request, visitor, platform, person_id, error)
    return _person(request, visitor, platform, person_id, issued=issued)


@router.post("/{person_id}/sessions/end", response_model=None)
def end_sessions(visitor: Writing, platform: Served, person_id: str) -> Response:
    """Logs a person out everywhere."""
    sessions = platform.access.sessions
    platform.access.people.get(visitor.tenant, person_id)
    for session in sessions.list(visitor.tenant, person_id):
        sessions.end(visitor.tenant, person_id, session.id, by=visitor.principal.id)
    return RedirectResponse(_page(person_id), 303)


@router.post("/{person_id}/tokens/{token_id}/revoke", response_model=None)
def revoke_token(visitor: Writing, platform: Served, person_id: str, token_id: str) -> Response:
    """Ends a personal token for good."""
    access = platform.access
    if token_id not in {token.id for token in access.tokens(visitor.tenant, person_id)}:
        raise NotFoundError("access.token.unknown", "this person has no token of that id", at=token_id[:64])
    access.revoke_token(visitor.tenant, token_id, by=visitor.principal.id)
    return RedirectResponse(_page(person_id), 303)


@router.post("/{person_id}/disable", response_model=None)
def disable_person(visitor: Writing, platform: Served, person_id: str) -> Response:
    """Ends a person's access for good; the record of them stays."""
    platform.access.people.disable(visitor.tenant, person_id, by=visitor.principal.id)
    return RedirectResponse(_page(person_id), 303)


def _page(person_id: str) -> str:
    return f"/people/{quote(person_id, safe='')}"


def _name(name: str) -> str:
    wanted = " ".join(name.split())
    if not wanted or len(wanted) > MAX_NAME or not wanted.isprintable():
        raise DataError("people.name.invalid", "this is not a name", hint=f"1 to {MAX_NAME} characters")
    refuse_pans({"name": wanted})
    return wanted


def _list(
    request: Request, visitor: Visitor, platform: Served, error: VedetteError | None = None, name: str = ""
) -> Response:
    access = platform.access
    page = show(
        request,
        visitor,
        "people.html",
        people=sorted(access.people.list(visitor.tenant), key=lambda each: (each.disabled, each.name.casefold())),
        logins=access.logins.states(visitor.tenant),
        name=name[:MAX_NAME],
        sorry=sorry(error),
    )
    return again(page, error)


def _person(
    request: Request,
    visitor: Visitor,
    platform: Served,
    person_id: str,
    error: VedetteError | None = None,
    *,
    issued: IssuedPassword | None = None,
) -> Response:
    access, tenant = platform.access, visitor.tenant
    person = access.people.get(tenant, person_id)
    page = show(
        request,
        visitor,
        "person.html",
        person=person,
        duties=DUTIES,
        left=[role for role in Role if role not in person.roles],
        login=access.logins.states(tenant).get(person_id),
        state=access.factors.state(tenant, person_id),
        sessions=access.sessions.list(tenant, person_id),
        tokens=[each for each in access.tokens(tenant, person_id) if each.revoked is None],
        mine=person_id == visitor.principal.id,
        issued={"login": issued.login, "password": issued.password.reveal(), "expires": issued.expires}
        if issued
        else None,
        sorry=sorry(error),
    )
    return again(page, error)
