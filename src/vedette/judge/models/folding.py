"""Folding: trees over all values but one or two, which leaves a small grid of raw scores.

Between neighbouring cut points a tree ensemble is constant. Folding walks each tree once with all other values fixed
and both ways at the free ones, and adds its leaves to the rectangles of the grid that reach them, as corners of a
difference array. Leaf values are multiples of 2^-40, so sums in any order are exact.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN202, PLR0917
# mypy: allow-untyped-defs
from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from vedette.core.errors import UnsupportedError
from vedette.judge.models.readings import read
from vedette.judge.models.trees import Trees, child_of

DEPTH = 4_096
"""Deepest walk; a tree of a model is a few dozen levels deep."""

Floats = npt.NDArray[np.float64]

PARTS = "9d3305266d0a67ca"
"""Digest of `readings.py` and `trees.py`: numba's cache sees a change of this file alone."""


def fold(
    trees: Trees, vector: Floats, first: int, second: int, more_first: Floats, more_second: Floats
) -> tuple[Floats, Floats, Floats]:
    """Raw scores over the values of one or two inputs, all others as they are.

    Args:
        trees: The model's.
        vector: Its inputs; NaN means missing.
        first: Place of the free input.
        second: Place of the other; -1 for none.
        more_first: Further values at which the grid is cut.
        more_second: The same for the other.

    Returns:
        Cut points of both, rising, and the grid: cell (i, j) holds the raw score for values above cut i - 1 and at
        most cut i of the first input, j likewise of the second. Splits that send zeros another way than by comparison
        are taken as comparisons: check what is found with `Model.raw`.

    Raises:
        UnsupportedError: `model.trees.unsupported` when a tree is deeper than `DEPTH`.
    """
    nodes, starts = trees.walk.nodes, trees.walk.starts
    values = read(*trees.readings, vector)
    cuts = np.empty((2, len(trees.feature)))
    counts = _reach(nodes, starts, values, first, second, cuts)
    if counts[0] < 0:
        raise UnsupportedError("model.trees.unsupported", f"a tree is deeper than {DEPTH}")
    one = np.unique(np.concatenate([cuts[0, : counts[0]], more_first]))
    other = np.unique(np.concatenate([cuts[1, : counts[1]], more_second]))
    grid = np.zeros((len(one) + 2, len(other) + 2))
    _fill(nodes, starts, values, first, second, one, other, grid)
    return one, other, grid.cumsum(0).cumsum(1)[:-1, :-1]


@njit(cache=True, nogil=True)
def _reach(nodes, starts, values, first, second, cuts):
    """Cut points that can be met with all other values fixed; counts of -1 when the stack is too small."""
    counts = np.zeros(2, np.int64)
    stack = np.empty(DEPTH, np.int64)
    for tree in range(starts.shape[0]):
        stack[0] = starts[tree]
        top = 1
        while top:
            top -= 1
            at = stack[top]
            while nodes[at].right != at:
                node = nodes[at]
                side = 0 if node.feature == first else 1 if node.feature == second else -1
                if side < 0:
                    at = child_of(node, values)
                    continue
                cuts[side, counts[side]] = node.threshold
                counts[side] += 1
                if top == DEPTH:
                    counts[:] = -1
                    return counts
                stack[top] = node.right
                top += 1
                at = node.right + node.delta
    return counts


@njit(cache=True)
def _push(row, at, low, high, left, right):
    row[0], row[1], row[2], row[3], row[4] = at, low, high, left, right


@njit(cache=True, nogil=True)
def _fill(nodes, starts, values, first, second, one, other, grid):
    """Adds every leaf that can be reached to the cells that reach it, as a difference array."""
    stack = np.empty((DEPTH, 5), np.int64)
    for tree in range(starts.shape[0]):
        _push(stack[0], starts[tree], 0, one.shape[0], 0, other.shape[0])
        top = 1
        while top:
            top -= 1
            at, low, high = stack[top, 0], stack[top, 1], stack[top, 2]
            left, right = stack[top, 3], stack[top, 4]
            while nodes[at].right != at and low <= high and left <= right:
                node = nodes[at]
                if node.feature == first:
                    cut = np.searchsorted(one, node.threshold)
                    _push(stack[top], node.right, max(low, cut + 1), high, left, right)
                    top += 1
                    at, high = node.right + node.delta, min(high, cut)
                elif node.feature == second:
                    cut = np.searchsorted(other, node.threshold)
                    _push(stack[top], node.right, low, high, max(left, cut + 1), right)
                    top += 1
                    at, right = node.right + node.delta, min(right, cut)
                else:
                    at = child_of(node, values)
            if low <= high and left <= right:
                value = nodes[at].value
                grid[low, left] += value
                grid[high + 1, left] -= value
                grid[low, right + 1] -= value
                grid[high + 1, right + 1] += value
