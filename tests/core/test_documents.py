"""YAML and JSON from people who mean harm, and from people who do not."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vedette.core import documents
from vedette.core.documents import load_json, load_yaml, load_yaml_all
from vedette.core.errors import DataError, DefinitionError

RULE = b"""title: Test
status: yes
date: 2024-01-31
detection:
  sel:
    Image|endswith: ['\\a.exe', "b"]
    'a.b': 5
  condition: sel
"""


def test_values_are_pyyaml_s():
    assert load_yaml(RULE).data == yaml.safe_load(RULE)
    assert load_yaml(RULE).data["date"] == dt.date(2024, 1, 31)
    assert load_yaml("").data is None
    assert load_yaml("a: 1\nbase: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\n").data["c"] == {"x": 1, "y": 3}
    assert load_yaml("l: [&a {x: 1}, &b {x: 2, y: 2}]\nm: {<<: [*a, *b]}").data["m"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("$", "f.yml:1:1"),
        ("$.title", "f.yml:1:8"),
        ("$.detection.sel", "f.yml:6:5"),
        ("$.detection.sel.Image|endswith[1]", "f.yml:6:32"),
        ("$.detection.sel['a.b']", "f.yml:7:12"),
        ("$.detection.nope.deeper", "f.yml:5:3"),
        ("$.detection.sel.Image|endswith[9]", "f.yml:6:21"),
    ],
)
def test_spans(path, place):
    assert str(load_yaml(RULE, path="f.yml").span(path)) == place


def test_key_spans():
    assert str(load_yaml(RULE, path="f.yml").span("$.detection.sel['a.b']", key=True)) == "f.yml:7:5"


def test_several_documents():
    found = load_yaml_all("a: 1\n---\nb: 2\n")
    assert [d.data for d in found] == [{"a": 1}, {"b": 2}]
    assert str(found[1].span("$.b")) == "<text>:3:4"
    with pytest.raises(DefinitionError) as several:
        load_yaml("a: 1\n---\nb: 2\n")
    assert several.value.code == "documents.yaml.several"


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        (BOMB, "aliases", ""),
        ("[" * 66 + "]" * 66, "depth", "1:66"),
        ("a: &a [*a]", "depth", "1:4"),
        ("{a: " * 5_000, "depth|invalid", ""),
        ("a: 1\nb: 2\na: 3", "duplicate_key", "3:1"),
        ("{x: {1: a, 1: b}}", "duplicate_key", "1:12"),
        ("? [a]\n: b", "key", "1:3"),
        (b"a: ok\nb: \xff\xfe", "encoding", "2:4"),
        ("a: .nan", "number", "1:4"),
        ("a: -.inf", "number", "1:4"),
        ("a: !!python/object/apply:os.system [ls]", "tag", "1:4"),
        ("a: !!binary aGk=", "tag", "1:4"),
        ("a: !mine b", "tag", "1:4"),
        ("a: 2024-13-45", "value", "1:4"),
        ("a: " + "9" * 5_000, "value", "1:4"),
        ("a: [1, 2", "invalid", "2:1"),
        ("a: 1\n b: 2", "invalid", "2:3"),
        ("a: *nope", "invalid", "1:4"),
        ("a: \x07", "character|invalid", ""),
        ("c: {<<: 5}", "merge", "1:9"),
        ("x" * (documents.MAX_YAML_BYTES + 1), "too_large", "1:1"),
    ],
)
def test_bad_yaml(text, code, place):
    with pytest.raises(DefinitionError) as refused:
        load_yaml(text, path="f.yml")
    assert refused.value.code.removeprefix("documents.yaml.") in code.split("|")
    assert str(refused.value.span).startswith(f"f.yml:{place}")


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_read_or_refused(text):
    with suppress(DefinitionError):
        load_yaml(text)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_json_round_trip(value):
    assert load_json(json.dumps(value).encode()) == value


def test_json_keeps_whole_numbers():
    assert load_json(b"[123456789012345678901234567890, 1.5]") == [123456789012345678901234567890, 1.5]


@pytest.mark.parametrize(
    ("raw", "code", "place"),
    [
        (b"[" * 10_000 + b"]" * 10_000, "depth", "<text>:1:65"),
        (b'{"a":' * 100, "depth", "<text>:1:321"),
        (b'{"a": 1,\n "b": {"x": 1, "x": 2}}', "duplicate_key", "<text>:2:16"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate_key", "<text>:1:10"),
        (b'["NaN", NaN]', "number", "<text>:1:9"),
        (b"[-Infinity]", "number", "<text>:1:2"),
        (b"[1,\n1e999]", "number", "<text>:2:1"),
        (b"9" * 5_000, "number", "<text>:1:1"),
        (b'{"a": 1,}', "invalid", "<text>:1:"),
        (b"", "invalid", "<text>:1:1"),
        (b"{} {}", "invalid", "<text>:1:4"),
        (b'"\xff"', "encoding", "byte 1"),
        (b'"\\ud800"', "surrogate", ""),
        (b" " * 2_000_000, "too_large", ""),
    ],
)
def test_bad_json(raw, code, place):
    with pytest.raises(DataError) as refused:
        load_json(raw)
    assert refused.value.code == f"documents.json.{code}"
    assert refused.value.place.startswith(place)


def test_brackets_in_strings_are_not_depth():
    assert load_json(b'["' + b"[" * 100 + b'\\"["]') == ["[" * 100 + '"[']


@given(st.binary(max_size=60) | st.text(alphabet='[]{}":,\\u0d8 1eN', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(raw):
    with suppress(DataError):
        load_json(raw)
