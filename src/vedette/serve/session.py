"""Who looks at a page: sessions in a cookie, forms that only our own pages can send, and one place for headers.

A page asks for `look`, a form for `act`; both are policies of the route table, as `allow` is for the API. Pages take
the session's cookie and nothing else; the API takes keys and personal tokens and nothing else. So what a browser sends
by itself never reaches the API, and a key that leaked opens no page.

Example:
    >>> from fastapi import APIRouter
    >>> router = APIRouter()
    >>> @router.get("/alerts")
    ... def list_alerts(visitor: Annotated[Visitor, look("alerts", "read")]) -> str:
    ...     return visitor.name
    >>> @router.post("/alerts/{alert_id}/close")
    ... def close(alert_id: str, visitor: Annotated[Visitor, act("alerts", "write")]) -> str:
    ...     return alert_id
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from vedette.core.errors import DeniedError
from vedette.prove.access import Live, Opened, Principal, permit
from vedette.prove.access.people import to_principal
from vedette.prove.access.sessions import ABSOLUTE_S, Step, csrf_token
from vedette.prove.dlp import refuse_pans
from vedette.serve.addresses import Addresses
from vedette.serve.policy import RoutePolicy, known, mark, platform_of

COOKIE = "vedette"
"""Name of the cookie; over HTTPS with the prefix `__Host-`, which no other host and no plain page can set."""
FIELD = "csrf"
"""Form field of the token; the header `X-CSRF-Token` does as well."""
SECRET = {FIELD, "password", "again", "current", "code"}
"""Fields of forms that are kept nowhere as they are, and may hold any digits."""
MERCHANTS = "/merchants"
"""The first page of who is bound to merchants."""
BACKGROUND = "x-background"
"""A request with this header is made by a page by itself: it keeps no session alive."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person with a session, already allowed to use the route."""

    principal: Principal
    """Tenant, id and the roles held now."""
    name: str
    csrf: str
    """Token for this session's forms."""
    fresh: bool
    """The second factor was shown within the last ten minutes."""
    origin: str
    """Address of the client."""
    session: str = ""
    """Id of the session, which is no secret."""

    @property
    def tenant(self) -> str:
        """Everything that a page reads or writes is inside it."""
        return self.principal.tenant

    def may(self, resource: str, verb: str) -> bool:
        """Whether the policy allows it, for templates that hide what the visitor may not do. Decides nothing."""
        return not permit(self.principal, resource, verb)

    def may_own(self, resource: str, verb: str) -> bool:
        """As `may`, of what is the visitor's own: one who is bound to merchants may do it with theirs."""
        account = min(self.principal.accounts, default=None)
        return not permit(self.principal, resource, verb, account=account)


class Elsewhere(Exception):
    """Answer with the way to another page.

    Args:
        place: Path on this server.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


def look(resource: str = "", verb: str = "", *, partial: bool = False, by_account: bool = False) -> Any:
    """Dependency of a page: a session with the grant; gives a `Visitor`. Without arguments: anybody who is logged in.

    Without a session the answer is 303 to `/login`, for a fragment that htmx asks 401 with `HX-Redirect`.

    Args:
        resource: Name in `prove.access.POLICY`.
        verb: Name in it.
        partial: Also for who still has a step of the login to do.
        by_account: What the page shows belongs to a merchant; it calls `console.merchants.own` once it knows which.
    """
    policy = RoutePolicy(*_asked(resource, verb), page=True, partial=partial, by_account=by_account)

    def check(request: Request) -> Visitor:
        return _admit(request, policy)

    return Depends(mark(check, policy))


def act(
    resource: str = "", verb: str = "", *, fresh: bool = False, partial: bool = False, by_account: bool = False
) -> Any:
    """Dependency of a form: as `look`, and the session's token in the form. Origin and Host are seen to before.

    Args:
        resource: Name in `prove.access.POLICY`.
        verb: Name in it.
        fresh: The second factor must have been shown within ten minutes; else 303 to `/confirm`.
        partial: Also for who still has a step of the login to do.
        by_account: As for `look`.
    """
    asked = _asked(resource, verb)
    policy = RoutePolicy(*asked, page=True, form=True, fresh=fresh, partial=partial, by_account=by_account)

    async def check(request: Request) -> Visitor:
        form = await request.form()
        sent = request.headers.get("x-csrf-token") or form.get(FIELD)
        visitor = await run_in_threadpool(_admit, request, policy, sent if isinstance(sent, str) else "")
        # Of a file its name: evidence may hold anything, and is kept sealed.
        said = {
            name: [each if isinstance(each, str) else each.filename for each in form.getlist(name)] for name in form
        }
        refuse_pans({"path": request.path_params, **{name: said[name] for name in said if name not in SECRET}})
        return visitor

    return Depends(mark(check, policy))


def _said(value: str | UploadFile) -> str:
    return value if isinstance(value, str) else value.filename or ""


def visit() -> Any:
    """Dependency of a page that is there before any login; gives a `Visitor` or None."""

    def check(request: Request) -> Visitor | None:
        return find_visitor(request)

    return Depends(mark(check, RoutePolicy("", "", open=True, page=True)))


Guest = Annotated[Visitor | None, visit()]
"""Whoever looks at an open page, as a route's parameter."""


