"""Trees as flat arrays, walked by one kernel: scores equal to LightGBM's to the bit, and what each feature added.

Leaf values are whole multiples of 2^-40. Sums of them are exact in any order, so a score can be rebuilt on any machine.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, PLR0917
# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from vedette.core.errors import DataError, UnsupportedError
from vedette.judge.models.readings import NAN_LEFT, ZERO_MISSING, Readings, read, read_all, to_readings
from vedette.judge.models.shap import GRID, Paths, to_paths

LARGEST = 2.0**12
"""Largest absolute raw score, in log odds."""
MAX_NODES = 10_000_000

MISSING_TYPES = {"None": 0, "Zero": 1, "NaN": 2}
"""How a split treats a missing value: as 0; 0 and NaN go the default way; NaN goes the default way."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

PARTS = "1c5de389f8916b3b"
"""Digest of `readings.py`: numba's cache sees a change of this file alone."""


def to_grid(value: float) -> float:
    """The nearest multiple of 2^-40."""
    return round(value / GRID) * GRID


@dataclass(frozen=True, slots=True)
class Trees:
    """Nodes of all trees. A child or root that is negative is a leaf: `~child` is its place in `leaf`."""

    roots: Ints
    feature: Ints
    threshold: Floats
    """A value of at most this goes left."""
    left: Ints
    right: Ints
    default_left: npt.NDArray[np.uint8]
    missing: npt.NDArray[np.uint8]
    """A value of `MISSING_TYPES`."""
    cover: Floats
    """Training rows that reached the node."""
    leaf: Floats
    """Log odds that a leaf adds."""
    leaf_cover: Floats
    """Training rows that reached the leaf."""
    readings: Readings = field(init=False, repr=False, compare=False)
    """What the trees read of the inputs."""
    walk: Walk = field(init=False, repr=False, compare=False)
    """The same trees as the kernels read them."""
    paths: Paths = field(init=False, repr=False, compare=False)
    """The same trees as explanations read them."""
    exact: bool = field(init=False, repr=False, compare=False)
    """Whether all leaves are multiples of `GRID`, so that no sum of them is rounded."""
    alone: float = field(init=False, repr=False, compare=False)
    """What the trees that are a single leaf add to every raw score."""
    bias: float = field(init=False, repr=False, compare=False)
    """Mean raw score of the training rows: what contributions start from."""

    def __post_init__(self) -> None:
        self._check()
        readings, places = to_readings(self.feature, _laws(self))
        columns = (places, self.feature, self.threshold, self.left, self.right)
        paths = to_paths(self.roots.tolist(), columns, (self.cover, self.leaf_cover, self.leaf))
        held = {
            "readings": readings,
            "walk": _to_walk(self, places),
            "paths": paths,
            "exact": _exact(self),
            "alone": float(sum(self.leaf[~root] for root in self.roots if root < 0)),
            "bias": _bias(self),
        }
        for name, made in held.items():
            object.__setattr__(self, name, made)

    def raw(self, vector: Floats) -> float:
        """Log odds of one vector; bit-equal to LightGBM's raw score."""
        return float(raw_kernel(*self.walk, *self.readings, vector))

    def raws(self, vectors: Floats) -> Floats:
        """Log odds of each row."""
        out = np.empty(len(vectors))
        raws_kernel(*self.walk, *self.readings, np.ascontiguousarray(vectors, np.float64), out)
        return out

    def contributions(self, vector: Floats) -> Floats:
        """Log odds that each feature added: exact Shapley values (`shap`); with `bias` they sum to `raw` within 1e-9.

        The same bits on any machine: every operation is one that IEEE 754 rounds, in one order.
        """
        out: Floats = self.explained(vector.reshape(1, -1))[0]
        return out

    def explained(self, vectors: Floats) -> Floats:
        """`contributions` of each row, to the bit; several rows together cost less than one after the other."""
        return self.scored(vectors)[1]

    def scored(self, vectors: Floats) -> tuple[Floats, Floats]:
        """`raws` and `explained`, to the bit, in one walk where sums of the leaves are exact in any order."""
        out = np.zeros(vectors.shape)
        raws = self.paths.add(read_all(*self.readings, np.ascontiguousarray(vectors, np.float64)), out)
        return raws + self.alone if self.exact else self.raws(vectors), out

    def check(self, features: int) -> None:
        """Makes sure that the trees read no feature beyond the first `features`.

        Raises:
            DataError: `model.trees.invalid`.
        """
        if not ((self.feature >= 0) & (self.feature < features)).all():
            raise DataError("model.trees.invalid", "the trees of the model read features that it does not have")

    def _check(self) -> None:
        """No walk can leave the arrays."""
        nodes, leaves = len(self.feature), len(self.leaf)
        columns = (self.threshold, self.left, self.right, self.cover, self.default_left, self.missing)
        sound = (
            nodes <= MAX_NODES
            and bool((self.feature >= 0).all())
            and not np.isnan(self.threshold).any()
            and all(column.shape == (nodes,) for column in columns)
            # A child stands behind its parent, so every walk ends.
            and all(
                bool((((side < 0) | (side > np.arange(nodes))) & (side < nodes) & (~side < leaves)).all())
                for side in (self.left, self.right)
            )
            and bool(((self.roots < nodes) & (~self.roots < leaves)).all())
            and bool(np.isfinite(self.leaf).all() and self.leaf_cover.shape == (leaves,))
            and all(bool((np.isfinite(each) & (each > 0)).all()) for each in (self.cover, self.leaf_cover))
        )
        if not sound:
            raise DataError("model.trees.invalid", "the trees of the model are damaged")


