"""A log that passes by: places are counted, only the newest decisions are kept. For runs that record nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from vedette.core.clock import Clock
from vedette.core.log import Durability, Log, Record

KEPT_RECORDS = 20_000
"""Newest records of a topic that can still be read: about 100 MB of decisions with a hundred features."""


class PassingLog(Log):
    """In memory and bounded. Reading from a place that has passed gives nothing.

    Args:
        clock: Gives records their time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[str, int] = {}
        self._kept: dict[str, deque[Record]] = {}

    def append(
        self, topic: str, key: str, values: Sequence[bytes], *, durability: Durability = Durability.WRITTEN
    ) -> int:
        """See `Log.append`; durable as asked, until the process ends."""
        return self.submit(topic, key, values, durability=durability).result()

    def submit(
        self,
        topic: str,
        key: str,
        values: Sequence[bytes],
        *,
        durability: Durability = Durability.WRITTEN,  # noqa: ARG002 - nothing here outlives the process
    ) -> Future[int]:
        """See `Log.submit`; done at once."""
        first = self.end(topic, 0)
        kept = self._kept.setdefault(topic, deque(maxlen=KEPT_RECORDS))
        now = self._clock.now()
        kept.extend(Record(offset, key, value, now) for offset, value in enumerate(values, first))
        self._ends[topic] = first + len(values)
        done: Future[int] = Future()
        done.set_result(first)
        return done

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:  # noqa: ARG002 - there is one
        """Up to `limit` records from `offset` on; empty when that place has passed."""
        kept = self._kept.get(topic)
        if not kept or offset < kept[0].offset:
            return []
        start = offset - kept[0].offset
        return [kept[place] for place in range(start, min(start + limit, len(kept)))]

    def end(self, topic: str, partition: int) -> int:  # noqa: ARG002 - there is one
        """See `Log.end`."""
        return self._ends.get(topic, 0)

    def partitions(self, topic: str) -> int:  # noqa: ARG002 - every topic has one
        """One."""
        return 1

    def partition_of(self, topic: str, key: str) -> int:  # noqa: ARG002 - there is one
        """The one."""
        return 0

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Nobody comes back to this log."""

    def committed(self, group: str, topic: str, partition: int) -> int:  # noqa: ARG002 - see commit
        """Always the beginning."""
        return 0

    def close(self) -> None:
        """Forgets everything."""
        self._kept.clear()
