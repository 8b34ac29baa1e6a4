"""Rules as SQL in DuckDB against the reference: every node, every shape of value."""

from __future__ import annotations

import sys

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sql_engine import fired, rows_of
from tests.expr.expressions import events, trees

from vedette.core.errors import DataError, UnsupportedError
from vedette.expr import nodes as n
from vedette.expr.nodes import Comparison, Field, TextMatch
from vedette.expr.printer import to_text
from vedette.expr.reference import evaluate
from vedette.expr.sql import functions, macros, printer, query
from vedette.expr.sql.printer import Printer
from vedette.expr.sql.query import pointers, rules_query, starts
from vedette.expr.truth import Truth
from vedette.expr.values import fold, leaves, number_of, reader
from vedette.sense.scan import refused_patterns, scanning

X, Y, AB = Field("x"), Field("y"), Field("a.b")


def expected(rules, some):
    found = {}
    for place, event in enumerate(some):
        data = msgspec.json.decode(msgspec.json.encode(event))
        held = list(leaves(data))
        numbers = [i for i, rule in enumerate(rules) if evaluate(rule, reader(data), held) is Truth.TRUE]
        if numbers:
            found[place] = numbers
    return found


def agree(rules, some, want=None):
    both = [*rules, *(n.Not(rule) for rule in rules)]
    got, want = fired(both, some), want or expected(both, some)
    differ = [
        (to_text(rule), event)
        for place, event in enumerate(some)
        for number, rule in enumerate(both)
        if (number in got.get(place, [])) != (number in want.get(place, []))
    ]
    assert not differ


def supported(rule):
    try:
        Printer().condition(rule)
    except UnsupportedError:
        return False
    return True


runnable = trees().filter(supported)


def check_random(examples):
    @settings(max_examples=examples, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.lists(runnable, min_size=10, max_size=30), st.lists(events, min_size=10, max_size=40))
    def compare(rules, some):
        agree(rules, some)

    compare()


def test_agrees_on_random_rules_and_events():
    check_random(10)


@given(st.lists(st.floats(min_value=2.0**52, allow_infinity=False), min_size=20, max_size=20))
@settings(max_examples=5, deadline=None)
def test_agrees_on_the_digits_of_large_numbers(numbers):
    some = [{"x": number} for number in [*numbers, 1e17, 1e300, 2.0**53, sys.float_info.max]]
    texts = [str(int(event["x"])) for event in some if event["x"].is_integer()]
    agree([n.Text(X, TextMatch.EQUALS, text) for text in texts], some)


@pytest.mark.soak
def test_agrees_on_many_random_rules_and_events():
    check_random(300)