NODE = np.dtype(
    [("threshold", "f8"), ("value", "f8"), ("feature", "i4"), ("right", "i4"), ("delta", "i4"), ("reading", "i4")]
)
"""A node as the kernels read it: `right + delta` is its left child. Leaves are nodes whose children are themselves."""


class Walk(NamedTuple):
    """Trees side by side, deepest first: step by step, every tree that is deep enough moves down one node.

    The moves of a step do not depend on each other and hold no branch, so a processor overlaps them; walking one tree
    after the other waits for memory and for mispredicted branches at each node.
    """

    nodes: Any
    starts: Ints
    """Root of each tree, deepest tree first."""
    places: Ints
    """Where the first, second... tree of the model stands in `starts`: scores are added up in the model's order."""
    counts: Ints
    """Per step, how many of `starts` are deep enough to move."""


def _to_walk(trees: Trees, readings: Ints) -> Walk:
    inner, leaves = len(trees.feature), len(trees.leaf)
    left, right, roots = (np.where(side < 0, inner + ~side, side) for side in (trees.left, trees.right, trees.roots))
    nodes = np.zeros(inner + leaves, NODE)
    nodes["right"] = np.concatenate([right, np.arange(inner, inner + leaves)])
    nodes["delta"][:inner] = left - right
    nodes["threshold"][:inner] = trees.threshold
    nodes["feature"][:inner] = trees.feature
    nodes["value"][inner:] = trees.leaf
    nodes["reading"][:inner] = readings
    depth = np.zeros(inner + leaves, np.int32)
    for node in range(inner - 1, -1, -1):
        depth[node] = 1 + max(depth[left[node]], depth[right[node]])
    order = np.argsort(-depth[roots], kind="stable")
    places = np.empty(len(roots), np.int32)
    places[order] = np.arange(len(roots))
    deep = depth[roots]
    counts = [int((deep > step).sum()) for step in range(int(deep.max(initial=0)))]
    return Walk(nodes, roots[order].astype(np.int32), places, np.array(counts, np.int32))


def _laws(trees: Trees) -> Ints:
    """How each split reads its input, which depends on the split alone."""
    default = trees.default_left == 1
    # NaN counts as 0 where the split knows no missing values.
    nan_left = np.where(trees.missing == MISSING_TYPES["None"], trees.threshold >= 0, default)
    laws: Ints = (NAN_LEFT * nan_left + ZERO_MISSING * (trees.missing == MISSING_TYPES["Zero"])).astype(np.int32)
    return laws


def _exact(trees: Trees) -> bool:
    steps = trees.leaf / GRID
    largest = len(trees.roots) * float(np.abs(trees.leaf).max(initial=0.0))
    return bool((steps == np.rint(steps)).all()) and largest <= LARGEST


