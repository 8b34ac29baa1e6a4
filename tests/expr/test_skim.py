"""A skimmer rules out only JSON objects of which no rule is true, and what it tells of the others is right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.expr.test_matcher import expected, keyword_rules, rules, some_events, typed, typed_events, wordy

from vedette.expr import nodes as n
from vedette.expr.matcher import Matcher, flat, scan, skim, skimmer

SPELT = [
    json.dumps,
    lambda event: json.dumps(event, ensure_ascii=False, separators=(",", ":")),
    lambda event: json.dumps(event, separators=(",", ":")).replace("a", "\\u0061"),
    lambda event: json.dumps(event, separators=(",", ":")).replace("/", "\\/") + " \r",
]
spelt = st.sampled_from(SPELT)


def decoded(line):
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return data if type(data) is dict else None


def agree(nodes, lines):
    """What a skimmer rules out and tells, on lines that may be no records at all."""
    skims = Matcher(nodes).skimmer()
    records = [decoded(line) for line in lines]
    wanted = [() if data is None else expected(nodes, data) for data in records]
    for _ in ("new", "route known", "values known"):
        found = skims.skim(b"\n".join(lines))
        if found is None:
            continue
        assert found.lines == len(lines)
        assert [lines[place] for place in found.places] == [
            b"\n".join(lines)[begin:end] for begin, end in found.spans()
        ]
        looked = set(found.places)
        for place, data in enumerate(records):
            if place not in looked:
                assert data is not None, "what is ruled out is a record"
                assert wanted[place] == ()
        places = [place for place in found.places if records[place] is not None]
        assert skims.match(places, [records[place] for place in places], found) == [wanted[place] for place in places]


def spell_all(nodes, batch, spell):
    agree(nodes, [spell(event).encode("utf-8", "surrogatepass") for event in batch])


ROUTED = given(rules, some_events, spelt)
TYPED = given(typed, typed_events, spelt)
WORDY = given(keyword_rules, st.lists(wordy, min_size=1, max_size=4), spelt)


@settings(max_examples=120, deadline=None)
@ROUTED
def test_skimmed_lines_equal_reference(nodes, batch, spell):
    spell_all(nodes, batch, spell)


@settings(max_examples=80, deadline=None)
@TYPED
def test_skimmed_values_of_every_type_equal_reference(nodes, batch, spell):
    spell_all(nodes, batch, spell)


@settings(max_examples=80, deadline=None)
@WORDY
def test_skimmed_keywords_equal_reference(nodes, batch, spell):
    spell_all(nodes, batch, spell)


x, y = n.Field("x"), n.Field("y")
needles = st.sampled_from(["a", "ab", "abc", "abcd", "abcde", "bcdef", "aaaa", "aaaaa", '"', "\\", "\n", "", "é", "12"])
literal_rules = st.lists(
    st.builds(n.Text, st.sampled_from([x, y]), st.sampled_from([m for m in n.TextMatch if m != "glob"]), needles).map(
        n.Known
    ),
    min_size=1,
    max_size=12,
).flatmap(lambda some: st.sampled_from([some, [n.And(tuple(some[:2])), n.Or((n.Not(some[0]), some[-1]))]]))
long = st.one_of(
    st.text("abcdefABC", max_size=8),
    st.builds(
        lambda part, times: part * times, st.sampled_from(["a", "abc", "xyz\\", "\n\t", "x" * 31]), st.integers(0, 90)
    ),
    st.builds(
        lambda times, end: "x" * times + end, st.sampled_from([30, 31, 32, 63, 64, 2_040, 2_048, 70_000]), needles
    ),
)
literal_events = st.lists(st.fixed_dictionaries({}, optional={"x": long, "y": long}), min_size=1, max_size=6)
LITERAL = given(literal_rules, literal_events, spelt)


@settings(max_examples=120, deadline=None)
@LITERAL
def test_skimmed_literals_equal_reference(nodes, batch, spell):
    spell_all(nodes, batch, spell)


def holds(field, value):
    return n.Known(n.Text(field, n.TextMatch.CONTAINS, value))


def stands(value):
    return n.Known(n.Keyword(n.TextMatch.CONTAINS, value))


def on(channel, *rest):
    return n.And((n.Known(n.Text(n.Field("Channel"), n.TextMatch.EQUALS, channel)), *rest))


MIXED = given(
    st.just(
        [
            on("s", holds(x, "b/kk")),
            on("t", holds(x, "a/kk"), n.Not(holds(y, "kiwi"))),
            stands("kiwi::x"),
            n.And((holds(x, "a/kk"), n.Or(tuple(map(stands, ["fi(x)", "adfind ", "true-1", "ss-12"]))))),
        ]
    ),
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "Channel": st.sampled_from(["s", "T"]),
                "x": st.sampled_from(["a/kk", "B/KK", "c"]),
                "y": st.sampled_from(["kiwi::x", "fi(x)"]),
            },
        ),
        min_size=1,
        max_size=5,
    ),
    spelt,
)


@settings(max_examples=100, deadline=None)
@MIXED
def test_keywords_beside_fields_equal_reference(nodes, batch, spell):
    spell_all(nodes, batch, spell)


WATCHED = [
    n.Known(n.Text(x, n.TextMatch.CONTAINS, "evil")),
    n.And((n.Known(n.Text(n.Field("Channel"), n.TextMatch.EQUALS, "s")), n.Exists(n.Field("z.y")))),
    n.And((n.Known(n.Text(n.Field("Channel"), n.TextMatch.EQUALS, "s")), n.Not(n.Exists(x)))),
    n.And((n.Known(n.Text(n.Field("Channel"), n.TextMatch.EQUALS, "t")), n.Regex(y, "^[0-9]"))),
]
PIECES = [
    *('{"', '"}', '":"', '","', '":', ',"', "{", "}", "[", "]", ":", ",", '"', "\\", " ", "\t", "\r", "x", "y", "evil"),
    *("\\u0065", "\\ud800", "\\udc00", "\\u00zz", "\\q", "\\n", "-", "0", "1", "-0", "01", "1.", "1.5", "1e3", "1e999"),
    *("true", "false", "null", "nul", "Channel", "s", "t", "\x01", "\x7f", "é", "\udcff", "99999999999999999999"),
    *('{"x":"evil"}', '"x":"a"', '"x":null', '"Channel":"s"', '"Channel":"t"', '"y":1', '"y":[1]', '"z":{"y":1}'),
]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
members = st.sampled_from(PIECES[-7:])
objects = st.lists(members | texts, min_size=1, max_size=4) | st.lists(members, min_size=2, max_size=3)
written = objects.map(lambda some: "{" + ",".join(some) + "}")
ragged = st.lists(
    (texts | written).map(lambda text: text.encode("utf-8", "surrogateescape")).filter(lambda line: b"\n" not in line),
    min_size=1,
    max_size=5,
)
RAGGED = given(st.just(WATCHED), ragged)


@settings(max_examples=600, deadline=None)
@RAGGED
def test_what_is_no_record_is_never_ruled_out(nodes, lines):
    agree(nodes, lines)


def test_blank_lines_and_bad_bytes_are_left_to_others():
    skims = Matcher(WATCHED).skimmer()
    for text in (b"", b'{"a":1}\n', b'{"a":1}\n\n{"a":1}', b'\r\n{"a":1}', b'{"a":"\xff"}'):
        assert skims.skim(text) is None


def test_a_full_memory_is_emptied(monkeypatch):
    monkeypatch.setattr(skimmer, "VALUES", 8)
    rule = n.Known(n.Text(x, n.TextMatch.ENDS, "7"))
    lines = [json.dumps({"x": f"value {number}"}).encode() for number in range(200)]
    agree([rule], lines)
    monkeypatch.setattr(skimmer, "VALUES", 1 << 16)
    monkeypatch.setattr(skimmer, "VALUE_BYTES", 200)
    agree([rule], lines)


def test_most_lines_are_ruled_out():
    skims = Matcher(WATCHED).skimmer()
    text = b"\n".join(
        [b'{"Channel":"s","x":"good"}', b'{"Channel":"s","x":"EVIL"}', b'{"y":{"deep":[1]},"x":"ok"}'] * 9
    )
    for _ in range(3):
        found = skims.skim(text)
    assert found.places == [place for place in range(27) if place % 3 == 1]
    assert found.told.keys() == set(found.places)


def _without(column):
    return lambda patch: patch.setattr(flat, "_names", lambda *given: _blank(_names(*given), column))


def _blank(names, column):
    names.kind[:, column] = 0 if column == scan.K_FLAGS else -1
    return names


_names = flat._names


def _always(self, ask, yes, no):
    return no


def _no_unknown(self, atom, yes, no, maybe):
    self.made.append((self._first + atom, yes, no))
    return self._begin + len(self.made) - 1


def _plant(patch, name, value):
    held, _, attribute = name.rpartition(".")
    patch.setattr(getattr(flat, held), attribute, value)


def _placed_without(attribute, value):
    def placed(self, partition):
        found = _placed(self, partition)
        setattr(found, attribute, value)
        return found

    _placed = flat.Flat._place
    return lambda patch: patch.setattr(flat.Flat, "_place", placed)


def _suspects_are_told(patch):
    told = skimmer.Skimmer._told
    patch.setattr(skimmer.Skimmer, "_told", lambda self, places, _suspects: told(self, places, frozenset()))


PLANTS = {
    "a name with nested values is known by its dots": (RAGGED, _without(scan.K_FLAGS)),
    "what no literal tells is false": (ROUTED, lambda patch: _plant(patch, "_Jumps._ask", _always)),
    "no keyword stands anywhere": (MIXED, lambda patch: _plant(patch, "_Jumps._atom", _no_unknown)),
    "a rule without a witness is never asked": (ROUTED, _placed_without("free", [])),
    "a rule that is always true is not": (ROUTED, _placed_without("opaque", False)),
    "a suspect is told by its fields": (MIXED, _suspects_are_told),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_caught(name, monkeypatch):
    meant, plant = PLANTS[name]
    plant(monkeypatch)
    profile = settings(
        max_examples=1_500,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, ExceptionGroup)):
        profile(meant(agree if meant is RAGGED else spell_all))()


def test_the_cache_of_compiled_code_sees_every_part():
    folder = Path(skim.__file__).parent
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in ("block.py", "scan.py")))
    assert digest.hexdigest()[:16] == skim.PARTS, "write the new digest there"


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(rules, typed, keyword_rules), some_events | typed_events | st.lists(wordy, min_size=1), spelt)
def test_skimmed_lines_equal_reference_for_long(nodes, batch, spell):
    spell_all(nodes, batch, spell)


@pytest.mark.soak
@settings(max_examples=50_000, deadline=None, suppress_health_check=list(HealthCheck))
@RAGGED
def test_what_is_no_record_is_never_ruled_out_for_long(nodes, lines):
    agree(nodes, lines)


@settings(max_examples=200, deadline=None)
@given(rules, some_events, spelt)
def test_a_line_of_which_something_else_is_asked_is_not_ruled_out(nodes, batch, spell):
    asked = {name: lambda value: isinstance(value, str) and "b" in value.lower() for name in ("x", "Channel")}
    skims = Matcher(nodes).skimmer((), asked)
    lines = [spell(event).encode("utf-8", "surrogatepass") for event in batch]
    for _ in ("new", "route known", "values known"):
        found = skims.skim(b"\n".join(lines))
        if found is None:
            continue
        records = [decoded(line) for line in lines]
        for place, data in enumerate(records):
            if place not in found.places:
                assert data is not None
                assert expected(nodes, data) == ()
                assert not any(asked[name](data.get(name)) for name in asked)
        places = [place for place in found.places if records[place] is not None]
        wanted = [expected(nodes, records[place]) for place in places]
        assert skims.match(places, [records[place] for place in places], found) == wanted


def test_what_is_asked_is_asked_once_a_value_and_again_after_forgetting():
    known = set()
    asks = []
    skims = Matcher(WATCHED).skimmer((), {"ip": lambda value: asks.append(value) or value in known})
    text = b"\n".join([b'{"x":"ok","ip":"10.0.0.1"}', b'{"x":"good","ip":"10.0.0.2"}'] * 9)
    assert [len(skims.skim(text).places) for _ in range(4)][-1] == 0
    assert sorted(asks) == ["10.0.0.1", "10.0.0.2"]
    known.add("10.0.0.2")
    assert skims.skim(text).places == []
    skims.forget()
    skims.skim(text)
    assert skims.skim(text).places == [*range(1, 18, 2)]
