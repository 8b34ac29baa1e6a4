"""Rows in which no rule can fire, told from columns beside the JSON text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlglot import exp

from vedette.expr import nodes
from vedette.expr.nodes import Node, Space, TextMatch
from vedette.expr.sql.printer import joined
from vedette.expr.values import fold

Demands = Mapping[str, frozenset[str]]
"""Field -> folded texts, of which the field must have one for a rule to be true."""


def demands(node: Node) -> Demands:
    """What a rule demands of fields before it can be true; nothing it says under `not`."""
    match node:
        case nodes.Known(child=child):
            return demands(child)
        case nodes.And(children=children):
            found: dict[str, frozenset[str]] = {}
            for part in map(demands, children):
                for name, texts in part.items():
                    found[name] = min(texts, found.get(name, texts), key=len)
            return found
        case nodes.Or(children=children) if children:
            parts = [demands(child) for child in children]
            shared = set(parts[0]).intersection(*parts[1:])
            return {name: frozenset().union(*(part[name] for part in parts)) for name in shared}
        case nodes.Text(field=field, match=TextMatch.EQUALS, value=value) if field.space is Space.DATA:
            return {field.name: frozenset({fold(value)})}
        case _:
            return {}


def pruned(rules: Sequence[Demands], columns: Mapping[str, str]) -> exp.Expr | None:
    """A condition that holds in every row where a rule may fire; None when nothing can be told.

    Args:
        rules: What each rule demands.
        columns: Field -> column that holds its text; NULL where it is not known.
    """
    parts = [
        _among(column, frozenset().union(*(demand[field] for demand in rules)))
        for field, column in columns.items()
        if rules and all(field in demand for demand in rules)
    ]
    return joined(exp.And, parts) if parts else None


def _among(column: str, texts: Iterable[str]) -> exp.Expr:
    """True also where the column says too little: rows from before it was kept, lists, numbers with a point."""
    value = exp.column(column)
    unknown = exp.Coalesce(this=exp.Anonymous(this="vedette_unclear", expressions=[value]), expressions=[exp.true()])
    literals = [exp.Literal.string(text) for text in sorted(texts)]
    folded = exp.Anonymous(this="vedette_fold", expressions=[value.copy()])
    return joined(exp.Or, [exp.In(this=folded, expressions=literals), unknown])
