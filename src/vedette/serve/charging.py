"""`POST /v1/charges` as plain ASGI for the usual case: a known key that may charge for every merchant.

Charges that come while others are made are made together, in one thread: they share their look at the keys, their audit
append, their commits and the wait for the disk. Every other request, from a key that memory does not know, that is
bound to merchants or that may not charge, goes on to the route among the others, which answers the same.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from starlette.types import ASGIApp

from vedette.core.asgi import App, Receive, Scope, Send, answer
from vedette.core.documents import load_json
from vedette.core.errors import DeniedError, VedetteError
from vedette.move.charges import ChargeItem
from vedette.move.idempotency import Answer
from vedette.prove.access import Principal, permit
from vedette.prove.audit import write_all
from vedette.prove.dlp import refuse_pans
from vedette.run.platform import Platform
from vedette.serve.body import MAX_BODY, read_body
from vedette.serve.errors import body_of, headers_of, status_of
from vedette.serve.line import Line
from vedette.serve.misuse import note
from vedette.serve.policy import bearer
from vedette.serve.shapes import JSON, MAX_DEPTH, check_key, check_media

PATH = "/v1/charges"
RESOURCE, VERB = "charges", "write"


@dataclass(frozen=True, slots=True)
class _Asked:
    """One charge, from a caller who may make it."""

    principal: Principal
    origin: str
    key: str | None
    media: str | None
    body: bytes


class HotCharges:
    """Answers the route of single charges where it can, and hands every other request on.

    Args:
        platform: What charges.
        app: The rest of the API.
    """

    def __init__(self, platform: Platform, app: ASGIApp | App) -> None:
        self._platform = platform
        self._app = app
        self._line: Line[_Asked, Answer] = Line(self._charge, "charges")
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="charging-keys")
        self._proving: dict[str, Future[Principal]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        hot = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
        origin = scope["client"][0] if scope.get("client") else ""
        try:
            principal = await self._known(_header(scope, b"authorization"), origin) if hot else None
        except DeniedError as error:
            scope["vedette_route"] = PATH
            await _refuse(send, error)
            return
        if principal is None:
            await self._app(scope, receive, send)
            return
        scope["vedette_route"] = PATH
        try:
            body = await read_body(receive, MAX_BODY)
            key, media = _header(scope, b"idempotency-key"), _header(scope, b"content-type")
            made = await self._line.do(_Asked(principal, origin, key, media, body))
        except VedetteError as error:
            note(self._platform, principal, origin, error)
            await _refuse(send, error)
            return
        await answer(send, made.status, made.body, {"idempotent-replayed": "true"} if made.replayed else {})

    async def _known(self, authorization: str | None, origin: str) -> Principal | None:
        """A caller that this process has met, who may charge for every merchant.

        Raises:
            DeniedError: `access.key.invalid` for one that may not ask any more.
        """
        access = self._platform.access
        try:
            secret = bearer(authorization)
        except DeniedError:
            return None
        principal = access.recall(secret)
        if principal is None and access.recall(secret, max_age=math.inf) is not None:
            principal = await self._prove(secret, origin)
        usual = principal is not None and not principal.accounts and not permit(principal, RESOURCE, VERB)
        return principal if usual else None

    async def _prove(self, secret: str, origin: str) -> Principal:
        """Asks the database about a key whose memory is old: once for all requests that come meanwhile."""
        asked = self._proving.get(secret)
        if asked is None:
            asked = self._threads.submit(self._platform.access.authenticate, secret, origin=origin)
            self._proving[secret] = asked
            asked.add_done_callback(lambda _done: self._proving.pop(secret, None))
        return await asyncio.wrap_future(asked)

    def _charge(self, asked: Sequence[_Asked]) -> list[Answer | VedetteError]:
        """What becomes of each; called in a thread."""
        audit, action = self._platform.audit, f"{RESOURCE}.{VERB}"
        allowed = [audit.make(one.principal.tenant, action, actor=one.principal.id, origin=one.origin) for one in asked]
        write_all(self._platform.log, allowed)
        read = [_read(one) for one in asked]
        wanted = [one for one in read if not isinstance(one, VedetteError)]
        made = iter(self._platform.charges.create_each(wanted) if wanted else [])
        return [one if isinstance(one, VedetteError) else next(made) for one in read]


def _read(one: _Asked) -> tuple[str, ChargeItem] | VedetteError:
    try:
        key = check_key(one.key)
        check_media(one.media, JSON)
        body = load_json(one.body, max_bytes=MAX_BODY, max_depth=MAX_DEPTH)
        refuse_pans(body)
    except VedetteError as error:
        return error
    return one.principal.tenant, ChargeItem(key, body, api_key=one.principal.id)


async def _refuse(send: Send, error: VedetteError) -> None:
    await answer(send, status_of(error), body_of(error), headers_of(error))


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)