VALUES = [
    *(None, True, False, 0, 1, -1, 1.0, -0.0, 0.1, 1e-7, 1.5, 1e22, 1e300, 123456789012345678901234567890, 2**53 + 1),
    *("", "a", "A", "ß", "SS", "ss", "ſ", "s", "İ", "i", "i̇", "K", "k", "Ꭰ", "ꭰ", "ς", "σ", "true", "1", "01", "1.0"),
    *(
        "1e0",
        "+1",
        " 1",
        "1" * 41,
        "null",
        '"',
        "\\",
        "a\\b",
        "a*b",
        "a%b",
        "a_b",
        "aXb",
        "a!b",
        "x\ny",
        "a\x00b",
        "[",
        "{",
    ),
    *(
        "10.0.0.7",
        "10.0.1.7",
        "010.0.0.7",
        "10.0.0.7 ",
        "::1",
        "0:0:0:0:0:0:0:1",
        "fe80::1%eth0",
        "2001:DB8::ff",
        "é",
        "É",
    ),
    *([], [None], [[]], [1, "a"], [["a"], "B"], {}, {"b": "a"}, {"b": 1.0}, [{"b": "a"}, {"b": ["ß"]}], {"b": None}),
    *({"c": 1e22, "d": "é\x7f"}, "2026-03-01T09:30:00Z", 1_772_357_400, "😀", "a😀b", "\\\\srv\\x"),
]
EVENTS = [
    *({"x": value} for value in VALUES),
    *({"x": value, "y": other} for value in VALUES[::3] for other in (1, "a", "SS", None, ["a", 1], "b")),
    *({"a": value} for value in VALUES),
    *({"a.b": value} for value in VALUES[::4]),
    *(
        {"a.b": "whole", "a": {"b": "walked"}},
        {"a": {"b": {"c": "deep"}}, "a.b": {"c": "flat"}},
        {"a.b": None, "a": {"b": 1}},
    ),
    *({"a": [[{"b": "a"}], {"b": None}]}, {"a": [{"c": 1}]}, {"a": [1, {"b": 2}]}, {}, {"we/i~rd \"'": "a"}, {"": "a"}),
]
TEXTS = [
    "",
    "a",
    "ss",
    "SS",
    "i",
    "İ",
    "1",
    "true",
    "a\\b",
    "a%b",
    "a_b",
    "a!b",
    "a\x00b",
    "k",
    "ꭰ",
    "σ",
    "0",
    "😀",
    "'",
    '"',
]
RULES = [
    *(n.Text(X, match, text, cased) for match in list(TextMatch)[:4] for text in TEXTS for cased in (False, True)),
    *(
        n.Text(X, TextMatch.GLOB, glob, cased)
        for glob in ("*", "?", "a?b", "a*b", "a\\*b", "a\\\\b", "?ss", "*%*", "a_b")
        for cased in (0, 1)
    ),
    *(n.Text(AB, TextMatch.EQUALS, text) for text in ("a", "1", "SS", "whole", "walked", "")),
    *(n.Text(Field(name), TextMatch.EQUALS, "a") for name in ("we/i~rd \"'", "", "a.", ".", "x.y.z.p.q.r.s.t")),
    *(n.Text(Field("a.b.c"), TextMatch.EQUALS, text) for text in ("deep", "flat")),
    *(n.Exists(field) for field in (X, Y, AB)),
    *(n.IsNull(field) for field in (X, Y, AB)),
    *(
        n.Regex(X, pattern, flags)
        for pattern in ("a.b", "^a", "b$", "SS", "\\\\", "^$", "é")
        for flags in ("", "i", "s", "m")
    ),
    *(
        n.Cidr(X, net)
        for net in ("10.0.0.0/24", "10.0.0.0/23", "0.0.0.0/0", "::1/128", "fe80::/10", "2001:db8::/32", "::/0")
    ),
    *(
        n.Keyword(match, text, cased)
        for match in list(TextMatch)[:4]
        for text in ("a", "SS", "1", "", "é")
        for cased in (0, 1)
    ),
    *(n.Keyword(TextMatch.GLOB, "*a?b*"), n.KeywordRegex("^a.b$", "s")),
    *(n.FieldMatch(X, match, Y, cased) for match in list(TextMatch)[:4] for cased in (False, True)),
    *(
        n.Compare(X, op, n.Literal(value))
        for op in Comparison
        for value in (0, 1, 0.5, 2**53 + 1, "a", "1", "SS", True)
    ),
    *(n.Compare(n.Literal(1), op, X) for op in Comparison),
    *(n.Compare(X, op, Y, cased) for op in Comparison for cased in (False, True)),
    *(n.Compare(AB, op, n.Literal(1)) for op in Comparison),
    *(n.Among(X, items) for items in ((), (1, "a"), ("SS", 0.1), ("1",))),
    *(
        n.TimePart(X, part, op, number)
        for part, number in zip(n.Part, (30, 9, 1, 9, 3, 2026), strict=True)
        for op in Comparison
    ),
    *(
        n.Or((n.Known(n.Text(X, TextMatch.EQUALS, "a")), n.Text(X, TextMatch.EQUALS, "ß"), n.Exists(Y))),
        n.And(()),
        n.Or(()),
    ),
    *(n.Known(n.Not(n.Text(X, TextMatch.EQUALS, "a"))), n.Not(n.Known(n.Text(X, TextMatch.EQUALS, "a")))),
    *(
        n.Known(n.Or((n.Text(X, TextMatch.EQUALS, "a"), n.Not(n.Known(n.Exists(Y)))))),
        n.Constant(True),
        n.Constant(False),
    ),
]


