"""`POST /v1/decisions` as plain ASGI: authenticate, decode, decide, encode, and nothing else on the way.

The route exists among the others too, for its description and its policy; what is answered here is the same.
"""

from __future__ import annotations

from starlette.types import ASGIApp

from vedette.core.asgi import Receive, Scope, Send, answer
from vedette.core.documents import load_json
from vedette.core.errors import VedetteError
from vedette.judge.decisions.lines import to_json
from vedette.run.platform import Platform
from vedette.serve.body import MAX_BODY, read_body
from vedette.serve.errors import body_of, headers_of, status_of
from vedette.serve.gate import Gate
from vedette.serve.routes.decisions import DecisionRequest
from vedette.serve.shapes import JSON, MAX_DEPTH, check_media, convert

PATH = "/v1/decisions"
RESOURCE, VERB = "decisions", "write"


class HotDecisions:
    """Answers the decision route itself and hands every other request on.

    Args:
        platform: What decides.
        app: The rest of the API.
    """

    def __init__(self, platform: Platform, app: ASGIApp) -> None:
        self._platform = platform
        self._gate = Gate(platform.access, lambda code: platform.meters.failure("gate", code))
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["vedette_route"] = PATH
        try:
            origin = scope["client"][0] if scope.get("client") else ""
            principal = await self._gate.admit(_header(scope, b"authorization"), RESOURCE, VERB, origin)
            check_media(_header(scope, b"content-type"), JSON)
            raw = await read_body(receive, MAX_BODY)
            wanted: DecisionRequest = convert(load_json(raw, max_bytes=MAX_BODY, max_depth=MAX_DEPTH), DecisionRequest)
            desk = self._platform.desk
            decision = await desk.decide(desk.take(principal.tenant, wanted.event, wanted.source))
        except VedetteError as error:
            await answer(send, status_of(error), body_of(error), headers_of(error))
            return
        await answer(send, 200, to_json(decision))


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)
