"""`POST /v1/charges` without the framework, for the usual case: a known key that may charge for every merchant.

Charges that come while others are made are made together, in one thread: they share their look at the keys, their audit
append, their commits and the wait for the disk. Every other request, from a key that memory does not know, that is
bound to merchants, acts for another account or may not charge, goes on to the route among the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from vedette.core.documents import load_json
from vedette.core.errors import DeniedError, VedetteError
from vedette.move.charges import ChargeItem
from vedette.move.idempotency import Answer
from vedette.prove.access import Principal, permit
from vedette.prove.audit import write_all
from vedette.prove.dlp import refuse_pans
from vedette.run.platform import Platform
from vedette.serve.body import MAX_BODY
from vedette.serve.door.plain import Call
from vedette.serve.errors import Reply, to_refusal
from vedette.serve.hot import Hot
from vedette.serve.line import Line
from vedette.serve.misuse import note
from vedette.serve.policy import bearer
from vedette.serve.shapes import JSON, MAX_DEPTH, check_key, check_media

RESOURCE, VERB = "charges", "write"
_AGAIN = {"idempotent-replayed": "true"}


@dataclass(frozen=True, slots=True)
class _Allowed:
    """One from a caller who may make it."""

    principal: Principal
    call: Call


class HotCharging(Hot):
    """What is answered to a request for a charge.

    Args:
        platform: What charges.
    """

    path = "/v1/charges"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._line: Line[_Allowed, Answer] = Line(self._charge, "charges")
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="charging-keys")
        self._proving: dict[str, Future[Principal]] = {}

    def takes(self, authorization: str | None) -> bool:
        """Whether this process has met the caller, who then might charge for every merchant."""
        try:
            principal = self._platform.access.recall(bearer(authorization), max_age=math.inf)
        except DeniedError:
            return False
        return principal is not None and _is_usual(principal)

    async def make(self, call: Call) -> Reply:
        """The charge, or what is wrong."""
        principal: Principal | None = None
        try:
            principal = await self._prove(bearer(call.authorization), call.origin)
            if not _is_usual(principal):  # it was, a moment ago
                refuse = partial(self._platform.access.authorize, principal, RESOURCE, VERB, origin=call.origin)
                await asyncio.get_running_loop().run_in_executor(self._threads, refuse)
            made = await self._line.do(_Allowed(principal, call))
        except VedetteError as error:
            if principal is not None:
                note(self._platform, principal, call.origin, error)
            return to_refusal(error)
        return Reply(made.status, made.body, _AGAIN if made.replayed else {})

    async def _prove(self, secret: str, origin: str) -> Principal:
        """Who asks; the database is asked about a key whose memory is old, once for all that come meanwhile."""
        recent = self._platform.access.recall(secret)
        if recent is not None:
            return recent
        asked = self._proving.get(secret)
        if asked is None:
            asked = self._threads.submit(self._platform.access.authenticate, secret, origin=origin)
            self._proving[secret] = asked
            asked.add_done_callback(lambda _done: self._proving.pop(secret, None))
        return await asyncio.wrap_future(asked)

    def _charge(self, allowed: Sequence[_Allowed]) -> list[Answer | VedetteError]:
        """What becomes of each; called in a thread."""
        audit, action = self._platform.audit, f"{RESOURCE}.{VERB}"
        write_all(
            self._platform.log,
            [
                audit.make(one.principal.tenant, action, actor=one.principal.id, origin=one.call.origin)
                for one in allowed
            ],
        )
        read = [_read(one) for one in allowed]
        wanted = [one for one in read if not isinstance(one, VedetteError)]
        made = iter(self._platform.charges.create_each(wanted) if wanted else [])
        return [one if isinstance(one, VedetteError) else next(made) for one in read]


def _is_usual(principal: Principal) -> bool:
    return not (principal.accounts or principal.platform or permit(principal, RESOURCE, VERB))


def _read(one: _Allowed) -> tuple[str, ChargeItem] | VedetteError:
    try:
        key = check_key(one.call.key)
        check_media(one.call.media, JSON)
        body = load_json(one.call.body, max_bytes=MAX_BODY, max_depth=MAX_DEPTH)
        refuse_pans(body)
    except VedetteError as error:
        return error
    return one.principal.tenant, ChargeItem(key, body, api_key=one.principal.id)
