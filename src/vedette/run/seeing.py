"""Finds one event again: by what it is about, through the index of sightings and the log."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from vedette.core.decision import Decision
from vedette.core.event import Entity, Event
from vedette.run import decided
from vedette.run.parts import Parts
from vedette.sense.sightings import Cursor

MAX_LOOKED, MAX_SIGHTED = 3, 50
"""An event is looked for among the sightings of so many entities, so many of each."""
PAGE = 1_000
MAX_DECISIONS = 1_000_000
"""Decisions that are read through at most, the newest of each partition."""

_decode = msgspec.json.Decoder(Decision).decode


def sighted(  # noqa: PLR0917 - what names an event
    parts: Parts, tenant: str, source: str, event_id: str, event_time: int, entities: Sequence[Entity]
) -> Event | None:
    """An event that the index knows by what it is about."""
    before = Cursor(event_time + 1, 0)
    for entity in entities[:MAX_LOOKED]:
        page = parts.sightings.timeline(tenant, entity, source=source, before=before, limit=MAX_SIGHTED)
        now = [sighting for sighting in page if sighting.time == event_time]
        for event in parts.sightings.events(parts.log, tenant, entity, now):
            if event.id == event_id:
                return event
    return None


def decisions_of(parts: Parts, tenant: str, event_ids: Collection[str]) -> dict[str, Event]:
    """Decisions as rules read them, by the ids of their events; reads the log of decisions through."""
    found: dict[str, Event] = {}
    for part in range(parts.log.partitions(decided.TOPIC) if event_ids else 0):
        place = max(0, parts.log.end(decided.TOPIC, part) - MAX_DECISIONS)
        while records := parts.log.read(decided.TOPIC, part, place, PAGE):
            place = records[-1].offset + 1
            for record in records:
                try:
                    decision = _decode(record.value)
                except msgspec.MsgspecError:
                    continue
                if decision.tenant == tenant and decision.event_id in event_ids:
                    found[decision.event_id] = Event(
                        id=decision.event_id,
                        tenant=tenant,
                        source=decided.SOURCE,
                        event_time=decision.time,
                        ingest_time=record.time,
                        data=decided.view(decision),
                    )
    return found
