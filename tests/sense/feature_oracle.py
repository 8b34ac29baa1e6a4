"""Features the slow and obvious way: plain lists, everything computed anew at every read. What the kernel must equal."""

# ruff: noqa: PLR0911, PLR0912 - one branch per aggregation, and nothing clever

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

from vedette.core.event import Event
from vedette.core.label import Label
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import reader
from vedette.sense.features.feature import LABELLED, PLAIN, Feature, FeatureSet, Measure, View
from vedette.sense.features.feature import Aggregation as A  # noqa: N817 - short in the tables below
from vedette.sense.features.state import _logs

NAN = math.nan
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HALF = 1 << 23
WAITING = 8


def usable(value):
    """Numbers that are not finite, or too large to add up, count as missing."""
    return None if isinstance(value, float) and not abs(value) < 6e7 else value


@cache
def weight(steps: int) -> int:
    """2^(-steps / 1024) in whole 2^-22, rounded down, then halved for every whole half-life."""
    with localcontext() as context:
        context.prec = 60
        return int(Decimal(2) ** (Decimal(22) - Decimal(steps % 1024) / 1024)) >> (steps // 1024)


@dataclass
class Known:
    observed: int
    time: int
    fraud: bool


@dataclass
class Entity:
    mark: int | None = None
    first: int | None = None
    events: list[Event] = field(default_factory=list)
    left: list[Event] = field(default_factory=list)
    labels: list[Known] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)


