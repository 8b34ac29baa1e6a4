"""Limits of an installation: counted in this process, or with Redis for all of them, and what happens while it is away.

Policy: while Redis does not answer, each process counts by itself. So n processes let at most n times the rate through,
nobody is refused for want of Redis, and nobody waits for it more than once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from vedette.core.clock import Clock
from vedette.core.errors import TransientError
from vedette.core.redis import Redis
from vedette.move.limits import Bucket, Limiter, Limits, RedisLimits, Verdict

WAIT_S: Final = 0.05
"""How long one answer of Redis is waited for."""
AGAIN_S: Final = 1.0
"""After how long Redis is asked again when it did not answer."""


class SharedLimits:
    """Buckets in Redis, and in this process while Redis does not answer.

    Args:
        shared: Where all processes count.
        clock: Its monotonic side says when to ask again.
        failed: Told the code each time Redis did not answer.
    """

    def __init__(self, shared: Limiter, clock: Clock, failed: Callable[[str], None]) -> None:
        self._shared = shared
        self._alone = Limits(clock)
        self._clock = clock
        self._failed = failed
        self._away_until = 0.0

    def ask(self, buckets: Sequence[Bucket]) -> Verdict:
        """Passes one request through every bucket, or through none. Never raises for Redis."""
        if self._clock.monotonic() < self._away_until:
            return self._alone.ask(buckets)
        try:
            return self._shared.ask(buckets)
        except TransientError as error:
            self._away_until = self._clock.monotonic() + AGAIN_S
            self._failed(error.code)
            return self._alone.ask(buckets)


def open_limits(
    url: str, clock: Clock, *, failed: Callable[[str], None], close: Callable[[Callable[[], None]], object]
) -> Limiter:
    """The limiter of a setting: `limits_url`, or empty for one of this process.

    Args:
        url: Address of Redis.
        clock: The machine's.
        failed: Told the code each time Redis did not answer.
        close: Takes what is to be called in the end.

    Raises:
        DefinitionError: `core.redis.url`.
    """
    if not url:
        return Limits(clock)
    redis = Redis(url, timeout_s=WAIT_S)
    close(redis.close)
    return SharedLimits(RedisLimits(redis), clock, failed)
