"""Which rules can match which log source: fields that most rules pin to a few values, and an event's class by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vedette.expr.matcher.formula import All, Any, Atom, Formula, Kind, Lit
from vedette.expr.nodes import Field, Space, Text, TextMatch
from vedette.expr.values import MISSING, fold, text_of

MAX_FIELDS = 2
"""Channel and EventID; eventSource and eventName. A third would split rules too finely to share work."""

_SHARE = 20
"""A field routes when at least one rule in this many pins it."""

Pins = Mapping[Field, frozenset[str]]
"""Field -> the folded values of which the field must have one for the rule to be true."""

REST = "\0rest"
"""Class of a field that a rule demands nothing of, and of a value that no rule demands. No text can equal it."""

OPEN = "\0open"
"""Class of a value that may equal several texts (a list) or has no plain text: nothing is assumed about it."""


def pins(formula: Formula, atoms: Sequence[Atom]) -> Pins:
    """What a formula demands of fields before it can be true."""
    match formula:
        case Lit(atom=number, positive=True):
            return _pin(atoms[number])
        case All(parts=parts):
            return _both([pins(part, atoms) for part in parts])
        case Any(parts=parts):
            return _either([pins(part, atoms) for part in parts])
        case _:
            return {}


def _pin(atom: Atom) -> Pins:
    match atom:
        case Atom(Kind.HOLDS, Text(field=Field(space=Space.DATA) as field, match=TextMatch.EQUALS, value=value)):
            return {field: frozenset({fold(value)})}
        case _:
            return {}


def _both(parts: list[Pins]) -> Pins:
    merged: dict[Field, frozenset[str]] = {}
    for part in parts:
        for field, values in part.items():
            # The smaller demand is enough; both would be exact, but a list may satisfy each by another element.
            merged[field] = min(values, merged.get(field, values), key=len)
    return merged


def _either(parts: list[Pins]) -> Pins:
    shared = set(parts[0]).intersection(*parts[1:]) if parts else set()
    return {field: frozenset().union(*(part[field] for part in parts)) for field in shared}


def routing_fields(demands: Sequence[Pins]) -> tuple[Field, ...]:
    """The fields that route events, those pinned by most rules first; none for a handful of rules."""
    uses = Counter(field for demand in demands for field in demand)
    often = [(count, field) for field, count in uses.items() if count * _SHARE >= len(demands) and count > 1]
    often.sort(key=lambda pair: (-pair[0], pair[1].name))
    return tuple(field for _, field in often[:MAX_FIELDS])


def classify(value: object, pinned: frozenset[str]) -> str:
    """The class of a field's value: its folded text if a rule demands it, else `REST` or `OPEN`."""
    if value is None or value is MISSING:
        return REST
    if isinstance(value, list | tuple | dict):
        return OPEN
    text = fold(text_of(value))
    return text if text in pinned else REST