class Plain:
    def __init__(self, features: FeatureSet) -> None:
        self.features = features
        self.entities: dict[tuple[int, tuple[str, ...]], Entity] = {}
        self.applied: dict[str, tuple[Event, list[tuple[int, tuple[str, ...]]]]] = {}
        self.mark: int | None = None

    def key(self, view: View, event: Event) -> tuple[str, ...] | None:
        values = tuple(event.data.get(path) for path in view.keys)
        return None if not values or None in values or "" in values else tuple(map(str, values))

    def ahead(self, event: Event) -> bool:
        return bool(event.ingest_time) and event.event_time > event.ingest_time + self.features.ahead

    def number(self, event: Event, measure: Measure):
        """What the event adds, in whole parts, or its text; None when it adds nothing."""
        if measure.where is not None and evaluate(measure.where, reader(event.data)) is not Truth.TRUE:
            return None
        if measure.field < 0:
            return 1
        source = self.features.fields[measure.field]
        got = usable(event.data.get(source.path))
        return None if got is None else round(got * source.scale) if source.scale else str(got)

    def fetch(self, event: Event) -> list[float]:
        views = enumerate(self.features.views)
        out = {f.name: self.one(place, view, f, event) for place, view in views for f in view.features}
        for view in self.features.views:
            for ratio in (f for f in view.features if f.aggregation is A.RATIO):
                over, under = (out[name] for name in ratio.of)
                out[ratio.name] = NAN if under == 0 else over / under
        return [out[name] for name in self.features.names]

    def one(self, place: int, view: View, feature: Feature, event: Event) -> float:
        t = event.event_time
        if feature.aggregation in PLAIN:
            return self.plain(feature, event, EPOCH + timedelta(microseconds=t))
        key = self.key(view, event)
        if key is None or self.ahead(event) or feature.aggregation is A.RATIO:
            return NAN
        entity = self.entities.get((place, key), Entity())
        if entity.mark is not None and t < entity.mark - self.features.lateness:
            return NAN
        if feature.aggregation in LABELLED:
            return self.about_labels(feature, entity, t)
        before = [e for e in entity.events if e.event_time < t]
        if feature.aggregation is A.SECONDS_SINCE_PREVIOUS:
            return NAN if not before else (t - max(e.event_time for e in before)) / 1e6
        if feature.aggregation is A.SECONDS_SINCE_FIRST and not feature.window:
            return NAN if entity.first is None or entity.first >= t else (t - entity.first) / 1e6
        inside = [e for e in before if e.event_time >= t - feature.window] if feature.window else entity.left + before
        current = [event] if feature.include_current else []
        if feature.aggregation is A.VELOCITY_CHANGE:
            base = [e for e in before if e.event_time >= t - feature.argument]
            short, longer = (len(self.numbers(feature, events + current)) for events in (inside, base))
            return NAN if not longer else float(short) * feature.argument / (float(longer) * feature.window)
        return self.aggregate(feature, inside + current, t)

    def plain(self, feature: Feature, event: Event, moment: datetime) -> float:
        match feature.aggregation:
            case A.VALUE:
                got = self.number(event, feature.measure)
                return NAN if got is None else float(Fraction(got, self.features.fields[feature.measure.field].scale))
            case A.HOUR:
                return moment.hour
            case A.WEEKDAY:
                return moment.weekday()
            case A.WEEKEND:
                return float(moment.weekday() >= 5)
            case _:
                return float(moment.hour <= 6)

    def numbers(self, feature: Feature, events: list[Event]) -> list:
        """(value, time) of the events that have one, the oldest first."""
        if feature.measure is None:
            return [(1, e.event_time) for e in events]
        return [(n, e.event_time) for e in events if (n := self.number(e, feature.measure)) is not None]

    def aggregate(self, feature: Feature, inside: list[Event], t: int) -> float:
        found = self.numbers(feature, inside)
        values = [value for value, _ in found]
        scale = 1
        if feature.measure and feature.measure.field >= 0:
            scale = max(self.features.fields[feature.measure.field].scale, 1)
        counts = sorted(Counter(values).values(), reverse=True)
        match feature.aggregation:
            case A.COUNT:
                return len(values)
            case A.SUM:
                return float(Fraction(sum(values), scale))
            case A.DISTINCT:
                return min(len(counts), feature.argument or len(counts))
        if not values:
            return NAN
        match feature.aggregation:
            case A.MEAN:
                return float(Fraction(sum(values), scale * len(values)))
            case A.STD:
                return self.deviation(values, scale)
            case A.MIN:
                return min(values) / scale
            case A.MAX:
                return max(values) / scale
            case A.LAST:
                return values[-1] / scale
            case A.FIRST:
                return values[0] / scale
            case A.TOP_K:
                ranked = sorted(values, reverse=True)
                return ranked[feature.argument] / scale if feature.argument < len(ranked) else NAN
            case A.TOP_SHARE:
                return sum(counts[: feature.argument]) / len(values)
            case A.ENTROPY:
                table = _logs(64).tolist()
                return (table[len(values)] - sum(table[c] for c in counts)) / (len(values) * 2**40)
            case A.SECONDS_SINCE_LAST:
                return (t - found[-1][1]) / 1e6
            case A.SECONDS_SINCE_FIRST:
                return (t - found[0][1]) / 1e6
            case A.EWMA:
                weights = [weight((t - at) * 1024 // feature.argument) for _, at in found]
                if not any(weights):
                    return NAN
                total = sum(value * w for value, w in zip(values, weights, strict=True))
                high, low = divmod(total, 1 << 24)
                return (float(high) * 2**24 + float(low)) / (float(sum(weights)) * scale)
        raise AssertionError(feature)

    def deviation(self, values: list[int], scale: int) -> float:
        n = len(values)
        if n < 2:
            return NAN
        mean = sum(values) // n
        rest = sum(values) - mean * n
        high, low = divmod(sum((v - mean) ** 2 for v in values) + 0, HALF)
        high, middle = divmod(high, HALF)
        squares = (float(high) * HALF + float(middle)) * HALF + float(low)
        return math.sqrt(max(squares - float(rest * rest) / float(n), 0.0) / float(n - 1)) / scale

    def about_labels(self, feature: Feature, entity: Entity, t: int) -> float:
        if entity.gone and t < entity.gone[-1].observed:
            return NAN
        kept = [k for k in entity.labels if k.observed <= t]
        known = entity.gone + kept
        inside = [k for k in kept if k.observed > t - feature.window] if feature.window else known
        frauds = [k for k in known if k.fraud]
        match feature.aggregation:
            case A.LABEL_COUNT:
                return len(inside)
            case A.FRAUD_COUNT:
                return sum(k.fraud for k in inside)
            case A.FRAUD_RATE:
                return sum(k.fraud for k in inside) / len(inside) if inside else NAN
        if not known:
            return NAN
        run = 0
        while run < len(known) and known[-1 - run].fraud:
            run += 1
        match feature.aggregation:
            case A.LAST_LABEL:
                return float(known[-1].fraud)
            case A.FRAUD_RUN:
                return run
        if not frauds:
            return NAN
        match feature.aggregation:
            case A.SECONDS_SINCE_FIRST_FRAUD:
                return (t - frauds[0].time) / 1e6
            case A.SECONDS_SINCE_LAST_FRAUD:
                return (t - frauds[-1].time) / 1e6
            case _:
                return len(known) - 1 - max(i for i, k in enumerate(known) if k.fraud)

    def apply(self, event: Event) -> None:
        if self.ahead(event):
            return
        touched = []
        for place, view in enumerate(self.features.views):
            key = self.key(view, event)
            if key is None:
                continue
            entity = self.entities.setdefault((place, key), Entity())
            if entity.mark is not None and event.event_time < entity.mark - self.features.lateness:
                continue
            entity.mark = max(event.event_time, entity.mark if entity.mark is not None else event.event_time)
            entity.first = min(event.event_time, entity.first if entity.first is not None else event.event_time)
            oldest = entity.mark - view.retain - self.features.lateness
            entity.events.append(event)
            entity.events.sort(key=lambda e: e.event_time)
            while len(entity.events) > 1 and (
                entity.events[0].event_time < oldest or len(entity.events) > view.capacity
            ):
                entity.left.append(entity.events.pop(0))
            touched.append((place, key))
            self.expire(view, entity)
        self.mark = max(event.event_time, self.mark if self.mark is not None else event.event_time)
        self.applied[event.id] = (event, touched)

    def expire(self, view: View, entity: Entity) -> None:
        oldest = entity.mark - view.label_retain - self.features.lateness - self.features.label.lateness
        known = [k for k in entity.labels if k.observed <= entity.mark]
        while known and (len(known) > view.capacity or known[0].observed < oldest):
            entity.gone.append(known.pop(0))
            entity.labels.pop(0)

    def learn(self, label: Label) -> None:
        event, touched = self.applied.get(label.event_id, (None, []))
        rule = self.features.label
        if event is None or event.event_time < self.mark - rule.keep - rule.lateness - self.features.lateness:
            return
        if label.observed_time - event.event_time > rule.keep:
            return
        del self.applied[label.event_id]
        for place, key in touched:
            entity, view = self.entities[place, key], self.features.views[place]
            if entity.gone and label.observed_time < entity.gone[-1].observed:
                continue
            if len(entity.labels) >= WAITING * view.capacity:
                continue
            entity.labels.append(Known(label.observed_time, event.event_time, label.fraud))
            entity.labels.sort(key=lambda one: one.observed)
            self.expire(view, entity)
