"""Sightings of indicators: noted once each, and what they renew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.core.clock import DAY
from vedette.core.db import Connection, insert_new
from vedette.sense.intel.library_tables import NEVER, OBJECT, SIGHTING, to_kept
from vedette.sense.intel.writing import Place, write

RENEWED = DAY
"""A sighting renews an indicator's confidence when the last renewal is so long ago."""

Sighted = Sequence[tuple[str, str, int, Mapping[str, Any]]]
"""Id of a sighting, indicator, event time in microseconds UTC, and what is noted of it."""


def sight(connection: Connection, tenant: str, now: int, seen: Sighted) -> int:
    """Notes sightings, and renews the indicators; gives how many were new."""
    fresh, newest = 0, dict[str, int]()
    for own, indicator, time, what in seen:
        row = {"indicator": indicator, "time": time, "body": msgspec.json.encode(what).decode()}
        if insert_new(connection, SIGHTING, tenant=tenant, id=own, **row):
            fresh += 1
            newest[indicator] = max(time, newest.get(indicator, 0))
    place = Place(connection, tenant, now)
    for indicator, time in newest.items():
        here = (OBJECT.c.tenant == tenant) & (OBJECT.c.id == indicator) & (OBJECT.c.superseded == NEVER)
        held = connection.execute(OBJECT.select().where(here)).first()
        if held is None or time < max(held.seen, held.valid_from) + RENEWED:
            continue
        kept = to_kept(held)
        assert kept.object.indicator is not None  # noqa: S101 - only indicators are seen
        renewed = msgspec.structs.replace(kept.object.indicator, seen=time)
        write(connection, kept.collection, [msgspec.structs.replace(kept.object, indicator=renewed)], place, ours=True)
    place.keep()
    return fresh
