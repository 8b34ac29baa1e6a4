"""Rate limits by GCRA in one process: smooth, exact, one integer a bucket.

A bucket remembers only its theoretical arrival time: when it would be empty again. A request passes when that is at
most `burst - 1` intervals ahead. Several buckets (the key's and the account's) are decided together: if one refuses,
none is charged. All arithmetic is in integers, so ten thousand requests drift by nothing.

State lives in the process. Two processes that serve one account allow twice the rate; `RedisLimits` is for those.

Source: the generic cell rate algorithm of ITU-T I.371.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence
from typing import Final

from vedette.core.clock import MICROS, Clock
from vedette.move.limits.rate import Bucket, Verdict

MAX_BUCKETS: Final = 1_000_000
"""Most buckets kept. Beyond it the ones nearest to empty are forgotten first: they would refuse last."""


class Limits:
    """The buckets of one process. Thread-safe.

    Args:
        clock: Its monotonic side is read; a step of wall time changes nothing.
        max_buckets: Bounds the memory, about 200 bytes a bucket.
    """

    def __init__(self, clock: Clock, *, max_buckets: int = MAX_BUCKETS) -> None:
        self._monotonic = clock.monotonic
        self._max = max_buckets
        # A list of one: arrival time x rate.count, so that intervals are whole. Changed in place, which hashes no key.
        self._until: dict[Bucket, list[int]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._until)

    def ask(self, buckets: Sequence[Bucket]) -> Verdict:
        """Passes one request through every bucket, or through none. A bucket stands in it once."""
        held = self._until
        get = held.get
        with self._lock:
            now = round(self._monotonic() * MICROS)
            cells, after, full = [], [], False
            for bucket in buckets:
                count, _, _, step, room = bucket[1]
                start = now * count
                cell = get(bucket)
                if cell is None:
                    cell = held[bucket] = [0]
                cells.append(cell)
                until = cell[0]
                until = step + (until if until > start else start)  # noqa: FURB136 - max() would take a third of the time
                after.append(until)
                if until - start > room:
                    full = True
            if not full:
                for cell, until in zip(cells, after, strict=True):
                    cell[0] = until
            if len(held) > self._max:
                self._forget(now)
        return self._refusal(buckets, after, now) if full else Verdict(0, buckets, after, now)

    @staticmethod
    def _refusal(buckets: Sequence[Bucket], after: Sequence[int], now: int) -> Verdict:
        wait, before = 0, []
        for (_, rate), until in zip(buckets, after, strict=True):
            over = until - now * rate.count - rate.room
            wait = max(wait, -(-over // rate.count))
            before.append(until - rate.step)
        return Verdict(wait, buckets, before, now)

    def take(self, buckets: Sequence[Bucket]) -> None:
        """As `ask`, and raises when the request does not pass.

        Raises:
            TransientError: `limits.rate.exceeded` with `retry_after`, the exact seconds until all would pass.
        """
        self.ask(buckets).demand()

    def _forget(self, now: int) -> None:
        # An arrival time in the past means an empty bucket: no different from one never seen.
        self._until = {bucket: cell for bucket, cell in self._until.items() if cell[0] > now * bucket[1].count}
        if len(self._until) > self._max:
            keep = self._max * 9 // 10
            self._until = dict(
                heapq.nlargest(keep, self._until.items(), key=lambda item: item[1][0] / item[0][1].count)
            )
