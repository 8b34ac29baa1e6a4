"""Exact Shapley values of trees: what each input added to a raw score, in about 4 ns an edge of a tree.

The game is that of path-dependent TreeSHAP: an input that is left out sends a row down both ways, in the shares of the
training rows that went there. For a leaf with inputs `j` on its path, shares `z_j`, and `o_j` 1 where the row's value
goes the leaf's way, input `i` gets

    v (o_i - z_i) integral over t from 0 to 1 of the product over j != i of (o_j t + z_j (1 - t))

because Shapley's weights `|S|! (d - 1 - |S|)! / d!` are Beta integrals. The integrand is a polynomial of degree
`d - 1`, so Gauss-Legendre quadrature with `d / 2` points gives it without an error of method. Products are shared by
all leaves below an edge on the way down, sums of leaves on the way up: each tree is walked twice, whatever the row.
What a split multiplies by depends on the row in three ways only (it goes left here, right here, or not at all), so all
of it is computed when the trees are loaded, and a row costs multiplications and additions without a branch.

Source: the game and its weights: Lundberg, Erion, Chen, DeGrave, Prutkin, Nair, Katz, Himmelfarb, Bansal, Lee, "From
local explanations to global understanding with explainable AI for trees" (2020); one walk down and one up with shared
polynomials: Yu, Bifet, Read, Xu, "Linear TreeShap" (2022), here on quadrature points instead of coefficients.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917
# mypy: allow-untyped-defs
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from vedette.core.errors import UnsupportedError
from vedette.core.prefetch import LINE, prefetch
from vedette.judge.models.blocks import BLOCK, collect, spread

Floats = npt.NDArray[np.float64]

PARTS = "9080da2f2f05daf5"
"""Digest of `blocks.py` and `core/prefetch.py`: numba's cache sees a change of this file alone."""

GRID = 2.0**-40
"""Leaf values are multiples of this: finer than any score needs, coarse enough for exact sums of them."""
MAX_POINTS = 64
"""With n points a path may read 2 n different inputs."""
_DIGITS = 40

_NUMBERS = ("threshold", "share", "left", "right", "left_leaf", "right_leaf")
_PLACES = ("reading", "feature", "parent", "same")
ROW = np.dtype([(name, "f8") for name in _NUMBERS] + [(name, "u4") for name in _PLACES])
"""One split and its two edges, which stand at twice its place and one or two after in the scratch arrays of its tree.

`share`: share of training rows that the path's splits on this input let pass, above this split; `left`, `right`: the
same below it. `parent`: edge that leads here. `same`: last edge above that split on the same input. Both are 0, an edge
that every row goes, where there is none. `left_leaf`, `right_leaf`: value of the leaf on that side; NaN where a split
is.
"""
SPLIT = np.dtype(
    [("threshold", "f8"), ("left_leaf", "i8"), ("right_leaf", "i8"), *((name, "u4") for name in _PLACES)], align=True
)
"""What a walk reads of a split, beside its factors; leaves in multiples of `GRID`, 0 where a split is."""
ELSEWHERE, RIGHT, LEFT = 0, 1, 2
"""How a row passes a split: a split on the same input above it led the row another way, or it goes right or left."""
WAYS, FACTORS = 3, 4
"""How many of these there are, and how many factors of each: of the two edges, and of the sums below them."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Trees as the kernel walks them, by the number of points that they need."""

    groups: tuple[tuple[Any, ...], ...]
    """Splits of all trees parents first, where each tree starts, their factors, and the weights of the points."""

    def add(self, values: Floats, out: Floats) -> Floats:
        """Adds each input's Shapley value, in log odds; the same bits for a row whatever rows are beside it.

        Args:
            values: Rows of readings.
            out: One number for each input of each row.

        Returns:
            Of each row the sum of the leaves that it reaches, where they are multiples of `GRID`.
        """
        sums = np.zeros((*out.shape, BLOCK))
        reached = np.zeros(len(out), np.int64)
        for group in self.groups:
            walk(*group, values, sums, reached)
        out += (sums[..., 0] + sums[..., 1]) + (sums[..., 2] + sums[..., 3])
        return np.multiply(reached, GRID, dtype=np.float64)


