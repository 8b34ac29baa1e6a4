"""Reads point files, and says everything that is wrong with one: each with file, line, column and a hint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vedette.core import content
from vedette.core.documents import Document, load_yaml
from vedette.core.errors import DefinitionError, Problems, VedetteError
from vedette.judge.decisions.parts import Policy
from vedette.judge.payment.attributes import ATTRIBUTES, Attribute, Kind
from vedette.judge.payment.files import origin_of, rules_in
from vedette.judge.payment.lists import ValueList
from vedette.judge.payment.problems import near
from vedette.judge.payment.rules import PaymentRule, PaymentRules, RiskLevels, parse_condition
from vedette.judge.points.point import Point
from vedette.judge.points.scorecard import MAX_ODDS, Odds, Scorecard
from vedette.sense.definition import Definition, LogSource, Origin
from vedette.sense.features.definition import FeatureSet, parse_features
from vedette.sense.sources import Source
from vedette.sense.times import TimeFormat

MAX_LINES = 20
"""Longest point file, blank lines and comments not counted: what needs more is a product of its own."""
MAX_BYTES = 64 * 1024
MAX_RULES = 100
"""Most rules of one point."""
KINDS = {
    "number": Kind.NUMBER,
    "text": Kind.TEXT,
    "cased": Kind.CASED,
    "boolean": Kind.BOOLEAN,
    "country": Kind.COUNTRY,
    "state": Kind.STATE,
}
"""Words for the type of an attribute; `cased` is text that is compared as it is written."""

_KEYS = "point about id time entities attributes features label model score rules levels policy queue reasons".split()
_NEEDED = ("point", "about", "id", "time", "rules")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_WINDOWED = frozenset(
    "count sum mean std velocity_change min max last first distinct top_k top_share entropy ewma".split()
)
"""Aggregations that must say whether they count the event itself; here they do not unless told to."""


def load_points(
    folders: Iterable[Path] | None = None, *, lists: Mapping[str, ValueList] | None = None
) -> dict[str, Point]:
    """Every point of some folders, by name; the shipped ones when none is named.

    Raises:
        Problems: Everything wrong with any of them; `point.name.duplicate`.
    """
    found: dict[str, Point] = {}
    problems: list[VedetteError] = []
    for path in (path for folder in folders or (content.shipped("points"),) for path in sorted(folder.glob("*.yaml"))):
        try:
            point = load_point(path, lists=lists)
        except Problems as several:
            problems += several.problems
        except DefinitionError as error:
            problems.append(error)
        else:
            if point.name in found:
                hint = f"the other is {found[point.name].path}"
                problems.append(
                    DefinitionError(
                        "point.name.duplicate", f"two points are named `{point.name}`", hint=hint, at=str(path)
                    )
                )
            found.setdefault(point.name, point)
    if problems:
        raise Problems(problems)
    return found


def load_point(path: Path, *, lists: Mapping[str, ValueList] | None = None) -> Point:
    """Reads one point file.

    Raises:
        Problems: Everything wrong with it: `point.*`, `payment.*`, `features.*`.
        DefinitionError: `point.file.unreadable`, `documents.yaml.*`.
    """
    try:
        text = path.read_bytes()[: MAX_BYTES + 1].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError("point.file.unreadable", f"cannot read `{path}`") from error
    return read_point(text, path=str(path), lists=lists)


def read_point(text: str, *, path: str = "", lists: Mapping[str, ValueList] | None = None) -> Point:
    """A point from its text. Raises as `load_point`."""
    document = load_yaml(text, path=path)
    reader = _Reader(document, lists or {})
    point = reader.point()
    if reader.problems or point is None:
        raise Problems(reader.problems)
    return point


class _Reader:
    """Walks one document, noting every problem with its place."""

    def __init__(self, document: Document, lists: Mapping[str, ValueList]) -> None:
        self.problems: list[VedetteError] = []
        self._document = document
        self._lists = lists
        self._data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}

    def _wrong(self, code: str, message: str, at: str, hint: str = "", *, key: bool = False) -> None:
        span = self._document.span(at, key=key)
        self.problems.append(DefinitionError(f"point.{code}", message, hint=hint, span=span))

    def point(self) -> Point | None:
        self._shape()
        if self.problems:
            return None
        attributes = self._attributes()
        features = self._features(attributes)
        table = {
            **{name: Attribute(name, Kind.NUMBER) for name in (features.names if features else ())},
            **ATTRIBUTES,
            **attributes,
        }
        words = self._words()
        card = self._card(table)
        rules, wrong = rules_in(self._document, self._data["rules"], "$.rules", attributes=table, lists=self._lists)
        self.problems += wrong
        source = self._source()
        built = self._rules(rules)
        if source is None or built is None:
            return None
        words |= {rule.id: rule.reason for rule in rules if rule.reason} | (dict(card.words) if card else {})
        model = self._data.get("model")
        return Point(
            name=self._data["point"],
            about=self._data["about"],
            source=source,
            attributes=table,
            carried=frozenset(attributes),
            rules=built,
            features=features,
            card=card,
            model=Path(model) if model else None,
            policy=self._policy(),
            queue=self._data.get("queue", self._data["point"]),
            words=words,
            path=self._document.path,
        )

    # The outer shape

    def _shape(self) -> None:
        if not self._data:
            self._wrong("file.shape", "a point is a mapping", "$", "start with `point: name`")
            return
        self._keys()
        name = self._data.get("point")
        if isinstance(name, str) and not _NAME.fullmatch(name):
            self._wrong("value.invalid", f"`{name:.80}` is no name", "$.point", "lower case, digits, underscores")
        if "model" in self._data and "score" in self._data:
            self._wrong("score.twice", "a model and a scorecard both score", "$.score", "keep one of them", key=True)
        lines = [line.strip() for line in self._document.text.splitlines()]
        count = sum(bool(line) and not line.startswith("#") for line in lines)
        if count > MAX_LINES:
            hint = "one rule, one feature, one condition a line"
            self._wrong("file.too_long", f"a point has at most {MAX_LINES} lines, this one {count}", "$", hint)

    def _keys(self) -> None:
        for key in self._data:
            if key not in _KEYS:
                hint = near(str(key), _KEYS) or f"known: {', '.join(_KEYS)}"
                self._wrong("key.unknown", f"unknown key `{key!s:.40}`", f"$.{key}", hint, key=True)
        for key in _NEEDED:
            if key not in self._data:
                self._wrong("key.missing", f"`{key}` is missing", "$")
        for key in ("point", "about", "id", "model", "queue"):
            if key in self._data and (not isinstance(self._data[key], str) or not self._data[key]):
                self._wrong("value.invalid", f"`{key}` must be text", f"$.{key}", "put quotes round it")

    def _mapping(self, key: str) -> dict[Any, Any]:
        value = self._data.get(key, {})
        if isinstance(value, dict):
            return value
        self._wrong("value.invalid", f"`{key}` must be a mapping", f"$.{key}")
        return {}

    def _list(self, key: str) -> Iterator[tuple[Any, str]]:
        value = self._data.get(key, [])
        if isinstance(value, list):
            yield from ((item, f"$.{key}[{place}]") for place, item in enumerate(value))
        else:
            self._wrong("value.invalid", f"`{key}` must be a list", f"$.{key}")

    def _policy(self) -> Policy:
        try:
            return Policy(self._data.get("policy", Policy.OPEN))
        except ValueError:
            self._wrong("value.invalid", "`policy` is `open` or `closed`", "$.policy")
            return Policy.OPEN

    def _words(self) -> dict[str, str]:
        found = {}
        for name, text in self._mapping("reasons").items():
            if isinstance(text, str):
                found[str(name)] = text
            else:
                self._wrong("value.invalid", "a reason is text", f"$.reasons.{name}")
        return found

    # What its events are

    def _source(self) -> Source | None:
        times = self._mapping("time")
        entities = {
            kind: tuple(paths) if isinstance(paths, list) else (paths,)
            for kind, paths in self._mapping("entities").items()
        }
        for name, form in times.items():
            if form not in list(TimeFormat):
                self._wrong(
                    "value.invalid",
                    f"`{form!s:.40}` is no form of time",
                    f"$.time.{name}",
                    f"one of {', '.join(TimeFormat)}",
                )
        for kind, paths in entities.items():
            if not all(isinstance(path, str) for path in paths):
                self._wrong(
                    "value.invalid", "an entity names fields", f"$.entities.{kind}", "such as `ip: [ip_address]`"
                )
        if not times:
            self._wrong("value.invalid", "`time` names no field", "$.time", "such as `time: {created: iso_or_epoch_s}`")
        if self.problems:
            return None
        return Source(
            Definition(
                name=self._data["point"],
                about=self._data["about"],
                origin=Origin.DOCUMENTATION,
                logsource=LogSource(product="decisions", service=self._data["point"]),
                detect=((self._data["id"], *times),),
                time={str(name): TimeFormat(form) for name, form in times.items()},
                id=self._data["id"],
                entities=msgspec.convert(entities, dict[str, tuple[str, ...]]),
            )
        )

    def _attributes(self) -> dict[str, Attribute]:
        found = {}
        for name, word in self._mapping("attributes").items():
            at = f"$.attributes.{name}"
            known = ATTRIBUTES.get(name)
            kind = KINDS.get(word) if isinstance(word, str) else None
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                self._wrong(
                    "attribute.name", f"`{name!s:.80}` is no name", at, "lower case, digits, underscores", key=True
                )
            elif kind is None:
                self._wrong("attribute.type", f"`{word!s:.40}` is no type", at, f"one of {', '.join(KINDS)}")
            elif known and (known.scored or name.startswith("amount_in_")):
                self._wrong(
                    "attribute.ours",
                    f"`{name}` is made here",
                    at,
                    "send `amount_minor` and `currency`; scores are computed",
                    key=True,
                )
            elif known and known.kind is not kind:
                right = next((known_as for known_as, each in KINDS.items() if each is known.kind), "text")
                hint = f"write `{name}: {right}`, or choose another name"
                self._wrong("attribute.type", f"`{name}` is a {known.kind} in the table of attributes", at, hint)
            else:
                found[name] = known or Attribute(name, kind)
        return found

    # What is counted

    def _features(self, attributes: Mapping[str, Attribute]) -> FeatureSet | None:
        items = list(self._list("features"))
        views: dict[str, list[dict[str, Any]]] = {}
        fields: dict[str, dict[str, Any]] = {}
        for item, at in items:
            entry = self._feature(item, at, attributes, fields)
            if entry is not None:
                views.setdefault(str(item.get("by", "")), []).append(entry)
                self._parsed({str(item.get("by", "")): [entry]}, fields, at)
        if not items or self.problems:
            return None
        return self._parsed(views, fields, "$.features")

    def _feature(
        self, item: Any, at: str, attributes: Mapping[str, Attribute], fields: dict[str, dict[str, Any]]
    ) -> dict[str, Any] | None:
        if not isinstance(item, dict):
            hint = "`{name: sign_ups, aggregation: count, by: ip_address, windows: [1h, 1d]}`"
            self._wrong("feature.shape", "a feature is a mapping", at, hint)
            return None
        entry = {key: value for key, value in item.items() if key not in {"by", "of"}}
        if item.get("aggregation") in _WINDOWED:
            entry.setdefault("include_current", False)
        if "of" in item:
            entry["field"] = item["of"]
        where = item.get("where")
        for name in [*([item["of"]] if "of" in item else []), *(where if isinstance(where, dict) else ())]:
            known = attributes.get(str(name))
            textual = known is not None and known.kind is not Kind.NUMBER
            exact = {"decimals": 0} if name == "amount_minor" else {}
            fields[str(name)] = {"path": str(name), **({"text": True} if textual else exact)}
        return entry

    def _parsed(
        self, views: Mapping[str, list[dict[str, Any]]], fields: Mapping[str, Any], at: str
    ) -> FeatureSet | None:
        kinds = {
            path: kind
            for kind, paths in self._mapping("entities").items()
            for path in (paths if isinstance(paths, list) else [paths])
        }
        definitions = {
            "source": self._data["point"],
            "event_id": self._data["id"],
            "event_time": next(iter(self._mapping("time")), ""),
            "fields": dict(fields),
            **({"label": self._data["label"]} if "label" in self._data else {}),
            "views": [
                {"view": kinds.get(key, key) or "event", "features": entries}
                | ({"entity": kinds.get(key, key), "key": key} if key else {})
                for key, entries in views.items()
            ],
        }
        try:
            return parse_features(json.dumps(definitions, indent=1), path=self._document.path)
        except Problems as several:
            for each in several.problems:
                self.problems.append(
                    DefinitionError(each.code, each.message, hint=each.hint, span=self._document.span(at))
                )
        except DefinitionError as error:
            self.problems.append(
                DefinitionError(error.code, error.message, hint=error.hint, span=self._document.span(at))
            )
        return None

    # What scores and decides

    def _card(self, table: Mapping[str, Attribute]) -> Scorecard | None:
        if "score" not in self._data:
            return None
        score = self._mapping("score")
        base, odds = score.get("base"), score.get("odds")
        if set(score) != {"base", "odds"} or not isinstance(odds, list):
            hint = '{base: 0.01, odds: [{id: new, if: ":email_age_days: < 7", times: 10}]}'
            self._wrong("score.shape", "a scorecard has `base` and `odds`", "$.score", hint)
            return None
        if isinstance(base, bool) or not isinstance(base, int | float) or not 0 < base < 1:
            self._wrong(
                "score.base",
                "`base` is a probability above 0 and below 1",
                "$.score.base",
                "the share of fraud where nothing speaks for it",
            )
            base = 0.5
        found = [one for place, item in enumerate(odds) if (one := self._odds(item, f"$.score.odds[{place}]", table))]
        names = [one.rule.id for one in found]
        for name in {name for name in names if names.count(name) > 1}:
            self._wrong("score.duplicate", f"two conditions are named `{name}`", "$.score.odds")
        return Scorecard(self._data["point"], float(base), found)

    def _odds(self, item: Any, at: str, table: Mapping[str, Attribute]) -> Odds | None:
        if not isinstance(item, dict) or not {"id", "if", "times"} <= set(item) <= {"id", "if", "times", "reason"}:
            self._wrong(
                "score.shape", "a condition is `{id, if, times, reason}`", at, "`times` multiplies the odds of fraud"
            )
            return None
        times, name = item["times"], item["id"]
        if isinstance(times, bool) or not isinstance(times, int | float) or not 1 / MAX_ODDS <= times <= MAX_ODDS:
            self._wrong(
                "score.times",
                f"`times` is a number above 0, at most {MAX_ODDS:,.0f}",
                f"{at}.times",
                "2 doubles the odds, 0.5 halves them",
            )
            return None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._wrong("score.name", f"`{name!s:.80}` is no name", f"{at}.id", "lower case, digits, underscores")
            return None
        return self._condition(item, at, table, float(times))

    def _condition(self, item: Mapping[str, Any], at: str, table: Mapping[str, Attribute], times: float) -> Odds | None:
        """The condition, typed as that of a rule; places are those of the file."""
        if not isinstance(item["if"], str):
            self._wrong("score.shape", "a condition is text", f"{at}.if", "put quotes round it")
            return None
        origin = origin_of(self._document, f"{at}.if")
        try:
            rule = parse_condition(item["if"], id=item["id"], attributes=table, lists=self._lists, origin=origin)
        except Problems as several:
            self.problems += several.problems
            return None
        except DefinitionError as error:
            self.problems.append(error)
            return None
        return Odds(rule, times, str(item.get("reason", "")))

    def _rules(self, rules: Sequence[PaymentRule]) -> PaymentRules | None:
        levels = self._mapping("levels")
        if len(rules) > MAX_RULES:
            self._wrong("rules.too_many", f"a point has at most {MAX_RULES} rules", "$.rules")
        try:
            return PaymentRules(rules, levels=RiskLevels(**levels))
        except TypeError:
            self._wrong("value.invalid", "`levels` is `{elevated: 65, highest: 75}`", "$.levels")
        except Problems as several:
            self.problems += several.problems
        except DefinitionError as error:
            self._wrong("value.invalid", error.message, "$.levels")
        return None
