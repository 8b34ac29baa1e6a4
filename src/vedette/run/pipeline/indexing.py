"""The stages that keep `index.db`: the register of decisions and the sightings of entities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vedette.core.event import Entity
from vedette.core.log import Log
from vedette.judge.decisions import register
from vedette.judge.decisions.register import Entities, Register
from vedette.run.pipeline.stream import Stage
from vedette.sense import sightings
from vedette.sense.sightings import Sightings
from vedette.sense.sources import Source

PAYMENTS = "product"
"""Source whose field names a charge has too, whatever the source its model reads it as."""


def indexing(log: Log, decisions: Register, seen: Sightings) -> tuple[Stage, ...]:
    """Decisions to rows, events to sightings, each exactly once: a place moves in the transaction of its effect."""
    return (
        Stage(register.NAME, register.TOPIC, lambda: decisions.consume(log), decisions.place),
        Stage(sightings.NAME, sightings.TOPIC, lambda: seen.consume(log), seen.place),
    )


def decided_entities(sources: Mapping[str, Source]) -> Entities:
    """What a decided event is about: by the file of its source, and by the names that charges have."""

    def find(source: str, data: dict[str, Any]) -> tuple[Entity, ...]:
        files = [sources[name] for name in dict.fromkeys((PAYMENTS, source)) if name in sources]
        return tuple(dict.fromkeys(entity for file in files for entity in file.entities(data)))

    return find
