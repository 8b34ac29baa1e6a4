"""The greatest of the last k: against looking at every window, in both forms; planted mistakes; bounded memory."""

import itertools
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.errors import DefinitionError
from vedette.sense.features import sliding
from vedette.sense.features.sliding import sliding_max, sliding_max_array

NUMBERS = st.lists(
    st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, float("nan"), float("inf"), float("-inf")]),
        st.floats(allow_nan=True),
    ),
    max_size=60,
)


def brute(values, k):
    windows = (values[start : start + k] for start in range(len(values) - k + 1))
    return [max((one for one in window if not math.isnan(one)), default=math.nan) for window in windows]


def same(one, other):
    return len(one) == len(other) and all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True))  # fmt: skip


@settings(deadline=None)  # the first call compiles
@given(NUMBERS, st.integers(1, 70))
def test_both_forms_are_what_looking_at_every_window_gives(values, k):
    wanted, streamed = brute(values, k), list(sliding_max(iter(values), k))
    array = sliding_max_array(np.array(values, np.float64), k)
    assert same(streamed, wanted)
    assert np.array(streamed, np.float64).tobytes() == array.tobytes(), "to the bit"


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2), max_size=40), st.integers(1, 45))
def test_whole_numbers_stay_whole(values, k):
    array = sliding_max_array(np.array(values, np.int64), k)
    assert array.tolist() == list(sliding_max(values, k)) == brute(values, k)
    assert array.dtype == np.int64


def test_edges():
    values = [1.0, 3.0, 3.0, -2.0]
    assert list(sliding_max(values, 1)) == sliding_max_array(values, 1).tolist() == values
    assert list(sliding_max(values, 4)) == sliding_max_array(values, 4).tolist() == [3.0]
    assert list(sliding_max(values, 5)) == sliding_max_array(values, 5).tolist() == []
    assert sliding_max_array([], 3).tolist() == list(sliding_max([], 3)) == []
    nothing = [math.nan] * 3
    assert all(map(math.isnan, [*sliding_max(nothing, 2), *sliding_max_array(nothing, 2)]))


@pytest.mark.parametrize("k", [0, -1, True, 2.0, "3", None])
@pytest.mark.parametrize("form", [sliding_max, sliding_max_array])
def test_a_window_is_at_least_one_value_long(form, k):
    with pytest.raises(DefinitionError) as caught:
        form([1.0, 2.0], k)
    assert caught.value.code == "features.window.invalid"


@pytest.mark.parametrize("values", [[[1.0], [2.0]], ["a", "b"], [None, 1], 5.0])
def test_what_is_no_row_of_numbers_is_refused(values):
    with pytest.raises(DefinitionError) as caught:
        sliding_max_array(values, 1)
    assert caught.value.code == "features.values.invalid"


def test_the_stream_is_read_one_at_a_time_and_holds_no_more_than_k():
    found = sliding_max(itertools.count(), 3)
    assert list(itertools.islice(found, 4)) == [2, 3, 4, 5], "of a stream without an end"
    tracemalloc.start()
    last = max(sliding_max((float(number % 977) for number in range(50_000)), 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last == 976
    assert peak < 60_000


@pytest.mark.parametrize("change", [("<= place - k", "< place - k"), ("<= value", ">= value"), ("place >= k - 1", "place >= k")])  # fmt: skip
def test_a_planted_mistake_is_noticed(change):
    text = Path(sliding.__file__).read_text()
    broken: dict[str, object] = {"__name__": "broken"}
    exec(compile(text.replace(*change).replace("@njit(cache=True, nogil=True)", ""), "broken", "exec"), broken)
    values = [float(number * 7 % 11) for number in range(40)]
    assert not same(list(broken["sliding_max"](values, 4)), brute(values, 4))
