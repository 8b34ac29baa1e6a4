"""The rule card: what the key `vedette:` adds to a Sigma document. Other engines pass over it.

Who answers for the rule, what it is after, what to do, what it may cost, how its signals become alerts, and the tests
that show it. All keys are optional here; `vedette rules check` says which a rule of one's own needs.

Example:
    >>> card = parse_card({"owner": "cloud-security", "group": {"by": ["entity"], "window": "1h"}})
    >>> card.owner, card.group.window_s
    ('cloud-security', 3600)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import msgspec

from vedette.core.clock import seconds_of
from vedette.core.errors import DefinitionError, Span
from vedette.core.risk import POINTS
from vedette.core.signal import Level
from vedette.judge.grouping import Grouping, Suppression

KEY = "vedette"
"""Of a Sigma document."""
MAX_TESTS = 200
"""Most tests of one rule."""
MAX_EVENTS = 100_000
"""Most events of one test."""

Fires = bool | int | tuple[str, ...]

_AT = re.compile(r"(?: - at|at) `(?:key in )?(\$[^`]*)`")


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events of one kind. In its texts `{n}` is the event's number from 0, and `{n%7}` that number modulo 7."""

    event: dict[str, Any]
    """The record, in the source's own field names. Time and id are filled in where it has none."""
    source: str = ""
    """Empty: the rule's one source."""
    at_s: int = msgspec.field(default=0, name="at")
    """Event time of the first, seconds from the start of the test."""
    count: int = 1
    every_s: int = msgspec.field(default=0, name="every")
    """Event time between one and the next, seconds."""
    late_s: int = msgspec.field(default=0, name="late")
    """They are delivered this many seconds after their event time, and so behind what happened later."""


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the alert must say. Of several alerts, the first by event time."""

    title: str | None = None
    level: Level | None = None
    key: str | None = None
    """Parts of the dedup key, joined by ` | `."""
    entities: tuple[str, ...] | None = None
    """All it names, such as `user:eve`, in any order."""


class CardTest(msgspec.Struct, frozen=True, kw_only=True):
    """One case: what happens, and what the rule must make of it."""

    name: str
    fires: Fires
    """True or False; how many signals; or the entities that its signals name, all of them."""
    steps: tuple[Step, ...]
    """In no order; the tester puts the events in that of their delivery."""
    also: tuple[str, ...] = ()
    """Names or ids of further rules of the same file that may give signals; no other may."""
    expect: Expected | None = None
    lists: dict[str, tuple[Any, ...]] = {}
    """Stand-ins for look-ups: placeholder of `expand` -> its values."""

    @property
    def positive(self) -> bool:
        """True when the rule must fire."""
        return bool(self.fires)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a card says beside its tests. Empty where it says nothing."""

    owner: str = ""
    """The team that answers for it."""
    goal: str = ""
    """One sentence: what behaviour it is after."""
    runbook: str = ""
    """What to do: some lines of text, or the path of a page."""
    risk: int | None = None
    """Points for entity risk, 0 to 100; None: by level, see `core.risk.POINTS`."""
    alert: bool = True
    """False: its signals add to the risk of what they are about, and make no alert of their own."""
    budget: float | None = None
    """Alerts a day it may cost; None: nobody said."""
    group: Grouping | None = None
    """How its signals become alerts; None: the usual way."""
    suppress: Suppression | None = None
    reason: str = ""
    """Of an exception: why it is one."""
    expires: date | None = None
    """Of an exception: the last day (UTC) on which it applies; None: it does not end."""


class Card(Facts, frozen=True, kw_only=True):
    """What our key says of one rule, correlation or filter."""

    tests: tuple[CardTest, ...] = ()

    @property
    def proven(self) -> bool:
        """True when a test makes the rule fire and another leaves it quiet."""
        return {test.positive for test in self.tests} == {True, False}

    def points(self, level: Level) -> int:
        """Points for entity risk of a rule of that level."""
        return POINTS[level] if self.risk is None else self.risk


NO_CARD = Card()

Place = Callable[[str], Span | None]
"""JSON path from the card on, such as `$.tests[0]` -> where it is written."""


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test as people write it."""

    name: str
    fires: Any = True
    source: str = ""
    event: dict[str, Any] | None = None
    events: tuple[dict[str, Any], ...] = ()
    steps: tuple[Step, ...] = ()
    also: tuple[str, ...] = ()
    expect: Expected | None = None
    lists: dict[str, tuple[Any, ...]] = {}


class _Document(Facts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A card as people write it."""

    tests: tuple[_Written, ...] = ()


