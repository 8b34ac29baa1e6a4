"""Idempotency keys in front of any ASGI application.

A request with a key is carried out once: the first to claim it runs, and what it answered is stored and sent again,
byte for byte, to every later one. Around the application's own effects there are two commits, the claim before and the
answer after; a process that dies between them leaves a claim, and the next request with the key goes on from it.

For effects to happen exactly once in that case too, the application uses `scope["idempotency"]`, its `Attempt`: effects
made in `attempt.step(...)` commit with a recovery point, under the fence; or they carry `attempt.resource`, an id that
is the same in every attempt.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import msgspec

from vedette.core.asgi import App, Message, Receive, Scope, Send, answer
from vedette.core.db import Connection
from vedette.core.errors import ConflictError, DataError, VedetteError
from vedette.move.idempotency.nouns import Answer, Claim, Request, lease_lost
from vedette.move.idempotency.store import Idempotency

MAX_BODY: Final = 1024 * 1024
"""Longest body of a request or an answer, bytes: both are held in memory."""
RETRYABLE: Final = frozenset({408, 409, 425, 429, 502, 503, 504})
"""Answers that a retry may better: they are passed on and not stored. 500 is stored: nobody knows what happened."""
REPLAYED: Final = "idempotent-replayed"
_NOT_KEPT: Final = frozenset({"date", "server", "connection", "content-length", "transfer-encoding", "set-cookie"})
"""Headers that are of one exchange and not of the answer."""
_STATUS: Final = {
    "idempotency.key_missing": 400,
    "idempotency.key.invalid": 400,
    "idempotency.body.too_large": 413,
    "idempotency.mismatch": 422,
    "idempotency.key_in_use": 409,
    "idempotency.lease_lost": 409,
}


class Attempt:
    """One attempt at a request: what the application may know of it, and how it makes effects that happen once.

    Args:
        keys: Where the claim is kept.
        claim: Its right to go on.
    """

    def __init__(self, keys: Idempotency, claim: Claim) -> None:
        self._keys = keys
        self.claim = claim

    @property
    def resource(self) -> str:
        """An id that every attempt has."""
        return self.claim.resource

    @property
    def point(self) -> str:
        """The last recovery point that any attempt reached; empty at first."""
        return self.claim.point

    @contextmanager
    def step(self, point: str) -> Iterator[Connection]:
        """A transaction whose effects commit together with the recovery point, and renew the lease.

        Raises:
            ConflictError: `idempotency.lease_lost`: another attempt took over, and nothing was committed.
        """
        with self._keys.db.begin() as connection:
            # The fence first: a late holder is refused before it does anything, and holds the row until it commits.
            advanced = self._keys.advance(connection, self.claim, point)
            yield connection
        self.claim = advanced


class IdempotencyMiddleware:
    """Pure ASGI.

    Args:
        app: What is behind.
        keys: Where keys are kept.
        tenant_of: Whose request it is; keys of one tenant mean nothing to another.
        methods: Methods that have effects; others pass.
        required: Refuse a request without a key; else it passes.
        header: Name of the header, any case.
        retryable: Statuses that are not stored.
    """

    def __init__(
        self,
        app: App,
        keys: Idempotency,
        *,
        tenant_of: Callable[[Scope], str] = lambda _scope: "",
        methods: Sequence[str] = ("POST",),
        required: bool = True,
        header: str = "Idempotency-Key",
        retryable: frozenset[int] = RETRYABLE,
    ) -> None:
        self._app = app
        self._keys = keys
        self._tenant_of = tenant_of
        self._methods = frozenset(methods)
        self._required = required
        self._header = header.lower().encode()
        self._retryable = retryable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] not in self._methods:
            await self._app(scope, receive, send)
            return
        sent = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == self._header]
        if not sent and not self._required:
            await self._app(scope, receive, send)
            return
        if len(sent) != 1:
            await _refuse(send, DataError("idempotency.key_missing", "send one `Idempotency-Key` header"))
            return
        try:
            body = await _body(receive)
            if body is None:
                return
            given = await self._carry_out(scope, sent[0], body)
        except (DataError, ConflictError) as error:
            await _refuse(send, error)
            return
        await _send(send, given)

    async def _carry_out(self, scope: Scope, key: str, body: bytes) -> Answer:
        path = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope.get("query_string") else "")
        request = Request(self._tenant_of(scope), key, f"{scope['method']} {path}", body)
        found = await asyncio.to_thread(self._claim, request)
        if isinstance(found, Answer):
            return found
        attempt = Attempt(self._keys, found)
        try:
            given = await _run(self._app, {**scope, "idempotency": attempt}, body)
        except BaseException:
            # Whatever stopped it: the next request need not wait for the lease.
            await asyncio.shield(asyncio.to_thread(self._keys.release, attempt.claim))
            raise
        if given.status in self._retryable:
            await asyncio.to_thread(self._keys.release, attempt.claim)
            return given
        return await asyncio.to_thread(self._finish, request, attempt.claim, given)

    def _claim(self, request: Request) -> Claim | Answer:
        stored = self._keys.stored(request)
        if stored is not None:
            return stored
        resource = uuid.uuid4().hex
        return self._keys.db.together(lambda connection: self._keys.claim(connection, request, resource))

    def _finish(self, request: Request, claim: Claim, given: Answer) -> Answer:
        try:
            return self._keys.db.together(lambda connection: self._keys.finish(connection, claim, given))
        except ConflictError:
            # Taken over: the answer of this attempt is nobody's. What the other stored is.
            stored = self._keys.stored(request)
            if stored is None:
                raise lease_lost() from None
            return stored


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when the client went away."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise DataError("idempotency.body.too_large", f"a body has at most {MAX_BODY} bytes")
        if not message.get("more_body"):
            return b"".join(parts)


async def _run(app: App, scope: Scope, body: bytes) -> Answer:
    """The application's whole answer."""
    start: list[Message] = []
    parts: list[bytes] = []
    sent = [False]

    async def receive() -> Message:
        if sent[0]:
            return {"type": "http.disconnect"}
        sent[0] = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.append(message)
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))
            if sum(map(len, parts)) > MAX_BODY:
                raise DataError("idempotency.answer.too_large", f"an answer has at most {MAX_BODY} bytes")

    await app(scope, receive, send)
    headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in start[0].get("headers", ()))
    kept = tuple((name, value) for name, value in headers if name.lower() not in _NOT_KEPT)
    return Answer(start[0]["status"], b"".join(parts), headers=kept)


async def _send(send: Send, given: Answer) -> None:
    told = replace(given, headers=(*given.headers, (REPLAYED, "true"))) if given.replayed else given
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.headers]
    headers.append((b"content-length", str(len(told.body)).encode()))
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": told.body})


async def _refuse(send: Send, error: VedetteError) -> None:
    status = _STATUS.get(error.code, 500)
    headers = {"retry-after": "1"} if status == _STATUS["idempotency.key_in_use"] else {}
    await answer(send, status, msgspec.json.encode({"error": error.to_dict()}), headers)
