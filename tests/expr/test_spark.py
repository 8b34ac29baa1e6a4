"""Rules as Spark's SQL against the reference, and RE2's patterns as Java's. What needs a real Spark runs by `make spark`."""

from __future__ import annotations

import gzip
from collections import Counter
from itertools import accumulate, pairwise

import pytest
import sqlglot
from spark_engine import fired, needs_spark, runs
from tests.expr.test_sql import EVENTS, RULES, expected
from tests.expr.test_sql_pairs import balanced, of_rules, rules  # noqa: F401 - fixtures

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes as n
from vedette.expr.matcher import Matcher
from vedette.expr.nodes import Field, TextMatch
from vedette.expr.patterns import regex_refusal
from vedette.expr.printer import to_text
from vedette.expr.sql import java, spark
from vedette.expr.sql.java import java_pattern
from vedette.expr.sql.spark import SparkPrinter, spark_text
from vedette.sense.sources import load_sources
from vedette.testing.expressions import expressions
from vedette.testing.pairs import pairs

X, Y = Field("x"), Field("y")
TOGETHER = 100
"""Rules of one query."""


# Without Spark


@pytest.mark.parametrize(
    ("pattern", "java"),
    [
        (r"a.b$", r"(?d)a.b\z"),
        (r"(?m)^a$", r"(?d)(?m)(?:\A|(?<=\n))a(?=\n|\z)"),
        (r"(?m:^)^", r"(?d)(?m:(?:\A|(?<=\n)))\A"),
        (r"((?m)^)$", r"(?d)(?:(?m)(?:\A|(?<=\n)))\z"),
        (r"(?P<name>a|b)+?", r"(?d)(?:a|b)+?"),
        (r"\s\S\d\W\b\v", r"(?d)[\t\n\f\r ][^\t\n\f\r ]\d\W\b\x0B"),
        (r"[\s&&[a]", r"(?d)[\t\n\f\r \x26\x26\x5ba]"),
        (r"[]a-f-]", r"(?d)[\x5da-f\x2d]"),
        (r"[^]-a]", r"(?d)[^\x5d-a]"),
        (r"a{2,}{}{,3}", r"(?d)a{2,}\x7b\x7d\x7b\x2c3\x7d"),
        (r"\x41\x{5a}\.", r"(?d)\x41\x{5a}\x2e"),
        ("[–é]", r"(?d)[\x{2013}é]"),
    ],
)
def test_a_pattern_is_told_to_java(pattern, java):
    assert not regex_refusal(pattern)
    assert java_pattern(pattern) == java


@pytest.mark.parametrize("pattern", [r"\pL", r"[[:alpha:]]", r"\Qa\E", r"[\D]", r"\C", r"(?U)a+", "(?i)ſ", r"\x{212a}"])
def test_a_pattern_that_java_may_read_otherwise_is_refused(pattern):
    assert not regex_refusal(pattern)
    with pytest.raises(UnsupportedError) as refused:
        java_pattern(pattern)
    assert refused.value.code == "sql.spark.regex"


@pytest.mark.parametrize(
    "rule",
    [
        n.Compare(X, n.Comparison.LT, Y),
        n.Compare(X, n.Comparison.EQ, n.Literal(2**53 + 1)),
        n.TimePart(X, n.Part.HOUR, n.Comparison.EQ, 1),
        n.Exists(Field("a'b")),
        n.Exists(Field("a.b.c.d.e.f.g.h")),
    ],
)
def test_what_spark_cannot_say_is_refused(rule):
    with pytest.raises(UnsupportedError) as refused:
        SparkPrinter().condition(rule)
    assert refused.value.code == "sql.spark.unsupported"


def test_every_public_rule_that_loads_is_told_to_spark(rules):  # noqa: F811
    assert [rule.id for rule in rules.rules if not all(map(runs, rule.nodes.values()))] == []


def test_the_text_is_one_select_whose_names_are_quoted():
    rule = n.Text(X, TextMatch.GLOB, "a_b*'\\\\")
    text = spark_text([("it's", rule)], table="lake.`e", columns=["id"])
    (parsed,) = sqlglot.parse(text, dialect="spark")
    assert {table.sql("spark") for table in parsed.find_all(sqlglot.exp.Table)} == {"`lake`.```e`"}
    assert "'a!_b%\\'\\\\' ESCAPE '!'" in text
    assert "THEN 'it\\'s' END" in text


def test_no_variable_of_sparks_is_in_the_text():
    for rule in VARIABLES:
        text = spark_text([("a", rule)], table="events", columns=["id"])
        assert "${" not in text
        assert r"\u0024{env:home}" in text.replace("HOME", "home")


# With Spark

VARIABLES = [make(match, "a${env:HOME}b") for match in TextMatch for make in (n.Keyword, lambda *how: n.Text(X, *how))]
SOME = [rule for rule in [*VARIABLES, *RULES, *map(n.Not, RULES)] if runs(rule)]
ODD = [*EVENTS, {"x": "a${env:HOME}b"}, {"x": "ab"}]
SETTINGS = [
    {},
    {"spark.sql.ansi.enabled": "false", "spark.sql.legacy.sizeOfNull": "true", "spark.sql.caseSensitive": "true"},
]


def groups_of(rules, size=TOGETHER):  # noqa: F811
    return [rules[start : start + size] for start in range(0, len(rules), size)]