def parse_card(data: Any, place: Place = lambda _path: None) -> Card:
    """Reads the value of the key `vedette`.

    Args:
        data: As YAML gave it; None when the document has no such key.
        place: Where its parts are written, for errors.

    Raises:
        DefinitionError: `sigma.card.invalid` (unknown key, wrong type), `.span` (no timespan such as `10m`), `.range`,
            `.test` (a test without events or with two kinds of them, or that expects something odd).
    """
    if data is None:
        return NO_CARD
    if not isinstance(data, dict):
        raise DefinitionError("sigma.card.invalid", "`vedette` is a mapping", span=place("$"))
    plain = _with_seconds(msgspec.to_builtins(data, str_keys=True), place)
    try:
        written = msgspec.convert(plain, _Document)
    except msgspec.ValidationError as error:
        found = _AT.search(str(error))
        message = _AT.sub("", str(error)).removesuffix(" -").strip()
        at = found[1] if found else "$"
        raise DefinitionError(
            "sigma.card.invalid", f"{message[:1].lower()}{message[1:]}", hint=f"at {at} of `vedette`", span=place(at)
        ) from error
    _check(written, place)
    tests = tuple(_to_test(one, f"$.tests[{number}]", place) for number, one in enumerate(written.tests))
    kept = {name: getattr(written, name) for name in _Document.__struct_fields__ if name != "tests"}
    return Card(**kept, tests=tests)


def _with_seconds(data: dict[str, Any], place: Place) -> dict[str, Any]:
    """The card with its timespans in seconds, wherever one may stand."""
    for holder, names, at in _holders(data):
        for name in names:
            if name in holder:
                seconds = seconds_of(holder[name])
                if seconds is None:
                    hint = "a number and one of s, m, h, d, w"
                    message = f"`{str(holder[name])[:40]}` is no timespan such as `10m`"
                    raise DefinitionError("sigma.card.span", message, hint=hint, span=place(f"{at}.{name}"))
                holder[name] = seconds
    return data


def _holders(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...], str]]:
    for key, names in (("group", ("window",)), ("suppress", ("for",))):
        if isinstance(data.get(key), dict):
            yield data[key], names, f"$.{key}"
    for number, test in enumerate(_listed(data.get("tests"))):
        for inner, step in enumerate(_listed(test.get("steps") if isinstance(test, dict) else None)):
            if isinstance(step, dict):
                yield step, ("at", "every", "late"), f"$.tests[{number}].steps[{inner}]"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _check(card: _Document, place: Place) -> None:
    group, suppress = card.group, card.suppress
    wrong = {
        "$.risk": card.risk is not None and not 0 <= card.risk <= 100,  # noqa: PLR2004 - points
        "$.budget": card.budget is not None and card.budget < 0,
        "$.group.window": group is not None and group.window_s < 1,
        "$.suppress.for": suppress is not None and suppress.span_s < 1,
        "$.tests": len(card.tests) > MAX_TESTS,
    }
    for at, bad in wrong.items():
        if bad:
            raise DefinitionError("sigma.card.range", f"`{at[2:]}` is out of its range", span=place(at))
    for at, parts in (("$.group.by", group.by if group else ()), ("$.suppress.by", suppress.by if suppress else ())):
        for part in parts:
            if part not in {"entity", "source"} and not part.startswith("why."):
                hint = "`entity`, `source` or `why.<field>`"
                raise DefinitionError("sigma.card.key", f"`{part[:60]}` is no part of a key", hint=hint, span=place(at))


def _to_test(one: _Written, at: str, place: Place) -> CardTest:
    def refused(message: str, hint: str = "") -> DefinitionError:
        return DefinitionError("sigma.card.test", f"test `{one.name[:60]}`: {message}", hint=hint, span=place(at))

    if (one.event is not None) + bool(one.events) + bool(one.steps) != 1:
        raise refused("says in one of three ways what happens", "one of `event`, `events` and `steps`")
    plain = (one.event,) if one.event is not None else one.events
    steps = one.steps or tuple(Step(event=event, source=one.source, at_s=number) for number, event in enumerate(plain))
    if one.source and one.steps:
        steps = tuple(step if step.source else msgspec.structs.replace(step, source=one.source) for step in steps)
    if any(step.count < 1 for step in steps) or sum(step.count for step in steps) > MAX_EVENTS:
        raise refused(f"has 1 to {MAX_EVENTS:,} events")
    fires = tuple(one.fires) if isinstance(one.fires, list) else one.fires
    if not _is_fires(fires):
        raise refused("`fires` is true, false, a number of signals or a list of entities")
    if one.expect is not None and not fires:
        raise refused("expects an alert, and that nothing fires")
    return CardTest(name=one.name, fires=fires, steps=steps, also=one.also, expect=one.expect, lists=one.lists)


def _is_fires(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(each, str) and ":" in each for each in value)
    return isinstance(value, int) and value >= 0


class Cards:
    """What rules say of their alerts, for whoever turns signals into alerts."""

    def __init__(self) -> None:
        self._by_version: dict[tuple[str, str], Card] = {}
        self._newest: dict[str, Card] = {}

    def add(self, cards: Mapping[tuple[str, str], Card]) -> None:
        """Takes those of an edition; those of earlier ones stay for signals that are on their way."""
        self._by_version |= cards
        self._newest |= {name: card for (name, _), card in cards.items()}

    def of(self, rule_id: str, version: str) -> Card:
        """The card of a version; of one that is not known, that of the rule as it is now."""
        return self._by_version.get((rule_id, version)) or self._newest.get(rule_id, NO_CARD)
