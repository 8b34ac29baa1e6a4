"""What a limit is, and what is answered when one is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, Self

from vedette.core.clock import MICROS
from vedette.core.errors import DefinitionError, TransientError

MAX_WINDOW: Final = 2**52
"""Largest `burst` times period, in microseconds: Redis counts in doubles, which are exact up to twice that."""


class _Rate(NamedTuple):
    count: int  # type: ignore[assignment] # the field goes before the method of tuples
    period_s: int
    burst: int
    step: int
    room: int


class Rate(_Rate):
    """At most `count` requests a `period_s` seconds in the long run, `burst` at once.

    A tuple, because it is part of the key of every bucket and its hash is then as fast as can be. `step` and `room` are
    what one request and a whole burst take, in microseconds times `count`.

    Raises:
        DefinitionError: `limits.rate.invalid` when a number is not positive, or they are absurd together.
    """

    __slots__ = ()

    def __new__(cls, count: int, period_s: int = 1, burst: int = 1) -> Self:
        """A checked rate."""
        if min(count, period_s, burst) < 1:
            raise DefinitionError("limits.rate.invalid", "count, period and burst must be at least 1")
        if max(burst, count) * period_s * MICROS > MAX_WINDOW:
            raise DefinitionError("limits.rate.invalid", "this burst and period are too large to count exactly")
        step = period_s * MICROS
        return super().__new__(cls, count, period_s, burst, step, burst * step)

    def __repr__(self) -> str:
        return f"Rate(count={self.count}, period_s={self.period_s}, burst={self.burst})"

    @property
    def window_s(self) -> int:
        """Seconds in which an exhausted burst is whole again, rounded up."""
        return -(-self.burst * self.period_s // self.count)


Bucket = tuple[str, Rate]
"""Name and rate; names are the caller's, such as `key:acme:k1`."""


class Standing(NamedTuple):
    """How one bucket stands."""

    rate: Rate
    remaining: int
    """Requests that would pass now, one after the other."""
    reset_s: int
    """Seconds until the burst is whole again, rounded up."""


class Verdict(NamedTuple):
    """The answer to one request."""

    wait: int
    """Microseconds until it would pass; 0: it passed, and every bucket was charged. Above 0 none was."""
    buckets: Sequence[Bucket]
    until: Sequence[int]
    """Arrival time of each bucket afterwards, in microseconds times `count`."""
    now: int
    """By the same clock, microseconds."""

    @property
    def passed(self) -> bool:
        """True when the request may go on."""
        return self.wait == 0

    @property
    def standings(self) -> list[Standing]:
        """How each bucket stands afterwards."""
        pairs = zip(self.buckets, self.until, strict=True)
        return [_standing(rate, max(until - self.now * rate.count, 0)) for (_, rate), until in pairs]

    @property
    def refusal(self) -> TransientError | None:
        """The error of a refused request: `limits.rate.exceeded`, `retry_after` the exact seconds until all pass."""
        if not self.wait:
            return None
        hint = "slow down and retry after the time given"
        return TransientError("limits.rate.exceeded", "too many requests", hint=hint, retry_after=self.wait / MICROS)

    def demand(self) -> None:
        """Returns when the request passed.

        Raises:
            TransientError: As `refusal`.
        """
        refusal = self.refusal
        if refusal is not None:
            raise refusal


class Limiter(Protocol):
    """Decides on requests; in this process (`Limits`) or for many (`RedisLimits`)."""

    def ask(self, buckets: Sequence[Bucket]) -> Verdict:
        """Passes one request through every bucket, or through none."""


def _standing(rate: Rate, ahead: int) -> Standing:
    return Standing(rate, max((rate.room - ahead) // rate.step, 0), math.ceil(ahead / (rate.count * MICROS)))
