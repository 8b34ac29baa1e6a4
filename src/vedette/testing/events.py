"""Events made for an expression: one that makes it true, and the ones that differ from an event in one field."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vedette.expr import nodes
from vedette.expr.nodes import Comparison, Field, Node
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, leaves, lookup, reader
from vedette.testing.values import values

ATTEMPTS = 300
"""How many combinations of alternatives are tried before `satisfy` gives up."""

Event = dict[str, Any]

_T, _F, _U = Truth.TRUE, Truth.FALSE, Truth.UNKNOWN
_Answers = frozenset[Truth]
_TRUE, _FALSE, _NOT_TRUE, _NOT_FALSE = map(frozenset, ((_T,), (_F,), (_F, _U), (_T, _U)))
_OPPOSITE = {_TRUE: _FALSE, _FALSE: _TRUE, _NOT_TRUE: _NOT_FALSE, _NOT_FALSE: _NOT_TRUE}
_KNOWN = {_TRUE: _TRUE, _FALSE: _NOT_TRUE, _NOT_TRUE: _NOT_TRUE, _NOT_FALSE: _TRUE}
"""What `Known(child)` must answer -> what the child must."""

_WORD_FIELDS = ("Message", "Data", "Note", "Remark")


@dataclass(frozen=True, slots=True)
class _Demand:
    """A predicate and the answers it may give."""

    node: Node
    answers: _Answers


def answer(node: Node, event: Mapping[str, Any]) -> Truth:
    """What the reference says of an event."""
    return evaluate(node, reader(event), list(leaves(event)))


def satisfy(node: Node, *, seed: int = 0) -> Event | None:
    """An event that makes an expression over the space `data` true, as the reference judges.

    Each attempt picks one of the alternatives of every `or`, gathers what is then asked of each field, and looks for a
    value that gives all the answers. The same seed gives the same event.

    Returns:
        None when no attempt found one: the expression may hold for no event.
    """
    names = {field.name for each in nodes.walk(node) for field in nodes.fields(each)}
    for attempt in range(ATTEMPTS):
        rng = random.Random(f"{seed}/{attempt}")  # noqa: S311 - chance, no secret
        event = _solve(list(_demands(node, _TRUE, rng, first=attempt == 0)), names, rng)
        if event is not None and answer(node, event) is Truth.TRUE:
            return event
    return None


def _demands(node: Node, answers: _Answers, rng: random.Random, *, first: bool) -> Iterator[_Demand]:
    """What must be answered by each predicate, one alternative chosen wherever one is enough."""
    match node:
        case nodes.Not(child=child):
            yield from _demands(child, _OPPOSITE[answers], rng, first=first)
        case nodes.Known(child=child):
            yield from _demands(child, _KNOWN[answers], rng, first=first)
        case nodes.And(children=below) | nodes.Or(children=below):
            every = isinstance(node, nodes.And) is (answers in (_TRUE, _NOT_FALSE))
            chosen = below if every or not below else (below[0] if first else rng.choice(below),)
            for child in chosen:
                yield from _demands(child, answers, rng, first=first)
        case _:
            yield _Demand(node, answers)


def _solve(demands: Sequence[_Demand], names: set[str], rng: random.Random) -> Event | None:
    groups, words = _grouped(demands)
    found: dict[str, object] = {}
    for members, asked in groups:
        value = _value(members[0], asked, rng)
        if value is None:
            return None
        found.update((field.name, value[0]) for field in members if value[0] is not MISSING)
    event: Event = {}
    for name in sorted(found, key=lambda name: name.count(".")):  # what is around a field goes before it
        put(event, name, found[name])
    if words:
        name = next((name for name in _WORD_FIELDS if name not in names), "words")
        event[name] = [next(values([word], (), rng)) for word in words]
    return event


def _grouped(demands: Sequence[_Demand]) -> tuple[list[tuple[list[Field], list[_Demand]]], list[Node]]:
    """Fields that must be equal together, with what is asked of them; and the keywords that must be there."""
    equal: dict[Field, Field] = {}

    def root(field: Field) -> Field:
        while field in equal:
            field = equal[field]
        return field

    asked: dict[Field, list[_Demand]] = defaultdict(list)
    words: list[Node] = []
    for demand in demands:
        fields = list(dict.fromkeys(nodes.fields(demand.node)))
        if len(fields) > 1 and _T in demand.answers and _wants_equal(demand.node):
            left, right = (root(field) for field in fields)
            if left != right:
                equal[left] = right
        elif isinstance(demand.node, nodes.Keyword | nodes.KeywordRegex) and demand.answers <= _NOT_FALSE:
            words.append(demand.node)
    for demand in demands:
        fields = list(dict.fromkeys(nodes.fields(demand.node)))
        for field in fields:
            asked[root(field)].append(demand)
    members: dict[Field, list[Field]] = defaultdict(list)
    for field in dict.fromkeys(field for demand in demands for field in nodes.fields(demand.node)):
        members[root(field)].append(field)
    return [(members[field], each) for field, each in asked.items()], words


def _wants_equal(node: Node) -> bool:
    match node:
        case nodes.FieldMatch():
            return True
        case nodes.Compare(op=op):
            return op in (Comparison.EQ, Comparison.LE, Comparison.GE)
        case _:
            return False


def _value(field: Field, asked: Sequence[_Demand], rng: random.Random) -> tuple[object] | None:
    """A value that gives every answer asked of a field alone; what two fields must say is left to the whole event."""
    alone = [demand for demand in asked if len(set(nodes.fields(demand.node))) == 1]
    together = [demand for demand in asked if len(set(nodes.fields(demand.node))) > 1]
    wanted = [demand.node for demand in alone if demand.answers <= _NOT_FALSE]
    unwanted = [demand.node for demand in alone if not demand.answers <= _NOT_FALSE]
    present = bool(together) and any(_U not in demand.answers for demand in together)
    for value in values(wanted, unwanted, rng):
        if present and (value is MISSING or value is None):
            continue
        if _fits(value, alone):
            own = value if not together or wanted else rng.choice(["other", 7, f"of {field.name}"])
            return (own if _fits(own, alone) else value,)
    return None


def _fits(value: object, alone: Sequence[_Demand]) -> bool:
    return all(evaluate(demand.node, lambda _: value) in demand.answers for demand in alone)


class Kind(StrEnum):
    """How one field of an event was changed."""

    ABSENT = "absent"
    NULL = "null"
    EMPTY = "empty"
    CHANGED = "changed"
    CASE = "case"
    LISTED = "listed"
    """The value in a list, beside another."""
    OTHERS = "others"
    """A list without the value."""
    TYPE = "type"
    """A number as text, text as a truth value, anything else as an object."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An event that differs from another in one field."""

    field: str
    kind: Kind
    event: Event


