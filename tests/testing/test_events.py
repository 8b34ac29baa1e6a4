from __future__ import annotations

import random

import pytest

from vedette.expr import nodes as n
from vedette.expr.patterns import compile_regex
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, lookup
from vedette.testing.events import Kind, answer, drop, neighbours, put, satisfy
from vedette.testing.expressions import expressions
from vedette.testing.pairs import pairs
from vedette.testing.texts import glob_pieces, regex_text

x, y, dotted = n.Field("x"), n.Field("y"), n.Field("a.b")


def text(match, value, field=x):
    return n.Known(n.Text(field, n.TextMatch(match), value))


def compare(op, number, field=x):
    return n.Known(n.Compare(field, n.Comparison(op), n.Literal(number)))


def part(name, op, number):
    return n.Known(n.TimePart(x, n.Part(name), n.Comparison(op), number))


@pytest.mark.parametrize(
    "node",
    [
        n.And((text("startswith", "C:\\"), text("contains", "b"), text("contains", "bc"), text("endswith", ".exe"))),
        n.And((text("endswith", "/conf"), n.Not(text("equals", "/conf")))),
        n.And((text("contains", "\\pipe\\"), n.Not(text("startswith", "\\pipe\\")))),
        n.And((text("equals", "a"), text("equals", "b"))),
        n.And((text("glob", "a*b?c"), text("contains", "*"))),
        n.And((n.Known(n.Regex(x, "^[0-9a-f]{3,5}(x|y)+$")), n.Not(text("contains", "yy")))),
        n.And((compare(">=", 10), compare("<", 12), n.Not(compare("=", 10)))),
        n.And((part("hour", ">=", 22), part("week", "=", 9), n.Not(part("day", "=", 26)))),
        n.And((n.Known(n.Cidr(x, "10.0.0.0/8")), n.Not(n.Known(n.Cidr(x, "10.0.0.0/32"))))),
        n.And((n.Known(n.FieldMatch(x, n.TextMatch.ENDS, y)), text("contains", "z", y))),
        n.And((n.Keyword(n.TextMatch.CONTAINS, "mimi"), n.Not(n.Keyword(n.TextMatch.CONTAINS, "mimic")))),
        n.And((text("equals", "1", dotted), n.Exists(n.Field("a")))),
        n.And((n.Not(n.Exists(x)), n.Not(text("equals", "a")))),
        n.And((n.Exists(x), n.IsNull(x))),
        n.Not(n.Text(x, n.TextMatch.EQUALS, "a")),
        n.Not(n.And((text("equals", "a"), n.Not(text("equals", "b", y))))),
        n.Constant(value=True),
    ],
    ids=range(17),
)
def test_an_event_is_made(node):
    event = satisfy(node)
    assert answer(node, event) is Truth.TRUE
    assert satisfy(node) == event


@pytest.mark.parametrize(
    "node",
    [
        n.Constant(value=False),
        n.And((text("equals", "a"), n.IsNull(x))),
        n.And((text("contains", "a"), n.Not(n.Exists(x)))),
        n.Or(()),
    ],
)
def test_what_no_event_satisfies_gives_none(node):
    assert satisfy(node) is None


def test_neighbours_differ_in_one_field():
    node = n.And((text("equals", "Ab"), n.Not(text("equals", "b", dotted))))
    event = {"x": "Ab", "z": 1}
    found = {(one.field, one.kind): one.event for one in neighbours(node, event)}
    assert {field for field, _ in found} == {"x", "a.b"}
    assert {kind for field, kind in found if field == "x"} == set(Kind)
    assert found["x", Kind.ABSENT] == {"z": 1}
    assert found["x", Kind.NULL] == {"x": None, "z": 1}
    assert found["x", Kind.CASE] == {"x": "aB", "z": 1}
    assert found["x", Kind.LISTED] == {"x": ["Ab", "another"], "z": 1}
    assert found["a.b", Kind.NULL] == {"x": "Ab", "z": 1, "a": {"b": None}}
    assert event == {"x": "Ab", "z": 1}
    typed = [one.event.get("x") for value in ("7", 7, True) for one in neighbours(text("equals", "7"), {"x": value})]
    assert [value for value in typed if type(value) is int] == [7]
    assert {"7", "True"} <= set(map(str, typed))


def test_keywords_have_neighbours_in_every_field():
    assert {one.field for one in neighbours(n.Keyword(n.TextMatch.CONTAINS, "a"), {"p": "a", "q": 1})} == {"p", "q"}


@pytest.mark.parametrize(
    "start", [{}, {"a": {"c": 1}}, {"a": 1}, {"a.b": 1}, {"a": {"b.c": 2}}, {"a": {"b": {"c": 0}}}]
)
@pytest.mark.parametrize("name", ["a", "a.b", "a.b.c"])
def test_fields_are_put_and_dropped_where_they_are_looked_up(start, name):
    event = {key: dict(value) if isinstance(value, dict) else value for key, value in start.items()}
    put(event, name, "new")
    assert lookup(event, name) == "new"
    drop(event, name)
    assert lookup(event, name) is MISSING


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [("a*b?c", ["a", "bxc"]), ("*a", ["", "a"]), ("a\\*b", ["a*b"]), ("*", ["", ""]), ("", [""]), ("**", ["", "", ""])],
)
def test_pieces_of_a_glob(pattern, pieces):
    assert glob_pieces(pattern) == pieces


@pytest.mark.parametrize(
    "pattern",
    [
        "^a{2,4}[^b-y]z$",
        r"\b\d+\.\w\s\S\D\W\w\b",
        "(?i)a|(b(?:c|d)){2}",
        "x(?i)Y",
        "[]^-]",
        r"\x41\n",
        "(?P<n>a)??b+?",
        "^$",
        "[^\\s\\w]",
    ],
)
def test_texts_of_regular_expressions(pattern):
    for seed in range(5):
        text = regex_text(pattern, "", random.Random(seed))
        assert compile_regex(pattern).search(text.encode())


@pytest.mark.parametrize("pattern", ["(", "(?=a)", "a\\bb"])
def test_a_regular_expression_without_a_text(pattern):
    assert regex_text(pattern, "", random.Random(0)) is None


def test_questions_are_balanced_and_repeatable():
    nodes = list(expressions(60, seed=1))
    asked = list(pairs(nodes, 600, seed=1))
    assert asked == list(pairs(nodes, 600, seed=1))
    assert asked != list(pairs(nodes, 600, seed=2))
    assert {pair.number for pair in asked} == set(range(60))
    assert 180 < sum(pair.true for pair in asked) < 420
    assert all((answer(pair.node, pair.event) is Truth.TRUE) is pair.true for pair in asked)


def test_random_expressions_have_every_node():
    kinds = {type(each) for node in expressions(500) for each in n.walk(node)}
    assert kinds >= {kind for kind in n.Node.__args__ if kind is not n.Constant}
