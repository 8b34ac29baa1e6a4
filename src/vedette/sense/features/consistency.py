"""Consistency: what was served is computed again from the log, and compared to the bit.

Every fetch that a decision rests on is kept with the decision. A share of them, chosen by the hash of an entity's key
so that an entity is always in or always out, is computed anew by an engine that has seen nothing but the log. They
differ when an event was lost, counted twice or taken in another order, when state was damaged, or when definitions
changed under a name. The check needs no clock and no access to what serves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.sense.features.engine import Engine
from vedette.sense.features.values import to_joint

WHOLE = 1 << 32
MAX_TOLD = 20
"""Mismatches that are kept in full; all are counted."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One value that was served otherwise than the log says."""

    event_id: str
    seq: int
    feature: str
    served: float | None
    """None: missing."""
    computed: float | None


@dataclass(slots=True)
class Consistency:
    """What a check found."""

    events: int = 0
    """Of the log."""
    sampled: int = 0
    """Fetches compared."""
    values: int = 0
    mismatched: int = 0
    """Values that differ."""
    features: dict[str, int] = field(default_factory=dict)
    """How often each feature differed."""
    found: list[Mismatch] = field(default_factory=list)
    """The first of them."""

    def raise_on_mismatch(self) -> None:
        """Raises DataError `features.consistency.mismatch` when a value differs."""
        if self.mismatched:
            first = self.found[0]
            message = f"{self.mismatched:,} of {self.values:,} served values differ from the log"
            hint = f"first: `{first.feature}` was {first.served}, the log says {first.computed}"
            raise DataError("features.consistency.mismatch", message, hint=hint, at=f"{first.event_id}@{first.seq}")


def is_sampled(key: str, share: float) -> bool:
    """Whether an entity is in the sample: always the same answer for the same key and share.

    Args:
        key: The entity's id.
        share: 0..1.
    """
    place = int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")
    return place < share * WHOLE


def check_consistency(
    engine: Engine,
    log: Iterable[Event | Label],
    served: Mapping[str, Mapping[str, float | None]],
    *,
    share: float = 1.0,
) -> Consistency:
    """Compares served features with those that the log gives.

    Args:
        engine: A fresh one, or one that knows the history before the log; it is used up.
        log: Events and labels in log order.
        served: Event id -> feature -> value, None where missing: what was fetched when it was decided.
        share: Of entities that are compared, by the hash of the key of the event's first keyed view, 0..1.
    """
    report = Consistency()
    keys = next((view.keys for view in engine.features.views if view.keys), ())
    for one in log:
        if isinstance(one, Label):
            engine.learn(one)
            continue
        report.events += 1
        told = served.get(one.id)
        if told and is_sampled(to_joint(one.data, keys) or one.id, share):
            report.sampled += 1
            _compare(report, one, told, dict(zip(engine.names, engine.fetch(one).tolist(), strict=True)))
        engine.apply(one)
    return report


def _compare(
    report: Consistency, event: Event, told: Mapping[str, float | None], computed: Mapping[str, float]
) -> None:
    for name, number in computed.items():
        if name not in told:
            continue
        expected = None if math.isnan(number) else number
        report.values += 1
        # Equal floats have equal bits here: no feature is a negative zero.
        if told[name] != expected:
            report.mismatched += 1
            report.features[name] = report.features.get(name, 0) + 1
            if len(report.found) < MAX_TOLD:
                report.found.append(Mismatch(event.id, event.seq, name, told[name], expected))
