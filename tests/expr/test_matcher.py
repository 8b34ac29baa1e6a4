from __future__ import annotations

import resource

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.expr.expressions import NAMES, events, fields, predicates, trees, values

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes as n
from vedette.expr.matcher import Matcher, engine, formula, index, literals, memo, partition, regexes, route
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import leaves, reader

PINNED = ["1", "01", "true", "a", "ß"]


def pinned(rule):
    """Rules as log sources make them: a field must have one of a few values, then the rest."""
    marks = st.lists(st.sampled_from(PINNED), min_size=1, max_size=2).map(
        lambda chosen: n.Or(tuple(n.Known(n.Text(n.Field("EventID"), n.TextMatch.EQUALS, text)) for text in chosen))
    )
    return st.tuples(marks, rule).map(n.And)


known_trees = st.recursive(
    predicates(fields).map(n.Known),
    lambda below: st.one_of(
        st.builds(n.And, st.lists(below, min_size=1, max_size=3).map(tuple)),
        st.builds(n.Or, st.lists(below, min_size=1, max_size=3).map(tuple)),
        st.builds(n.Not, below),
    ),
    max_leaves=6,
)
rules = st.lists(st.one_of(trees(), pinned(trees()), pinned(known_trees), known_trees), min_size=1, max_size=6)
routed = st.sampled_from([*PINNED, 1, 0, True, False, 1.0, None, "other", ["1", "a"], []])
some_events = st.lists(
    st.one_of(
        events,
        st.builds(lambda event, value: {**event, "EventID": value}, events, routed),
        st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
    ),
    min_size=1,
    max_size=8,
)
short = st.text("aB*", max_size=3)
crowded = st.lists(
    st.builds(n.Text, st.just(n.Field("x")), st.sampled_from(n.TextMatch), short, st.booleans()), min_size=1, max_size=8
)
crowded_events = st.lists(st.fixed_dictionaries({"x": st.text("abAB*", max_size=6)}), min_size=1, max_size=4)
x = n.Field("x")
typed = st.lists(
    st.one_of(
        st.builds(
            n.Compare, st.just(x), st.sampled_from(n.Comparison), st.sampled_from([n.Literal(1), n.Literal("1")])
        ),
        st.builds(n.Text, st.just(x), st.just(n.TextMatch.EQUALS), st.sampled_from(["1", "true", "ss"])),
        st.builds(n.Among, st.just(x), st.sampled_from([(1,), ("1",), ("01", 0)])),
        st.just(n.Exists(x)),
        st.just(n.IsNull(x)),
        st.builds(n.Regex, st.just(x), st.sampled_from(["1", "^t"])),
    ).flatmap(lambda node: st.sampled_from([node, n.Not(node), n.Known(node), n.Not(n.Known(node))])),
    min_size=1,
    max_size=4,
)
typed_values = st.sampled_from([1, 0, True, False, 1.0, "1", "01", "true", "ß", None, [0, 1], [], ["a", "1"], {"b": 1}])
typed_events = st.lists(st.just({}) | st.fixed_dictionaries({"x": typed_values}), min_size=1, max_size=6)
memories = st.sampled_from([1, 2_000, engine.MEMORY_BYTES])


def expected(nodes, event):
    found = list(leaves(event))
    return tuple(place for place, node in enumerate(nodes) if evaluate(node, reader(event), found) is Truth.TRUE)


def agree(nodes, batch, memory):
    matcher = Matcher(nodes, memory=memory)
    wanted = [expected(nodes, event) for event in batch]
    assert [matcher.match(event) for event in batch] == wanted
    assert matcher.match_many(batch) == wanted, "a second time, from memory"
    assert Matcher(nodes).match_many(batch[::-1]) == wanted[::-1], "in another order"


@settings(max_examples=300, deadline=None)
@given(rules, some_events, memories)
def test_matcher_equals_reference(nodes, batch, memory):
    agree(nodes, batch, memory)


@settings(max_examples=300, deadline=None)
@given(typed, typed_events, memories)
def test_typed_values_equal_reference(nodes, batch, memory):
    agree(nodes, batch, memory)


@settings(max_examples=300, deadline=None)
@given(crowded, crowded_events, memories)
def test_crowded_literals_equal_reference(nodes, batch, memory):
    agree(nodes, batch, memory)


def test_long_texts_are_searched_window_by_window(monkeypatch):
    monkeypatch.setattr(literals, "WINDOW", 2)
    small = settings(max_examples=300, deadline=None, database=None)
    small(given(crowded, crowded_events, memories)(agree))()


