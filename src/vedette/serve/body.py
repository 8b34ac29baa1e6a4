"""Bounds on what a request may send, kept before anything reads it."""

from __future__ import annotations

from vedette.core.asgi import App, Message, Receive, Scope, Send
from vedette.core.errors import DataError
from vedette.serve.errors import give, to_refusal

MAX_BODY = 1 << 20
"""Bytes of one request body; those of `PUSHES` have `MAX_PUSH`."""
MAX_PUSH = 16 << 20
"""Bytes of one push of events or intelligence, and of one batch of charges."""
PUSHES = {"/v1/events", "/v1/charges/batch"}


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        DataError: `http.body.too_large` as soon as more than `limit` bytes have come, however they were announced;
            `http.body.cut` when the client went away.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DataError("http.body.cut", "the client went away before the body ended")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise DataError(
                "http.body.too_large", f"the body is larger than {limit} bytes", hint="send it in several requests"
            )
        if not message.get("more_body"):
            return b"".join(parts)


def bounded(app: App) -> App:
    """Reads every body within its bound first, so that no handler sees an oversized one."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "DELETE", "OPTIONS"}:
            await app(scope, receive, send)
            return
        pushed = scope["path"] in PUSHES or scope["path"].startswith("/taxii2/")
        limit = MAX_PUSH if pushed else MAX_BODY
        try:
            body = await read_body(receive, limit)
        except DataError as error:
            await give(send, to_refusal(error), connection="close")
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, replay, send)

    return guarded
