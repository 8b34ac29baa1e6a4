"""Values as text for people. Pure: the filters of the templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from vedette.core.clock import MICROS, to_datetime, to_iso
from vedette.core.event import Entity
from vedette.core.money import EXPONENTS

NONE = "\N{EN DASH}"
"""What stands where there is no value."""

_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def entity_key(entity: Entity | Mapping[str, str] | str) -> str:
    """`type:id` of an `Entity`, of its fields, or of that text itself."""
    if isinstance(entity, str):
        return entity
    return f"{entity['type']}:{entity['id']}" if isinstance(entity, Mapping) else entity.key


def entity_url(entity: Entity | Mapping[str, str] | str) -> str:
    """Path of an entity's page."""
    kind, _, name = entity_key(entity).partition(":")
    return f"/entities/{quote(kind, safe='')}/{quote(name, safe='')}"


def money(minor: int | None, currency: str) -> str:
    """Whole minor units with grouped digits: `1,234.56 EUR`; negative with a minus sign."""
    if minor is None:
        return NONE
    sign, exponent = ("\N{MINUS SIGN}" if minor < 0 else ""), EXPONENTS.get(currency, 2)
    major, rest = divmod(abs(minor), 10**exponent)
    return f"{sign}{major:,}{f'.{rest:0{exponent}d}' if exponent else ''}\N{NO-BREAK SPACE}{currency}"


def whole_money(minor: int, currency: str) -> str:
    """An amount without its currency, for a tile: from 1,000 major units on without decimals."""
    size = 10 ** EXPONENTS.get(currency, 2)
    text = (
        f"{round(minor / size):,}"
        if abs(minor) >= 1_000 * size
        else money(minor, currency).split("\N{NO-BREAK SPACE}")[0]
    )
    return text.replace("-", "\N{MINUS SIGN}")


def count(number: float | None) -> str:
    """A number with grouped digits; a fraction keeps one decimal."""
    if number is None:
        return NONE
    return f"{int(number):,}" if number == int(number) else f"{number:,.1f}"


def percent(share: float | None) -> str:
    """A share, 0 to 1, as `12.3 %`."""
    return NONE if share is None else f"{share * 100:.1f}\N{NO-BREAK SPACE}%"


def words(name: object) -> str:
    """A value's name for people: `in_progress` is `in progress`."""
    return str(name).replace("_", " ")


def pretty(value: Any) -> str:
    """JSON text with indents."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def iso(micros: int) -> str:
    """ISO 8601 to the millisecond, as browsers read it."""
    return f"{to_iso(micros)[:23]}Z"


def utc(micros: int) -> str:
    """Date and time to the second, UTC: `2026-03-02 10:00:00`."""
    return to_datetime(micros).strftime("%Y-%m-%d %H:%M:%S")


def span(micros: float) -> str:
    """A length of time in its largest unit: `3 min`, `2 d`; `now` below a second."""
    seconds = abs(int(micros)) // MICROS
    return next((f"{seconds // size}\N{NO-BREAK SPACE}{unit}" for size, unit in _SPANS if seconds >= size), "now")


def since(micros: int, now: int) -> str:
    """How long ago: `3 min ago`; `in 3 min` for what is to come."""
    text = span(now - micros)
    if text == "now":
        return text
    return f"{text} ago" if micros <= now else f"in {text}"


FILTERS: dict[str, Callable[..., Any]] = {
    "entity_key": entity_key,
    "entity_url": entity_url,
    "money": money,
    "whole_money": whole_money,
    "count": count,
    "percent": percent,
    "words": words,
    "pretty": pretty,
    "iso": iso,
    "utc": utc,
    "span": span,
    "since": since,
    "builtins": msgspec.to_builtins,
}