def wrong_answers(rules, some, settings=None):  # noqa: F811
    """What Spark answers otherwise, and the share of rows that it leaves open."""
    groups, wrong, left = groups_of(rules), [], 0
    for group, got in zip(groups, fired(groups, some, settings), strict=True):
        want = expected(group, some)
        for row, event in enumerate(some):
            numbers = got.get(row, [])
            if numbers is None:
                left += 1
            elif numbers != want.get(row, []):
                wrong.append((event, [to_text(group[place]) for place in set(numbers) ^ set(want.get(row, []))]))
    return wrong, left / len(groups) / len(some)


@needs_spark
@pytest.mark.soak
@pytest.mark.parametrize("settings", SETTINGS)
def test_spark_agrees_on_every_node_and_value(settings):
    wrong, left = wrong_answers(SOME, ODD, settings)
    assert wrong == []
    assert left < 0.3


BUGS = {
    "folding": (spark, "_odd", lambda: "[^\\x00-\\x{10ffff}]"),
    "lists on the way": (spark, "ways", lambda _name: []),
    "fractions": (spark, "_CLEAR", "(?s).*"),
    "numbers": (spark, "NUMERIC", "[0-9]+"),
    "escapes": (spark, "_MASKED", ":v"),
    "lines": (java, "_ENDS", {key: key[0] for key in java._ENDS}),
}


@needs_spark
@pytest.mark.soak
@pytest.mark.parametrize("bug", BUGS)
def test_spark_with_a_planted_bug_is_seen(monkeypatch, bug):
    monkeypatch.setattr(*BUGS[bug])
    if bug == "numbers":
        monkeypatch.setitem(spark._BODIES, "number", "try_cast(:v AS DOUBLE)")
    spark._template.cache_clear()
    try:
        assert wrong_answers(SOME, [*ODD, *LINES])[0]
    finally:
        spark._template.cache_clear()


LINES = [{"x": text} for text in ("a\n", "\na\n", "b\na", "a\rb", "a\u2028b", "a\vb", "a{b", "AB", "a b", "")]
PATTERNS = ["a$", "^a", "a.b", r"a\sb", "^$", "^", "a{b", "[&&a]b", r"\bb", "[^a]$", r"(?m)^$", r"a[\s]b", "(a|b)+$"]


@needs_spark
@pytest.mark.soak
def test_spark_reads_patterns_as_re2_does(of_rules):  # noqa: F811
    public = [node for rule in of_rules for node in regexes(rule)]
    made = [n.Regex(X, pattern, flags) for pattern in PATTERNS for flags in ("", "i", "s", "m", "ims")]
    made += [n.Regex(X, node.pattern, node.flags) for node in dict.fromkeys(public)]
    texts = [{"x": value} for pair in pairs(made, 400, seed=3) for value in [pair.event.get("x")]]
    wrong, left = wrong_answers(made, [*texts, *LINES])
    assert wrong == []
    assert left < 0.2


def regexes(node):
    below = getattr(node, "children", ()) or ((node.child,) if hasattr(node, "child") else ())
    found = [node] if isinstance(node, n.Regex) and runs(node) else []
    return found + [one for child in below for one in regexes(child)]


def asked(questions):
    """Wrong answers to questions, and how many were left open; a rule is asked about its own events."""
    of = {}
    for pair in questions:
        of.setdefault(pair.number, []).append(pair)
    held = [(place % TOGETHER, pair) for place, about in enumerate(of.values()) for pair in about]
    some = [pair.event for _, pair in held]
    groups = groups_of([about[0].node for about in of.values()])
    ends = [0, *accumulate(sum(map(len, some)) for some in groups_of(list(of.values())))]
    answers = fired(groups, some, parts=list(pairwise(ends)))
    row, wrong, left = 0, [], 0
    for number, about in enumerate(of.values()):
        for pair in about:
            found = answers[number // TOGETHER].get(row, [])
            left += found is None
            if found is not None and (number % TOGETHER in found) is not pair.true:
                wrong.append(pair)
            row += 1
    return wrong, left / row


@needs_spark
@pytest.mark.soak
def test_spark_answers_ten_thousand_questions_as_the_reference_does(of_rules):  # noqa: F811
    wrong, left = asked(balanced(list(pairs(of_rules, 7_000, seed=8))))
    assert wrong == []
    assert left < 0.05
    made = [node for node in expressions(3_000, seed=8) if runs(node)]
    wrong, left = asked(balanced(list(pairs(made, 3_000, seed=8))))
    assert wrong == []
    assert left < 0.5


@needs_spark
@pytest.mark.soak
def test_spark_fires_as_the_matcher_does_on_recorded_attacks(rules, shared_data):  # noqa: F811
    source = load_sources()["windows"]
    every = [node for _, node in rules.of("windows")]
    with gzip.open(shared_data / "windows" / "evtx_to_mitre.ndjson.gz") as file:
        data = [source.parse(line) for line in file]
    firing = {number for numbers in Matcher(every).match_many(data) for number in numbers}
    nodes = [node for number, node in enumerate(every) if number in firing or number % 16 == 0][: 2 * TOGETHER]
    matched, counted, left = Counter(), Counter(), 0
    found = [set(numbers) for numbers in Matcher(nodes).match_many(data)]
    for group, answer in enumerate(fired(groups_of(nodes), data)):
        opened = {row for row, numbers in answer.items() if numbers is None}
        left += len(opened)
        mine = range(group * TOGETHER, group * TOGETHER + TOGETHER)
        matched.update(
            number for row, numbers in enumerate(found) if row not in opened for number in numbers if number in mine
        )
        counted.update(group * TOGETHER + number for numbers in answer.values() if numbers for number in numbers)
    assert counted == matched
    assert matched.total() > 100
    assert left / len(groups_of(nodes)) / len(data) < 0.02
