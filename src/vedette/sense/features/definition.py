"""Feature definitions as data: YAML in, frozen values out, everything wrong with them reported at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vedette.core import content
from vedette.core.clock import DAY, MICROS
from vedette.core.documents import load_yaml
from vedette.core.errors import DefinitionError, Problems, Span
from vedette.core.event import Event
from vedette.expr.nodes import Comparison

MAX_VIEWS = 16
MAX_FEATURES = 1_000
MAX_CAPACITY = 4_096
"""Newest events, and newest labels, that an entity may keep."""
MAX_WINDOW = 400 * DAY
MAX_BYTES = 1 << 20
MICRO = 1 << 20
"""Scale of fields that are not money: values are whole 2^-20 parts."""

_UNITS = {"s": MICROS, "m": 60 * MICROS, "h": 3_600 * MICROS, "d": DAY}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


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
    MIN = "min"
    MAX = "max"
    SECONDS_SINCE_PREVIOUS = "seconds_since_previous"
    """Since the entity's newest event before this time; missing when none is kept."""
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


PLAIN = frozenset(list(Aggregation)[:5])
WINDOWED = frozenset(list(Aggregation)[5:10])
LABELLED = frozenset(list(Aggregation)[11:])
LABEL_WINDOWED = frozenset(list(Aggregation)[11:14])
NEEDS_FIELD = frozenset({Aggregation.VALUE, Aggregation.SUM, Aggregation.MEAN, Aggregation.MIN, Aggregation.MAX})


@dataclass(frozen=True, slots=True)
class Field:
    """A value read from an event's data."""

    name: str
    path: str
    """The source's own field name; dots walk into objects unless the dotted name is itself a key."""
    scale: int
    """Whole parts per unit: 100 for money with two decimals, 2^20 for other numbers, 0 for text."""


@dataclass(frozen=True, slots=True)
class Where:
    """A condition on one field; an event without the field does not meet it."""

    field: int
    """Place in `FeatureSet.fields`."""
    op: Comparison
    value: int | str
    """Scaled as the field is."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a windowed feature adds up: a field, or 1 per event, of the events that meet the conditions."""

    field: int
    """Place in `FeatureSet.fields`; -1 means 1 per event."""
    where: tuple[Where, ...] = ()


@dataclass(frozen=True, slots=True)
class Feature:
    """One number."""

    name: str
    aggregation: Aggregation
    window: int = 0
    """Microseconds; 0 for aggregations that have none."""
    measure: Measure | None = None
    include_current: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """Features of one entity. Without a key: what the event says by itself."""

    name: str
    entity: str
    key: str
    """Path of the entity's id; an event without it has no features of this view."""
    capacity: int
    """Newest events, and newest labels, kept per entity: windows see no more than these."""
    features: tuple[Feature, ...]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Distinct measures, in order of use."""
        return tuple(dict.fromkeys(f.measure for f in self.features if f.measure is not None))

    @property
    def retain(self) -> int:
        """Longest window of events, microseconds."""
        return max((f.window for f in self.features if f.aggregation in WINDOWED), default=0)

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


@dataclass(frozen=True, slots=True)
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

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, in the order of every vector."""
        return tuple(feature.name for view in self.views for feature in view.features)


