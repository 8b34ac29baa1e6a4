"""Receiving webhooks: verified, once, and answered so that the sender does the right thing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from vedette.core.asgi import App, Receive, Scope, Send, answer
from vedette.core.clock import MICROS, Clock
from vedette.core.errors import DataError, TransientError, VedetteError
from vedette.move.dedup import Dedup
from vedette.move.webhooks.signature import TOLERANCE_S, Scheme, Verified, WebhookError, verify

MAX_BODY: Final = 1024 * 1024
_UNPROVEN: Final = {f"webhooks.signature.{name}" for name in ("missing", "mismatch", "stale", "early")}
_OURS: Final = ("webhooks.secret.", "webhooks.scheme.", "webhooks.tolerance.")

Handle = Callable[[Any, Verified, bytes], object]
"""What an event does: (transaction of the mark or None, what the signature proves, body). Runs in a thread."""
Refused = Callable[[Scope, str, str], None]
"""Told the scope, the code and the message id (empty when unproven) of a refusal, and of each repeated delivery."""


class WebhookMiddleware:
    """Takes the webhooks of one path, and lets every other request through to the application.

    | Answer | When | A sender |
    |---|---|---|
    | 200 `taken` | the effect is done and its mark is kept | is content |
    | 200 `repeated` | the id was done before | is content: it was a retry, or a replay without effect |
    | 400 | a header or the id has no usable form | has a fault |
    | 401 | no signature, or none that fits this body at this time | has another secret, or is another |
    | 405, 413 | not a POST; too large | |
    | 409 with `Retry-After` | the same id is being worked on | tries again |
    | 503 with `Retry-After` | a part of ours does not answer; nothing was done | tries again |
    | 500 | the secret, scheme or tolerance of this receiver cannot be used | tries again |

    What the handler raises leaves nothing behind: the next attempt does it anew.

    Args:
        app: Everything else.
        path: Where webhooks arrive.
        scheme: The one the sender was told to use.
        secrets: All that are valid now; asked each time, so a rotation is seen.
        dedup: Remembers ids; with `SqlDedup` the handler works in the transaction of the mark.
        handle: The effect.
        clock: For the tolerance.
        tolerance: Seconds, both ways.
        max_body: Bytes.
        refused: Told of refusals and repeats, for detections.
    """

    def __init__(
        self,
        app: App,
        *,
        path: str,
        scheme: Scheme,
        secrets: Callable[[], Sequence[str]],
        dedup: Dedup,
        handle: Handle,
        clock: Clock,
        tolerance: int = TOLERANCE_S,
        max_body: int = MAX_BODY,
        refused: Refused = lambda _scope, _code, _id: None,
    ) -> None:
        self._app = app
        self._path = path
        self._scheme: Scheme = scheme
        self._secrets = secrets
        self._dedup = dedup
        self._handle = handle
        self._clock = clock
        self._tolerance = tolerance
        self._max_body = max_body
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST":
            await answer(send, 405, _error(DataError("http.method", "webhooks are sent by POST")), {"allow": "POST"})
            return
        body = await self._read(receive)
        if body is None:
            error = DataError("http.body.too_large", f"more than {self._max_body} bytes")
            await answer(send, 413, _error(error), {"connection": "close"})
            return
        await answer(send, *await asyncio.to_thread(self._take, scope, body))

    async def _read(self, receive: Receive) -> bytes | None:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                return None
            more = message.get("more_body", False) and message["type"] == "http.request"
        return b"".join(parts)

    def _take(self, scope: Scope, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer."""
        try:
            found = verify(
                body,
                scope["headers"],
                scheme=self._scheme,
                secrets=self._secrets(),
                tolerance=self._tolerance,
                now=self._clock.now() // MICROS,
            )
        except WebhookError as error:
            self._refused(scope, error.code, "")
            status = 500 if error.code.startswith(_OURS) else 401 if error.code in _UNPROVEN else 400
            return status, _error(error), {}
        try:
            fresh = self._dedup.once(found.message_id, lambda connection: self._handle(connection, found, body))
        except TransientError as error:
            status = 409 if error.code == "dedup.id.in_flight" else 503
            return status, _error(error), {"retry-after": str(max(math.ceil(error.retry_after), 1))}
        if not fresh:
            self._refused(scope, "webhooks.message.repeated", found.message_id)
        return 200, msgspec.json.encode({"status": "taken" if fresh else "repeated"}), {}


def _error(error: VedetteError) -> bytes:
    return msgspec.json.encode({"error": error.to_dict()})
