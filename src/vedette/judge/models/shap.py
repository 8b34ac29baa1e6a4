"""Exact Shapley values of trees: what each input added to a raw score, in about 5 ns an edge of a tree.

The game is that of path-dependent TreeSHAP: an input that is left out sends a row down both ways, in the shares of the
training rows that went there. For a leaf with inputs `j` on its path, shares `z_j`, and `o_j` 1 where the row's value
goes the leaf's way, input `i` gets

    v (o_i - z_i) integral over t from 0 to 1 of the product over j != i of (o_j t + z_j (1 - t))

because Shapley's weights `|S|! (d - 1 - |S|)! / d!` are Beta integrals. The integrand is a polynomial of degree
`d - 1`, so Gauss-Legendre quadrature with `d / 2` points gives it without an error of method. Products are shared by
all leaves below an edge on the way down, sums of leaves on the way up: each tree is walked twice, whatever the row.

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

Floats = npt.NDArray[np.float64]

BLOCK = 4
"""Quadrature points of one walk: as many as one vector register holds everywhere."""
MAX_POINTS = 64
"""With n points a path may read 2 n different inputs."""
_DIGITS = 40

_NUMBERS = ("threshold", "share", "left", "right", "left_leaf", "right_leaf")
_PLACES = ("feature", "parent", "same")
_FLAGS = ("odd", "left_inner", "right_inner")
SPLIT = np.dtype(
    [(name, kind) for kind, names in (("f8", _NUMBERS), ("u4", _PLACES), ("i4", _FLAGS)) for name in names]
)
"""One split and its two edges, which stand at twice its place and one or two after in the scratch arrays of its tree.

`share`: share of training rows that the path's splits on this input let pass, above this split; `left`, `right`: the
same below it. `parent`: edge that leads here. `same`: last edge above that split on the same input. Both are 0, an edge
that every row goes, where there is none.
"""


@dataclass(frozen=True, slots=True)
class Paths:
    """Trees as the kernel walks them, by the number of points that they need."""

    groups: tuple[tuple[Any, ...], ...]
    """Splits of all trees parents first, where each tree starts, points, weights, and the splits' numbers there."""

    def add(self, vector: Floats, out: Floats) -> None:
        """Adds each input's Shapley value, in log odds.

        Args:
            vector: The model's inputs, tidied as the trees read them.
            out: One number for each input.
        """
        for group in self.groups:
            walk(*group, vector, out)


def to_paths(roots: Iterable[int], columns: Sequence[Any], covers: tuple[Floats, Floats, Floats]) -> Paths:
    """Tables of flattened trees.

    Args:
        roots: Of each tree; negative for a single leaf, which explains nothing.
        columns: Feature, threshold, odd, left and right of each split; negative children are leaves.
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
        splits = np.array([row for rows in mine for row in rows], SPLIT)
        starts = np.cumsum([0, *map(len, mine)])
        points, weights = map(np.array, quadrature(blocks * BLOCK))
        for place in range(0, blocks * BLOCK, BLOCK):
            some = slice(place, place + BLOCK)
            groups.append((splits, starts, points[some], weights[some], _numbers(points[some], splits)))
    return Paths(tuple(groups))


def _numbers(t: Floats, splits: Any) -> Floats:
    """Of each split and point: by what to undo the split on the same input above, and the gain of going left or right.

    A gain counts beyond what that split gave already.
    """
    share, left, right = (splits[name][:, None] for name in ("share", "left", "right"))
    undo = 1.0 / (share + (1.0 - share) * t)
    above = (1.0 - share) * undo
    gains = ((1.0 - z) / (z + (1.0 - z) * t) - above for z in (left, right))
    return np.ascontiguousarray(np.stack([undo, *gains], axis=1))


def _tree(
    root: int, columns: Sequence[Any], covers: tuple[Floats, Floats, Floats]
) -> tuple[list[tuple[Any, ...]], int]:
    """Rows of one tree, and the most inputs that a path reads."""
    feature, threshold, odd, left, right = columns
    split_cover, leaf_cover, leaf = covers
    rows: list[tuple[Any, ...]] = []
    deepest = 0
    # Of each input on the way: its last edge and the share that its splits let pass.
    todo: list[tuple[int, int, dict[int, tuple[int, float]]]] = [(root, 0, {})]
    while todo:
        node, parent, way = todo.pop()
        read = int(feature[node])
        same, share = way.get(read, (0, 1.0))
        edge, shares, leaves, inner = 2 * len(rows) + 1, [0.0, 0.0], [0.0, 0.0], [0, 0]
        for side, child in enumerate((int(left[node]), int(right[node]))):
            cover = split_cover[child] if child >= 0 else leaf_cover[~child]
            shares[side] = share * float(cover) / float(split_cover[node])
            below = {**way, read: (edge + side, shares[side])}
            deepest = max(deepest, len(below))
            if child >= 0:
                inner[side] = 1
                todo.append((child, edge + side, below))
            else:
                leaves[side] = float(leaf[~child])
        rows.append((threshold[node], share, *shares, *leaves, read, parent, same, odd[node], *inner))
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


@njit(cache=True)
def goes_left(node, value):
    """LightGBM's numerical decision, 1 or 0, without a branch."""
    left = np.int32(value <= node.threshold) | (np.int32(np.isnan(value)) & node.odd)
    odd = np.int32(value == 0.0) & (node.odd >> 1)
    left ^= odd & (left ^ (node.odd >> 2))
    return left & 1


