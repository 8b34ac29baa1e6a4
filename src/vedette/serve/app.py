"""The application: the hot decision route in front, everything else behind, one outermost handler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import vedette
from vedette.core.errors import DataError, NotFoundError, VedetteError
from vedette.run.platform import Platform
from vedette.serve import routes
from vedette.serve.asgi import App
from vedette.serve.body import bounded
from vedette.serve.errors import ERROR, body_of, headers_of, internal, outermost, status_of
from vedette.serve.hot import HotDecisions
from vedette.serve.policy import describe_security, policies, require_policies


def build_app(platform: Platform) -> App:
    """The ASGI application over a platform. Startup and shutdown run the platform's background work.

    Raises:
        DefinitionError: `serve.policy.missing` when a route has no policy.
    """
    api = build_api(platform)
    return outermost(platform, bounded(HotDecisions(platform, api)))


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
    api.add_exception_handler(VedetteError, _refused)
    api.add_exception_handler(HTTPException, _not_routed)
    api.add_exception_handler(RequestValidationError, _not_valid)
    api.add_exception_handler(Exception, _unforeseen)
    require_policies(api)
    describe_security(api.openapi(), policies(api.routes))
    return api


def _respond(error: VedetteError) -> Response:
    return Response(body_of(error), status_of(error), headers_of(error), "application/json")


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, VedetteError)  # noqa: S101 - registered for this type
    return _respond(error)


def _unforeseen(_request: Request, _error: Exception) -> Response:
    return Response(internal(), 500, media_type="application/json")


def _not_routed(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    if status == 405:  # noqa: PLR2004
        refusal = _respond(DataError("http.method", f"this path does not take {request.method}"))
        refusal.headers.update(getattr(error, "headers", None) or {})
        return refusal
    return _respond(NotFoundError("http.route", "there is nothing at this path", hint="GET /openapi.json lists all"))


def _not_valid(_request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    place = "$" + ".".join(str(part) for part in problems[0]["loc"]) if problems else "$"
    return _respond(DataError("request.field.invalid", "a parameter has the wrong type", at=place))
