"""The application: the hot routes in front, everything else behind, one outermost handler."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import vedette
from vedette.core.asgi import App, Receive, Scope, Send
from vedette.core.errors import DataError, DeniedError, NotFoundError, VedetteError
from vedette.move.limits import Bucket, LimitMiddleware, Limits, Rate
from vedette.run.platform import Platform
from vedette.serve import console, routes
from vedette.serve.addresses import Addresses, fenced, of_api
from vedette.serve.body import bounded
from vedette.serve.charging import HotCharging
from vedette.serve.console.page import show_error
from vedette.serve.deciding import HotDeciding
from vedette.serve.errors import ERROR, UNAUTHENTICATED, outermost, to_refusal, unforeseen
from vedette.serve.hot import Hot, shell
from vedette.serve.misuse import note_refusal
from vedette.serve.policy import describe_security, policies, require_policies
from vedette.serve.session import Elsewhere, find_visitor
from vedette.serve.taxii import of_taxii, taxii_error

LISTENING = ("127.0.0.1", 8700)


def build_app(
    platform: Platform,
    *,
    listening: tuple[str, int] = LISTENING,
    hot: Sequence[Hot] = (),
) -> App:
    """The ASGI application over a platform. Startup and shutdown run the platform's background work.

    Args:
        platform: What it serves.
        listening: Host and port, which the console knows itself by unless the setting `addresses` names others.
        hot: From `hot_routes`, where a short way leads to them too.

    Raises:
        DefinitionError: `serve.policy.missing` when a route has no policy; `serve.address.invalid`.
    """
    api = build_api(platform)
    api.state.addresses = addresses = Addresses.listening(*listening, platform.settings.addresses)

    async def refuse(error: DeniedError, scope: Scope, receive: Receive, send: Send) -> None:
        # Without looking for a session: whoever asks did not come to our address, or not from it.
        await _respond(Request({**scope, "app": api}), error, known=False)(scope, receive, send)

    answered = shell(hot or hot_routes(platform), limited(platform, api))
    return outermost(platform, bounded(fenced(addresses, answered, refuse)))


def hot_routes(platform: Platform) -> tuple[Hot, ...]:
    """What is answered in front of the routes."""
    return (HotDeciding(platform), HotCharging(platform))


def limited(platform: Platform, app: App) -> App:
    """Requests of the API within the rate of their caller; pages and what anybody may ask are not counted."""
    rate = platform.settings.api_rate
    if not rate:
        return app
    each = Rate(rate, 1, 2 * rate)

    def buckets(scope: Scope) -> Sequence[Bucket]:
        return [(f"caller:{_caller(scope)}", each)] if scope["path"].startswith("/v1/") else ()

    return LimitMiddleware(
        app,
        limiter=platform.limits,
        buckets=buckets,
        inline=isinstance(platform.limits, Limits),
        refused=lambda _scope, code: platform.meters.failure("limits", code),
    )


def _caller(scope: Scope) -> str:
    """Who asks, before anybody has looked: by what they prove themselves with, or by their address."""
    sent = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    address = scope["client"][0] if scope.get("client") else ""
    return address if sent is None else hashlib.sha256(sent).hexdigest()[:32]


def build_api(platform: Platform) -> FastAPI:
    """Everything but the hot route, as FastAPI with OpenAPI."""

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        with platform.running():
            yield

    api = FastAPI(
        title="Vedette",
        version=vedette.__version__,
        summary="Decisions, money movement, alerts, cases, playbooks and evidence.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    api.state.platform = platform
    for router in routes.ROUTERS:
        api.include_router(router, responses={"4XX": ERROR, "5XX": ERROR})
    for router in console.ROUTERS:
        api.include_router(router, include_in_schema=False)
    api.add_exception_handler(Elsewhere, _elsewhere)
    api.add_exception_handler(VedetteError, _refused)
    api.add_exception_handler(HTTPException, _not_routed)
    api.add_exception_handler(RequestValidationError, _not_valid)
    api.add_exception_handler(Exception, _unforeseen)
    require_policies(api)
    describe_security(api.openapi(), policies(api.routes))
    return api


def wants_page(request: Request) -> bool:
    """Whether the answer is for a person: a browser asks for HTML by name, a program and a script do not."""
    return "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers


def _respond(request: Request, error: VedetteError, *, known: bool = True) -> Response:
    if of_taxii(request.url.path):
        return taxii_error(request, error)
    if of_api(request.url.path) or not wants_page(request):
        refusal = to_refusal(error)
        return Response(refusal.body, refusal.status, refusal.headers, "application/json")
    return show_error(request, find_visitor(request) if known else None, error)


def _elsewhere(request: Request, way: Exception) -> Response:
    """303 for a browser; a fragment cannot be answered by another page, so htmx is told to go there as a whole."""
    assert isinstance(way, Elsewhere)  # noqa: S101 - registered for this type
    if "hx-request" in request.headers:
        return Response("", UNAUTHENTICATED, {"hx-redirect": way.place})
    return Response("", 303, {"location": way.place})


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, VedetteError)  # noqa: S101 - registered for this type
    note_refusal(request, error)
    return _respond(request, error)


def _unforeseen(request: Request, _error: Exception) -> Response:
    return _respond(request, unforeseen())


def _not_routed(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    if status == 405:  # noqa: PLR2004
        refusal = _respond(request, DataError("http.method", f"this path does not take {request.method}"))
        refusal.headers.update(getattr(error, "headers", None) or {})
        return refusal
    if status == 400:  # noqa: PLR2004
        return _respond(request, DataError("http.body.form", "this form cannot be read"))
    hint = "GET /openapi.json lists all"
    return _respond(request, NotFoundError("http.route", "there is nothing at this path", hint=hint))


def _not_valid(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    place = "$" + ".".join(str(part) for part in problems[0]["loc"]) if problems else "$"
    return _respond(request, DataError("request.field.invalid", "a parameter has the wrong type", at=place))
