"""Trees as flat arrays, walked by one kernel: scores equal to LightGBM's to the bit, and what each feature added.

Leaf values are whole multiples of 2^-40. Sums of them are exact in any order, so contributions add up to the raw score
without a rounding error, and a score can be rebuilt on any machine.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917
# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from vedette.core.errors import DataError, UnsupportedError

GRID = 2.0**-40
"""Leaf values are multiples of this: finer than any score needs, coarse enough for exact sums below `LARGEST`."""
LARGEST = 2.0**12
"""Largest absolute raw score, in log odds."""
ZERO = float(np.float32(1e-35))
"""LightGBM reads smaller absolute values as 0."""
MAX_NODES = 10_000_000

MISSING_TYPES = {"None": 0, "Zero": 1, "NaN": 2}
"""How a split treats a missing value: as 0; 0 and NaN go the default way; NaN goes the default way."""
_ZERO, _NAN = 1, 2

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


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
    value: Floats
    """Mean leaf value of the training rows that reached the node."""
    leaf: Floats
    """Log odds that a leaf adds."""

    @property
    def bias(self) -> float:
        """Raw score of the average training row: what contributions start from."""
        start = (self.leaf[~root] if root < 0 else self.value[root] for root in self.roots)
        return float(sum(start))

    def raw(self, vector: Floats) -> float:
        """Log odds of one vector; bit-equal to LightGBM's raw score."""
        return float(raw_kernel(*self._walk, self.leaf, vector))

    def raws(self, vectors: Floats) -> Floats:
        """Log odds of each row."""
        out = np.empty(len(vectors))
        raws_kernel(*self._walk, self.leaf, np.ascontiguousarray(vectors, np.float64), out)
        return out

    def contributions(self, vector: Floats) -> Floats:
        """Log odds that each feature added on the vector's paths (Saabas); with `bias` they sum to `raw` exactly."""
        out = np.zeros(len(vector))
        contributions_kernel(*self._walk, self.leaf, self.value, vector, out)
        return out

    @property
    def _walk(self) -> tuple[Any, ...]:
        return (self.roots, self.feature, self.threshold, self.left, self.right, self.default_left, self.missing)

    def check(self, features: int) -> None:
        """Makes sure that no walk can leave the arrays or fail to end.

        Raises:
            DataError: `model.trees.invalid`.
        """
        nodes = len(self.feature)
        same = {len(getattr(self, f.name)) for f in fields(self)} - {len(self.roots), len(self.leaf)} <= {nodes}
        inner = np.arange(nodes)
        good = (
            same
            and all(len(part) == nodes for part in (self.threshold, self.left, self.right, self.value))
            and all(len(part) == nodes for part in (self.default_left, self.missing))
            and nodes <= MAX_NODES
            and bool(((self.feature >= 0) & (self.feature < features)).all())
            # A child stands behind its parent, so every walk ends.
            and all(
                bool((((side < 0) | (side > inner)) & (side < nodes) & (~side < len(self.leaf))).all())
                for side in (self.left, self.right)
            )
            and bool(((self.roots < nodes) & (~self.roots < len(self.leaf))).all())
            and bool(np.isfinite(self.leaf).all() and np.isfinite(self.value).all())
        )
        if not good:
            raise DataError("model.trees.invalid", "the trees of the model are damaged")


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
    feature, threshold, left, right, default_left, missing, value = (
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
        value=value,
        leaf=np.array(table.leaves, np.float64),
    )


def _leaves(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    stack = [node]
    while stack:
        node = stack.pop()
        if "leaf_value" in node:
            yield node
        else:
            stack += [node["left_child"], node["right_child"]]


def _mean(node: dict[str, Any]) -> float:
    """Mean leaf value below a node, by training rows, on the grid."""
    leaves = list(_leaves(node))
    weights = [leaf.get("leaf_count", 1) or 1 for leaf in leaves]
    total = sum(leaf["leaf_value"] * weight for leaf, weight in zip(leaves, weights, strict=True))
    return to_grid(total / sum(weights))


class _Table:
    """Collects nodes, each before its children."""

    def __init__(self) -> None:
        self.nodes: list[list[Any]] = []
        self.leaves: list[float] = []

    def add(self, node: dict[str, Any]) -> int:
        if "leaf_value" in node:
            self.leaves.append(float(node["leaf_value"]))
            return ~(len(self.leaves) - 1)
        if node["decision_type"] != "<=":
            raise UnsupportedError(
                "model.trees.unsupported", "categorical splits are not supported", hint="encode categories as numbers"
            )
        place = len(self.nodes)
        missing = MISSING_TYPES[node["missing_type"]]
        row = [node["split_feature"], float(node["threshold"]), 0, 0, node["default_left"], missing, _mean(node)]
        self.nodes.append(row)
        row[2] = self.add(node["left_child"])
        row[3] = self.add(node["right_child"])
        return place


@njit(cache=True)
def _goes_left(value, threshold, default_left, missing):
    """LightGBM's numerical decision."""
    if np.isnan(value):
        if missing == _NAN:
            return default_left == 1
        value = 0.0
    if -ZERO <= value <= ZERO:
        if missing == _ZERO:
            return default_left == 1
        value = 0.0
    return value <= threshold


@njit(cache=True)
def raw_kernel(roots, feature, threshold, left, right, default_left, missing, leaf, vector):
    """Sum of the leaves that a vector reaches, in the order of the trees."""
    total = 0.0
    for tree in range(roots.shape[0]):
        node = roots[tree]
        while node >= 0:
            goes = _goes_left(vector[feature[node]], threshold[node], default_left[node], missing[node])
            node = left[node] if goes else right[node]
        total += leaf[~node]
    return total


@njit(cache=True, nogil=True)
def raws_kernel(roots, feature, threshold, left, right, default_left, missing, leaf, vectors, out):
    """`raw_kernel` of each row."""
    for row in range(vectors.shape[0]):
        out[row] = raw_kernel(roots, feature, threshold, left, right, default_left, missing, leaf, vectors[row])


@njit(cache=True)
def contributions_kernel(roots, feature, threshold, left, right, default_left, missing, leaf, value, vector, out):
    """Adds to each feature the change of the mean leaf value at every split on it."""
    for tree in range(roots.shape[0]):
        node = roots[tree]
        while node >= 0:
            goes = _goes_left(vector[feature[node]], threshold[node], default_left[node], missing[node])
            child = left[node] if goes else right[node]
            after = value[child] if child >= 0 else leaf[~child]
            out[feature[node]] += after - value[node]
            node = child
