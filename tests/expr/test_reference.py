from __future__ import annotations

import pytest
from hypothesis import given
from tests.expr.expressions import events, fields, predicates, trees

from vedette.expr import nodes as n
from vedette.expr.reference import MISSING, evaluate, trace
from vedette.expr.truth import Truth
from vedette.expr.values import leaves, lookup, number_of, part_of, reader, text_of, time_of

F, U, T = Truth.FALSE, Truth.UNKNOWN, Truth.TRUE


def ask(node, event):
    return evaluate(node, reader(event), list(leaves(event)))


def text(match, value, *, cased=False):
    return n.Text(n.Field("x"), n.TextMatch(match), value, cased)


@given(trees(), trees(), events)
def test_kleene_laws(a, b, event):
    def both(x, y):
        assert ask(x, event) is ask(y, event)

    both(n.Not(n.Not(a)), a)
    both(n.Not(n.And((a, b))), n.Or((n.Not(a), n.Not(b))))
    both(n.And((a, b)), n.And((b, a)))
    both(n.Or((a, n.And((a, b)))), a)
    both(n.Known(n.Known(a)), n.Known(a))
    assert ask(n.Known(a), event) in (F, T)
    assert (ask(n.Known(a), event) is T) == (ask(a, event) is T)


@given(trees(), events)
def test_trace_answers_like_evaluate_at_every_node(node, event):
    def check(clause):
        assert clause.truth is ask(clause.node, event)
        assert tuple(child.node for child in clause.children) == n.children(clause.node)
        assert clause.values == tuple((field, lookup(event, field.name)) for field in n.fields(clause.node))
        for child in clause.children:
            check(child)

    check(trace(node, reader(event), list(leaves(event))))


@given(predicates(), fields)
def test_only_null_tests_and_keywords_answer_without_a_value(node, field):
    nothing = evaluate(node, lambda _: MISSING, ())
    never_unknown = n.Constant | n.Exists | n.IsNull | n.Keyword | n.KeywordRegex
    if isinstance(node, never_unknown):
        assert nothing is not U
    elif n.fields(node):
        assert nothing is U


@pytest.mark.parametrize(
    ("node", "value", "answer"),
    [
        (text("equals", "STRASSE"), "straße", T),
        (text("equals", "STRASSE", cased=True), "straße", F),
        (text("equals", "1"), 1, T),
        (text("equals", "1"), 1.0, T),
        (text("equals", "1"), True, F),
        (text("equals", "TRUE"), True, T),
        (text("equals", ""), "", T),
        (text("equals", ""), None, U),
        (text("equals", "a"), ["b", "A"], T),
        (text("equals", "a"), ["b", None], F),
        (text("equals", "a"), [], F),
        (text("contains", '"k":'), {"k": 1}, T),
        (text("glob", "a*c"), "A\nB\nC", T),
        (text("glob", "a?c"), "abbc", F),
        (text("glob", "a\\*c"), "abc", F),
        (text("glob", "a\\*c"), "A*C", T),
        (text("glob", "c:\\win\\*.exe"), "c:\\win*.exe", T),
        (text("glob", "c:\\win\\\\*.exe"), "C:\\WIN\\x.exe", T),
        (text("glob", "100%_"), "100%_", T),
        (n.Regex(n.Field("x"), "^ab"), "ab", T),
        (n.Regex(n.Field("x"), "^ab"), "AB", F),
        (n.Regex(n.Field("x"), "^ab", "i"), "AB", T),
        (n.Regex(n.Field("x"), "a.b", "s"), "a\nb", T),
        (n.Regex(n.Field("x"), "a"), "\ud800a", T),
        (n.Cidr(n.Field("x"), "10.0.0.0/8"), "10.1.2.3", T),
        (n.Cidr(n.Field("x"), "10.0.0.0/8"), "::1", F),
        (n.Cidr(n.Field("x"), "2001:db8::/32"), "2001:DB8::9", T),
        (n.Cidr(n.Field("x"), "10.0.0.0/8"), "not an address", F),
        (n.Compare(n.Field("x"), n.Comparison.GT, n.Literal(9)), "10", T),
        (n.Compare(n.Field("x"), n.Comparison.GT, n.Literal(9)), "ten", U),
        (n.Compare(n.Field("x"), n.Comparison.GE, n.Literal(0.5)), 1, T),
        (n.Compare(n.Field("x"), n.Comparison.GE, n.Literal(0.5)), float("nan"), U),
        (n.Compare(n.Field("x"), n.Comparison.NE, n.Literal("us")), "US", F),
        (n.Compare(n.Field("x"), n.Comparison.NE, n.Literal("us"), cased=True), "US", T),
        (n.Compare(n.Field("x"), n.Comparison.LT, n.Literal("b")), "a", U),
        (n.Among(n.Field("x"), ("us", 7)), "US", T),
        (n.Among(n.Field("x"), ("us", 7)), "7", T),
        (n.Among(n.Field("x"), ("us", 7)), "de", F),
        (n.Among(n.Field("x"), ("us", 7)), None, U),
        (n.Exists(n.Field("x")), None, T),
        (n.IsNull(n.Field("x")), None, T),
        (n.IsNull(n.Field("x")), "", F),
    ],
)
def test_meaning(node, value, answer):
    assert ask(node, {"x": value}) is answer


