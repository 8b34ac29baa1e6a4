"""Every engine answers like the reference: rules of SigmaHQ and random expressions, on events made for them.

About half of the questions are true, half not; events differ in one field from one that fires, absent and null under
`not` included.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from vedette.expr import nodes as n
from vedette.expr.matcher import Matcher
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, lookup
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.sources import load_sources
from vedette.testing.events import Kind, answer, neighbours, satisfy
from vedette.testing.expressions import expressions
from vedette.testing.pairs import pairs

SAMPLE = {"rules": 1_000, "expressions": 300}
SOAK = {"rules": 7_000, "expressions": 3_000}
LEAST = 0.3
"""Of the questions that must be true, and that must be not."""

NEVER = {
    "a62b37e0-45d3-48d9-a517-90c1a1b0186b": "its log source demands Channel `System`, and its filter excludes that",
}
"""Rules for which no event exists."""


@pytest.fixture(scope="module")
def rules(shared_data, tmp_path_factory):
    places = LogSources({name: source.logsource for name, source in load_sources().items()})
    files = rule_files(shared_data / "sigma" / "rules.tar.gz")
    return load_cached(files, places, tmp_path_factory.getbasetemp() / "compiled").rules


@pytest.fixture(scope="module")
def of_rules(rules):
    """Every expression of every rule, equal ones once."""
    return list(dict.fromkeys(node for rule in rules for node in rule.nodes.values()))


@pytest.fixture(scope="module")
def asked(of_rules):
    return about_rules(of_rules, SAMPLE["rules"])


def batch(nodes, events):
    return Matcher(nodes).match_many(events)


def one_at_a_time(nodes, events):
    matcher = Matcher(nodes)
    return [matcher.match(event) for event in events]


def reversed_with_little_memory(nodes, events):
    return Matcher(nodes, memory=1 << 20).match_many(events[::-1])[::-1]


ENGINES = [batch, one_at_a_time, reversed_with_little_memory]
"""Each gives, for expressions and events, the places of the expressions that are true for each event."""


def agree(engine, nodes, asked):
    found = engine(nodes, [pair.event for pair in asked])
    wrong = [pair for pair, true in zip(asked, found, strict=True) if (pair.number in true) is not pair.true]
    assert wrong == []


def balanced(asked):
    true = sum(pair.true for pair in asked)
    assert LEAST * len(asked) <= true <= (1 - LEAST) * len(asked)
    return asked


def about_rules(nodes, count):
    asked = balanced(list(pairs(nodes, count, seed=7)))
    kinds = Counter(pair.change.kind if pair.change else None for pair in asked)
    assert all(kinds[kind] > count // 100 for kind in (*Kind, None)), kinds
    denied = Counter(value for pair in asked for value in denied_values(pair))
    assert denied[MISSING] > count // 25, "absent under `not`"
    assert denied[None] > count // 200, "null under `not`"
    return asked


def denied_values(pair):
    """What is absent or null in an event that fires, of the fields that the expression denies something of."""
    if pair.true:
        below = (each for denial in n.walk(pair.node) if isinstance(denial, n.Not) for each in n.walk(denial))
        read = [lookup(pair.event, field.name) for each in below for field in n.fields(each)]
        yield from {value for value in read if value is MISSING or value is None}


@pytest.mark.parametrize("engine", ENGINES)
def test_rules_of_sigmahq(engine, of_rules, asked):
    agree(engine, of_rules, asked)


@pytest.mark.parametrize("engine", ENGINES)
def test_random_expressions(engine):
    nodes = list(expressions(SAMPLE["expressions"], seed=7))
    agree(engine, nodes, balanced(list(pairs(nodes, SAMPLE["expressions"], seed=7))))


@pytest.mark.soak
@pytest.mark.parametrize("engine", ENGINES)
def test_ten_thousand(engine, of_rules):
    nodes = list(expressions(SOAK["expressions"] // 2, seed=8))
    agree(engine, of_rules, about_rules(of_rules, SOAK["rules"]))
    agree(engine, nodes, balanced(list(pairs(nodes, SOAK["expressions"], seed=8))))


def test_every_rule_of_sigmahq_fires_and_one_field_keeps_it_quiet(rules):
    """On an event made for it, and on that event with one field changed; in every source it reads."""
    asked = [(rule, node) for rule in rules for node in rule.nodes.values()]
    made = {node: fires_and_not(node) for node in dict.fromkeys(node for _, node in asked)}
    assert {rule.id for rule, node in asked if made[node] is None} == set(NEVER)
    held = [node for node, both in made.items() if both]
    matcher = Matcher(held)
    for number, node in enumerate(held):
        event, quiet = made[node]
        assert number in matcher.match(event)
        assert number not in matcher.match(quiet)


def fires_and_not(node):
    """An event that makes it true, and a neighbour of that which does not; None when either is not there."""
    event = satisfy(node)
    if event is None:
        return None
    quiet = (one.event for one in neighbours(node, event) if answer(node, one.event) is not Truth.TRUE)
    found = list(islice(quiet, 1))
    return (event, found[0]) if found else None


def rewritten(node, change):
    below = [rewritten(child, change) for child in n.children(node)]
    match node:
        case n.And() | n.Or():
            node = replace(node, children=tuple(below))
        case n.Not() | n.Known():
            node = replace(node, child=below[0])
    return change(node)


def with_sql_logic(nodes, events):
    """`not` of something unknown stays unknown."""
    return batch(
        [rewritten(each, lambda one: one.child if isinstance(one, n.Known) else one) for each in nodes], events
    )


def with_null_as_empty(nodes, events):
    return batch(nodes, [{key: "" if value is None else value for key, value in each.items()} for each in events])


def with_lists_as_their_first(nodes, events):
    return batch(
        nodes,
        [
            {key: value[0] if isinstance(value, list) and value else value for key, value in each.items()}
            for each in events
        ],
    )


def with_regard_to_case(nodes, events):
    return batch(
        [rewritten(each, lambda one: replace(one, cased=True) if isinstance(one, n.Text) else one) for each in nodes],
        events,
    )


def with_any_for_all(nodes, events):
    return batch(
        [rewritten(each, lambda one: n.Or(one.children) if isinstance(one, n.And) else one) for each in nodes], events
    )


@pytest.mark.parametrize(
    "engine",
    [with_sql_logic, with_null_as_empty, with_lists_as_their_first, with_regard_to_case, with_any_for_all],
)
def test_an_engine_that_is_wrong_is_caught(engine, of_rules, asked):
    with pytest.raises(AssertionError):
        agree(engine, of_rules, asked)
