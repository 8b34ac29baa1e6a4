"""Logging in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from vedette.serve.policy import Served
from vedette.serve.session import Guest, Visitor, act, drop, local

router = APIRouter()


@router.get("/login", response_model=None)
def show_login(guest: Guest, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """The login form; who is logged in goes on."""
    if guest:
        return RedirectResponse(local(next), 303)
    return HTMLResponse("<!doctype html><html lang=en><title>Log in to Vedette</title><h1>Log in</h1>")


@router.post("/logout", response_model=None)
def log_out(request: Request, visitor: Annotated[Visitor, act()], platform: Served) -> Response:
    """Ends the session."""
    sessions = platform.access.sessions
    sessions.end(visitor.tenant, visitor.principal.id, visitor.session, by=visitor.principal.id)
    response = RedirectResponse("/login", 303)
    drop(request, response)
    return response
