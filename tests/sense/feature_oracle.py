"""Features the slow and obvious way: plain lists, everything computed anew at every read. What the kernel must equal."""

# ruff: noqa: PLR0911 - one branch per aggregation, and nothing clever

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from vedette.core.event import Event
from vedette.core.label import Label
from vedette.sense.features.definition import Aggregation as A  # noqa: N817 - short in the tables below
from vedette.sense.features.definition import Feature, FeatureSet, Measure, View

NAN = math.nan
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def usable(value):
    """Numbers that are not finite, or too large to add up, count as missing."""
    return None if isinstance(value, float) and not abs(value) < 1e9 else value


@dataclass
class Known:
    observed: int
    time: int
    fraud: bool


@dataclass
class Entity:
    mark: int | None = None
    events: list[Event] = field(default_factory=list)
    labels: list[Known] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)


class Plain:
    def __init__(self, features: FeatureSet) -> None:
        self.features = features
        self.entities: dict[tuple[int, str], Entity] = {}
        self.applied: dict[str, tuple[Event, list[tuple[int, str]]]] = {}
        self.pending: list[Label] = []
        self.mark: int | None = None

    def key(self, view: View, event: Event) -> str | None:
        value = event.data.get(view.key) if view.key else None
        return None if value is None or value == "" else str(value)

    def ahead(self, event: Event) -> bool:
        return bool(event.ingest_time) and event.event_time > event.ingest_time + self.features.ahead

    def number(self, event: Event, measure: Measure) -> Fraction | None:
        """What the event adds, in units; None when it adds nothing."""
        for where in measure.where:
            got = usable(event.data.get(self.features.fields[where.field].path))
            if got is None:
                return None
            scale = self.features.fields[where.field].scale
            left, right = (Fraction(round(got * scale)), Fraction(where.value)) if scale else (str(got), where.value)
            ok = {"=": left == right, "!=": left != right}
            if scale:
                ok |= {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}
            if not ok[where.op]:
                return None
        if measure.field < 0:
            return Fraction(1)
        source = self.features.fields[measure.field]
        got = usable(event.data.get(source.path))
        return None if got is None else Fraction(round(got * source.scale), source.scale)

    def fetch(self, event: Event) -> list[float]:
        if not self.ahead(event):
            self.release(event.event_time)
        views = enumerate(self.features.views)
        return [self.one(place, view, feature, event) for place, view in views for feature in view.features]

    def one(self, place: int, view: View, feature: Feature, event: Event) -> float:
        t = event.event_time
        moment = EPOCH + timedelta(microseconds=t)
        match feature.aggregation:
            case A.VALUE:
                got = self.number(event, feature.measure)
                return NAN if got is None else float(got)
            case A.HOUR:
                return moment.hour
            case A.WEEKDAY:
                return moment.weekday()
            case A.WEEKEND:
                return float(moment.weekday() >= 5)
            case A.NIGHT:
                return float(moment.hour <= 6)
        key = self.key(view, event)
        if key is None or self.ahead(event):
            return NAN
        entity = self.entities.get((place, key), Entity())
        if entity.mark is not None and t < entity.mark - self.features.lateness:
            return NAN
        before = [e for e in entity.events if e.event_time < t]
        if feature.aggregation is A.SECONDS_SINCE_PREVIOUS:
            return NAN if not before else (t - max(e.event_time for e in before)) / 1e6
        if feature.aggregation in (A.COUNT, A.SUM, A.MEAN, A.MIN, A.MAX):
            inside = [e for e in before if e.event_time >= t - feature.window]
            inside += [event] if feature.include_current else []
            return self.aggregate(feature, inside)
        return self.about_labels(feature, entity, t)

    def aggregate(self, feature: Feature, inside: list[Event]) -> float:
        if feature.measure is None:
            return len(inside)
        numbers = [n for e in inside if (n := self.number(e, feature.measure)) is not None]
        match feature.aggregation:
            case A.COUNT:
                return len(numbers)
            case A.SUM:
                return float(sum(numbers))
            case A.MEAN:
                return float(sum(numbers) / len(numbers)) if numbers else NAN
            case A.MIN:
                return float(min(numbers, default=NAN))
            case _:
                return float(max(numbers, default=NAN))

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
        self.release(event.event_time)
        touched = []
        for place, view in enumerate(self.features.views):
            key = self.key(view, event)
            if key is None:
                continue
            entity = self.entities.setdefault((place, key), Entity())
            if entity.mark is not None and event.event_time < entity.mark - self.features.lateness:
                continue
            entity.mark = max(event.event_time, entity.mark if entity.mark is not None else event.event_time)
            oldest = entity.mark - view.retain - self.features.lateness
            entity.events = [e for e in entity.events if e.event_time >= oldest] + [event]
            entity.events.sort(key=lambda e: e.event_time)
            entity.events = entity.events[-view.capacity :]
            touched.append((place, key))
            self.expire(view, entity)
        self.mark = max(event.event_time, self.mark if self.mark is not None else event.event_time)
        self.applied[event.id] = (event, touched)

    def expire(self, view: View, entity: Entity) -> None:
        oldest = entity.mark - view.label_retain - self.features.lateness - self.features.label.lateness
        while entity.labels and (len(entity.labels) > view.capacity or entity.labels[0].observed < oldest):
            entity.gone.append(entity.labels.pop(0))

    def learn(self, label: Label) -> None:
        found = self.applied.get(label.event_id)
        rule = self.features.label
        if found and found[0].event_time < self.mark - rule.keep - rule.lateness - self.features.lateness:
            return
        if found and label.observed_time - found[0].event_time <= rule.keep:
            self.pending.append(label)
            self.pending.sort(key=lambda one: one.observed_time)
            self.release(None)

    def release(self, time: int | None) -> None:
        now = max(t for t in (time, self.mark) if t is not None)
        while self.pending and self.pending[0].observed_time <= now:
            label = self.pending.pop(0)
            event, touched = self.applied.pop(label.event_id, (None, []))
            for place, key in touched:
                entity = self.entities[place, key]
                if entity.gone and label.observed_time < entity.gone[-1].observed:
                    continue
                entity.labels.append(Known(label.observed_time, event.event_time, label.fraud))
                entity.labels.sort(key=lambda one: one.observed)
                self.expire(self.features.views[place], entity)
