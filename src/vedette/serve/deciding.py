"""`POST /v1/decisions` without the framework: authenticate, decode, decide, encode."""

from __future__ import annotations

from vedette.core.decision import Decision
from vedette.core.documents import load_json
from vedette.core.errors import VedetteError
from vedette.core.event import Event
from vedette.judge.decisions.lines import to_json
from vedette.prove.access import Principal
from vedette.run.payments.scoring import Hold
from vedette.run.platform import Platform
from vedette.serve.body import MAX_BODY
from vedette.serve.door.plain import Call
from vedette.serve.errors import Reply, done, internal, to_refusal
from vedette.serve.gate import SHARE_S, Gate
from vedette.serve.hot import Hot, Told
from vedette.serve.routes.decisions import DecisionRequest
from vedette.serve.shapes import JSON, MAX_DEPTH, check_media, convert

RESOURCE, VERB = "decisions", "write"


class HotDeciding(Hot):
    """What is answered to a request for a decision.

    Args:
        platform: What decides.
    """

    path = "/v1/decisions"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._gate = Gate(
            platform.access, lambda code: platform.meters.failure("gate", code), SHARE_S * platform.settings.patience
        )

    def begin(self, call: Call, told: Told, hold: Hold | None = None) -> bool:
        """Answers at once, when the caller is known and the tenant's service is open."""
        taken = done(lambda: self._begin(call, told, hold), failed=self.failed, where=self.where)
        if taken is None:
            self._tell(internal(), told)
        return taken is not False

    def _begin(self, call: Call, told: Told, hold: Hold | None) -> bool:
        try:
            principal = self._gate.known(call.authorization, RESOURCE, VERB, call.origin)
            if principal is None:
                return False
            event = self._take(principal, call)
            return self._platform.desk.submit(event, lambda answer: self._tell(_reply(answer), told), hold)
        except VedetteError as error:
            self._tell(to_refusal(error), told)
        return True

    def _tell(self, reply: Reply, told: Told) -> None:
        self.count(reply)
        told(reply)

    async def make(self, call: Call) -> Reply:
        """The decision, or what is wrong."""
        try:
            principal = await self._gate.admit(call.authorization, RESOURCE, VERB, call.origin)
            return _reply(await self._platform.desk.decide(self._take(principal, call), checked=True))
        except VedetteError as error:
            return to_refusal(error)

    def _take(self, principal: Principal, call: Call) -> Event:
        check_media(call.media, JSON)
        body = load_json(call.body, max_bytes=MAX_BODY, max_depth=MAX_DEPTH)
        wanted: DecisionRequest = convert(body, DecisionRequest)
        return self._platform.desk.take(principal.tenant, wanted.event, wanted.source)


def _reply(answer: Decision | VedetteError) -> Reply:
    return Reply(200, to_json(answer)) if isinstance(answer, Decision) else to_refusal(answer)
