"""The nearest change is one that works, and none with fewer clauses does."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from vedette.expr import nodes
from vedette.expr.nearest import changes
from vedette.expr.nodes import Field, Node, Text, TextMatch
from vedette.expr.reference import Clause, trace
from vedette.expr.truth import Truth
from vedette.expr.values import reader

# Every clause reads a field of its own, so that any set of answers is possible.
_NAMES = "abcdef"


def leaf(name: str) -> Text:
    return Text(Field(name), TextMatch.EQUALS, "yes")


@st.composite
def trees(draw: st.DrawFn) -> Node:
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, min_size=1))
    parts: list[Node] = [leaf(name) for name in names]
    while len(parts) > 1 or draw(st.integers(0, 3)) == 3:
        kind = draw(st.sampled_from(["and", "or", "not", "known"]))
        if kind in {"not", "known"}:
            at = draw(st.integers(0, len(parts) - 1))
            parts[at] = nodes.Not(parts[at]) if kind == "not" else nodes.Known(parts[at])
        else:
            size = draw(st.integers(min(2, len(parts)), len(parts)))
            group = tuple(parts[:size])
            parts = [nodes.And(group) if kind == "and" else nodes.Or(group), *parts[size:]]
    return parts[0]


def truth_of(node: Node, data: dict[str, str]) -> Truth:
    return trace(node, reader(data)).truth


@given(trees(), st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(["yes", "no"])))
def test_fewest_changes_that_work(node: Node, data: dict[str, str]) -> None:
    found = changes(trace(node, reader(data)))
    assert found is not None
    names = [one.clauses[0].node.field.name for one in found]  # type: ignore[union-attr]
    answers = {name: "yes" if one.wanted is Truth.TRUE else "no" for name, one in zip(names, found, strict=True)}
    assert truth_of(node, {**data, **answers}) is Truth.TRUE
    for size in range(len(found)):
        for some in combinations(_NAMES, size):
            for yes in range(2**size):
                other = {name: "yes" if yes >> place & 1 else "no" for place, name in enumerate(some)}
                assert truth_of(node, {**data, **other}) is not Truth.TRUE


def test_alternatives_of_one_field_nearest_first() -> None:
    node = nodes.Or(
        (
            nodes.And((leaf("x"), leaf("y"))),
            *(Text(Field("name"), TextMatch.EQUALS, value) for value in ("DeleteTrail", "StopLogging")),
            Text(Field("other"), TextMatch.EQUALS, "DeleteTrail"),
        )
    )
    (change,) = changes(trace(node, reader({"name": "StopLoggin"}))) or ()
    assert [one.node.value for one in change.clauses] == ["StopLogging", "DeleteTrail"]  # type: ignore[union-attr]


def test_under_not_and_what_nothing_can_change() -> None:
    node = nodes.And((leaf("a"), nodes.Not(nodes.Known(leaf("b")))))
    (change,) = changes(trace(node, reader({"a": "yes", "b": "yes"}))) or ()
    assert change.wanted is Truth.FALSE
    assert changes(Clause(nodes.Constant(value=False), Truth.FALSE)) is None
    assert changes(trace(nodes.And((leaf("a"), nodes.Constant(value=False))), reader({}))) is None
    assert changes(trace(nodes.Or((leaf("a"), nodes.Constant(value=False))), reader({}))) is not None
    assert changes(trace(leaf("a"), reader({"a": "yes"}))) == ()
