"""The nouns of feature definitions: what a feature is of, over what, in which unit, and what its absence means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from vedette.core.clock import DAY
from vedette.core.event import Event
from vedette.expr.nodes import Node

MAX_VIEWS = 16
MAX_FEATURES = 1_000
MAX_CAPACITY = 1 << 14
"""Newest events, and newest labels, that an entity may keep."""
MAX_WINDOW = 3_660 * DAY
MAX_KEYS = 4
"""Fields that a composite key may have."""
MAX_RANK = 16
"""Greatest `k` of `top_k` and `top_share`."""
MICRO = 1 << 20
"""Scale of fields that are not money: values are whole 2^-20 parts."""
EVER = 0
"""The window of a feature over all time."""


class Aggregation(StrEnum):
    """What a feature computes. Missing (NaN) where the text says so."""

    VALUE = "value"
    """A field of the event itself; missing when the field is."""
    HOUR = "hour"
    """0..23 UTC."""
    WEEKDAY = "weekday"
    """0 (Monday)..6."""
    WEEKEND = "weekend"
    """1 on Saturday and Sunday UTC, else 0."""
    NIGHT = "night"
    """1 from 00:00 to 06:59 UTC, else 0."""
    COUNT = "count"
    """Events in the window; with a field, those that have it."""
    SUM = "sum"
    """0 over nothing."""
    MEAN = "mean"
    """Missing over nothing."""
    STD = "std"
    """Sample standard deviation (n - 1); missing over fewer than two."""
    MIN = "min"
    MAX = "max"
    LAST = "last"
    """Of the newest event that has the field; of events at one time the one that came last."""
    FIRST = "first"
    DISTINCT = "distinct"
    """Different values of a field, such as cards per device; at most `limit` when that is given; 0 over nothing."""
    TOP_K = "top_k"
    """`k` features: the greatest value, the second, ...; missing where there are fewer."""
    TOP_SHARE = "top_share"
    """Share of the values that are one of the `k` commonest; missing over nothing."""
    ENTROPY = "entropy"
    """Of the values, in bits; missing over nothing."""
    EWMA = "ewma"
    """Mean with weights that halve every `half_life`; missing over nothing, or when all are older than 22 of them."""
    VELOCITY_CHANGE = "velocity_change"
    """Events per time in the window over events per time in the longer `over`; missing when that has none."""
    SECONDS_SINCE_PREVIOUS = "seconds_since_previous"
    """Since the entity's newest event before this time; missing when none is kept."""
    SECONDS_SINCE_LAST = "seconds_since_last"
    """Since the newest event in the window that has the field and meets the condition; missing without one."""
    SECONDS_SINCE_FIRST = "seconds_since_first"
    """Since the earliest one; over all time since the entity was first seen."""
    RATIO = "ratio"
    """Feature `of` over feature `to`; missing when either is, or `to` is 0."""
    LABEL_COUNT = "label_count"
    """Labels learned in the window; over all time without a window."""
    FRAUD_COUNT = "fraud_count"
    FRAUD_RATE = "fraud_rate"
    """Frauds per label; missing without labels."""
    LAST_LABEL = "last_label"
    """1 when the newest label is fraud, 0 when genuine; missing without labels."""
    FRAUD_RUN = "fraud_run"
    """Frauds in a row at the end of the labels; missing without labels."""
    SECONDS_SINCE_FIRST_FRAUD = "seconds_since_first_fraud"
    """Since the event time of the first known fraud; missing without one."""
    SECONDS_SINCE_LAST_FRAUD = "seconds_since_last_fraud"
    GENUINE_SINCE_FRAUD = "genuine_since_fraud"
    """Genuine labels since the newest known fraud; missing without one."""


