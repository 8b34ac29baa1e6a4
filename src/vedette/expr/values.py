"""What a value of an event means to a node: its text, its number, its elements, and how it is found by name.

Every engine uses these, so that they differ only in how they search, never in what they compare.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from vedette.expr.nodes import Field, Part, Space


class Missing(Enum):
    """The one value that says a field is not in the event; null is None and the empty text is itself."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING

Reader = Callable[[Field], object]
"""Gives the value of a field, None for null, `MISSING` when the event has no such field."""

_NUMERIC_CHARS = 40
"""Longer texts are never numbers: no amount, port or identifier that is compared by size needs more."""
_NUMERIC = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)


def reader(data: Mapping[str, object], **spaces: Mapping[str, object]) -> Reader:
    """A reader over plain mappings.

    Args:
        data: The event's own fields (space `data`); dotted names walk into objects and lists.
        **spaces: Mappings of the other spaces by name, such as `attribute={"amount_in_usd": 12.5}`; looked up by the
            whole name.
    """

    def read(field: Field) -> object:
        if field.space is Space.DATA:
            return lookup(data, field.name)
        return spaces.get(field.space.value, {}).get(field.name, MISSING)

    return read


def lookup(data: Mapping[str, object], name: str) -> object:
    """The value of a name; `MISSING` when absent. A key that holds the whole dotted name wins over walking.

    A walk through a list collects what its objects hold, so that `items.id` is the list of all ids.
    """
    if name in data:
        return data[name]
    head, dot, rest = name.partition(".")
    while dot:
        if head in data:
            found = _step(data[head], rest)
            if found is not MISSING:
                return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return MISSING


def _step(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        return lookup(value, name)
    if isinstance(value, list | tuple):
        found = [part for part in (_step(item, name) for item in value) if part is not MISSING]
        return found or MISSING
    return MISSING


def elements(value: object) -> Iterator[object]:
    """The values to compare: the leaves of a list without nulls, else the value itself. Nothing for absent or null."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from elements(item)
    elif value is not None and value is not MISSING:
        yield value


def leaves(value: object) -> Iterator[object]:
    """Every scalar at any depth, without nulls: what keywords search. Names of fields are not values."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif value is not None and value is not MISSING:
        yield value


def text_of(value: object) -> str:
    """The text a predicate sees: `true`, `1`, `1.5`; whole floats as whole numbers; objects as compact JSON.

    Numbers that are equal have equal texts, whatever their type, so that engines may remember answers by value.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=text_of)
    return str(value)


def number_of(value: object) -> int | float | None:
    """The number a value is or spells; None for truth values, not-a-number and other text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return None if isinstance(value, float) and math.isnan(value) else value
    if isinstance(value, str) and len(value) <= _NUMERIC_CHARS and (spelt := _NUMERIC.fullmatch(value)):
        return float(value) if spelt[1] or spelt[2] else int(value)
    return None


_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::(?:[0-5][0-9]|60)(?:[.,][0-9]{1,9})?)?"
    r"(?: ?(?:Z|([+-])([0-9]{2}):?([0-9]{2})))?)?",
    re.ASCII,
)
_EPOCHS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))
"""Below the first number an epoch counts in the second one's parts of a second: s, ms, us, ns."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(text: str) -> datetime | None:
    """The minute in UTC that a text spells; None when it spells no time between the years 1 and 9999.

    ISO 8601 (`2026-03-01`, `2026-03-01T09:30`, with `T` or a space, seconds, fractions, `Z` or an offset; UTC without
    one), or the seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
    """
    number = number_of(text)
    try:
        if number is not None:
            return _epoch_time(number)
        spelt = _TIME.fullmatch(text)
        if not spelt:
            return None
        year, month, day, hour, minute, sign, hours, minutes = spelt.groups(default="0")
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), tzinfo=UTC)
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return time + offset if sign == "-" else time - offset
    except (ValueError, OverflowError):
        return None


def _epoch_time(number: float) -> datetime | None:
    unit = next((unit for limit, unit in _EPOCHS if 0 <= number < limit), None)
    return None if unit is None else _EPOCH + timedelta(minutes=int(number // (60 * unit)))


def part_of(time: datetime, part: Part) -> int:
    """A part of a time, as a number."""
    return time.isocalendar().week if part is Part.WEEK else int(getattr(time, part.value))


def fold(text: str) -> str:
    """Full Unicode case folding: what makes two texts equal without regard to case."""
    return text.casefold()


def utf8(text: str) -> bytes:
    """The bytes a regular expression sees; half a surrogate pair, which JSON can spell, becomes `?`."""
    return text.encode("utf-8", "replace")
