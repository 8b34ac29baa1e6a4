"""A chunk decoded as a whole gives what its lines give one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vedette.core.errors import DataError
from vedette.expr.spotter import Spotter
from vedette.sense.files import Chunk, Limits, read_lines
from vedette.sense.forms import json as json_form
from vedette.sense.sources import load_sources

WINDOWS = load_sources()["windows"]
GOOD = [
    b'{"EventID": 1, "Threat Name": "a b", "Image": "c"}',
    b'{"event_id": 4, "event_data": {"Image": "x"}, "Image": "y"}',
    b'{"winlog": {"event_id": 4, "event_data": {"a b": 1}}}',
    b'{"a": [1, {"b": null}], "a": 2}',
    b'{"n": 123456789012345678901234567890, "f": 1.0}\r',
    b'{"x": "{[,]}", "y": "\\u00e9"}',
    b'{"EventID":1,"Threat Name":"a b","Image":"c"}',
    b'{"event_id":4,"event_data":{"Image":"x"},"Image":"y"}',
]
BAD = [
    b'{"a": 1}, {"b": 2}',
    b'{"a": 1',
    b'"b": 2}',
    b'{"a": [{"b": 1}',
    b'{"c": 2}]}',
    b"[1, 2]",
    b"7",
    b'{"a": 1e999}',
    b'{"a": "\xff"}',
    b'{"a": "\\ud800"}',
    b'{"a":' * 101 + b"1" + b"}" * 101,
    b'{"a" :' * 101 + b"1" + b"}" * 101,
    b'{"a":' + b"[" * 101 + b"]" * 101 + b"}",
    b'{"a":' * 100 + b"1" + b"}" * 100,
    b'{"a": "unended',
    b'ended"}',
    b"]",
    b"[",
]
some_lines = st.lists(st.sampled_from([*GOOD, *GOOD, *BAD]), min_size=1, max_size=6)


def shown(records):
    return [record.code if isinstance(record, DataError) else record for record in records]


def one_by_one(line):
    try:
        return WINDOWS.parse(line)
    except DataError as error:
        return error.code


def whole_equals_lines(lines):
    chunk = Chunk.whole(Path("x"), b"\n".join(lines), 1, 0)
    assert shown(WINDOWS.parse_chunk(chunk)) == [one_by_one(line) for line in lines]
    assert chunk.lines == lines
    assert b"".join(chunk.ended) == chunk.text


@settings(max_examples=1_000, deadline=None)
@given(some_lines)
def test_a_chunk_is_its_lines(lines):
    whole_equals_lines(lines)


@pytest.mark.parametrize(
    ("place", "plant"), [(json_form, ("is_flat", lambda _text: True)), (Spotter, ("holds", lambda *_: False))]
)
def test_a_planted_bug_is_caught(place, plant, monkeypatch):
    monkeypatch.setattr(place, *plant)
    quick = settings(max_examples=3_000, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        quick(given(some_lines)(whole_equals_lines))()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"", b"\r", b"a", b'{"a": 1}', b"\xef\xbb\xbfb"]), max_size=8), st.integers(1, 20))
def test_lines_keep_their_places_whatever_the_blocks(tmp_path_factory, lines, block):
    path = tmp_path_factory.mktemp("lines") / "x.log"
    path.write_bytes(b"\n".join(lines))
    read = [
        (number, offset, line)
        for chunk in read_lines(path, limits=Limits(chunk_bytes=block))
        for number, offset, line in zip(chunk.numbers, chunk.offsets, chunk.lines, strict=True)
    ]
    wanted, offset = [], 0
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line not in (b"", b"\r"):
            wanted.append((number, offset, text))
        offset += len(line) + 1
    assert read == wanted
