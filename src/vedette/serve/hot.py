"""`POST /v1/decisions` as plain ASGI: authenticate, decode, decide, encode, and nothing else on the way.

The route exists among the others too, for its description and its policy; what is answered here is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from starlette.types import ASGIApp

from vedette.core.asgi import Receive, Scope, Send, answer
from vedette.core.documents import load_json
from vedette.core.errors import VedetteError
from vedette.judge.decisions.lines import to_json
from vedette.run.platform import Platform
from vedette.serve.body import MAX_BODY, read_body
from vedette.serve.errors import body_of, caught, headers_of, internal, status_of
from vedette.serve.gate import Gate
from vedette.serve.policy import ACCOUNT
from vedette.serve.routes.decisions import DecisionRequest
from vedette.serve.shapes import JSON, MAX_DEPTH, check_media, convert

PATH = "/v1/decisions"
RESOURCE, VERB = "decisions", "write"


class Reply(NamedTuple):
    """One JSON answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


class HotAnswers:
    """What is answered to a request for a decision, however it came.

    Args:
        platform: What decides.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._gate = Gate(platform.access, lambda code: platform.meters.failure("gate", code))

    async def answer(
        self, authorization: str | None, media: str | None, raw: bytes, client: tuple[str, int] | None
    ) -> Reply:
        """The answer to one request, counted, whatever happens."""
        meters = self._platform.meters
        work = self.decide(authorization, media, raw, client[0] if client else "")
        reply = await caught(work, failed=lambda name: meters.failure("serve", name), where=f"POST {PATH}")
        reply = reply or Reply(500, internal())
        meters.request(PATH, reply.status)
        return reply

    async def decide(self, authorization: str | None, media: str | None, raw: bytes, origin: str) -> Reply:
        """The decision, or what is wrong."""
        try:
            principal = await self._gate.admit(authorization, RESOURCE, VERB, origin)
            check_media(media, JSON)
            wanted: DecisionRequest = convert(load_json(raw, max_bytes=MAX_BODY, max_depth=MAX_DEPTH), DecisionRequest)
            desk = self._platform.desk
            decision = await desk.decide(desk.take(principal.tenant, wanted.event, wanted.source), checked=True)
        except VedetteError as error:
            return Reply(status_of(error), body_of(error), headers_of(error))
        return Reply(200, to_json(decision))


class HotDecisions:
    """Answers the decision route itself and hands every other request on.

    Args:
        answers: What is answered.
        app: The rest of the API.
    """

    def __init__(self, answers: HotAnswers, app: ASGIApp) -> None:
        self._answers = answers
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        hot = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
        # For another account: the long way, which asks what it gave.
        if not hot or _header(scope, ACCOUNT.encode()) is not None:
            await self._app(scope, receive, send)
            return
        scope["vedette_route"] = PATH
        client = scope["client"][0] if scope.get("client") else ""
        try:
            raw = await read_body(receive, MAX_BODY)
        except VedetteError as error:
            await answer(send, status_of(error), body_of(error), headers_of(error))
            return
        found = await self._answers.decide(
            _header(scope, b"authorization"), _header(scope, b"content-type"), raw, client
        )
        await answer(send, found.status, found.body, dict(found.headers))


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)