A = Aggregation
PLAIN = frozenset({A.VALUE, A.HOUR, A.WEEKDAY, A.WEEKEND, A.NIGHT})
"""Read the event alone."""
ADDED = frozenset({A.COUNT, A.SUM, A.MEAN, A.STD, A.VELOCITY_CHANGE})
"""Answered by prefixes, at a price that does not depend on the window."""
SCANNED = frozenset({A.MIN, A.MAX, A.LAST, A.FIRST, A.DISTINCT, A.TOP_K, A.TOP_SHARE, A.ENTROPY, A.EWMA})
"""Answered by going over the events of the longest window."""
WINDOWED = ADDED | SCANNED
"""Need windows, and say whether the event itself counts."""
SINCE = frozenset({A.SECONDS_SINCE_LAST, A.SECONDS_SINCE_FIRST})
"""Need windows; the event itself never counts."""
LABEL_WINDOWED = frozenset({A.LABEL_COUNT, A.FRAUD_COUNT, A.FRAUD_RATE})
LABELLED = LABEL_WINDOWED | {
    A.LAST_LABEL,
    A.FRAUD_RUN,
    A.SECONDS_SINCE_FIRST_FRAUD,
    A.SECONDS_SINCE_LAST_FRAUD,
    A.GENUINE_SINCE_FRAUD,
}
ANY_TYPE = frozenset({A.DISTINCT, A.TOP_SHARE, A.ENTROPY, A.COUNT, *SINCE, A.VELOCITY_CHANGE})
"""Take a text field as well as a number."""
NEEDS_FIELD = frozenset({A.VALUE, A.SUM, A.MEAN, A.STD, *SCANNED})
EVER_ABLE = frozenset({A.COUNT, A.SUM, A.MEAN, A.STD, A.SECONDS_SINCE_FIRST, *LABEL_WINDOWED})
"""May look over all time."""

_UNIT = {
    A.HOUR: "hours",
    A.WEEKDAY: "days",
    A.WEEKEND: "0 or 1",
    A.NIGHT: "0 or 1",
    A.COUNT: "events",
    A.DISTINCT: "values",
    A.TOP_SHARE: "share",
    A.ENTROPY: "bits",
    A.VELOCITY_CHANGE: "ratio",
    A.RATIO: "ratio",
    A.LABEL_COUNT: "labels",
    A.FRAUD_COUNT: "frauds",
    A.FRAUD_RATE: "share",
    A.LAST_LABEL: "0 or 1",
    A.FRAUD_RUN: "frauds",
    A.GENUINE_SINCE_FRAUD: "labels",
}
_ABSENT = {
    A.VALUE: "the event has no such field",
    A.STD: "fewer than two values",
    A.TOP_K: "fewer values",
    A.VELOCITY_CHANGE: "no event in the longer window",
    A.SECONDS_SINCE_PREVIOUS: "no earlier event",
    A.SECONDS_SINCE_LAST: "no such event",
    A.SECONDS_SINCE_FIRST: "no such event",
    A.RATIO: "either is missing, or the divisor is 0",
    A.FRAUD_RATE: "no label",
    A.LAST_LABEL: "no label",
    A.FRAUD_RUN: "no label",
    A.SECONDS_SINCE_FIRST_FRAUD: "no known fraud",
    A.SECONDS_SINCE_LAST_FRAUD: "no known fraud",
    A.GENUINE_SINCE_FRAUD: "no known fraud",
}
_NEVER_MISSING = PLAIN - {A.VALUE} | {A.COUNT, A.SUM, A.DISTINCT, A.LABEL_COUNT, A.FRAUD_COUNT}