def to_micros(text: object) -> int | None:
    """Microseconds of `15m`, `2h`, `7d`, `30s`; None when it is none of these."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text) if isinstance(text, str) else None
    return int(found[1]) * _UNITS[found[2]] if found else None


def shipped(source: str) -> Path:
    """The definition file that comes with the product for a source.

    Raises:
        DefinitionError: `features.source.unknown`, with the sources there are.
    """
    known = {file.stem: file for file in sorted(content.shipped("features").glob("*.yaml"))}
    if source not in known:
        raise DefinitionError(
            "features.source.unknown", f"no features of `{source}`", hint=f"one of {', '.join(known)}"
        )
    return known[source]


def load_features(path: Path) -> FeatureSet:
    """Reads a definition file.

    Raises:
        Problems: everything wrong with it: `features.*` with path, line and column.
        DefinitionError: `features.file.unreadable`; `documents.yaml.*`.
    """
    try:
        text = path.read_bytes()[: MAX_BYTES + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError("features.file.unreadable", f"cannot read `{path}`") from error
    return parse_features(text, path=str(path))


def parse_features(text: str, *, path: str = "") -> FeatureSet:
    """Feature definitions from YAML text. Raises as `load_features`."""
    document = load_yaml(text, path=path)
    reader = _Reader(document.span)
    features = reader.feature_set(document.data, text)
    if reader.problems or features is None:
        raise Problems(reader.problems)
    return features


class _Reader:
    """Walks the decoded YAML once, noting every problem with its place."""

    def __init__(self, span: Callable[[str], Span]) -> None:
        self.problems: list[DefinitionError] = []
        self._span = span

    def _wrong(self, code: str, message: str, at: str, hint: str = "") -> None:
        self.problems.append(DefinitionError(f"features.{code}", message, hint=hint, span=self._span(at)))

    def _keys(self, data: object, at: str, known: str, required: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            self._wrong("definition.shape", "expected a mapping", at)
            return {}
        for key in data:
            if key not in known.split():
                self._wrong("definition.unknown_key", f"unknown key `{key}`", f"{at}.{key}", f"known: {known}")
        for key in required.split():
            if key not in data:
                self._wrong("definition.missing_key", f"`{key}` is missing", at)
        return data

    def _items(self, data: Mapping[str, Any], key: str, at: str) -> Iterator[tuple[Any, str]]:
        items = data.get(key, [])
        if not isinstance(items, list):
            self._wrong("definition.shape", f"`{key}` must be a list", f"{at}.{key}")
            return
        for place, item in enumerate(items):
            yield item, f"{at}.{key}[{place}]"

    def _text(self, data: Mapping[str, Any], key: str, at: str) -> str:
        value = data.get(key, "")
        if not isinstance(value, str):
            self._wrong("definition.shape", f"`{key}` must be text", f"{at}.{key}")
            return ""
        return value

    def _name(self, data: Mapping[str, Any], key: str, at: str) -> str:
        name = self._text(data, key, at)
        if key in data and not _NAME.fullmatch(name):
            self._wrong("definition.name", f"`{name:.80}` is no name", f"{at}.{key}", "lower case, digits, underscores")
        return name

    def _time(self, data: Mapping[str, Any], key: str, at: str, default: int) -> int:
        return self._micros(data[key], f"{at}.{key}") if key in data else default

    def _micros(self, value: object, at: str) -> int:
        micros = to_micros(value)
        if micros is None or micros > MAX_WINDOW:
            self._wrong("window.invalid", f"`{value!s:.40}` is no length of time", at, "15m, 2h, 7d; at most 400d")
            return 0
        return micros

    def feature_set(self, data: object, text: str) -> FeatureSet | None:
        known = "source when event_id event_time lateness ahead fields label views"
        top = self._keys(data, "$", known, "source event_time views")
        if self.problems:
            return None
        fields = tuple(self._fields(top.get("fields", {}), "$.fields"))
        label = self._label(top.get("label"), "$.label")
        views = tuple(self._view(item, at, fields) for item, at in self._items(top, "views", "$"))
        self._unique(views)
        when = top.get("when", {})
        if not isinstance(when, dict) or not all(isinstance(text, str) for text in when.values()):
            self._wrong("definition.shape", "`when` must map fields to texts", "$.when")
            when = {}
        return FeatureSet(
            source=self._text(top, "source", "$"),
            event_id=self._text(top, "event_id", "$"),
            event_time=self._text(top, "event_time", "$"),
            lateness=self._time(top, "lateness", "$", 0),
            ahead=self._time(top, "ahead", "$", DAY),
            fields=fields,
            label=label,
            views=views,
            text=text,
            version=hashlib.sha256(
                json.dumps(top, sort_keys=True, separators=(",", ":"), default=str).encode()
            ).hexdigest(),
            when=tuple(when.items()),
        )

    def _unique(self, views: tuple[View, ...]) -> None:
        seen: set[str] = set()
        for place, view in enumerate(views):
            for feature in view.features:
                if feature.name in seen:
                    self._wrong("definition.duplicate", f"two features are named `{feature.name}`", f"$.views[{place}]")
                seen.add(feature.name)
        if not 1 <= len(seen) <= MAX_FEATURES or len(views) > MAX_VIEWS:
            self._wrong("definition.size", f"1..{MAX_FEATURES} features in at most {MAX_VIEWS} views", "$.views")

    def _fields(self, data: object, at: str) -> Iterator[Field]:
        if not isinstance(data, dict):
            self._wrong("definition.shape", "expected a mapping", at)
            return
        for name, value in data.items():
            here = f"{at}.{name}"
            item = self._keys(value, here, "path decimals text", "path")
            decimals = item.get("decimals")
            if decimals is not None and (type(decimals) is not int or not 0 <= decimals <= 6):  # noqa: PLR2004
                self._wrong("field.decimals", "`decimals` must be 0..6", f"{here}.decimals")
                decimals = 0
            scale = MICRO if decimals is None else 10**decimals
            yield Field(str(name), self._text(item, "path", here), 0 if item.get("text") is True else scale)

    def _label(self, data: object, at: str) -> LabelRule:
        if data is None:
            return LabelRule("", 60 * DAY, 7 * DAY)
        item = self._keys(data, at, "path keep lateness", "path")
        keep = self._time(item, "keep", at, 60 * DAY)
        return LabelRule(self._text(item, "path", at), keep, self._time(item, "lateness", at, 7 * DAY))

    def _view(self, data: object, at: str, fields: tuple[Field, ...]) -> View:
        item = self._keys(data, at, "view entity key capacity features", "view features")
        capacity = item.get("capacity", MAX_CAPACITY)
        if type(capacity) is not int or not 1 <= capacity <= MAX_CAPACITY:
            self._wrong("view.capacity", f"`capacity` must be 1..{MAX_CAPACITY}", f"{at}.capacity")
            capacity = 1
        key = self._text(item, "key", at)
        features = tuple(
            feature
            for one, here in self._items(item, "features", at)
            for feature in self._feature(one, here, fields, keyed=bool(key))
        )
        return View(self._name(item, "view", at), self._text(item, "entity", at), key, capacity, features)

    def _feature(self, data: object, at: str, fields: tuple[Field, ...], *, keyed: bool) -> Iterator[Feature]:
        item = self._keys(data, at, "name aggregation field windows include_current where", "name aggregation")
        name = self._name(item, "name", at)
        if item.get("aggregation") not in list(Aggregation):
            known = ", ".join(Aggregation)
            self._wrong("aggregation.unknown", f"unknown aggregation `{item.get('aggregation')!s:.40}`", at, known)
            return
        aggregation = Aggregation(item["aggregation"])
        self._check(item, aggregation, at, keyed=keyed)
        measure = self._measure(item, aggregation, at, fields)
        current = item.get("include_current") is True
        windows = list(self._items(item, "windows", at))
        for text, here in windows:
            window = self._micros(text, here)
            if to_micros(text) == 0:
                self._wrong("window.invalid", "a window must be longer than nothing", here)
            yield Feature(f"{name}_{text}", aggregation, window, measure, current)
        if not windows:
            yield Feature(name, aggregation, 0, measure, current)

    def _check(self, item: Mapping[str, Any], aggregation: Aggregation, at: str, *, keyed: bool) -> None:
        if keyed == (aggregation in PLAIN):
            message = "reads the event alone and needs a view without `key`" if keyed else "needs a view with `key`"
            self._wrong("aggregation.place", f"`{aggregation}` {message}", at)
        if (aggregation in WINDOWED) != bool(item.get("windows")) and aggregation not in LABEL_WINDOWED:
            word = "needs" if aggregation in WINDOWED else "has no"
            self._wrong("window.missing", f"`{aggregation}` {word} `windows`", at)
        if (aggregation in WINDOWED) != ("include_current" in item):
            hint = "true: the window ends with the event itself; false: just before it"
            word = "must say" if aggregation in WINDOWED else "has no"
            self._wrong("include_current.missing", f"`{aggregation}` {word} `include_current`", at, hint)
        elif type(item.get("include_current", True)) is not bool:
            self._wrong("definition.shape", "`include_current` must be true or false", f"{at}.include_current")

    def _measure(
        self, item: Mapping[str, Any], aggregation: Aggregation, at: str, fields: tuple[Field, ...]
    ) -> Measure | None:
        if aggregation in NEEDS_FIELD and "field" not in item:
            self._wrong("field.missing", f"`{aggregation}` needs a `field`", at)
        if aggregation not in NEEDS_FIELD and aggregation is not Aggregation.COUNT:
            if "field" in item or "where" in item:
                self._wrong("field.unused", f"`{aggregation}` takes no `field` and no `where`", at)
            return None
        field = self._field(item["field"], f"{at}.field", fields, number=True) if "field" in item else -1
        where = tuple(self._where(item.get("where", {}), f"{at}.where", fields))
        return Measure(field, where) if field >= 0 or where else None

    def _field(self, name: object, at: str, fields: tuple[Field, ...], *, number: bool) -> int:
        for place, field in enumerate(fields):
            if field.name == name and (field.scale or not number):
                return place
        numbers = ", ".join(field.name for field in fields if field.scale or not number)
        self._wrong("field.unknown", f"no {'number' if number else 'field'} `{name!s:.80}`", at, f"known: {numbers}")
        return -1

    def _where(self, data: object, at: str, fields: tuple[Field, ...]) -> Iterator[Where]:
        if not isinstance(data, dict):
            self._wrong("definition.shape", "expected `field: {operator: value}`", at)
            return
        for name, tests in data.items():
            here = f"{at}.{name}"
            field = self._field(name, here, fields, number=False)
            if not isinstance(tests, dict):
                self._wrong("definition.shape", "expected `field: {operator: value}`", here)
                continue
            for op, value in tests.items() if field >= 0 else ():
                yield from self._test(field, fields[field].scale, str(op), value, here)

    def _test(self, field: int, scale: int, op: str, value: Any, at: str) -> Iterator[Where]:
        if op not in list(Comparison) or (not scale and op not in ("=", "!=")):
            self._wrong(
                "where.operator", f"`{op!s:.10}` cannot compare this field", at, "= != and for numbers < <= > >="
            )
        elif not scale:
            yield Where(field, Comparison(op), str(value))
        elif type(value) not in (int, float):
            self._wrong("where.value", f"`{value!s:.40}` is no number", at)
        else:
            yield Where(field, Comparison(op), round(value * scale))
