"""The stage that puts events of the log into the event store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from vedette.core.errors import DataError, VedetteError
from vedette.core.event import Event
from vedette.core.log import Log, Record
from vedette.run.metrics import Meters
from vedette.run.pipeline.stream import Stage
from vedette.sense.sources import Source
from vedette.sense.store import Store
from vedette.sense.tables import Mark

GROUP = "store"
BATCH = 10_000
"""Records taken at most at once. A commit costs some 50 ms for each source in it, however few records it has."""
TOPIC = "event"

_decode = msgspec.json.Decoder(Event).decode


def storing(log: Log, store: Store, sources: Mapping[str, Source], meters: Meters) -> Stage:
    """Events to tables, each once.

    A batch becomes one commit for each source in it, marked with the offset after the batch. Only then the group's
    place moves. After a kill in between, the batch is read again and the tables that have it say so.

    Args:
        log: Topic `event`.
        store: Where the tables are.
        sources: Those with a table; events of other sources (labels, charges) live in the log alone.
        meters: Counts what was stored and what was there already.
    """

    def step() -> int:
        return sum(_partition(log, store, sources, meters, part) for part in range(log.partitions(TOPIC)))

    return Stage(GROUP, TOPIC, step, lambda part: log.committed(GROUP, TOPIC, part))


def _partition(log: Log, store: Store, sources: Mapping[str, Source], meters: Meters, part: int) -> int:
    start = log.committed(GROUP, TOPIC, part)
    records = log.read(TOPIC, part, start, BATCH)
    if not records:
        return 0
    end = records[-1].offset + 1
    by_source: dict[str, list[Event]] = defaultdict(list)
    for record in records:
        event = to_event(record)
        if isinstance(event, Event) and event.source in sources:
            by_source[event.source].append(event)
        elif isinstance(event, VedetteError):
            meters.failure(GROUP, event.code)
    for name in sorted(by_source):
        events = _after(store, name, by_source[name], Mark(f"{GROUP}/{TOPIC}/{part}", end))
        added = store.append(sources[name], events, mark=Mark(f"{GROUP}/{TOPIC}/{part}", end))
        meters.source(name, "stored", added.stored)
        meters.source(name, "duplicate", added.duplicates)
    log.commit(GROUP, TOPIC, part, end)
    return len(records)


def _after(store: Store, name: str, events: list[Event], mark: Mark) -> list[Event]:
    """The events past the place that the table already has: the log may have grown between a kill and now."""
    delta = store.table(name).delta()
    held = delta.transaction_version(mark.app) if delta else None
    return [event for event in events if held is None or event.seq > held]


def to_event(record: Record) -> Event | DataError:
    """The event in a record, with its place in the log as `seq`."""
    try:
        event = _decode(record.value)
    except msgspec.DecodeError as error:
        return DataError("log.event.malformed", f"no event: {error}", at=f"{TOPIC}@{record.offset}")
    msgspec.structs.force_setattr(event, "seq", record.offset + 1)  # nobody else holds it yet
    return event
