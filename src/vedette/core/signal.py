"""Signal: what one rule or model said about one event."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.event import Entity


class Level(StrEnum):
    """Sigma's levels, lowest first; OCSF severity_id is the place in this list plus one."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def severity_id(self) -> int:
        """OCSF severity_id, 1 (informational) to 5 (critical)."""
        return list(Level).index(self) + 1


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A rule or model that fired on an event. Quiet and unknown results are not stored; `explain` recomputes them."""

    id: str
    """Deterministic: a hash of tenant, rule, version and event id, so that a replay makes the same signal."""
    tenant: str
    rule_id: str
    rule_version: str
    """Content hash of the rule."""
    title: str
    level: Level
    event_id: str
    event_time: int
    """Microseconds UTC, the event's own time."""
    source: str
    entities: tuple[Entity, ...] = ()
    tags: tuple[str, ...] = ()
    """Sigma tags, such as `attack.t1078`."""
    why: dict[str, Any] = {}
    """Field -> value of the clauses that made it fire."""
    shadow: bool = False
    """The rule runs in shadow: counted, and no alert."""
    alert: bool = True
    """False: it adds to the risk of what it is about, and makes no alert of its own."""
