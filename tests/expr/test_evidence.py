from __future__ import annotations

import pytest

from vedette.expr import nodes as n
from vedette.expr.evidence import evidence
from vedette.expr.reference import trace
from vedette.expr.values import reader


def text(name, value):
    return n.Known(n.Text(n.Field(name), n.TextMatch.CONTAINS, value))


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (n.And((text("a", "x"), n.Or((text("b", "no"), text("c", "y"))))), {"a": "ax", "c": "cy"}),
        (n.And((text("a", "x"), n.Not(text("b", "no")))), {"a": "ax"}),
        (n.And((text("a", "x"), n.IsNull(n.Field("z")))), {"a": "ax"}),
        (n.And((text("a", "x"), text("b", "no"))), {}),
    ],
)
def test_only_what_made_it_true_counts(node, found):
    clause = trace(node, reader({"a": "ax", "b": "b", "c": "cy"}))
    assert {field.name: value for field, value in evidence(clause).items()} == found