def find_visitor(request: Request) -> Visitor | None:
    """Whoever looks, once fully logged in."""
    found = find(request)
    return to_visitor(request, *found) if found and found[0].complete else None


def find(request: Request, *, touch: bool = False) -> tuple[Live, str] | None:
    """The session of the request's cookie with its secret, complete or not; None without one that holds."""
    secret = request.cookies.get(_cookie_name(request), "")
    live = platform_of(request).access.sessions.find(secret, touch=touch) if secret else None
    return (live, secret) if live else None


def to_visitor(request: Request, live: Live, secret: str) -> Visitor:
    """The visitor of a session."""
    return Visitor(
        principal=to_principal(live.person),
        name=live.person.name,
        csrf=csrf_token(secret),
        fresh=live.fresh,
        origin=client_of(request),
        session=live.session.id,
    )


def client_of(request: Request) -> str:
    """Address of the client; behind a proxy on this machine, the one that the proxy tells."""
    return request.client.host if request.client else ""


def carry_on(visitor: Visitor, opened: Opened) -> Visitor:
    """The visitor in the session that took the place of the one before, after a proof of the second factor."""
    return replace(visitor, csrf=csrf_token(opened.secret.reveal()), session=opened.session.id, fresh=True)


def keep(request: Request, response: Response, opened: Opened) -> None:
    """Gives the browser a session."""
    secure = _secure(request)
    response.set_cookie(
        _cookie_name(request),
        opened.secret.reveal(),
        max_age=round(ABSOLUTE_S),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def drop(request: Request, response: Response) -> None:
    """Takes the session from the browser."""
    response.delete_cookie(_cookie_name(request), path="/", secure=_secure(request), httponly=True, samesite="strict")


def local(place: str) -> str:
    """`place` when it is a path on this server, else `/`: a link to `/login?next=` leads nowhere else."""
    parts = urlsplit(place) if place.isprintable() and "\\" not in place else None
    fits = parts and not parts.scheme and not parts.netloc and place.startswith("/") and not place.startswith("//")
    return place if fits else "/"


def way_on(live: Live, place: str) -> str:
    """Where a session leads: to `place`, by way of the step that is left."""
    pages = {Step.FACTOR: "/confirm", Step.PASSWORD: "/password"}
    return f"{pages[live.step]}?next={quote(local(place))}" if live.step else local(place)


def to_login(request: Request) -> Elsewhere:
    """The way to the login page and back."""
    return Elsewhere(f"/login?next={quote(_here(request))}")


def check_form(visitor_csrf: str, sent: str) -> None:
    """Lets a form of the visitor's own session pass.

    Raises:
        DeniedError: `session.csrf`.
    """
    if not hmac.compare_digest(visitor_csrf.encode(), sent.encode("utf-8", "replace")):
        raise DeniedError("session.csrf", "this form is not of your session", hint="load the page again and resend it")


def _asked(resource: str, verb: str) -> tuple[str, str]:
    return known(resource, verb) if resource or verb else ("", "")


def _admit(request: Request, policy: RoutePolicy, sent: str = "") -> Visitor:
    quiet = BACKGROUND in request.headers
    found = find(request, touch=not quiet)
    if found is None:
        raise to_login(request)
    live, secret = found
    visitor = to_visitor(request, live, secret)
    if policy.form:
        check_form(visitor.csrf, sent)
    if not policy.partial and not live.complete:
        raise Elsewhere(way_on(live, _here(request)))
    accounts = visitor.principal.accounts
    if accounts and request.url.path == "/":
        raise Elsewhere(MERCHANTS)  # the first page sums over all merchants
    if policy.resource:
        account = min(accounts, default=None) if policy.by_account else None
        access = platform_of(request).access
        access.authorize(visitor.principal, policy.resource, policy.verb, account=account, origin=visitor.origin)
    if policy.fresh and not live.fresh:
        raise Elsewhere(f"/confirm?next={quote(_here(request))}")
    return visitor


def _here(request: Request) -> str:
    """The page that the visitor is on: of a form or a fragment, the one it stands in."""
    if request.method == "GET" and "hx-request" not in request.headers:
        query = f"?{request.url.query}" if request.url.query else ""
        return local(request.url.path + query)
    page = urlsplit(request.headers.get("hx-current-url") or request.headers.get("referer") or "/")
    return local(page.path + (f"?{page.query}" if page.query else ""))


def _secure(request: Request) -> bool:
    addresses: Addresses = request.app.state.addresses
    return addresses.secure(request.headers.get("host", ""))


def _cookie_name(request: Request) -> str:
    return f"__Host-{COOKIE}" if _secure(request) else COOKIE
