"""Detectors written in Python: what a notebook found, run by the same interface over the past and on the stream.

A detector is a pure function of one event's record; one that needs more of the event, such as its time, makes its
signals itself (`tell`). Backtest, stream, grouping and suppression treat its signals like those of a
rule. Installed packages offer detectors by the entry point group `vedette.detectors`; no content folder holds code.

Example:
    >>> def large(data):
    ...     return {"amount": data["amount"]} if data.get("amount", 0) > 1000 else None
    >>> found = Detector(id="large", version="1", title="Large", level=Level.LOW, sources=("product",), judge=large)
    >>> found.judge({"amount": 2000})
    {'amount': 2000}
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import msgspec

from vedette.core.errors import DefinitionError
from vedette.core.event import Event
from vedette.core.signal import Level, Signal
from vedette.judge.sigma.card import NO_CARD, Card
from vedette.prove.dlp import scrub

GROUP = "vedette.detectors"


@dataclass(frozen=True, slots=True)
class Detector:
    """One detector."""

    id: str
    version: str
    """Changes whenever its answers may."""
    title: str
    level: Level
    sources: tuple[str, ...]
    """Whose events it is asked about."""
    judge: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] = field(compare=False)
    """A record in its source's own field names -> why it fires; None: it does not. Pure: no clock, state or network."""
    tags: tuple[str, ...] = ()
    card: Card = NO_CARD
    path: str = ""
    tell: Callable[[Event], Iterable[Signal]] | None = field(default=None, compare=False)
    """In place of `judge`: all that it says of an event, each signal with an id that a replay gives again."""


def detected(detectors: Iterable[Detector], event: Event) -> list[Signal]:
    """What detectors say of one event."""
    found: list[Signal] = []
    for one in detectors:
        if one.tell is not None:
            found += one.tell(event) if event.source in one.sources else ()
            continue
        why = one.judge(event.data) if event.source in one.sources else None
        if why is not None:
            name = [event.tenant, one.id, one.version, event.id]
            found.append(
                Signal(
                    id=hashlib.sha256(msgspec.json.encode(name)).hexdigest()[:32],
                    tenant=event.tenant,
                    rule_id=one.id,
                    rule_version=one.version,
                    title=one.title,
                    level=one.level,
                    event_id=event.id,
                    event_time=event.event_time,
                    source=event.source,
                    entities=event.entities,
                    tags=one.tags,
                    why={key: scrub(value) if isinstance(value, str) else value for key, value in why.items()},
                )
            )
    return found


def installed() -> tuple[Detector, ...]:
    """The detectors that installed packages offer: each entry point names a `Detector`.

    Raises:
        DefinitionError: `detectors.entry.invalid`: one names something else, or an id twice.
    """
    found: dict[str, Detector] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        one = point.load()
        if not isinstance(one, Detector) or one.id in found:
            raise DefinitionError(
                "detectors.entry.invalid", f"`{point.value}` is no detector of its own", at=point.name
            )
        found[one.id] = one
    return tuple(found.values())
