"""Who asks, on the hot route: from memory when it is fresh, else from the database, which may not hold the answer up.

A stalled disk or database costs one share of the deadline, once. While it lasts, a caller that was known before is
believed for a while longer; one that was not is told to come again. A refusal is recorded as every other, and answered
without waiting for the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from vedette.core.errors import DeniedError, TransientError, VedetteError
from vedette.prove.access import Access, Principal, permit
from vedette.serve.policy import bearer

SHARE_S = 0.008
"""How long one call usually waits for the database or the audit log."""
GRACE_S = 30.0
"""How long a caller is believed without asking, while the database does not answer."""
RENEWED = 0.5
"""Part of the time for which a caller is believed after which one who asks is looked up again."""
THREADS = 4
MAX_WAITING = 64
"""Questions to the database that may be open; further callers are answered from memory at once."""


class Gate:
    """Authenticates and authorizes without ever blocking the event loop.

    Args:
        access: Proves and decides.
        stalled: Told the code each time something did not answer in time.
        share_s: How long one call waits for the database or the audit log.
    """

    def __init__(self, access: Access, stalled: Callable[[str], None], share_s: float = SHARE_S) -> None:
        self._access = access
        self._share_s = share_s
        self._stalled = stalled
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gate")
        self._open: dict[str, Future[Principal]] = {}
        self._records: set[asyncio.Future[None]] = set()

    def known(self, header: str | None, resource: str, verb: str, origin: str) -> Principal | None:
        """The caller, when memory tells who it is and that it is allowed to; None where `admit` has to look.

        A caller who keeps asking is looked up again before its memory is too old: nobody waits for that.

        Raises:
            DeniedError: `access.unauthenticated`.
        """
        secret, soon = bearer(header), self._access.max_age * RENEWED
        principal = self._access.recall(secret, max_age=soon)
        if principal is None and (principal := self._access.recall(secret)) is not None:
            self._ask(secret, origin, soon)
        return None if principal is None or permit(principal, resource, verb) else principal

    async def admit(self, header: str | None, resource: str, verb: str, origin: str) -> Principal:
        """The caller, allowed to do it. An allowed call leaves no audit record here: what it makes is one.

        Raises:
            DeniedError: `access.unauthenticated`, `access.key.invalid`, `access.denied`.
            TransientError: `access.stalled` when nobody can tell in time.
        """
        secret = bearer(header)
        principal = self._access.recall(secret) or await self._prove(secret, origin)
        if permit(principal, resource, verb):
            await self._deny(principal, resource, verb, origin)
        return principal

    async def _prove(self, secret: str, origin: str) -> Principal:
        asked = self._open.get(secret)
        if asked is None and (asked := self._ask(secret, origin)) and (found := await self._wait(asked)):
            return found
        # An earlier question is open: it has had its share, so this call does not wait again for a caller known before.
        known = self._access.recall(secret, max_age=GRACE_S)
        if known is None and asked is not None and (found := await self._wait(asked)):
            return found
        self._stalled("access.stalled")
        if known is None:
            raise TransientError("access.stalled", "the key cannot be checked at the moment", retry_after=1.0)
        return known

    def _ask(self, secret: str, origin: str, max_age: float | None = None) -> Future[Principal] | None:
        """Asks the database who this is, in a thread; None when that is being asked, or too much is."""
        if secret in self._open or len(self._open) >= MAX_WAITING:
            return None

        def prove() -> Principal:
            return self._access.authenticate(secret, origin=origin, max_age=max_age)

        asked = self._open[secret] = self._threads.submit(prove)
        asked.add_done_callback(lambda done: self._answered(secret, done))
        return asked

    async def _wait(self, asked: Future[Principal]) -> Principal | None:
        """The answer; None when it does not come within the share, or nobody can tell: the database is damaged."""
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asked)), self._share_s)
        except DeniedError:
            raise
        except (TimeoutError, VedetteError):
            return None

    def _answered(self, secret: str, done: Future[Principal]) -> None:
        self._open.pop(secret, None)
        if not done.cancelled():
            done.exception()  # looked at, or the loop would tell of an error that nobody took

    async def _deny(self, principal: Principal, resource: str, verb: str, origin: str) -> None:
        def refuse() -> None:
            self._access.authorize(principal, resource, verb, origin=origin)

        if len(self._records) < MAX_WAITING:
            recorded = asyncio.get_running_loop().run_in_executor(self._threads, refuse)
            self._records.add(recorded)
            recorded.add_done_callback(self._recorded)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(recorded), self._share_s)
        raise DeniedError("access.denied", f"not allowed: `{resource}` `{verb}`")

    def _recorded(self, done: asyncio.Future[None]) -> None:
        self._records.discard(done)
        if not done.cancelled():
            done.exception()
