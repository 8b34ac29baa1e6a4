"""`POST /v1/decisions` as plain ASGI: authenticate, decode, decide, encode, and nothing else on the way.

The route exists among the others too, for its description and its policy; what is answered here is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from starlette.types import ASGIApp

from vedette.core.asgi import Receive, Scope, Send, answer
from vedette.core.decision import Decision
from vedette.core.documents import load_json
from vedette.core.errors import VedetteError
from vedette.core.event import Event
from vedette.judge.decisions.lines import to_json
from vedette.prove.access import Principal
from vedette.run.platform import Platform
from vedette.serve.body import MAX_BODY, read_body
from vedette.serve.errors import body_of, caught, done, headers_of, internal, status_of
from vedette.serve.gate import Gate
from vedette.serve.policy import ACCOUNT
from vedette.serve.routes.decisions import DecisionRequest
from vedette.serve.shapes import JSON, MAX_DEPTH, check_media, convert

PATH = "/v1/decisions"
WHERE = f"POST {PATH}"
RESOURCE, VERB = "decisions", "write"


class Reply(NamedTuple):
    """One JSON answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


Told = Callable[[Reply], None]
"""Hears the answer to one request."""


class HotAnswers:
    """What is answered to a request for a decision, however it came.

    Args:
        platform: What decides.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._gate = Gate(platform.access, lambda code: platform.meters.failure("gate", code))

    def begin(self, authorization: str | None, media: str | None, raw: bytes, told: Told) -> bool:
        """Answers without waiting for anything, when the caller is known and the tenant's service is open.

        Args:
            authorization: Header of that name.
            media: Header `Content-Type`.
            raw: The body.
            told: Hears the answer, now or within the deadline.

        Returns:
            False when `answer` has to be awaited instead; `told` hears nothing then.
        """
        taken = done(lambda: self._begin(authorization, media, raw, told), failed=self._failed, where=WHERE)
        if taken is None:
            self._tell(Reply(500, internal()), told)
        return taken is not False

    def _begin(self, authorization: str | None, media: str | None, raw: bytes, told: Told) -> bool:
        try:
            principal = self._gate.known(authorization, RESOURCE, VERB)
            if principal is None:
                return False
            event = self._take(principal, media, raw)
            return self._platform.desk.submit(event, lambda answer: self._tell(_reply(answer), told))
        except VedetteError as error:
            self._tell(to_refusal(error), told)
        return True

    def _tell(self, reply: Reply, told: Told) -> None:
        self._platform.meters.request(PATH, reply.status)
        told(reply)

    def _failed(self, name: str) -> None:
        self._platform.meters.failure("serve", name)

    async def answer(
        self, authorization: str | None, media: str | None, raw: bytes, client: tuple[str, int] | None
    ) -> Reply:
        """The answer to one request, counted, whatever happens."""
        work = self.decide(authorization, media, raw, client[0] if client else "")
        reply = await caught(work, failed=self._failed, where=WHERE)
        reply = reply or Reply(500, internal())
        self._platform.meters.request(PATH, reply.status)
        return reply

    async def decide(self, authorization: str | None, media: str | None, raw: bytes, origin: str) -> Reply:
        """The decision, or what is wrong."""
        try:
            principal = await self._gate.admit(authorization, RESOURCE, VERB, origin)
            return _reply(await self._platform.desk.decide(self._take(principal, media, raw), checked=True))
        except VedetteError as error:
            return to_refusal(error)

    def _take(self, principal: Principal, media: str | None, raw: bytes) -> Event:
        check_media(media, JSON)
        wanted: DecisionRequest = convert(load_json(raw, max_bytes=MAX_BODY, max_depth=MAX_DEPTH), DecisionRequest)
        return self._platform.desk.take(principal.tenant, wanted.event, wanted.source)


def _reply(answer: Decision | VedetteError) -> Reply:
    return Reply(200, to_json(answer)) if isinstance(answer, Decision) else to_refusal(answer)


def to_refusal(error: VedetteError) -> Reply:
    """The answer to a request that is refused."""
    return Reply(status_of(error), body_of(error), headers_of(error))


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
        if not hot or header_of(scope, ACCOUNT.encode()) is not None:
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
            header_of(scope, b"authorization"), header_of(scope, b"content-type"), raw, client
        )
        await answer(send, found.status, found.body, dict(found.headers))


def header_of(scope: Scope, wanted: bytes) -> str | None:
    """The first header of that lower-case name."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)
