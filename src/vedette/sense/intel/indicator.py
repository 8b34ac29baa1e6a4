"""Indicator: a value that somebody holds for a sign of an attack, and for how long that may be believed.

**Decay.** Confidence halves each half-life of the indicator's kind, counted from when it began to be valid or was last
seen, whichever is later. Below `FLOOR` it matches no more, as after its own `valid_until`. An address changes hands in
weeks; the hash of a file never means another file, and is only less and less in use.
"""

from __future__ import annotations

import math
import uuid
from enum import StrEnum

import msgspec

from vedette.core.clock import DAY
from vedette.sense.intel.patterns import Formula
from vedette.sense.intel.values import Kind

HALF_LIFE = {
    Kind.IPV4: 30 * DAY,
    Kind.IPV6: 30 * DAY,
    Kind.URL: 60 * DAY,
    Kind.DOMAIN: 90 * DAY,
    Kind.EMAIL: 180 * DAY,
    Kind.FILE: 730 * DAY,
}
"""Kind -> microseconds in which confidence halves."""
FLOOR = 10
"""Confidence below which an indicator matches no more, 0..100."""
USUAL = 50
"""Confidence of an indicator that does not tell its own."""
FOREVER = 1 << 62
"""A time that never comes."""
_NAMESPACE = uuid.UUID("6f0b7b7e-27a5-5a0e-9d0c-3c2f1b6c4e51")


class Tlp(StrEnum):
    """Traffic Light Protocol 2.0: with whom it may be shared, the freest first."""

    CLEAR = "clear"
    GREEN = "green"
    AMBER = "amber"
    AMBER_STRICT = "amber+strict"
    RED = "red"

    def within(self, other: Tlp) -> bool:
        """True when what is marked so may go where `other` may go."""
        order = list(Tlp)
        return order.index(self) <= order.index(other)


class Indicator(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an indicator."""

    id: str
    """`indicator--` and a UUID."""
    formula: Formula
    """Alternatives of canonical values; empty for one that cannot be matched, and `held` says why."""
    name: str = ""
    valid_from: int = 0
    """Event time from which it holds, microseconds UTC."""
    valid_until: int = 0
    """Event time from which it holds no more; 0: not told."""
    confidence: int = USUAL
    """0..100, as of `valid_from`."""
    tlp: Tlp = Tlp.AMBER
    labels: tuple[str, ...] = ()
    """Such as `malicious-activity`, a family, `attack.t1566`."""
    held: str = ""
    """Why it is held back and matches nothing; empty for one that matches."""
    seen: int = 0
    """Newest event time it was seen at, as far as that renewed it; 0: never."""
    version: int = 0
    """When its author changed it, microseconds UTC."""

    @property
    def kind(self) -> Kind | None:
        """Of its first value."""
        return kind_of(self.value) if self.formula else None

    @property
    def value(self) -> str:
        """Its first value; empty for none."""
        return self.formula[0][0] if self.formula else ""

    @property
    def until(self) -> int:
        """Event time from which it matches no more, by its own word or by decay."""
        end = self.valid_until or FOREVER
        kind = self.kind
        if kind is None or self.confidence < FLOOR:
            return min(end, self.valid_from)
        since = max(self.valid_from, self.seen)
        return min(end, since + round(HALF_LIFE[kind] * math.log2(max(1.0, self.confidence / FLOOR))) + 1)

    def score(self, at: int) -> float:
        """Confidence at an event time, 0..100."""
        kind = self.kind
        if kind is None or at < self.valid_from or (self.valid_until and at >= self.valid_until):
            return 0.0
        aged = max(0, at - max(self.valid_from, self.seen))
        return float(self.confidence * 0.5 ** (aged / HALF_LIFE[kind]))


def kind_of(value: str) -> Kind:
    """The kind of a canonical value, by what only that kind holds."""
    if value.startswith("/"):
        return Kind.URL
    if "@" in value:
        return Kind.EMAIL
    if ":" in value:
        return Kind.IPV6
    if "." not in value:
        return Kind.FILE
    return Kind.IPV4 if value.rpartition(".")[2].partition("/")[0].isdecimal() else Kind.DOMAIN


def indicator_id(collection: str, value: str) -> str:
    """The id of an indicator that came without one: the same value of the same collection is the same indicator."""
    return f"indicator--{uuid.uuid5(_NAMESPACE, f'{len(collection)}:{collection}{value}')}"


def collection_id(tenant: str, name: str) -> str:
    """The id of a collection of a tenant, a UUID of version 4's form as TAXII wants it."""
    digest = uuid.uuid5(_NAMESPACE, f"{len(tenant)}:{tenant}{name}")
    return str(uuid.UUID(bytes=digest.bytes, version=4))
