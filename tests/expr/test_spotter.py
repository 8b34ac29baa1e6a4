"""Patterns spotted in bytes, and the fragments that stand for many literals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vedette.expr.matcher import sweep
from vedette.expr.spotter import Spotter, literal

texts = st.text("aBk.\\\n\u212aé", max_size=12).map(str.encode)
literals = st.lists(st.text("aBk.\\", min_size=1, max_size=3).map(str.encode), min_size=1, max_size=4)


def ends(wanted, text, *, any_case):
    if any_case:
        wanted, text = [one.lower() for one in wanted], text.lower()
    return sorted(
        place + len(one) for one in set(wanted) for place in range(len(text)) if text[place : place + len(one)] == one
    )


def agree(wanted, text, any_case):
    spots = Spotter(map(literal, wanted), any_case=any_case)
    expected = ends(wanted, text, any_case=any_case)
    assert sorted(set(spots.ends(text))) == sorted(set(expected))
    assert spots.holds(text) is bool(expected)


CASES = given(literals, texts, st.booleans())


@settings(max_examples=200, deadline=None)
@CASES
def test_every_end_is_spotted(wanted, text, any_case):
    agree(wanted, text, any_case)


def test_a_literal_that_is_taken_for_a_pattern_is_caught(monkeypatch):
    monkeypatch.setitem(agree.__globals__, "literal", lambda text: text.replace(b"\\", b"\\\\"))
    quick = settings(max_examples=500, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    with pytest.raises((AssertionError, ExceptionGroup)):
        quick(CASES(agree))()


def test_several_threads_scan_at_once():
    spots, text = Spotter([literal(b"needle")]), b"hay " * 50_000 + b"needle"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: spots.ends(text), range(40)))
    assert found == [[len(text)]] * 40


many = st.lists(st.text("abc:", min_size=1, max_size=12).map(str.encode), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(many)
def test_every_literal_holds_a_fragment(wanted):
    found = sweep.fragments(wanted)
    assert all(any(part in one for part in found) for one in wanted)
    assert len(found) <= len(set(wanted))
    assert all(len(part) <= sweep.FRAGMENT for part in found)