@pytest.fixture(scope="module")
def answers():
    return expected([*RULES, *(n.Not(rule) for rule in RULES)], EVENTS)


def test_agrees_on_every_node_and_value(answers):
    agree(RULES, EVENTS, answers)


BUGS = {
    "escaping": (printer, "_quoted", lambda text: text),
    "folding": (macros, "odd_characters", lambda: "ß"),
    "order of places": (query, "pointers", lambda name: pointers(name)[::-1]),
    "lists on the way": (query, "starts", lambda _name: []),
    "unknown is false": (Printer, "_compare", lambda _self, _node: printer.exp.false()),
    "numbers": (macros, "NUMERIC", "[0-9]+"),
    "flags": (printer, "flagged", lambda pattern, _flags: pattern),
    "network": (printer, "v4_pattern", lambda _network: "^10[.]"),
    "elements": (functions, "elements", lambda value: [value]),
    "not": (Printer, "condition", lambda self, node: self._print(node, true_only=True).copy().transform(_bare)),
}


def _bare(part):
    """Forgets that NOT of unknown is unknown only where the language has not said otherwise."""
    return part.this if isinstance(part, printer.exp.Is) and part.expression == printer.exp.true() else part


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen(monkeypatch, answers, bug):
    macros.macros.cache_clear()
    try:
        monkeypatch.setattr(*BUGS[bug])
        with pytest.raises(AssertionError):
            agree(RULES, EVENTS, answers)
    finally:
        macros.macros.cache_clear()


def test_folding_is_that_of_every_character():
    every = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    texts = ["".join(every[start : start + 64]) for start in range(0, len(every), 64)]
    rows = pa.table({"id": pa.array(range(len(texts))), "data": texts})
    with scanning(rows, threads=1) as scan:
        for batch in scan.run("SELECT id, vedette_fold(data) AS folded FROM events"):
            for row in batch.to_pylist():
                assert row["folded"] == fold(texts[row["id"]])


@pytest.mark.parametrize(
    "text", ["1", "+1", "-0.5", "1.", ".5", "1e5", "1e1234", "1_0", "١", "0x1", "nan", "", "9" * 40, "9" * 41]
)
def test_a_number_is_spelt_as_everywhere(text):
    with scanning(rows_of([]), threads=1) as scan:
        (batch,) = scan.run(f"SELECT vedette_spelt('{text}') AS number")
    want = number_of(text)
    assert batch.to_pylist() == [{"number": None if want is None else float(want)}]


def test_places_of_a_name():
    assert pointers("a/b.c~d") == ["/a~1b.c~0d", "/a~1b/c~0d"]
    assert starts("a") == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (n.Exists(Field("x", n.Space.ATTRIBUTE)), "sql.space.unsupported"),
        (n.FieldMatch(X, TextMatch.GLOB, Y), "sql.match.unsupported"),
        (n.Regex(X, "(?=a)"), "sql.regex.refused"),
    ],
)
def test_what_cannot_run_is_refused(rule, code):
    with pytest.raises(UnsupportedError) as refused:
        rules_query([rule], table="events", columns=["id"])
    assert refused.value.code == code


def test_a_pattern_that_only_the_engine_refuses_is_refused():
    made = rules_query([n.Regex(X, "(?<name>a)")], table="events", columns=["id"])
    assert list(refused_patterns([*made.patterns, "a"])) == ["(?<name>a)"]


def test_a_scan_reaches_nothing_but_its_rows(tmp_path):
    path = tmp_path / "secret.csv"
    path.write_text("secret\n1\n")
    with scanning(rows_of([])) as scan:
        for text in (f"SELECT * FROM '{path}'", "SET threads = 4", "SELECT * FROM rows"):
            with pytest.raises(DataError, match=r"."):
                list(scan.run(text))
