"""What each route needs. A route without a policy keeps the application from starting: nothing is open by omission."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.convertors import Convertor, register_url_convertor

from vedette.core.errors import DataError, DefinitionError, DeniedError, NotFoundError
from vedette.prove.access import POLICY, Access, Principal
from vedette.prove.dlp import refuse_pans
from vedette.run.platform import Platform
from vedette.serve.door.plain import ACCOUNT

_MARK = "vedette_policy"
SAFE = {"GET", "HEAD"}
"""Methods that keep nothing of what they are asked."""
_CONVERTED = re.compile(r":\w+}")
"""What the description of a route leaves out: `{id:whole}` is called `{id}`."""


class Whole(Convertor[str]):
    """The rest of a path as it was sent, with slashes and line breaks: ids come from outside and may hold anything."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("whole", Whole())


class Owned(Protocol):
    """An object that belongs to a merchant."""

    @property
    def merchant(self) -> str:
        """Whose it is."""


T = TypeVar("T", bound=Owned)
_Check = TypeVar("_Check", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """Resource and verb that the caller's key or role must hold; `open` for the routes that anyone may ask."""

    resource: str
    verb: str
    open: bool = False
    by_account: bool = False
    """The object belongs to an account or merchant, so a caller bound to some may have it when it is theirs."""
    page: bool = False
    """For people with a session rather than for keys and tokens; `serve.session` checks it."""
    form: bool = False
    """Changes something: needs the session's own token."""
    partial: bool = False
    """Also for who has begun to log in and has a step left: the pages of those steps."""
    fresh: bool = False
    """Needs a second factor shown within ten minutes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, already allowed to use the route."""

    principal: Principal
    origin: str
    _access: Access
    _policy: RoutePolicy

    @property
    def tenant(self) -> str:
        """The caller's tenant: everything a route reads or writes is inside it."""
        return self.principal.tenant

    def own(self, look: Callable[[], T]) -> T:
        """The object that `look` finds, checked as `on` does. A bound caller is told the same of none and of another's.

        Raises:
            NotFoundError: What `look` raises; `access.not_found`.
        """
        try:
            found = look()
        except NotFoundError:
            if self.principal.accounts:
                self.on("")
            raise
        self.on(found.merchant)
        return found

    def on(self, account: str, *, target: str = "") -> None:
        """Checks the account or merchant of the object, for callers that are bound to some.

        Raises:
            NotFoundError: `access.not_found`: a bound caller may not know that another's object exists.
        """
        if self.principal.accounts:
            self._access.authorize(
                self.principal,
                self._policy.resource,
                self._policy.verb,
                account=account,
                target=target,
                origin=self.origin,
                hide=True,
            )


def bearer(header: str | None) -> str:
    """The secret in an `Authorization: Bearer` header.

    Raises:
        DeniedError: `access.unauthenticated` when there is none.
    """
    scheme, _, secret = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise DeniedError("access.unauthenticated", "no API key was sent", hint="send `Authorization: Bearer vk_...`")
    return secret.strip()


def one_account(named: Sequence[str]) -> str:
    """The account that a request names.

    Raises:
        DataError: `request.account.repeated`.
    """
    if len(named) != 1:
        raise DataError("request.account.repeated", "a request acts for one account", at=f"$header.{ACCOUNT}")
    return named[0]


def allow(resource: str, verb: str, *, by_account: bool = False) -> Any:
    """Dependency of a route: authenticates the caller and checks the grant; gives a `Caller`.

    Args:
        resource: Name in `prove.access.POLICY`.
        verb: Name in it.
        by_account: The route's object belongs to an account; it calls `Caller.on` once it knows which.
    """
    policy = RoutePolicy(*known(resource, verb), by_account=by_account)

    def check(request: Request) -> Caller:
        return admitted(request, bearer(request.headers.get("authorization")), policy)

    return Depends(mark(check, policy))


def admitted(request: Request, secret: str, policy: RoutePolicy) -> Caller:
    """Who asks with a secret, allowed what a route needs.

    Raises:
        DeniedError: `access.unauthenticated`, `access.key.invalid`, `access.denied`.
    """
    access = platform_of(request).access
    origin = request.client.host if request.client else ""
    principal = access.authenticate(secret, origin=origin)
    request.state.principal = principal
    if request.method not in SAFE:
        refuse_pans({"path": request.path_params, "query": dict(request.query_params)})
    named = request.headers.getlist(ACCOUNT)
    if named:
        principal = access.connections.act_for(principal, one_account(named), origin=origin)
    account = min(principal.accounts, default=None) if policy.by_account else None
    access.authorize(principal, policy.resource, policy.verb, account=account, origin=origin)
    return Caller(principal, origin, access, policy)


def known(resource: str, verb: str) -> tuple[str, str]:
    """The pair, when it is in the policy.

    Raises:
        DefinitionError: `serve.policy.unknown`.
    """
    if (resource, verb) not in POLICY:
        raise DefinitionError("serve.policy.unknown", f"`{resource}` `{verb}` is not in the policy")
    return resource, verb


def mark(check: _Check, policy: RoutePolicy) -> _Check:
    """Says in the route table what this dependency checks."""
    setattr(check, _MARK, policy)
    return check


def anyone() -> Any:
    """Dependency of a route that needs no key; says so in the route table."""

    async def check() -> None:
        """On the event loop: the answer needs no thread, so it comes while all of them are busy."""

    return Depends(mark(check, RoutePolicy("", "", open=True)))


def platform_of(request: Request) -> Platform:
    """The platform that this application serves."""
    platform: Platform = request.app.state.platform
    return platform


Served = Annotated[Platform, Depends(platform_of)]
"""The platform, as a route's parameter."""


def policies(routes: Sequence[Any]) -> dict[tuple[str, str], RoutePolicy | None]:
    """Every (method, path) with its policy, or None where there is none; included routers and mounts too."""
    table: dict[tuple[str, str], RoutePolicy | None] = {}
    for route in iter_route_contexts(routes):
        dependant = getattr(route, "dependant", None)
        calls = [each.call for each in dependant.dependencies] if dependant else []
        found = next((policy for call in calls if (policy := _policy(call)) is not None), None)
        for method in sorted(route.methods or {"*"}):
            table[method, _CONVERTED.sub("}", str(route.path))] = found
    return table


def require_policies(app: FastAPI) -> None:
    """Refuses to start an application with a route that has no policy. Only its own description is open by itself.

    Raises:
        DefinitionError: `serve.policy.missing`, naming the routes.
    """
    table = policies(app.routes)
    bare = [
        f"{method} {path}" for (method, path), policy in table.items() if policy is None and path != app.openapi_url
    ]
    if bare or not table:
        raise DefinitionError("serve.policy.missing", f"routes without a policy: {', '.join(bare) or 'all'}")


def describe_security(document: dict[str, Any], table: Mapping[tuple[str, str], RoutePolicy | None]) -> None:
    """Says in the OpenAPI document which operations need a key or token, and what it must hold."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["key"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a person's or app's token.",
    }
    for (method, path), policy in table.items():
        if policy and not policy.open and not policy.page:
            operation = document["paths"][path][method.lower()]
            operation["security"] = [{"key": []}]
            operation["x-vedette-policy"] = {"resource": policy.resource, "verb": policy.verb}
            if POLICY[policy.resource, policy.verb].app:
                operation.setdefault("parameters", []).append(_FOR_ACCOUNT)


_FOR_ACCOUNT = {
    "name": ACCOUNT,
    "in": "header",
    "required": False,
    "description": "The connected account that a platform acts for.",
    "schema": {"type": "string"},
}


def _policy(call: Callable[..., Any] | None) -> RoutePolicy | None:
    return getattr(call, _MARK, None)
