"""Placing damage, against lists that were damaged on purpose."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from vedette.prove.evidence.place import Damage, place


def leaf(name: object) -> bytes:
    return hashlib.sha256(repr(name).encode()).digest()


def placed(old: list[object], new: list[object]) -> list[tuple[Damage, int, int]]:
    names = [(seq, str(name)) for seq, name in enumerate(new)]
    found = place(b"".join(map(leaf, old)), b"".join(map(leaf, new)), names)
    return sorted((f.damage, f.first, f.end) for f in found)


@given(st.integers(0, 60), st.integers(0, 20))
def test_an_untouched_table_with_a_tail_is_clean(size: int, tail: int) -> None:
    assert placed(list(range(size)), list(range(size + tail))) == []


@given(st.data(), st.integers(1, 60), st.integers(0, 20))
def test_single_damage_is_placed_exactly(data: st.DataObject, size: int, tail: int) -> None:
    old, new = list(range(size)), list[object](range(size + tail))
    at = data.draw(st.integers(0, size - 1))
    assert placed(old, [*new[:at], "forged", *new[at + 1 :]]) == [(Damage.EDIT, at, at)]
    assert placed(old, [*new[:at], "forged", *new[at:]]) == [(Damage.INSERTION, at, at)]
    assert placed(old, new[:at]) == [(Damage.TRUNCATION, at, size - 1)]
    without = placed(old, [*new[:at], *new[at + 1 :]])
    assert [found[1:] for found in without] == [(at, at)]
    if at < size - 1:
        assert without[0][0] is Damage.DELETION
        other = data.draw(st.integers(at + 1, size - 1))
        new[at], new[other] = new[other], new[at]
        swapped = placed(old, new)
        assert {damage for damage, _, _ in swapped} == {Damage.REORDER}
        assert {first for _, first, _ in swapped} <= set(range(at, other + 1))


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(0, 30))
def test_any_difference_in_what_was_signed_is_found(new: list[int], size: int) -> None:
    """Any table at all, with repeats: clean exactly when it begins with what was signed."""
    old = list(range(size))
    assert (placed(old, new) == []) is (new[:size] == old)