@njit(cache=True, nogil=True)
def walk(splits, starts, t, w, numbers, vector, out):
    """Adds to `out` what four quadrature points give of each input's value."""
    most = 0
    for tree in range(starts.shape[0] - 1):
        most = max(most, starts[tree + 1] - starts[tree])
    # Of each edge: the product of its path's factors, then the sum of the leaves below it; whether the row goes it.
    held = np.empty((2 * most + 1, BLOCK))
    goes = np.empty(2 * most + 1, np.uint8)
    goes[0] = 1
    for tree in range(starts.shape[0] - 1):
        held[0, 0], held[0, 1], held[0, 2], held[0, 3] = w[0], w[1], w[2], w[3]
        first, stop = np.uint64(starts[tree]), np.uint64(starts[tree + 1])
        _down(splits, first, stop, t, numbers, vector, held, goes)
        _up(splits, first, stop, t, numbers, held, goes, out)


@njit(cache=True)
def _down(splits, first, stop, t, numbers, vector, held, goes):
    """Products of the factors of each edge's path."""
    t0, t1, t2, t3 = t[0], t[1], t[2], t[3]
    s0, s1, s2, s3 = 1.0 - t0, 1.0 - t1, 1.0 - t2, 1.0 - t3
    edge = np.uint64(1)
    for place in range(first, stop):
        node, number = splits[place], numbers[place]
        left = goes_left(node, vector[node.feature])
        a0, a1, a2, a3 = held[node.parent, 0], held[node.parent, 1], held[node.parent, 2], held[node.parent, 3]
        other = edge + np.uint64(1)
        if goes[node.same]:
            goes[edge], goes[other] = left, 1 - left
            hot, cold = (node.left, node.right) if left else (node.right, node.left)
            rest = 1.0 - hot
            a0, a1, a2, a3 = a0 * number[0, 0], a1 * number[0, 1], a2 * number[0, 2], a3 * number[0, 3]
            b0, b1, b2, b3 = a0 * (cold * s0), a1 * (cold * s1), a2 * (cold * s2), a3 * (cold * s3)
            a0, a1 = a0 * (hot + rest * t0), a1 * (hot + rest * t1)
            a2, a3 = a2 * (hot + rest * t2), a3 * (hot + rest * t3)
            warm = edge + np.uint64(1 - left)
            chill = edge + np.uint64(left)
        else:
            goes[edge], goes[other] = 0, 0
            one, two = node.left / node.share, node.right / node.share
            b0, b1, b2, b3 = a0 * two, a1 * two, a2 * two, a3 * two
            a0, a1, a2, a3 = a0 * one, a1 * one, a2 * one, a3 * one
            warm, chill = edge, other
        held[warm, 0], held[warm, 1], held[warm, 2], held[warm, 3] = a0, a1, a2, a3
        held[chill, 0], held[chill, 1], held[chill, 2], held[chill, 3] = b0, b1, b2, b3
        edge += np.uint64(2)


@njit(cache=True)
def _up(splits, first, stop, t, numbers, held, goes, out):
    """Sums of the leaves below each edge, and what each split gives its input."""
    n0, n1, n2, n3 = -1.0 / (1.0 - t[0]), -1.0 / (1.0 - t[1]), -1.0 / (1.0 - t[2]), -1.0 / (1.0 - t[3])
    edge = np.uint64(2) * (stop - first) + np.uint64(1)
    for back in range(stop - first):
        place = stop - np.uint64(1) - np.uint64(back)
        edge -= np.uint64(2)
        other = edge + np.uint64(1)
        node, number = splits[place], numbers[place]
        one = 1.0 if node.left_inner else node.left_leaf
        two = 1.0 if node.right_inner else node.right_leaf
        a0, a1, a2, a3 = held[edge, 0] * one, held[edge, 1] * one, held[edge, 2] * one, held[edge, 3] * one
        b0, b1, b2, b3 = held[other, 0] * two, held[other, 1] * two, held[other, 2] * two, held[other, 3] * two
        up = node.parent
        held[up, 0], held[up, 1], held[up, 2], held[up, 3] = a0 + b0, a1 + b1, a2 + b2, a3 + b3
        if goes[node.same]:
            # What the split adds beyond the split on the same input above it, which counts these leaves too.
            rest = 1.0 - node.share
            l0, l1 = n0 - rest * number[0, 0], n1 - rest * number[0, 1]
            l2, l3 = n2 - rest * number[0, 2], n3 - rest * number[0, 3]
            if goes[edge]:
                a0, a1, a2, a3 = a0 * number[1, 0], a1 * number[1, 1], a2 * number[1, 2], a3 * number[1, 3]
                b0, b1, b2, b3 = b0 * l0, b1 * l1, b2 * l2, b3 * l3
            else:
                a0, a1, a2, a3 = a0 * l0, a1 * l1, a2 * l2, a3 * l3
                b0, b1, b2, b3 = b0 * number[2, 0], b1 * number[2, 1], b2 * number[2, 2], b3 * number[2, 3]
            out[node.feature] += ((a0 + b0) + (a1 + b1)) + ((a2 + b2) + (a3 + b3))
