"""The hot routes: answered in front of the framework, and nothing else on the way.

Each route exists among the others too, for its description, its policy and every request that is not the usual one;
what is answered here is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp

from vedette.core.asgi import App, Receive, Scope, Send
from vedette.core.errors import VedetteError
from vedette.run.payments.scoring import Hold
from vedette.run.platform import Platform
from vedette.serve.body import MAX_BODY, read_body
from vedette.serve.door.plain import ACCOUNT, Call
from vedette.serve.errors import Reply, caught, give, internal, to_refusal

Told = Callable[[Reply], None]
"""Hears the answer to one request."""


class Hot(ABC):
    """What answers one route with method POST, however a request came.

    Args:
        platform: What does what is asked for.
    """

    path: str

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def takes(self, authorization: str | None) -> bool:  # noqa: ARG002 - some ask who it is
        """Whether the caller's requests are answered here."""
        return True

    def begin(self, call: Call, told: Told, hold: Hold | None = None) -> bool:  # noqa: ARG002 - some can
        """Answers without waiting for anything, when it can.

        Args:
            call: The request.
            told: Hears the answer, now or within the deadline.
            hold: Takes what is to be decided, from a caller without an event loop.

        Returns:
            False when `answer` has to be awaited instead; `told` hears nothing then.
        """
        return False

    @abstractmethod
    async def make(self, call: Call) -> Reply:
        """The answer, or what is wrong."""

    async def answer(self, call: Call) -> Reply:
        """The answer to a request that only comes by here: counted, whatever happens."""
        reply = await caught(self.make(call), failed=self.failed, where=self.where) or internal()
        self.count(reply)
        return reply

    @property
    def where(self) -> str:
        """Method and path."""
        return f"POST {self.path}"

    def count(self, reply: Reply) -> None:
        """Counts an answer."""
        self._platform.meters.request(self.path, reply.status)

    def failed(self, name: str) -> None:
        """Counts an error that nobody foresaw."""
        self._platform.meters.failure("serve", name)


def shell(routes: Sequence[Hot], app: ASGIApp | App) -> App:
    """Answers these routes, and hands every other request on."""
    by_path = {route.path: route for route in routes}

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        route = by_path.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        # For another account: the long way, which asks what it gave.
        if route is None or _header(scope, ACCOUNT) is not None or not route.takes(_header(scope, "authorization")):
            await app(scope, receive, send)
            return
        scope["vedette_route"] = route.path
        try:
            reply = await route.make(_call(scope, await read_body(receive, MAX_BODY)))
        except VedetteError as error:
            reply = to_refusal(error)
        await give(send, reply)

    return serve


def _call(scope: Scope, body: bytes) -> Call:
    authorization, media, key = (_header(scope, name) for name in ("authorization", "content-type", "idempotency-key"))
    return Call(authorization, media, body, key, scope["client"][0] if scope.get("client") else "")


def _header(scope: Scope, wanted: str) -> str | None:
    """The first header of that lower-case name."""
    name = wanted.encode()
    return next((value.decode("latin-1") for each, value in scope["headers"] if each == name), None)
