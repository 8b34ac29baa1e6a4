"""Stretches of the event store: which there are, and how many events lie in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from vedette.core.clock import DAY, from_datetime, to_iso
from vedette.sense.store import Store


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Event time from `start` up to but not including `end`, microseconds UTC."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{to_iso(self.start)}..{to_iso(self.end)}"

    @property
    def empty(self) -> bool:
        """True when nothing can lie in it."""
        return self.end <= self.start

    def both(self, other: Span) -> Span:
        """What lies in both."""
        return Span(max(self.start, other.start), min(self.end, other.end))

    def cut(self, width: int) -> Iterator[Span]:
        """The span cut at the multiples of a width, microseconds."""
        start = self.start
        while start < self.end:
            end = min(self.end, (start // width + 1) * width)
            yield Span(start, end)
            start = end


def stored_days(store: Store, tenant: str, source: str) -> list[Span]:
    """The days of which a tenant's source has events, in order."""
    delta = store.table(source).delta() if source in store.names() else None
    mine = [("tenant", "=", tenant)]
    found: list[Mapping[str, str]] = delta.partitions(file_pruning_predicate=mine) if delta else []
    starts = sorted({from_datetime(datetime.fromisoformat(one["date"]).replace(tzinfo=UTC)) for one in found})
    return [Span(start, start + DAY) for start in starts]


def counts(store: Store, tenant: str, source: str, span: Span, width: int) -> dict[int, int]:
    """How many events are stored of each part of a span, by the part's start; parts without events are left out.

    Args:
        store: The event store.
        tenant: Whose.
        source: Of which source.
        span: Which.
        width: Of the parts, which begin at its multiples; microseconds.
    """
    found: Counter[int] = Counter()
    rows = None if span.empty else store.rows(tenant, source, span.start, span.end)
    for batch in rows.scanner(columns=["event_time"]).to_batches() if rows else ():
        times = batch.column(0).cast(pa.int64()).to_numpy()
        starts, number = np.unique(times // width * width, return_counts=True)
        found.update(dict(zip(starts.tolist(), number.tolist(), strict=True)))
    return dict(found)
