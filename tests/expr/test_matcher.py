from __future__ import annotations

import json
import resource

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.expr.expressions import NAMES, events, fields, predicates, trees, values

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes as n
from vedette.expr.matcher import (
    Matcher,
    build,
    engine,
    formula,
    memo,
    needles,
    partition,
    plan,
    probe,
    route,
    rows,
    sweep,
)
from vedette.expr.patterns import compile_regex, regex_refusal
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import fold, leaves, reader, utf8

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
    monkeypatch.setattr(needles, "WINDOW", 2)
    monkeypatch.setattr(needles, "FEW", 0)
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
        def __init__(self, patterns, **options):
            self.inner = automaton(patterns, **options)

        def find_matches_as_indexes(self, text, overlapping):
            return self.inner.find_matches_as_indexes(text, overlapping=False)

    automaton = needles.BytesAhoCorasick
    patch.setattr(needles, "BytesAhoCorasick", NoOverlap)
    patch.setattr(needles, "FEW", 0)


def _plant_short_windows(patch):
    patch.setattr(needles, "WINDOW", 2)
    patch.setattr(needles, "FEW", 0)
    patch.setattr(needles.Needles, "_longest", property(lambda self: 1, lambda self, value: None), raising=False)


def _remember_all(self, value):
    self[value] = found = self.find(value)
    return found


def _demand_of_any_field(group, _place, atoms):
    mine = [atom for atom in group.true if atom in atoms]
    return plan.Group(True, mine, [], [], []) if mine else None


CROWDED = given(crowded, crowded_events, memories)
TYPED = given(typed, typed_events, memories)
RULES = given(rules, some_events, memories)
PLANTS = {
    "literals that overlap hide each other": (CROWDED, _plant_overlap),
    "windows do not overlap": (CROWDED, _plant_short_windows),
    "folding is only lower case": (TYPED, lambda patch: patch.setattr(probe, "fold", str.lower)),
    "true is one in a row": (TYPED, lambda patch: patch.setattr(partition, "confusable", lambda _row: False)),
    "true is one in a field": (TYPED, lambda patch: patch.setattr(probe.Probe, "__missing__", _remember_all)),
    "a failed comparison is one that is not true": (
        TYPED,
        lambda patch: patch.setattr(formula.Atoms, "_ask", _ask_without_fails),
    ),
    "a list has only its first element": (TYPED, lambda patch: patch.setattr(rows, "elements", _first)),
    "only the first element brings rules up": (TYPED, lambda patch: patch.setattr(probe, "elements", _first)),
    "every class of a value is another value": (RULES, lambda patch: patch.setattr(route, "classify", _unfolded)),
    "negation of an absent field is unknown": (TYPED, lambda patch: patch.setattr(formula, "negate", _not_negated)),
    "a row is remembered by its first value": (
        RULES,
        lambda patch: patch.setattr(partition.Partition, "_look", _remember_by_first_value),
    ),
    "a witness is any part": (RULES, lambda patch: patch.setattr(build, "witness", _first_literal)),
    "a demand of one field is that of the rule": (
        RULES,
        lambda patch: patch.setattr(probe, "project", _demand_of_any_field),
    ),
}


def _first(value):
    return iter(value[:1] if isinstance(value, list) else [value])


def _unfolded(value, pinned):
    return str(value) if str(value) in pinned else route.REST


def _not_negated(found):
    return formula.Lit(found.atom) if isinstance(found, formula.Lit) else found


def _first_literal(found, _cost):
    positive = [one.atom for one in getattr(found, "parts", (found,)) if isinstance(one, formula.Lit) and one.positive]
    return frozenset(positive[:1]) or None


def _ask_without_fails(self, node, *, wanted, _ask=formula.Atoms._ask):
    if isinstance(node, n.Compare) and not wanted:
        return formula.negate(_ask(self, node, wanted=True))
    return _ask(self, node, wanted=wanted)


def _remember_by_first_value(self, data, row):
    return self._memory.setdefault(str(row[:1]), self._judge(data, row))


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_caught(name, monkeypatch):
    meant, plant = PLANTS[name]
    plant(monkeypatch)
    profile = settings(
        max_examples=2_000,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, ExceptionGroup)):
        profile(meant(agree))()


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


def test_a_truth_value_is_no_number():
    rules = [n.Compare(n.Field("x"), n.Comparison.GE, n.Literal(value)) for value in (True, 1, 1.0)]
    assert Matcher(rules).match({"x": 2}) == (1, 2)
    assert Matcher(rules).match({"x": True}) == ()


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


parts = st.sampled_from(
    [
        *("abc", "A", "k", "s", "é", "\\.", "\\d", "[bc]", ".", "x?", "(?:abc)?", "(?i:k)", "abc|xyz", "\\\\", "^"),
        *("(?:abc|xyz)", "(?:ab|1)", "(?:abc|abx)", "[kK]", "[sS]", "[xé]", "{", "(?:\\.|12)"),
    ]
)
repeats = st.sampled_from(["", "+", "*", "?", "{2}", "{0,3}", "{,3}", "+?"])
patterns = st.lists(
    st.tuples(parts, repeats, st.booleans()).map(lambda one: (f"({one[0]})" if one[2] else one[0]) + one[1]),
    min_size=1,
    max_size=5,
).map("".join)
searched = st.text("abcABCkKsS\u212a\u017fxyz1.\\{},3é?\ud800", max_size=12)


