"""Why a node is true: the fields and values that made it so."""

from __future__ import annotations

from collections.abc import Iterator

from vedette.expr import nodes
from vedette.expr.nodes import Field
from vedette.expr.reference import Clause
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING


def evidence(clause: Clause) -> dict[Field, object]:
    """Field -> value of the clauses that a true node rests on; empty for one that is not true.

    Parts that are true because something is absent, or because a filter did not apply, read values too; only what
    is there and was asked for positively counts as evidence.
    """
    found: dict[Field, object] = {}
    for one in _supporting(clause):
        found.update((field, value) for field, value in one.values if value is not MISSING and value is not None)
    return found


def _supporting(clause: Clause) -> Iterator[Clause]:
    if clause.truth is not Truth.TRUE or isinstance(clause.node, nodes.Not):
        return
    if not clause.children:
        yield clause
    for child in clause.children:
        yield from _supporting(child)
