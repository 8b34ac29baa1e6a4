"""A correlation as it is run: what it counts, over which time, by which groups, and when that is enough."""

from __future__ import annotations

import operator
from collections.abc import Callable
from enum import StrEnum

import msgspec

from vedette.core.clock import MICROS
from vedette.core.risk import HALF_LIFE
from vedette.core.signal import Level
from vedette.judge.correlation.patterns import Pattern
from vedette.judge.sigma.card import NO_CARD, Card

Number = int | float


class Kind(StrEnum):
    """Sigma's correlation types, and ours."""

    EVENT_COUNT = "event_count"
    VALUE_COUNT = "value_count"
    TEMPORAL = "temporal"
    TEMPORAL_ORDERED = "temporal_ordered"
    VALUE_SUM = "value_sum"
    VALUE_AVG = "value_avg"
    VALUE_MEDIAN = "value_median"
    VALUE_PERCENTILE = "value_percentile"
    FIRST_SEEN = "first_seen"
    RARE_VALUE = "rare_value"
    DEVIATION = "deviation"
    BEACONING = "beaconing"
    RISK = "risk"

    @property
    def looks_back(self) -> bool:
        """True when it compares with what was usual: ours, see `usual`."""
        return self in _LOOKS_BACK

    @property
    def ours(self) -> bool:
        """True for what Sigma does not know."""
        return self in _LOOKS_BACK or self is Kind.RISK

    @property
    def numeric(self) -> bool:
        """True when it calculates with the numbers in a field."""
        return self in _NUMERIC


_NUMERIC = frozenset({Kind.VALUE_SUM, Kind.VALUE_AVG, Kind.VALUE_MEDIAN, Kind.VALUE_PERCENTILE})
_LOOKS_BACK = frozenset({Kind.FIRST_SEEN, Kind.RARE_VALUE, Kind.DEVIATION, Kind.BEACONING})
_TESTS: dict[str, Callable[[Number, Number], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "neq": operator.ne,
}


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an amount is enough. Several bounds must all hold: `gt: 100` with `lte: 200` is a range."""

    gt: Number | None = None
    gte: Number | None = None
    lt: Number | None = None
    lte: Number | None = None
    eq: Number | None = None
    neq: Number | None = None

    def holds(self, amount: Number) -> bool:
        """True when the amount meets every bound."""
        if self.gte is not None and amount < self.gte:
            return False  # what nearly every rule asks, at once
        return all(test(amount, bound) for name, test in _TESTS.items() if (bound := getattr(self, name)) is not None)

    @property
    def rising(self) -> bool:
        """True when only more can be asked for: what holds goes on to hold as the amount grows."""
        return self.lt is self.lte is self.eq is self.neq is None

    @property
    def bounds(self) -> dict[str, Number]:
        """The bounds that are given."""
        return {name: bound for name in _TESTS if (bound := getattr(self, name)) is not None}


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What our own types can be told, each with what holds where nothing is said."""

    learn: int = 0
    """How long a group must be known before it can be unusual, microseconds."""
    population: int = 20
    """Fewest groups of which a value can be rare."""
    least: int = 1
    """Smallest amount that can deviate."""
    baseline: int = 14
    """Timespans that a deviation is measured against."""
    jitter: float = 35
    """How far a beacon's interval may be from its period, per cent."""
    burst: int = 2 * MICROS
    """What comes so soon after another is no beat of its own, microseconds."""
    spread: float = 5
    """A place that more per cent of sources go to is common and no beacon's."""
    half_life: int = HALF_LIFE
    """After this long a signal's points count half, microseconds."""


class Weight(msgspec.Struct, frozen=True):
    """What a rule's signals add to the risk of an entity."""

    points: int
    title: str
    tags: tuple[str, ...] = ()


class Measure(msgspec.Struct, frozen=True):
    """What a window needs to know."""

    kind: Kind
    span: int
    """Microseconds, above 0."""
    condition: Condition
    parts: int
    """How many rules it refers to."""
    percentile: Number = 0
    """0..100, for `value_percentile`."""
    patterns: tuple[Pattern, ...] = ()
    """Of an extended condition: alternatives of which one must be there; empty: `condition` counts parts."""

    knobs: Knobs = Knobs()
    weights: dict[str, Weight] = {}
    """Of `risk`: rule id -> what it adds."""

    @property
    def tally(self) -> bool:
        """True when a window's amount only grows as events are added; of a sum, when no value is negative."""
        return self.kind is Kind.VALUE_SUM or not (self.kind.numeric or self.kind.looks_back)

    @property
    def eager(self) -> bool:
        """True when it answers at once; else when a window or spell is over by the lateness."""
        return self.tally and self.condition.rising and not self.absent

    @property
    def absent(self) -> bool:
        """True when a rule must not fire: it answers a timespan after the window."""
        return any(pattern.unwanted for pattern in self.patterns)

    @property
    def peak(self) -> bool:
        """True when it speaks of a spell's greatest window."""
        return self.tally and not self.condition.rising

    @property
    def delay(self) -> int:
        """How long after a window's end its answer may be open, beside the lateness, microseconds."""
        return self.span if self.peak or self.absent else 0


class Part(msgspec.Struct, frozen=True):
    """One rule that a correlation refers to."""

    id: str
    """Of a rule on single events, or of a correlation."""
    name: str
    """As the correlation spells it."""
    fields: dict[str, tuple[str, ...]]
    """Source -> the event's fields for `group-by`, in its order. Key ``: for every source that is not named."""
    values: dict[str, tuple[str, ...]]
    """Source -> the event's fields of the condition's `field`; empty without one."""

    def fields_of(self, source: str) -> tuple[str, ...]:
        """The event's fields for `group-by`."""
        return self.fields.get(source, self.fields[""])

    def values_of(self, source: str) -> tuple[str, ...]:
        """The event's fields of the condition's `field`."""
        return self.values.get(source, self.values[""])


class Correlation(msgspec.Struct, frozen=True, kw_only=True):
    """One correlation that can match."""

    id: str
    title: str
    level: Level
    status: str
    tags: tuple[str, ...]
    path: str
    version: str
    """SHA-256 over its own document's and those of all rules it rests on."""
    measure: Measure
    parts: tuple[Part, ...]
    group_by: tuple[str, ...]
    """As written: fields or aliases."""
    field: tuple[str, ...] = ()
    """The condition's `field`, as written."""
    generate: bool = False
    """True: the rules it refers to also alert by themselves."""
    name: str = ""
    """Sigma's `name`, by which others may refer to it."""
    card: Card = NO_CARD
    """What our own key says of it."""