@dataclass(frozen=True, slots=True)
class Field:
    """A value read from an event's data."""

    name: str
    path: str
    """The source's own field name; dots walk into objects unless the dotted name is itself a key."""
    scale: int
    """Whole parts per unit: 100 for money with two decimals, 2^20 for other numbers, 0 for text."""
    unit: str = ""
    """Of the value: `EUR`, `km`."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a windowed feature looks at: a field, or 1 per event, of the events that meet the condition."""

    field: int
    """Place in `FeatureSet.fields`; -1 means 1 per event."""
    where: Node | None = None
    """An event where this is not true has no part in it; a missing field makes it unknown, which is not true."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One number."""

    name: str
    aggregation: Aggregation
    window: int = 0
    """Microseconds; 0 for aggregations that have none, and for all time."""
    measure: Measure | None = None
    include_current: bool = False
    argument: int = 0
    """`k`, the rank of `top_k` from 0, `limit`; microseconds of `half_life` and `over`."""
    of: tuple[str, str] = ("", "")
    """Dividend and divisor of a ratio."""
    unit: str = ""

    @property
    def missing(self) -> str:
        """What it means that the value is missing; empty when it never is, once the event names the entity."""
        if self.aggregation in _NEVER_MISSING:
            return ""
        return _ABSENT.get(self.aggregation, "no value in the window")


@dataclass(frozen=True)
class View:
    """Features of one entity. Without keys: what the event says by itself."""

    name: str
    entity: str
    keys: tuple[str, ...]
    """Paths that together name the entity; an event without one of them has no features of this view."""
    capacity: int
    """Newest events, and newest labels, kept per entity: windows see no more than these."""
    features: tuple[Feature, ...]

    @property
    def key(self) -> str:
        """The paths as one text; empty without any."""
        return "+".join(self.keys)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Distinct measures, in order of use."""
        return tuple(dict.fromkeys(f.measure for f in self.features if f.measure is not None))

    @property
    def retain(self) -> int:
        """Longest window of events, microseconds."""
        read = (f for f in self.features if f.aggregation in WINDOWED | SINCE)
        return max((max(f.window, self._base(f)) for f in read), default=0)

    @staticmethod
    def _base(feature: Feature) -> int:
        return feature.argument if feature.aggregation is Aggregation.VELOCITY_CHANGE else 0

    @property
    def label_retain(self) -> int:
        """Longest window of labels, microseconds."""
        return max((f.window for f in self.features if f.aggregation in LABELLED), default=0)

    @property
    def labelled(self) -> bool:
        """Whether any feature reads labels."""
        return any(f.aggregation in LABELLED for f in self.features)


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Where a source's own truth is, for history that carries it."""

    path: str
    """Field of the data: 1 or true is fraud, 0 or false genuine, anything else no label."""
    keep: int
    """How long after an event its label may still come, microseconds of event time."""
    lateness: int
    """How long labels are kept beyond the longest window so that a late one finds its place, microseconds."""


@dataclass(frozen=True)
class FeatureSet:
    """Everything the engine needs to compute the features of one source."""

    source: str
    event_id: str
    event_time: str
    lateness: int
    """An event this much older than the entity's newest is counted and not applied, microseconds."""
    ahead: int
    """An event whose time is this far past its ingest time is counted and not applied, microseconds."""
    fields: tuple[Field, ...]
    label: LabelRule
    views: tuple[View, ...]
    text: str
    """The YAML it came from."""
    version: str
    """SHA-256 of the definitions; layout and comments of the YAML do not count."""
    when: tuple[tuple[str, str], ...] = ()
    """Field of the data and the text it must have: which of the source's events the features are about."""

    def covers(self, event: Event) -> bool:
        """Whether the features are about this event; others are neither counted nor scored."""
        return event.source == self.source and all(event.data.get(name) == text for name, text in self.when)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names, in the order of every vector."""
        return tuple(feature.name for view in self.views for feature in view.features)

    @cached_property
    def conditions(self) -> tuple[Node, ...]:
        """The distinct conditions of all measures."""
        measures = (measure for view in self.views for measure in view.measures)
        return tuple(dict.fromkeys(measure.where for measure in measures if measure.where is not None))


def unit_of(aggregation: Aggregation, field: Field | None) -> str:
    """The unit of a feature: the field's own where values are told, else what is counted."""
    if aggregation in _UNIT:
        return _UNIT[aggregation]
    if aggregation.startswith("seconds"):
        return "seconds"
    return field.unit if field else ""
