"""Packed bytes come back as they were, and damage is an error."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.packing import LEAST_BYTES, pack, unpack

RECORD = b'{"event_id":"1","tenant":"default","features":{"customer_count_1d":2.0}}'


@given(st.binary(max_size=50).filter(lambda data: data[:1] != b"\xc1"), st.integers(0, 500), st.integers(0, 2**32))
def test_what_was_packed_comes_back(start, times, seed):
    for data in (start + RECORD * times, start + random.Random(seed).randbytes(10 * times)):
        packed = pack(data) if data[:1] != b"\xc1" else data
        assert len(packed) <= len(data)
        assert packed == data or unpack(packed) == data
        assert pack(data[: LEAST_BYTES - 1]) == data[: LEAST_BYTES - 1]


def test_records_of_a_kind_take_a_quarter():
    assert len(pack(RECORD * 100)) < 100 * len(RECORD) / 4


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 20, -1])
def test_what_is_cut_is_refused(cut):
    with pytest.raises(ValueError, match=r"."):
        unpack(pack(RECORD * 100)[:cut])


@pytest.mark.parametrize(
    "size", [b"\x00", b"\x9f\x38", b"\xa1\x38", b"\xff\xff\x03", b"\xff" * 4 + b"\x0f", b"\xff" * 9]
)
def test_another_size_is_refused(size):
    packed = pack(RECORD * 100)
    assert packed[1:3] == b"\xa0\x38", "7,200 in seven bits each"
    with pytest.raises(ValueError, match=r"."):
        unpack(packed[:1] + size + packed[3:])


def test_something_more_is_refused():
    with pytest.raises(ValueError, match=r"."):
        unpack(pack(RECORD * 100) + b"\x00")


def test_small_records_need_no_library():
    code = "import sys; from vedette.core.packing import pack; pack(b'x' * 100); print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