def neighbours(node: Node, event: Mapping[str, Any]) -> Iterator[Neighbour]:
    """Events that differ from one in one field that an expression reads, or in any field where it searches keywords.

    A field that the event does not have is given values too.
    """
    names = dict.fromkeys(field.name for each in nodes.walk(node) for field in nodes.fields(each))
    if any(isinstance(each, nodes.Keyword | nodes.KeywordRegex) for each in nodes.walk(node)):
        names.update(dict.fromkeys(event))
    for name in names:
        value = lookup(event, name)
        for kind, changed in _changes(value):
            made = copy.deepcopy(dict(event))
            if changed is MISSING:
                drop(made, name)
            else:
                put(made, name, changed)
            if made != event or kind is Kind.TYPE:
                yield Neighbour(name, kind, made)


def _changes(value: object) -> Iterator[tuple[Kind, object]]:
    if value is not MISSING:
        yield Kind.ABSENT, MISSING
    yield Kind.NULL, None
    yield Kind.EMPTY, ""
    yield Kind.CHANGED, f"{value}~changed" if isinstance(value, str) else "changed"
    if isinstance(value, str) and value.swapcase() != value:
        yield Kind.CASE, value.swapcase()
    kept = value if isinstance(value, list) else [] if value is MISSING else [value]
    yield Kind.LISTED, [*kept, "another"]
    yield Kind.OTHERS, ["another", None]
    match value:
        case bool():
            yield Kind.TYPE, str(value)
        case int() | float():
            yield Kind.TYPE, str(value)
        case str() if value.isdecimal() and value.isascii() and str(int(value)) == value:
            yield Kind.TYPE, int(value)
        case str():
            yield Kind.TYPE, value == "true"
        case _:
            yield Kind.TYPE, {"inner": "another"}


def put(event: Event, name: str, value: object) -> None:
    """Gives a field a value: inside objects where its dotted name leads through some, else under its whole name."""
    holder, last = _holder(event, name)
    holder[last] = value


def drop(event: Event, name: str) -> None:
    """Takes a field out of an event, wherever `lookup` finds it."""
    while lookup(event, name) is not MISSING:
        holder, last = _holder(event, name)
        if last not in holder:
            event.pop(name.partition(".")[0], None)
        holder.pop(last, None)


def _holder(event: Event, name: str) -> tuple[Event, str]:
    holder, rest = event, name
    while rest not in holder and "." in rest:
        head, _, below = rest.partition(".")
        inner = holder.setdefault(head, {}) if head and below else None
        if not isinstance(inner, dict):
            return event, name
        holder, rest = inner, below
    return holder, rest