def test_absent_is_null_but_does_not_exist():
    assert ask(n.Exists(n.Field("x")), {}) is F
    assert ask(n.IsNull(n.Field("x")), {}) is T
    assert ask(n.Not(text("equals", "a")), {}) is U
    assert ask(n.Not(n.Known(text("equals", "a"))), {}) is T


def test_keywords_search_values_at_any_depth_and_never_names():
    event = {"name": {"deep": ["x", {"y": "Mimikatz run"}]}}
    assert ask(n.Keyword(n.TextMatch.CONTAINS, "mimikatz"), event) is T
    assert ask(n.Keyword(n.TextMatch.CONTAINS, "deep"), event) is F
    assert ask(n.KeywordRegex("M.*run$"), event) is T


def test_names_walk_into_objects_and_lists_unless_the_dotted_name_is_a_key():
    event = {"a": {"b": 1, "c.d": 2}, "a.b": 3, "e": [{"f": 4}, {"f": [5]}, {"g": 6}, 7], "n": None}
    assert [lookup(event, name) for name in ("a.b", "a.c.d", "e.f", "n")] == [3, 2, [4, [5]], None]
    assert [lookup(event, name) for name in ("a.x", "e.x", "n.x", "x", "A.b", "a.", ".a", "")] == [MISSING] * 8


def test_other_spaces_are_read_by_their_whole_name():
    read = reader({}, attribute={"amount_in_usd": 12.5}, metadata={"basket id": "b.1"})
    assert read(n.Field("amount_in_usd", n.Space.ATTRIBUTE)) == 12.5
    assert read(n.Field("basket id", n.Space.METADATA)) == "b.1"
    assert read(n.Field("basket id", n.Space.OCSF)) is MISSING


def test_numbers_and_texts_of_values():
    assert [text_of(v) for v in (True, 1, 1.0, 1.5, -0.0, {"a": [1, "é"]})] == [
        "true",
        "1",
        "1",
        "1.5",
        "0",
        '{"a":[1,"é"]}',
    ]
    assert [number_of(v) for v in ("7", "-1.5", "1e2", True, " 7", "7_0", "٧", "", "9" * 5000)] == [7, -1.5, 100.0] + [
        None
    ] * 6


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-01T09:30:59.123456789Z", "2026-03-01T09:30"),
        ("2026-03-01 09:30", "2026-03-01T09:30"),
        ("2026-03-01", "2026-03-01T00:00"),
        ("2026-03-01T00:30:00+01:30", "2026-02-28T23:00"),
        ("2026-12-31 23:59:60 -0100", "2027-01-01T00:59"),
        ("2020-10-20 20:10:12,5", "2020-10-20T20:10"),
        ("0", "1970-01-01T00:00"),
        ("1772357400", "2026-03-01T09:30"),
        ("1772357400.5", "2026-03-01T09:30"),
        ("1772357400000", "2026-03-01T09:30"),
        ("1772357400000000", "2026-03-01T09:30"),
        ("1772357400000000000", "2026-03-01T09:30"),
        ("-1", None),
        ("1e30", None),
        ("true", None),
        ("", None),
        ("9:30", None),
        ("2026-02-30", None),
        ("2026-03-01T24:00", None),
        ("2026-03-01T09:30:99Z", None),
        ("2026-03-01T09:30Z trailing", None),
        ("0001-01-01T00:00+01:00", None),
        ("9999-12-31T23:59-01:00", None),
    ],
)
def test_times_are_read_in_utc_to_the_minute(text, time):
    found = time_of(text)
    assert (found and found.isoformat()[:16]) == time


def test_parts_of_a_time():
    time = time_of("2027-01-02T23:05:00Z")
    wanted = {"minute": 5, "hour": 23, "day": 2, "week": 53, "month": 1, "year": 2027}
    assert {str(part): part_of(time, part) for part in n.Part} == wanted
    late = n.TimePart(n.Field("x"), n.Part.HOUR, n.Comparison.GE, 22)
    answers = [ask(late, event) for event in ({"x": ["never", 1772405940]}, {"x": "never"}, {"x": None}, {"x": True})]
    assert answers == [T, F, U, F]
