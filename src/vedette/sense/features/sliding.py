"""The greatest of the last k values: over a stream in O(k) memory, over an array in one pass; the same bits either way.

Either way each value enters and leaves a queue once: O(n) in all, whatever k is. The queue holds the places that can
still be the greatest, their values falling; of equal values the newest stays.

Law: a window is k values in a row, so n values have n - k + 1 windows and none when k > n. NaN is a missing value: it
takes a place in a window and is never its greatest; a window of nothing but NaN gives NaN. -0.0 and 0.0 are equal.

Example:
    >>> list(sliding_max([3, 1, 2, 5, 4], 3))
    [3, 5, 5]
    >>> sliding_max_array(np.array([0.5, float("nan"), 0.25]), 2).tolist()
    [0.5, 0.25]

Source: D. Lemire, Streaming maximum-minimum filter using no more than three comparisons per element (2006).
"""

# ruff: noqa: ANN001, ANN202 - numba infers the types of kernels
# mypy: allow-untyped-defs
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from vedette.core.errors import DefinitionError

Number = TypeVar("Number", int, float)
NAN = float("nan")


def sliding_max(values: Iterable[Number], k: int) -> Iterator[Number]:
    """The greatest of each k values in a row, told as soon as the last of them is there.

    Args:
        values: In the order of the stream; read one at a time.
        k: Length of a window, at least 1.

    Raises:
        DefinitionError: `features.window.invalid` when k is no whole number above 0, before a value is read.
    """
    _check(k)
    return _stream(values, k)


def _stream(values: Iterable[Number], k: int) -> Iterator[Number]:
    queue: deque[tuple[int, Number]] = deque()
    for place, value in enumerate(values):
        if queue and queue[0][0] <= place - k:
            queue.popleft()
        if value == value:  # noqa: PLR0124 - NaN is not equal to itself
            while queue and queue[-1][1] <= value:
                queue.pop()
            queue.append((place, value))
        if place >= k - 1:
            yield queue[0][1] if queue else NAN  # type: ignore[misc]


def sliding_max_array(values: npt.ArrayLike, k: int) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
    """The greatest of each k values in a row of an array: float64, or int64 of whole numbers.

    Args:
        values: One dimension; numbers.
        k: Length of a window, at least 1.

    Raises:
        DefinitionError: `features.window.invalid` when k is no whole number above 0, `features.values.invalid` for
            what is no row of numbers.
    """
    _check(k)
    held = np.asarray(values)
    if held.ndim != 1 or held.dtype.kind not in "iuf" or held.dtype == np.uint64:
        if held.shape == (0,):
            return np.empty(0, np.float64)
        raise DefinitionError("features.values.invalid", "expected one row of numbers")
    held = np.ascontiguousarray(held, np.float64 if held.dtype.kind == "f" else np.int64)
    out = np.empty(max(0, len(held) - k + 1), held.dtype)
    if len(out):
        _fill(held, k, out)
    return out


@njit(cache=True, nogil=True)
def _fill(values, k, out):
    # A ring of places; never more than k of them are in the window.
    ring = np.empty(k, np.int64)
    head, size = 0, 0
    for place in range(values.shape[0]):
        value = values[place]
        if size and ring[head] <= place - k:
            head = head + 1 if head + 1 < k else 0
            size -= 1
        if value == value:  # noqa: PLR0124
            last = head + size - 1
            last = last if last < k else last - k
            while size and values[ring[last]] <= value:
                size -= 1
                last = last - 1 if last > 0 else k - 1
            last = last + 1 if last + 1 < k else 0
            if size == 0:
                last = head
            ring[last] = place
            size += 1
        if place >= k - 1:
            if size:
                out[place - k + 1] = values[ring[head]]
            else:
                out[place - k + 1] = np.nan


def _check(k: int) -> None:
    if type(k) is not int or k < 1:
        raise DefinitionError("features.window.invalid", f"a window is at least 1 value long, not `{k!r:.40}`")
