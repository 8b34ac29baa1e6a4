from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.expr.expressions import any_space_fields, trees

from vedette.core.errors import DataError
from vedette.expr.codec import decode, encode


@given(trees(any_space_fields))
def test_a_node_survives_being_stored(node):
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(encode(node)))
    assert decode(stored) == node
    assert repr(decode(stored)) == repr(node), "types of values too"


@given(st.recursive(st.none() | st.text() | st.integers(), lambda below: st.lists(below, max_size=3)))
def test_anything_else_is_refused(plain):
    with pytest.raises(DataError):
        decode(plain)


@pytest.mark.parametrize("plain", [["Text"], ["And", 3], ["Not", ["Text", ["Field", "x", "moon"], "is", "a", False]]])
def test_near_misses_are_refused(plain):
    with pytest.raises(DataError):
        decode(plain)
