"""Finds one event again: by what it is about, through the index of sightings and the log."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from vedette.core.decision import Decision
from vedette.core.event import Entity, Event
from vedette.core.signal import Signal
from vedette.run.parts import Parts
from vedette.run.pipeline import decided
from vedette.sense.sightings import TOPIC, Cursor, Sighting, read_events
from vedette.sense.times import TimeFormat, parse_time

MAX_LOOKED, MAX_SIGHTED = 3, 50
"""An event is looked for among the sightings of so many entities, so many of each."""
PAGE = 1_000
MAX_DECISIONS = 1_000_000
"""Decisions that are read through at most, the newest of each partition."""

_decode = msgspec.json.Decoder(Decision).decode


class Named(NamedTuple):
    """What a signal says of an event."""

    source: str
    id: str
    time: int
    """Event time, microseconds UTC."""
    place: int = 0
    """One more than its offset in its topic; 0 when the signal does not say."""


def named(signal: Signal) -> list[Named]:
    """The events that a signal is about: of a correlation, all that it counted."""
    noted = signal.why.get("events")
    members = [each for each in noted if isinstance(each, dict)] if isinstance(noted, list) else []
    found = [_named(one) for one in members if "time" in one]
    return found or [Named(signal.source, signal.event_id, signal.event_time)]


def _named(one: Mapping[str, Any]) -> Named:
    place = one.get("place")
    time = parse_time(str(one["time"]), TimeFormat.ISO)
    return Named(str(one.get("source", "")), str(one.get("id", "")), time, place if isinstance(place, int) else 0)


def seen_again(parts: Parts, tenant: str, one: Named, entities: Sequence[Entity]) -> Event | None:
    """The event that a signal names; of a decision, the payment that it is about. None when it is not at hand.

    Args:
        parts: Where.
        tenant: Whose.
        one: What the signal says of it.
        entities: What the signal names: the event is looked for among theirs where its place does not lead to it.
    """
    paid = one.source == decided.SOURCE
    for part in range(parts.log.partitions(TOPIC)) if one.place and not paid else ():
        for event in read_events(parts.log, [Sighting.at(part, one.place - 1, one.source)]):
            if (event.tenant, event.id, event.source) == (tenant, one.id, one.source):
                return event
    # A decision has the id and the time of its payment, whatever source that came by.
    return sighted(parts, tenant, "" if paid else one.source, one.id, one.time, entities)


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