def to_paths(roots: Iterable[int], columns: Sequence[Any], covers: tuple[Floats, Floats, Floats]) -> Paths:
    """Tables of flattened trees.

    Args:
        roots: Of each tree; negative for a single leaf, which explains nothing.
        columns: Reading, feature, threshold, left and right of each split; negative children are leaves.
        covers: Training rows of each split and of each leaf, and the leaves' values.

    Raises:
        UnsupportedError: `model.trees.unsupported` when a path reads more than 128 inputs.
    """
    trees: dict[int, list[list[tuple[Any, ...]]]] = {}
    for root in roots:
        if root >= 0:
            rows, inputs = _tree(root, columns, covers)
            if inputs > 2 * MAX_POINTS:
                raise UnsupportedError("model.trees.unsupported", f"a path reads {inputs} inputs")
            trees.setdefault(-(-inputs // (2 * BLOCK)), []).append(rows)
    groups: list[tuple[Any, ...]] = []
    for blocks, mine in sorted(trees.items()):
        table = np.array([row for rows in mine for row in rows], ROW)
        splits = _splits(table)
        starts = np.cumsum([0, *map(len, mine)])
        points, weights = map(np.array, quadrature(blocks * BLOCK))
        for place in range(0, blocks * BLOCK, BLOCK):
            some = slice(place, place + BLOCK)
            groups.append((splits, starts, _factors(points[some], table), weights[some]))
            # The next points are of the same trees, whose leaves have been added.
            splits = splits.copy()
            splits["left_leaf"] = splits["right_leaf"] = 0
    return Paths(tuple(groups))


def _splits(rows: Any) -> Any:
    found = np.empty(len(rows), SPLIT)
    for name in ("threshold", *_PLACES):
        found[name] = rows[name]
    for name in ("left_leaf", "right_leaf"):
        # Clipped are values that are far too large to be a multiple of the grid.
        found[name] = np.clip(np.rint(np.nan_to_num(rows[name]) / GRID), -(2.0**62), 2.0**62)
    return found


def _factors(t: Floats, rows: Any) -> Floats:
    """Of each split and way to pass it, at four points each: factors of its two edges, then what the sums below count.

    A leaf's value is part of its edge's factor. An input's gain counts beyond what the split on it above gave already.
    """
    names = ("share", "left", "right", "left_leaf", "right_leaf")
    share, left, right, one, two = (np.nan_to_num(rows[name], nan=1.0)[:, None] for name in names)
    undo = 1.0 / (share + (1.0 - share) * t)
    above = (1.0 - share) * undo
    lost = -1.0 / (1.0 - t) - above
    hot, cold, gain = [], [], []
    for z in (left, right):
        passed = z + (1.0 - z) * t
        hot.append(undo * passed)
        cold.append(undo * (z * (1.0 - t)))
        gain.append((1.0 - z) / passed - above)
    ways = {
        ELSEWHERE: (one * (left / share), two * (right / share)),
        RIGHT: (one * cold[0], two * hot[1], lost, gain[1]),
        LEFT: (one * hot[0], two * cold[1], gain[0], lost),
    }
    found = np.zeros((len(rows), WAYS, FACTORS, BLOCK))
    for way, factors in ways.items():
        for place, factor in enumerate(factors):
            found[:, way, place] = factor
    return found.reshape(len(rows), WAYS, FACTORS * BLOCK)


def _tree(
    root: int, columns: Sequence[Any], covers: tuple[Floats, Floats, Floats]
) -> tuple[list[tuple[Any, ...]], int]:
    """Rows of one tree, and the most inputs that a path reads."""
    reading, feature, threshold, left, right = columns
    split_cover, leaf_cover, leaf = covers
    rows: list[tuple[Any, ...]] = []
    deepest = 0
    # Of each input on the way: its last edge and the share that its splits let pass.
    todo: list[tuple[int, int, dict[int, tuple[int, float]]]] = [(root, 0, {})]
    while todo:
        node, parent, way = todo.pop()
        mine = int(feature[node])
        same, share = way.get(mine, (0, 1.0))
        edge, shares, leaves = 2 * len(rows) + 1, [0.0, 0.0], [math.nan, math.nan]
        for side, child in enumerate((int(left[node]), int(right[node]))):
            cover = split_cover[child] if child >= 0 else leaf_cover[~child]
            shares[side] = share * float(cover) / float(split_cover[node])
            below = {**way, mine: (edge + side, shares[side])}
            deepest = max(deepest, len(below))
            if child >= 0:
                todo.append((child, edge + side, below))
            else:
                leaves[side] = float(leaf[~child])
        rows.append((threshold[node], share, *shares, *leaves, reading[node], mine, parent, same))
    return rows, deepest


@cache
def quadrature(points: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gauss-Legendre points and weights on [0, 1], each the float nearest to the true number: on any machine the same.

    Example:
        >>> quadrature(1)
        ((0.5,), (1.0,))
    """
    with localcontext() as context:
        context.prec = _DIGITS
        found = [_root(points, place) for place in range(points)]
        places = tuple(float((1 + x) / 2) for x, _ in found)
        return places, tuple(float(1 / ((1 - x * x) * slope * slope)) for x, slope in found)


def _root(points: int, place: int) -> tuple[Decimal, Decimal]:
    """A root of the Legendre polynomial of that degree, rising, and the slope there; by Newton's method."""
    x = Decimal(round(-math.cos(math.pi * (place + 0.75) / (points + 0.5)) * 1e6)) / 1_000_000
    while True:
        before, value = Decimal(1), x
        for degree in range(2, points + 1):
            before, value = value, ((2 * degree - 1) * x * value - (degree - 1) * before) / degree
        slope = points * (x * value - before) / (x * x - 1)
        step = value / slope
        if abs(step) < Decimal(10) ** (5 - _DIGITS):
            return x, slope
        x -= step


@njit(cache=True, nogil=True)
def walk(splits, starts, factors, w, values, sums, reached):
    """Adds to each input's `sums` what four quadrature points give of its value: a tree at a time for all rows.

    Adds to `reached` the leaf that each row comes to.

    A tree's factors are kilobytes, and those of all trees more than a processor keeps near: the next tree's are asked
    for while one is walked.
    """
    most = 0
    for tree in range(starts.shape[0] - 1):
        most = max(most, starts[tree + 1] - starts[tree])
    # Of each edge: the product of its path's factors, then the sum of the leaves below it; whether the row goes all
    # edges on its path that ask for the same input, and whether it comes to its end.
    held = np.empty((2 * most + 1, BLOCK))
    goes, comes = np.empty(2 * most + 1, np.uint8), np.empty(2 * most + 1, np.uint8)
    ways = np.empty(most, np.uint64)
    goes[0] = comes[0] = 1
    for tree in range(starts.shape[0] - 1):
        first, stop = np.uint64(starts[tree]), np.uint64(starts[tree + 1])
        for place in range(stop, starts[min(tree + 2, starts.shape[0] - 1)]):
            prefetch(splits, (place,))
            for way in range(factors.shape[1]):
                for number in range(0, factors.shape[2], LINE // 8):
                    prefetch(factors, (place, way, number))
        for row in range(values.shape[0]):
            held[0] = w
            reached[row] += _down(splits, first, stop, factors, values[row], held, goes, comes, ways)
            _up(splits, first, stop, factors, held, ways, sums[row])


@njit(cache=True)
def _down(splits, first, stop, factors, values, held, goes, comes, ways):
    """Products of the factors of each edge's path, and where the factors are of the way in which the row goes.

    Returns:
        The leaf that it comes to.
    """
    edge, leaf = np.uint64(1), np.int64(0)
    for place in range(first, stop):
        node = splits[place]
        here = goes[node.same]
        left = here & np.uint8(values[node.reading] <= node.threshold)
        way = np.uint64(FACTORS) * (np.uint64(WAYS) * place + np.uint64(here + left))
        ways[place - first] = way
        spread(held, node.parent, factors, way, edge)
        right = here ^ left
        goes[edge], goes[edge + np.uint64(1)] = left, right
        at = comes[node.parent]
        left, right = at & left, at & right
        comes[edge], comes[edge + np.uint64(1)] = left, right
        leaf += (node.left_leaf & -np.int64(left)) + (node.right_leaf & -np.int64(right))
        edge += np.uint64(2)
    return leaf


@njit(cache=True)
def _up(splits, first, stop, factors, held, ways, sums):
    """Sums of the leaves below each edge, and what each split gives its input."""
    edge = np.uint64(2) * (stop - first) + np.uint64(1)
    for back in range(stop - first):
        place = stop - np.uint64(1) - np.uint64(back)
        edge -= np.uint64(2)
        node = splits[place]
        collect(held, edge, factors, ways[place - first], node.parent, sums, node.feature)