def _bias(trees: Trees) -> float:
    """Sum over trees of the mean leaf value, by training rows."""
    mean = np.zeros(len(trees.feature))
    for node in range(len(mean) - 1, -1, -1):
        below = 0.0
        for child in (trees.left[node], trees.right[node]):
            weight, value = (
                (trees.leaf_cover[~child], trees.leaf[~child]) if child < 0 else (trees.cover[child], mean[child])
            )
            below += weight * value
        mean[node] = below / trees.cover[node]
    return float(sum(trees.leaf[~root] if root < 0 else mean[root] for root in trees.roots))


def flatten(model: dict[str, Any]) -> Trees:
    """Trees of LightGBM's `Booster.dump_model()`.

    Raises:
        UnsupportedError: `model.trees.unsupported`: categorical splits, linear leaves, several classes, averaged
            output, or a raw score beyond `LARGEST`.
    """
    infos = model["tree_info"]
    unsupported = (
        model.get("num_tree_per_iteration", 1) != 1
        or model.get("average_output", False)
        or any("leaf_const" in leaf for info in infos for leaf in _leaves(info["tree_structure"]))
    )
    if unsupported:
        raise UnsupportedError("model.trees.unsupported", "one class, plain leaves and summed trees are supported")
    table = _Table()
    roots = [table.add(info["tree_structure"]) for info in infos]
    if sum(max(abs(leaf["leaf_value"]) for leaf in _leaves(info["tree_structure"])) for info in infos) > LARGEST:
        raise UnsupportedError("model.trees.unsupported", f"raw scores may pass {LARGEST}")
    columns = list(zip(*table.nodes, strict=True)) or [()] * 7
    kinds = (np.int32, np.float64, np.int32, np.int32, np.uint8, np.uint8, np.float64)
    feature, threshold, left, right, default_left, missing, cover = (
        np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)
    )
    return Trees(
        roots=np.array(roots, np.int32),
        feature=feature,
        threshold=threshold,
        left=left,
        right=right,
        default_left=default_left,
        missing=missing,
        cover=cover,
        leaf=np.array(table.leaves, np.float64),
        leaf_cover=np.array(table.covers, np.float64),
    )


def _leaves(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    stack = [node]
    while stack:
        node = stack.pop()
        if "leaf_value" in node:
            yield node
        else:
            stack += [node["left_child"], node["right_child"]]


def _rows(leaf: dict[str, Any]) -> float:
    """Training rows of a leaf. A tree of a single leaf does not say, and no share depends on it."""
    return float(leaf.get("leaf_count", 1) or 1)


class _Table:
    """Collects nodes, each before its children."""

    def __init__(self) -> None:
        self.nodes: list[list[Any]] = []
        self.leaves: list[float] = []
        self.covers: list[float] = []

    def add(self, node: dict[str, Any]) -> int:
        if "leaf_value" in node:
            self.leaves.append(float(node["leaf_value"]))
            self.covers.append(_rows(node))
            return ~(len(self.leaves) - 1)
        if node["decision_type"] != "<=":
            raise UnsupportedError(
                "model.trees.unsupported", "categorical splits are not supported", hint="encode categories as numbers"
            )
        place = len(self.nodes)
        missing = MISSING_TYPES[node["missing_type"]]
        cover = sum(map(_rows, _leaves(node)))
        row = [node["split_feature"], float(node["threshold"]), 0, 0, node["default_left"], missing, cover]
        self.nodes.append(row)
        row[2] = self.add(node["left_child"])
        row[3] = self.add(node["right_child"])
        return place


@njit(cache=True)
def child_of(node, values):
    """The child that the readings lead to, without a branch."""
    return node.right + np.int32(values[node.reading] <= node.threshold) * node.delta


@njit(cache=True)
def raw_kernel(nodes, starts, places, counts, inputs, zeros, nans, vector):
    """Sum of the leaves that a vector reaches, in the order of the model's trees."""
    values = read(inputs, zeros, nans, vector)
    at = starts.copy()
    for step in range(counts.shape[0]):
        for tree in range(counts[step]):
            at[tree] = child_of(nodes[at[tree]], values)
    total = 0.0
    for tree in range(places.shape[0]):
        total += nodes[at[places[tree]]].value
    return total


@njit(cache=True, nogil=True)
def raws_kernel(nodes, starts, places, counts, inputs, zeros, nans, vectors, out):
    """`raw_kernel` of each row."""
    for row in range(vectors.shape[0]):
        out[row] = raw_kernel(nodes, starts, places, counts, inputs, zeros, nans, vectors[row])
