"""Limits in front of any ASGI application."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from vedette.core.asgi import App, Message, Receive, Scope, Send, answer
from vedette.core.clock import MICROS
from vedette.core.errors import TransientError, VedetteError
from vedette.move.limits.rate import Bucket, Limiter, Verdict
from vedette.move.limits.slots import Lease, Places, Shedder, Slotted

TOO_MANY, UNAVAILABLE = 429, 503
_QUOTED: Final = re.compile(r"[^ !#-\[\]-~]")


def rate_headers(verdict: Verdict) -> dict[str, str]:
    """`RateLimit-Policy`, `RateLimit`, and `Retry-After` where the request was refused.

    A policy is called by what stands before the first colon of its bucket's name, so that no id is told.

    Source: the IETF draft "RateLimit header fields for HTTP"; RFC 9110 section 10.2.3.
    """
    names = [_QUOTED.sub("", name.partition(":")[0]) for name, _ in verdict.buckets]
    stands = list(zip(names, verdict.standings, strict=True))
    headers = {
        "ratelimit-policy": ", ".join(f'"{name}";q={each.rate.burst};w={each.rate.window_s}' for name, each in stands),
        "ratelimit": ", ".join(f'"{name}";r={each.remaining};t={each.reset_s}' for name, each in stands),
    }
    return headers if verdict.passed else headers | {"retry-after": str(math.ceil(verdict.wait / MICROS))}


class LimitMiddleware:
    """Lets requests through that their limits allow; answers the others itself.

    A refusal is 429 with `Retry-After`; shed load is 503. Every answer tells how its limits stand.

    Args:
        app: What is protected.
        limiter: Who decides on rates.
        buckets: The buckets of a request, decided together; none: not limited.
        slots: Who counts requests that run; None: nobody.
        places: Where a request counts, and how many may.
        shedder: Sheds load; None: nobody does.
        critical: Whether a request may use the reserved share.
        fail_open: Let requests through while the store of limits does not answer. False answers 503.
        inline: Decide on the event loop itself: for limiters that never wait, where a thread costs more than they do.
        refused: Told the scope and the code of each refusal.
    """

    def __init__(
        self,
        app: App,
        *,
        limiter: Limiter,
        buckets: Callable[[Scope], Sequence[Bucket]],
        slots: Slotted | None = None,
        places: Callable[[Scope], Places] = lambda _scope: (),
        shedder: Shedder | None = None,
        critical: Callable[[Scope], bool] = lambda _scope: False,
        fail_open: bool = True,
        inline: bool = False,
        refused: Callable[[Scope, str], None] = lambda _scope, _code: None,
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._buckets = buckets
        self._slots = slots
        self._places = places
        self._shedder = shedder
        self._critical = critical
        self._fail_open = fail_open
        self._inline = inline
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[tuple[Slotted | Shedder, Lease]] = []
        try:
            # In a thread: a store that is slow to answer must not hold up other requests.
            admit = self._admit
            headers, refusal = admit(scope, held) if self._inline else await asyncio.to_thread(admit, scope, held)
            if refusal is not None:
                self._refused(scope, refusal.code)
                known = refusal.code.startswith("limits.") and refusal.code != "limits.load.shed"
                body = msgspec.json.encode({"error": refusal.to_dict()})
                await answer(send, TOO_MANY if known else UNAVAILABLE, body, headers)
                return
            told = [(name.encode(), value.encode()) for name, value in headers.items()]

            async def tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message.get("headers", ()), *told]}
                await send(message)

            await self._app(scope, receive, tell)
        finally:
            for who, lease in held:
                if self._inline:
                    _release(who, lease)
                else:
                    await asyncio.to_thread(_release, who, lease)

    def _admit(
        self, scope: Scope, held: list[tuple[Slotted | Shedder, Lease]]
    ) -> tuple[dict[str, str], TransientError | None]:
        """Headers of the answer, and why the request is refused. What it holds is noted as it is taken."""
        try:
            if self._shedder is not None:
                held.append((self._shedder, self._shedder.admit(critical=self._critical(scope))))
            places = self._places(scope)
            if self._slots is not None and places:
                held.append((self._slots, self._slots.acquire(places)))
            # Rates last: a request that is refused elsewhere takes no token.
            buckets = self._buckets(scope)
            if not buckets:
                return {}, None
            verdict = self._limiter.ask(buckets)
            return rate_headers(verdict), verdict.refusal
        except TransientError as error:
            if self._fail_open and not error.code.startswith("limits."):
                return {}, None
            return {"retry-after": str(max(math.ceil(error.retry_after), 1))}, error


def _release(who: Slotted | Shedder, lease: Lease) -> None:
    try:
        who.release(lease)
    except VedetteError:
        return  # the store does not answer: the lease ends by itself
