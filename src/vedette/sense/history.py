"""Stretches of the event store: the rows of a tenant's source between two times, whole or day by day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from vedette.core.clock import DAY, from_datetime, to_iso
from vedette.core.event import Event
from vedette.sense.store import ENVELOPE, MAX_DATES, Store, to_event

_MICRO = pa.timestamp("us", tz="UTC")
_BATCH = 5_000


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

    def days(self) -> Iterator[Span]:
        """The span cut at midnights UTC."""
        start = self.start
        while start < self.end:
            end = min(self.end, (start // DAY + 1) * DAY)
            yield Span(start, end)
            start = end


def rows(store: Store, tenant: str, source: str, span: Span) -> pads.Dataset | None:
    """The rows of a span, as a dataset that lists only files of its days; None when the source has no table."""
    if source not in store.names() or span.empty:
        return None
    days = span.end // DAY - span.start // DAY
    dates = [to_iso(day.start)[:10] for day in span.days()] if days <= MAX_DATES else None
    found = store.table(source).dataset([tenant], dates)
    return found.filter(_inside(span)) if found else None


def count(store: Store, tenant: str, source: str, span: Span) -> int:
    """How many events are stored of a span."""
    found = rows(store, tenant, source, span)
    return found.count_rows() if found else 0


def stored_days(store: Store, tenant: str, source: str) -> list[Span]:
    """The days of which a tenant's source has events, in order."""
    delta = store.table(source).delta() if source in store.names() else None
    found: list[Mapping[str, str]] = delta.partitions(file_pruning_predicate=[("tenant", "=", tenant)]) if delta else []
    starts = sorted({from_datetime(datetime.fromisoformat(one["date"]).replace(tzinfo=UTC)) for one in found})
    return [Span(start, start + DAY) for start in starts]


def events(dataset: pads.Dataset) -> Iterator[list[Event]]:
    """The events of a dataset, in pieces; in no order."""
    scanner = dataset.scanner(columns=ENVELOPE.names, batch_size=_BATCH, batch_readahead=1, fragment_readahead=1)
    for batch in scanner.to_batches():
        if batch.num_rows:
            yield to_events(batch)


def to_events(batch: pa.RecordBatch) -> list[Event]:
    """The events of rows that hold the envelope and `data`."""
    return [to_event(row) for row in batch.select(ENVELOPE.names).to_pylist()]


def _inside(span: Span) -> pc.Expression:
    time = pc.field("event_time")
    return (time >= pa.scalar(span.start, _MICRO)) & (time < pa.scalar(span.end, _MICRO))
