"""Feature definitions as data: YAML in, frozen values out, everything wrong with them reported at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from vedette.core import content
from vedette.core.clock import DAY, MICROS, seconds_of
from vedette.core.documents import load_yaml
from vedette.core.errors import DefinitionError, Problems, Span
from vedette.sense.features.feature import (
    ANY_TYPE,
    EVER,
    EVER_ABLE,
    LABEL_WINDOWED,
    LABELLED,
    MAX_CAPACITY,
    MAX_FEATURES,
    MAX_KEYS,
    MAX_RANK,
    MAX_VIEWS,
    MAX_WINDOW,
    MICRO,
    NEEDS_FIELD,
    PLAIN,
    SINCE,
    WINDOWED,
    Aggregation,
    Feature,
    FeatureSet,
    Field,
    LabelRule,
    Measure,
    View,
    unit_of,
)
from vedette.sense.features.filters import WhereReader

__all__ = [
    "LABELLED",
    "WINDOWED",
    "Aggregation",
    "Feature",
    "FeatureSet",
    "Field",
    "LabelRule",
    "Measure",
    "View",
    "load_features",
    "parse_features",
    "shipped",
]

MAX_BYTES = 1 << 20
CAPACITY = 4_096
"""Of a view that states none."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OWN = {
    Aggregation.DISTINCT: "limit",
    Aggregation.TOP_K: "k",
    Aggregation.TOP_SHARE: "k",
    Aggregation.EWMA: "half_life",
    Aggregation.VELOCITY_CHANGE: "over",
    Aggregation.RATIO: "of to",
}
"""Keys that only one aggregation takes."""


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
        seconds = seconds_of(value)
        if seconds is None or seconds * MICROS > MAX_WINDOW:
            self._wrong("window.invalid", f"`{value!s:.40}` is no length of time", at, "15m, 2h, 7d; at most 3660d")
            return 0
        return seconds * MICROS

    def feature_set(self, data: object, text: str) -> FeatureSet | None:
        known = "source when event_id event_time lateness ahead fields label views"
        top = self._keys(data, "$", known, "source event_time views")
        if self.problems:
            return None
        fields = tuple(self._fields(top.get("fields", {}), "$.fields"))
        label = self._label(top.get("label"), "$.label")
        views = tuple(self._view(item, at, fields) for item, at in self._items(top, "views", "$"))
        views = self._ratios(views)
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

    def _ratios(self, views: tuple[View, ...]) -> tuple[View, ...]:
        """Views whose ratios are known to name two other features."""
        known = {one.name for view in views for one in view.features if one.aggregation is not Aggregation.RATIO}
        for place, view in enumerate(views):
            for one in view.features:
                for name in one.of if one.aggregation is Aggregation.RATIO else ():
                    if name not in known:
                        hint = "any feature that is no ratio itself, by its full name: `count_7d`"
                        self._wrong("ratio.unknown", f"`{one.name}` is of `{name:.80}`", f"$.views[{place}]", hint)
        return views

    def _fields(self, data: object, at: str) -> Iterator[Field]:
        if not isinstance(data, dict):
            self._wrong("definition.shape", "expected a mapping", at)
            return
        for name, value in data.items():
            here = f"{at}.{name}"
            item = self._keys(value, here, "path decimals text unit", "path")
            decimals = item.get("decimals")
            if decimals is not None and (type(decimals) is not int or not 0 <= decimals <= 6):  # noqa: PLR2004
                self._wrong("field.decimals", "`decimals` must be 0..6", f"{here}.decimals")
                decimals = 0
            scale = 0 if item.get("text") is True else MICRO if decimals is None else 10**decimals
            yield Field(str(name), self._text(item, "path", here), scale, self._text(item, "unit", here))

    def _label(self, data: object, at: str) -> LabelRule:
        if data is None:
            return LabelRule("", 60 * DAY, 7 * DAY)
        item = self._keys(data, at, "path keep lateness", "path")
        keep = self._time(item, "keep", at, 60 * DAY)
        return LabelRule(self._text(item, "path", at), keep, self._time(item, "lateness", at, 7 * DAY))

    def _view(self, data: object, at: str, fields: tuple[Field, ...]) -> View:
        item = self._keys(data, at, "view entity key capacity features", "view features")
        capacity = self._whole(item, "capacity", at, most=MAX_CAPACITY, default=CAPACITY)
        keys = item.get("key", "")
        listed = [key for key in (keys if isinstance(keys, list) else [keys]) if key != ""]
        if len(listed) > MAX_KEYS or not all(isinstance(key, str) for key in listed):
            self._wrong("definition.shape", f"`key` must be a path or a list of 1..{MAX_KEYS}", f"{at}.key")
        features = tuple(
            feature
            for one, here in self._items(item, "features", at)
            for feature in self._feature(one, here, fields, keyed=bool(listed))
        )
        names = self._name(item, "view", at), self._text(item, "entity", at)
        return View(*names, tuple(map(str, listed)), capacity, features)

    def _whole(self, item: Mapping[str, Any], key: str, at: str, *, most: int, default: int) -> int:
        value = item.get(key, default)
        if type(value) is int and (1 <= value <= most or value == default):
            return value
        code = "view.capacity" if key == "capacity" else "argument.invalid"
        self._wrong(code, f"`{key}` must be 1..{most}", f"{at}.{key}")
        return 1

    def _feature(self, data: object, at: str, fields: tuple[Field, ...], *, keyed: bool) -> Iterator[Feature]:
        known = "name aggregation field windows include_current where limit k half_life over of to"
        item = self._keys(data, at, known, "name aggregation")
        name = self._name(item, "name", at)
        if item.get("aggregation") not in list(Aggregation):
            every = ", ".join(Aggregation)
            self._wrong("aggregation.unknown", f"unknown aggregation `{item.get('aggregation')!s:.40}`", at, every)
            return
        aggregation = Aggregation(item["aggregation"])
        self._check(item, aggregation, at, keyed=keyed)
        measure = self._measure(item, aggregation, at, fields)
        base = Feature(
            name=name,
            aggregation=aggregation,
            measure=measure,
            include_current=item.get("include_current") is True,
            argument=self._argument(item, aggregation, at),
            of=(str(item.get("of", "")), str(item.get("to", ""))),
            unit=unit_of(aggregation, fields[measure.field] if measure and measure.field >= 0 else None),
        )
        windows = [
            (text, self._window(text, aggregation, base, here)) for text, here in self._items(item, "windows", at)
        ]
        ranks = range(base.argument) if aggregation is Aggregation.TOP_K else [base.argument]
        for (text, window), rank in product(windows or [("", EVER)], ranks):
            rank_text = str(rank + 1) if aggregation is Aggregation.TOP_K else ""
            full = "_".join(part for part in (name, str(text), rank_text) if part)
            yield replace(base, name=full, window=window, argument=rank)

    def _window(self, text: object, aggregation: Aggregation, feature: Feature, at: str) -> int:
        if text == "all":
            unmeasured = aggregation is not Aggregation.SECONDS_SINCE_FIRST or feature.measure is None
            if aggregation not in EVER_ABLE or not unmeasured:
                self._wrong("window.all", f"`{aggregation}` cannot look over all time", at, "a length such as 365d")
            return EVER
        window = self._micros(text, at)
        if seconds_of(text) == 0:
            self._wrong("window.invalid", "a window must be longer than nothing", at)
        if aggregation is Aggregation.VELOCITY_CHANGE and window >= feature.argument:
            self._wrong("window.invalid", "a window must be shorter than `over`", at)
        return window

    def _argument(self, item: Mapping[str, Any], aggregation: Aggregation, at: str) -> int:
        wanted = _OWN.get(aggregation, "").split()
        for key in "limit k half_life over of to".split():
            if key in item and key not in wanted:
                self._wrong("argument.unused", f"`{aggregation}` takes no `{key}`", f"{at}.{key}")
            elif key in wanted and key not in item and key != "limit":
                self._wrong("argument.missing", f"`{aggregation}` needs `{key}`", at)
        if aggregation is Aggregation.DISTINCT:
            return self._whole(item, "limit", at, most=MAX_CAPACITY, default=0)
        if "k" in wanted:
            return self._whole({"k": 1, **item}, "k", at, most=MAX_RANK, default=1)
        if aggregation in (Aggregation.EWMA, Aggregation.VELOCITY_CHANGE):
            return max(1, self._time(item, wanted[0], at, 1))
        return 0

    def _check(self, item: Mapping[str, Any], aggregation: Aggregation, at: str, *, keyed: bool) -> None:
        if keyed == (aggregation in PLAIN) and aggregation is not Aggregation.RATIO:
            message = "reads the event alone and needs a view without `key`" if keyed else "needs a view with `key`"
            self._wrong("aggregation.place", f"`{aggregation}` {message}", at)
        windowed = aggregation in WINDOWED | SINCE
        if windowed != bool(item.get("windows")) and aggregation not in LABEL_WINDOWED:
            word = "needs" if windowed else "has no"
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
        if aggregation not in NEEDS_FIELD | WINDOWED | SINCE:
            if "field" in item or "where" in item:
                self._wrong("field.unused", f"`{aggregation}` takes no `field` and no `where`", at)
            return None
        number = aggregation not in ANY_TYPE
        field = self._field(item["field"], f"{at}.field", fields, number=number) if "field" in item else -1
        where = WhereReader(fields, self._wrong).read(item["where"], f"{at}.where") if item.get("where") else None
        return Measure(field, where) if field >= 0 or where else None

    def _field(self, name: object, at: str, fields: tuple[Field, ...], *, number: bool) -> int:
        for place, field in enumerate(fields):
            if field.name == name and (field.scale or not number):
                return place
        numbers = ", ".join(field.name for field in fields if field.scale or not number)
        self._wrong("field.unknown", f"no {'number' if number else 'field'} `{name!s:.80}`", at, f"known: {numbers}")
        return -1
