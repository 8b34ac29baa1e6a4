"""Errors over HTTP: one JSON shape, and the status that each kind of error has."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.types import ASGIApp

from vedette.core.asgi import App, Receive, Scope, Send, answer
from vedette.core.errors import (
    ConflictError,
    DataError,
    DefinitionError,
    DeniedError,
    NotFoundError,
    PermanentError,
    TransientError,
    UnsupportedError,
    VedetteError,
)
from vedette.prove.dlp import scrub
from vedette.run.platform import Platform

T = TypeVar("T")

_LOG = logging.getLogger("vedette.serve")

UNAUTHENTICATED = 401

ERROR: dict[str, Any] = {
    "description": "What was wrong, in the one shape of errors.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["code", "message"],
                        "properties": {
                            "code": {"type": "string", "description": "Stable; programs may depend on it."},
                            "message": {"type": "string"},
                            "hint": {"type": "string"},
                            "place": {"type": "string", "description": "JSON path, or a place in a text."},
                            "retryable": {"type": "boolean"},
                        },
                    }
                },
            }
        }
    },
}
"""Description of every error answer, for OpenAPI."""

_BY_CODE: dict[str, int] = {
    "access.unauthenticated": 401,
    "access.key.invalid": 401,
    "access.app.invalid": 401,
    "access.token.invalid": 401,
    "access.person.invalid": 401,
    "idempotency.key_missing": 400,
    "idempotency.mismatch": 422,
    "http.body.too_large": 413,
    "http.media_type": 415,
    "http.method": 405,
    "http.route": 404,
    "log.file.damaged": 500,
    "core.db.damaged": 500,
    "log.closed": 503,
    "session.host": 421,
    "access.login.refused": 401,
    "access.login.throttled": 429,
    "limits.load.shed": 503,
    "http.internal": 500,
}
_BY_PREFIX: tuple[tuple[str, int], ...] = (("limits.", 429),)
_BY_TYPE: tuple[tuple[type[VedetteError], int], ...] = (
    (NotFoundError, 404),
    (DeniedError, 403),
    (ConflictError, 409),
    (TransientError, 503),
    (DataError, 400),
    (DefinitionError, 422),
    (UnsupportedError, 422),
    (PermanentError, 422),
)


def status_of(error: VedetteError) -> int:
    """HTTP status of an error: by its code where the code says more than the type, else by its type."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for prefix, status in _BY_PREFIX:
        if error.code.startswith(prefix):
            return status
    return next((status for kind, status in _BY_TYPE if isinstance(error, kind)), 500)


def headers_of(error: VedetteError) -> dict[str, str]:
    """Headers that go with an error: `Retry-After` in whole seconds, `WWW-Authenticate` with a 401."""
    wait = getattr(error, "retry_after", 0.0)
    headers = {"retry-after": str(math.ceil(wait))} if wait > 0 else {}
    bearer = status_of(error) == UNAUTHENTICATED and not error.code.startswith("access.login.")
    return headers | ({"www-authenticate": "Bearer"} if bearer else {})


def body_of(error: VedetteError) -> bytes:
    """`{"error": {code, message, hint?, place?, retryable?}}` as UTF-8 JSON.

    Texts are scrubbed of card numbers and keys: a place may repeat what stood in the path.
    """
    shape = {name: scrub(value) if isinstance(value, str) else value for name, value in error.to_dict().items()}
    return msgspec.json.encode({"error": shape})


class Reply(NamedTuple):
    """One JSON answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


def to_refusal(error: VedetteError) -> Reply:
    """The answer to a request that is refused."""
    return Reply(status_of(error), body_of(error), headers_of(error))


async def give(send: Send, reply: Reply, **more: str) -> None:
    """Sends an answer, with further headers (`cache_control="no-store"`)."""
    named = {name.replace("_", "-"): value for name, value in more.items()}
    await answer(send, reply.status, reply.body, {**reply.headers, **named})


def unforeseen() -> PermanentError:
    """What the client is told of an error that nobody foresaw."""
    return PermanentError("http.internal", "something went wrong on our side")


def internal() -> Reply:
    """The answer to what nobody foresaw."""
    return to_refusal(unforeseen())


def outermost(platform: Platform, app: ASGIApp | App) -> App:
    """Counts every answer, and turns what nobody foresaw into a 500 that tells the client nothing about it."""
    meters = platform.meters
    return guard(
        app,
        failed=lambda name: meters.failure("serve", name),
        answered=lambda scope, status: meters.request(_template(scope), status),
    )


def guard(app: ASGIApp | App, *, failed: Callable[[str], None], answered: Callable[[Scope, int], None]) -> App:
    """Turns what nobody foresaw into a 500 that tells the client nothing about it.

    Args:
        app: What answers.
        failed: Hears the type of each unforeseen error.
        answered: Hears the status of each answer, 0 when the client went away before one.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        begun = 0

        async def watch(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = message["status"]
            await send(message)

        try:
            await app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001 - the outermost guard: logged by type only, never shown to the client
            failed(type(error).__name__)
            _LOG.error("unforeseen %s in %s %s", type(error).__name__, scope["method"], _template(scope))
            if not begun:
                begun = 500
                await give(send, internal())
        answered(scope, begun)

    return handle


async def caught(work: Awaitable[T], *, failed: Callable[[str], None], where: str) -> T | None:
    """What the work gives; None when something happened that nobody foresaw.

    Args:
        work: Awaited.
        failed: Hears the type of an unforeseen error.
        where: Method and path, for the log.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - the outermost guard of the short way: logged by type only
        _note(error, failed, where)
        return None


def done(work: Callable[[], T], *, failed: Callable[[str], None], where: str) -> T | None:
    """`caught` for work that nobody has to wait for."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the outermost guard of the short way: logged by type only
        _note(error, failed, where)
        return None


def _note(error: Exception, failed: Callable[[str], None], where: str) -> None:
    failed(type(error).__name__)
    _LOG.error("unforeseen %s in %s", type(error).__name__, where)


def _template(scope: Scope) -> str:
    """The route's template as the description spells it, so that ids in paths make no new label values."""
    route = scope.get("route")
    return str(getattr(route, "path_format", "")) or str(scope.get("vedette_route", "unrouted"))
