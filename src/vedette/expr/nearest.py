"""What would have to be different for a node to be true: the fewest clauses, nearest values first.

Counted in clauses that would have to answer otherwise. Of an `or` only its nearest part is followed; parts that are
equally near and read the same field are alternatives of one change.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from vedette.expr import nodes
from vedette.expr.nodes import Field
from vedette.expr.reference import Clause
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, fold, text_of

MAX_ALTERNATIVES = 10
"""Most clauses that are given as alternatives of one change, the nearest first."""
MAX_COMPARED = 256
"""Longest start of a text that is looked at to tell how near it is, in characters."""


@dataclass(frozen=True, slots=True)
class Change:
    """One clause that would have to answer otherwise, or one of several."""

    clauses: tuple[Clause, ...]
    """Any of them would do; they read the same fields, except keywords, which read none."""
    wanted: Truth
    """What it would have to answer: true, or false under a `not`."""


def changes(clause: Clause, wanted: Truth = Truth.TRUE) -> tuple[Change, ...] | None:
    """The fewest changes that make a node answer so; none when it does, None when nothing can.

    Args:
        clause: From `reference.trace`.
        wanted: True or false.
    """
    if clause.truth is wanted:
        return ()
    match clause.node:
        case nodes.And() | nodes.Or() as node:
            every = isinstance(node, nodes.And) == (wanted is Truth.TRUE)
            return (_all if every else _nearest)(clause.children, wanted)
        case nodes.Not():
            return changes(clause.children[0], wanted.negate())
        case nodes.Known():
            # It is false already unless its child is true, so only these two cases come here.
            return changes(clause.children[0], wanted)
        case nodes.Constant():
            return None
        case _:
            return (Change((clause,), wanted),)


def _all(parts: Iterable[Clause], wanted: Truth) -> tuple[Change, ...] | None:
    found: list[Change] = []
    for part in parts:
        needed = changes(part, wanted)
        if needed is None:
            return None
        found += [one for one in needed if one not in found]
    return tuple(found)


def _nearest(parts: Iterable[Clause], wanted: Truth) -> tuple[Change, ...] | None:
    ways = [way for part in parts if (way := changes(part, wanted)) is not None]
    if not ways:
        return None
    best = min(ways, key=distance)
    if len(best) != 1:
        return best
    alike = [way[0] for way in sorted(ways, key=distance) if len(way) == 1 and _same(way[0], best[0])]
    clauses = [clause for one in alike for clause in one.clauses]
    return (Change(tuple(clauses[:MAX_ALTERNATIVES]), best[0].wanted),)


def _same(one: Change, other: Change) -> bool:
    return one.wanted is other.wanted and _fields(one) == _fields(other)


def _fields(change: Change) -> tuple[Field, ...]:
    return tuple(field for field, _ in change.clauses[0].values)


def distance(way: tuple[Change, ...]) -> tuple[int, float]:
    """How near a way is: its changes, then how far the values are from what is asked; smaller is nearer."""
    return len(way), sum(_apart(one.clauses[0]) for one in way)


def _apart(clause: Clause) -> float:
    """How far a value is from what is asked: 0 next to it, 1 far, 2 where there is none."""
    values = [value for _, value in clause.values]
    if any(value is MISSING or value is None for value in values):
        return 2.0
    if isinstance(clause.node, nodes.Text) and len(values) == 1:
        have, asked = (fold(text)[:MAX_COMPARED] for text in (text_of(values[0]), clause.node.value))
        return 1.0 - difflib.SequenceMatcher(None, have, asked, autojunk=False).ratio()
    return 1.0