def test_a_text_that_is_all_hits_takes_little_memory():
    rule = n.Known(n.Text(n.Field("x"), n.TextMatch.CONTAINS, "a"))
    matcher = Matcher([rule, n.Known(n.Text(n.Field("x"), n.TextMatch.ENDS, "ab"))])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert matcher.match({"x": "a" * 3_000_000 + "b"}) == (0, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def _plant_overlap(patch):
    class NoOverlap:
        def __init__(self, patterns):
            self.inner = literals_automaton(patterns)

        def find_matches_as_indexes(self, text, overlapping):
            return self.inner.find_matches_as_indexes(text, overlapping=False)

    literals_automaton = literals.AhoCorasick
    patch.setattr(literals, "AhoCorasick", NoOverlap)


PLANTS = {
    "literals that overlap hide each other": _plant_overlap,
    "folding is only lower case": lambda patch: patch.setattr(index, "fold", str.lower),
    "true is one": lambda patch: patch.setattr(partition, "confusable", lambda _row: False),
    "a failed comparison is one that is not true": lambda patch: patch.setattr(
        formula.Atoms, "_ask", _ask_without_fails
    ),
    "a list has only its first element": lambda patch: patch.setattr(
        index, "elements", lambda value: iter(value[:1] if isinstance(value, list) else [value])
    ),
    "every class of a value is another value": lambda patch: patch.setattr(
        route, "classify", lambda value, pinned: str(value) if str(value) in pinned else route.OTHER
    ),
    "negation of an absent field is unknown": lambda patch: patch.setattr(
        formula, "negate", lambda found: formula.Lit(found.atom) if isinstance(found, formula.Lit) else found
    ),
    "memory is never emptied of old answers": lambda patch: patch.setattr(
        partition.Partition, "_judge_and_remember", _remember_by_first_value
    ),
    "windows do not overlap": lambda patch: (
        patch.setattr(literals, "WINDOW", 2),
        patch.setattr(literals.Literals, "_longest", property(lambda self: 1, lambda self, value: None), raising=False),
    ),
    "a set that gives up matches nothing": lambda patch: patch.setattr(
        regexes.Regexes, "_search_each", lambda self, raw, found: None
    ),
}


def _ask_without_fails(self, node, *, wanted, _ask=formula.Atoms._ask):
    if isinstance(node, n.Compare) and not wanted:
        return formula.negate(_ask(self, node, wanted=True))
    return _ask(self, node, wanted=wanted)


def _remember_by_first_value(self, row):
    return self._memory.setdefault(row[:1], self._judge(row))


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_caught(name, monkeypatch):
    PLANTS[name](monkeypatch)
    quick = [Phase.explicit, Phase.generate]
    profile = settings(
        max_examples=2_000,
        deadline=None,
        database=None,
        derandomize=True,
        phases=quick,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    def check():
        profile(given(crowded, crowded_events, memories)(agree))()
        profile(given(typed, typed_events, memories)(agree))()
        profile(given(rules, some_events, memories)(agree))()

    with pytest.raises((AssertionError, ExceptionGroup)):
        check()


def test_many_rules_are_routed_and_prepared():
    def pin(channel, number):
        marks = [
            n.Known(n.Text(n.Field("Channel"), n.TextMatch.EQUALS, channel)),
            n.Known(n.Text(n.Field("EventID"), n.TextMatch.EQUALS, number)),
        ]
        return n.And((*marks, n.Known(n.Text(n.Field("Image"), n.TextMatch.CONTAINS, "x"))))

    matcher = Matcher([pin("Security", "1"), pin("security", "2"), pin("System", "1")])
    assert matcher.prepare() == 3
    assert matcher.match({"Channel": "SECURITY", "EventID": 1, "Image": "aXb"}) == (0,)
    assert matcher.match({"Channel": ["System", "Security"], "EventID": "1", "Image": "x"}) == (0, 2)
    assert matcher.match({"Channel": "Other", "EventID": 1, "Image": "x"}) == ()
    assert matcher.match({}) == ()


def test_fields_of_other_spaces_need_a_way_to_be_read():
    rule = n.Compare(n.Field("amount_in_usd", n.Space.ATTRIBUTE), n.Comparison.GT, n.Literal(100))
    with pytest.raises(UnsupportedError) as refused:
        Matcher([rule])
    assert refused.value.code == "matcher.space.unsupported"
    matcher = Matcher([rule], access=lambda field: lambda data: data["attributes"].get(field.name))
    assert matcher.match({"attributes": {"amount_in_usd": 120}}) == (0,)


def test_memory_stays_within_its_bound():
    matcher = Matcher([n.Known(n.Text(n.Field("x"), n.TextMatch.CONTAINS, "needle"))], memory=100_000)
    for number in range(5_000):
        assert matcher.match({"x": f"{number} needle"}) == (0,)
    budget = matcher._budget
    assert budget.emptied > 10
    assert budget.spent <= budget.limit
    held = sum(len(memory) for memory in budget._memories)
    assert held * memo.ENTRY_COST <= budget.limit


def test_a_regex_set_that_does_not_fit_asks_each_pattern(monkeypatch):
    monkeypatch.setattr(regexes, "_SET_BYTES", 1 << 12)
    wanted = [(place, f"(a|b)[^c]{{50}}{place}", "") for place in range(20)]
    searched: set[int] = set()
    regexes.Regexes(wanted).search("a" + "x" * 50 + "7", searched)
    assert searched == {7}


@pytest.mark.soak
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules, some_events, memories)
def test_matcher_equals_reference_for_long(nodes, batch, memory):
    agree(nodes, batch, memory)
