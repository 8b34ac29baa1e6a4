"""Rate limits by GCRA: smooth, exact, one integer a bucket.

A bucket remembers only its theoretical arrival time: when it would be empty again. A request passes when that is at
most `burst - 1` intervals ahead. Several buckets (the key's and the account's) are decided together: if one refuses,
none is charged. All arithmetic is in integers, so ten thousand requests drift by nothing.

State lives in the process. Two processes that serve one account allow twice the rate.

Source: the generic cell rate algorithm of ITU-T I.371.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vedette.core.clock import MICROS, Clock
from vedette.core.errors import DefinitionError, TransientError

MAX_BUCKETS: Final = 1_000_000
"""Most buckets kept. Beyond it the ones nearest to empty are forgotten first: they would refuse last."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` requests a `period_s` seconds in the long run, `burst` at once.

    Raises:
        DefinitionError: `limits.rate.invalid` when a number is not positive.
    """

    count: int
    period_s: int = 1
    burst: int = 1

    def __post_init__(self) -> None:
        if min(self.count, self.period_s, self.burst) < 1:
            raise DefinitionError("limits.rate.invalid", "count, period and burst must be at least 1")


class Limits:
    """The buckets of one process. Thread-safe.

    Args:
        clock: Its monotonic side is read; a step of wall time changes nothing.
        max_buckets: Bounds the memory, about 200 bytes a bucket.
    """

    def __init__(self, clock: Clock, *, max_buckets: int = MAX_BUCKETS) -> None:
        self._clock = clock
        self._max = max_buckets
        self._until: dict[tuple[str, Rate], int] = {}  # arrival time x rate.count, so that intervals are whole
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._until)

    def take(self, buckets: Sequence[tuple[str, Rate]]) -> None:
        """Passes one request through every bucket, or through none.

        Args:
            buckets: Name and rate of each; names are the caller's, such as `key:acme:k1`.

        Raises:
            TransientError: `limits.rate.exceeded` with `retry_after`, the exact seconds until all would pass.
        """
        with self._lock:
            now = round(self._clock.monotonic() * MICROS)
            ahead = {bucket: max(self._until.get(bucket, 0), now * bucket[1].count) for bucket in buckets}
            wait = max((_wait(until, now, rate) for (_, rate), until in ahead.items()), default=0)
            if wait > 0:
                raise TransientError(
                    "limits.rate.exceeded",
                    "too many requests",
                    hint="slow down and retry after the time given",
                    retry_after=wait / MICROS,
                )
            for bucket, until in ahead.items():
                self._until[bucket] = until + bucket[1].period_s * MICROS
            if len(self._until) > self._max:
                self._forget(now)

    def _forget(self, now: int) -> None:
        # An arrival time in the past means an empty bucket: no different from one never seen.
        self._until = {bucket: until for bucket, until in self._until.items() if until > now * bucket[1].count}
        if len(self._until) > self._max:
            keep = self._max * 9 // 10
            self._until = dict(heapq.nlargest(keep, self._until.items(), key=lambda item: item[1] / item[0][1].count))


def _wait(until: int, now: int, rate: Rate) -> int:
    """Microseconds until a bucket takes one more; 0 or less: now."""
    early = until - (rate.burst - 1) * rate.period_s * MICROS
    return -((now * rate.count - early) // rate.count)