def literals_are_required(pattern, flags, text):
    if regex_refusal(pattern, flags):
        return
    if compile_regex(pattern, flags).search(utf8(text)):
        literals = needles.required(pattern)
        assert not literals or any(one in fold(text) for one in literals)


@settings(max_examples=1_000, deadline=None)
@given(patterns, st.sampled_from(["", "i"]), searched)
def test_the_literal_of_a_regex_is_in_every_match(pattern, flags, text):
    literals_are_required(pattern, flags, text)


def test_a_literal_that_is_not_required_is_caught(monkeypatch):
    def also_optional(parsed):
        return [part for op, value in parsed if "REPEAT" in repr(op) for part in _sets(value[-1])] or _sets(parsed)

    _sets = needles._sets
    monkeypatch.setattr(needles, "_sets", also_optional)
    quick = settings(max_examples=2_000, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        quick(given(patterns, st.just(""), searched)(literals_are_required))()


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        (r"(?i)\\NET +user", {"\\net"}),
        (r"foo(bar)+baz", {"foo"}),
        (r"a{3}bcd", {"bcd"}),
        (r"foo|bar", {"foo", "bar"}),
        (r"x(?:foo|bar)?y", set()),
        (r"ab(?:long|longer)", {"ablong"}),
        (r"[Rr][Uu]n", {"run"}),
        (r"[Rs][Uu]n", {"un"}),
        (r"\+.*\+", {"+"}),
        (r"a.b", set()),
        (r"what?ever", {"ever"}),
        (r"[[:alpha:]]abc", set()),
        (r"(?x) a b c", set()),
        (r"\pLabc", set()),
    ],
)
def test_the_longest_literals_that_are_sure(pattern, literal):
    assert needles.required(pattern) == literal


@pytest.mark.soak
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules, some_events, memories)
def test_matcher_equals_reference_for_long(nodes, batch, memory):
    agree(nodes, batch, memory)


words = st.sampled_from(["kiwi::x", "Adfind ", "a/kk", "ss-12", 'say "hi"', "fi(x)", "true-1", "\u00e9t\u00e9 st"])
keyword_parts = st.one_of(
    st.builds(n.Keyword, st.just(n.TextMatch.CONTAINS), words).map(n.Known),
    st.builds(n.Text, st.sampled_from([n.Field("a"), n.Field("b")]), st.just(n.TextMatch.CONTAINS), words).map(n.Known),
).flatmap(lambda node: st.sampled_from([node, n.Not(node)]))
keyword_rules = st.lists(
    st.one_of(
        keyword_parts, st.builds(lambda join, *both: join(both), st.sampled_from([n.And, n.Or]), *[keyword_parts] * 2)
    ),
    min_size=1,
    max_size=3,
)
odd = st.sampled_from(
    [
        "kiwi::x",
        "KIWI::X",
        "\u212aiwi::x",
        "\u017f\u017f-12",
        "\u00df-12",
        "\ufb01(x)",
        "ADFIND a/KK",
        "\u00c9T\u00c9 \ufb06",
    ]
)
wordy = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    odd | values | st.lists(odd, max_size=2) | st.dictionaries(st.just("in"), odd | st.lists(odd, max_size=1)),
    max_size=3,
)
spelt = st.sampled_from(
    [
        json.dumps,
        lambda event: json.dumps(event, ensure_ascii=False),
        lambda event: json.dumps(event).replace("i", "\\u0069"),
        lambda event: json.dumps(event).replace("/", "\\/"),
    ]
)


def swept_events_agree(rules, batch, spell):
    matcher = Matcher(rules)
    text = "\n".join(map(spell, batch)).encode("utf-8", "replace")
    read = [json.loads(line) for line in text.split(b"\n")]
    suspects = matcher.suspects(text, text.splitlines(keepends=True))
    assert matcher.match_many(read, suspects) == [expected(rules, event) for event in read]


@settings(max_examples=500, deadline=None)
@given(keyword_rules, st.lists(wordy, min_size=1, max_size=4), spelt)
def test_a_sweep_hides_no_keyword(rules, batch, spell):
    swept_events_agree(rules, batch, spell)


@pytest.mark.parametrize("blind", ["_ESCAPED", "_FOLDING"])
def test_a_sweep_that_hides_a_keyword_is_caught(blind, monkeypatch):
    monkeypatch.setattr(sweep, blind, ())
    quick = settings(max_examples=3_000, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        quick(given(keyword_rules, st.lists(wordy, min_size=1, max_size=2), spelt)(swept_events_agree))()


def test_every_sign_that_folds_to_ascii_is_known():
    folding = [chr(code) for code in range(128, 0x110000) if any(char < "\x80" for char in chr(code).casefold())]
    assert "".join(folding) == sweep.FOLDING


def test_a_plan_serves_another_process():
    rules = [n.Known(n.Text(n.Field("x"), n.TextMatch.CONTAINS, "needle")), n.Known(n.Keyword(n.TextMatch.ENDS, "end"))]
    asked: list[int] = []
    other = Matcher(lambda: asked.append(1) or rules, plan=Matcher(rules).plan)
    assert other.match({"x": "a needle", "y": ["the end"]}) == (0, 1)
    assert not asked
