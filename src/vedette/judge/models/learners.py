"""Learners: from rows to trees, whatever the method, so that one kernel serves, explains and folds them all.

Gradient boosting gives many trees. Logistic regression is a scorecard: each feature is cut into bins, and a bin's
points are a small tree that reads this one feature. An isolation forest reads no labels: its trees add up how soon a
row stands alone. All leaf values are on the grid of `trees`.

Example:
    >>> import numpy as np
    >>> x = np.arange(200.0).reshape(-1, 1)
    >>> trees = learn(x, (x[:, 0] >= 150).astype(np.int64), Recipe(Learner.LOGISTIC))
    >>> trees.raw(np.array([199.0])) > trees.raw(np.array([10.0]))
    True
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from vedette.judge.models.trees import MISSING_TYPES, Trees, flatten, to_grid

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROUNDS = 300
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 40,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "reg_lambda": 5.0,
    "max_bin": 2_047,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
"""One thread, one seed and row-wise histograms: the same rows give the same trees on every run."""
CUTS = (0.005, 0.02, 0.05, *(place / 16 for place in range(1, 16)), 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)
"""Shares of rows below the borders of a scorecard's bins: finer at the ends, where fraud is."""
SMOOTHING = 20.0
"""Rows of average risk that each bin of a scorecard is mixed with: a bin with few rows says little."""
FOREST, SAMPLE = 200, 512
"""Trees of an isolation forest, and rows that each of them sees."""
SPREAD = 8.0
"""Log odds between a row that stands alone at once and one of average depth, before calibration."""
KEPT = 0.1
"""Share of genuine rows that undersampling keeps."""
FOCUS = 2.0
"""Exponent of focal loss: how much less a row counts that is scored well already."""


LEAST_COVER = 1e-6
"""Training rows of a bin that had none: explanations divide by them."""


class Learner(StrEnum):
    """How a model is made."""

    LIGHTGBM = "lightgbm"
    LOGISTIC = "logistic"
    ISOLATION = "isolation"
    """Without labels; they only calibrate it."""


class Imbalance(StrEnum):
    """What is done about frauds being rare. Calibration brings probabilities back, whatever was done."""

    NONE = "none"
    WEIGHTS = "weights"
    """Frauds weigh as much as all genuine rows together."""
    UNDERSAMPLE = "undersample"
    """Only some genuine rows are learned from."""
    FOCAL = "focal"
    """Rows count less the better they are scored (LightGBM only; elsewhere as `weights`)."""


class Method(StrEnum):
    """How raw scores become probabilities."""

    BETA = "beta"
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a model from rows."""

    learner: Learner = Learner.LIGHTGBM
    imbalance: Imbalance = Imbalance.NONE
    calibration: Method = Method.BETA
    rounds: int = ROUNDS
    """Trees of LightGBM."""
    seed: int = 7

    def to_card(self) -> dict[str, Any]:
        """What the card says of it."""
        own = {
            Learner.LIGHTGBM: {**PARAMETERS, "seed": self.seed, "rounds": self.rounds},
            Learner.LOGISTIC: {"bins": len(CUTS) + 1, "smoothing": SMOOTHING},
            Learner.ISOLATION: {"trees": FOREST, "sample": SAMPLE, "seed": self.seed},
        }
        return {"learner": str(self.learner), "imbalance": str(self.imbalance), **own[self.learner]}


def learn(vectors: Floats, fraud: Ints, recipe: Recipe, weights: Floats | None = None) -> Trees:
    """Trees of one training run; the same arguments give the same trees.

    Args:
        vectors: One row per event, NaN where a feature is missing.
        fraud: 1 for fraud, 0 for genuine. An isolation forest does not look at it.
        recipe: How.
        weights: How much each row counts, above 0; all the same without it.
    """
    held = np.ones(len(fraud)) if weights is None else weights
    if recipe.learner is Learner.ISOLATION:
        return _isolate(vectors, held, recipe)
    rows, held = _balanced(fraud, held, recipe)
    if rows is not None:
        vectors, fraud, held = vectors[rows], fraud[rows], held[rows]
    same = weights is None and recipe.imbalance is not Imbalance.WEIGHTS
    if recipe.learner is Learner.LOGISTIC:
        return _scorecard(vectors, fraud, held)
    return _boost(vectors, fraud, recipe, None if same else held)


def _balanced(fraud: Ints, weights: Floats, recipe: Recipe) -> tuple[Ints | None, Floats]:
    if recipe.imbalance is Imbalance.UNDERSAMPLE:
        kept = np.random.default_rng(recipe.seed).random(len(fraud)) < KEPT
        return np.flatnonzero(kept | (fraud == 1)), weights
    focal = recipe.imbalance is Imbalance.FOCAL and recipe.learner is not Learner.LIGHTGBM
    if recipe.imbalance is Imbalance.WEIGHTS or focal:
        rare = weights[fraud == 1].sum()
        return None, np.where(fraud == 1, weights * (weights[fraud == 0].sum() / rare), weights)
    return None, weights


def _boost(vectors: Floats, fraud: Ints, recipe: Recipe, weights: Floats | None) -> Trees:
    import lightgbm

    options: dict[str, Any] = {**PARAMETERS, "seed": recipe.seed}
    data = lightgbm.Dataset(vectors, label=fraud, weight=weights, params=options, free_raw_data=True)
    if recipe.imbalance is Imbalance.FOCAL:
        options["objective"] = _focal
    booster = lightgbm.train(options, data, num_boost_round=recipe.rounds)
    round_leaves(booster)
    return flatten(booster.dump_model())


def _focal(raws: Floats, data: Any) -> tuple[Floats, Floats]:
    """Gradient and curvature of focal loss at raw scores; the curvature is kept above 0.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017).
    """
    fraud, held = data.get_label(), data.get_weight()
    sign = 2 * fraud - 1
    right = np.clip(1 / (1 + np.exp(-sign * raws)), 1e-12, 1 - 1e-12)
    wrong = 1 - right
    gradient = sign * wrong**FOCUS * (FOCUS * right * np.log(right) - wrong)
    inner = FOCUS * right * np.log(right) - wrong
    slope = wrong**FOCUS * (FOCUS * (np.log(right) + 1) + 1) - FOCUS * wrong ** (FOCUS - 1) * inner
    curvature = np.maximum(right * wrong * slope, 1e-9)
    return (gradient, curvature) if held is None else (gradient * held, curvature * held)


def round_leaves(booster: Any) -> None:
    """Moves every leaf value of a LightGBM booster to the nearest multiple of 2^-40."""
    for tree, info in enumerate(booster.dump_model()["tree_info"]):
        for leaf in range(info["num_leaves"]):
            booster.set_leaf_output(tree, leaf, to_grid(booster.get_leaf_output(tree, leaf)))


@dataclass(slots=True)
class _Grove:
    """Trees that are put together node by node, parents first."""

    rows: list[tuple[int, float, int, int, int, float]]
    leaves: list[tuple[float, float]]
    """Value and training rows of each."""
    roots: list[int]

    def leaf(self, value: float, cover: float) -> int:
        self.leaves.append((to_grid(value), max(cover, LEAST_COVER)))
        return ~(len(self.leaves) - 1)

    def node(self, feature: int, threshold: float, *, nan_left: bool) -> int:
        self.rows.append((feature, threshold, 0, 0, int(nan_left), 0.0))
        return len(self.rows) - 1

    def join(self, node: int, left: int, right: int) -> int:
        feature, threshold, _, _, nan_left, _ = self.rows[node]
        self.rows[node] = feature, threshold, left, right, nan_left, self._cover(left) + self._cover(right)
        return node

    def _cover(self, place: int) -> float:
        return self.leaves[~place][1] if place < 0 else self.rows[place][5]

    def trees(self) -> Trees:
        columns = list(zip(*self.rows, strict=True)) or [()] * 6
        kinds = (np.int32, np.float64, np.int32, np.int32, np.uint8, np.float64)
        feature, threshold, left, right, nan_left, cover = (
            np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)
        )
        return Trees(
            roots=np.array(self.roots, np.int32),
            feature=feature,
            threshold=threshold,
            left=left,
            right=right,
            default_left=nan_left,
            missing=np.full(len(feature), MISSING_TYPES["NaN"], np.uint8),
            cover=cover,
            leaf=np.array([value for value, _ in self.leaves], np.float64),
            leaf_cover=np.array([rows for _, rows in self.leaves], np.float64),
        )


def _scorecard(vectors: Floats, fraud: Ints, weights: Floats) -> Trees:
    """Logistic regression over the weight of evidence of each feature's bins."""
    from sklearn.linear_model import LogisticRegression

    cuts = [_cuts(column) for column in vectors.T]
    bins = [_bin(column, cut) for column, cut in zip(vectors.T, cuts, strict=True)]
    evidence = [_evidence(place, fraud, weights, len(cut) + 2) for place, cut in zip(bins, cuts, strict=True)]
    columns = np.stack([points[place] for points, place in zip(evidence, bins, strict=True)], axis=1)
    model = LogisticRegression(C=1.0, max_iter=500).fit(columns, fraud, sample_weight=weights)
    grove = _Grove([], [], [])
    grove.roots.append(grove.leaf(float(model.intercept_[0]), float(weights.sum())))
    for feature, (cut, held, place) in enumerate(zip(cuts, evidence, bins, strict=True)):
        points = held * model.coef_[0, feature]
        if len(cut) and points.any():
            rows = np.bincount(place, weights, len(points)).astype(np.float64)
            grove.roots.append(_points(grove, feature, cut, points, rows))
    return grove.trees()


def _cuts(column: Floats) -> Floats:
    """Values at most which a bin ends; none for a feature that does not vary."""
    held = column[np.isfinite(column)]
    if not len(held):
        return np.zeros(0)
    found = np.unique(np.quantile(held, CUTS, method="lower"))
    cuts: Floats = found[found < held.max()]
    return cuts


def _bin(column: Floats, cuts: Floats) -> npt.NDArray[np.intp]:
    """Bin of each value; the last one is for missing values."""
    return np.where(np.isnan(column), len(cuts) + 1, np.searchsorted(cuts, column, side="left"))


def _evidence(bins: npt.NDArray[np.intp], fraud: Ints, weights: Floats, count: int) -> Floats:
    """Log odds of each bin against those of all rows."""
    frauds = np.bincount(bins, weights * fraud, count)
    rows = np.bincount(bins, weights, count)
    base = float(np.clip((weights * fraud).sum() / weights.sum(), 1e-9, 1 - 1e-9))
    rate = (frauds + SMOOTHING * base) / (rows + SMOOTHING)
    rate = np.clip(rate, 1e-9, 1 - 1e-9)
    found: Floats = np.log(rate / (1 - rate)) - np.log(base / (1 - base))
    return found


def _points(grove: _Grove, feature: int, cuts: Floats, points: Floats, rows: Floats) -> int:
    """One feature's points as a tree: missing values to the right of its root, the bins by halves to the left."""

    def halves(low: int, high: int) -> int:
        if high - low == 1:
            return grove.leaf(float(points[low]), float(rows[low]))
        middle = (low + high) // 2
        node = grove.node(feature, float(cuts[middle - 1]), nan_left=False)
        return grove.join(node, halves(low, middle), halves(middle, high))

    root = grove.node(feature, float(np.finfo(np.float64).max), nan_left=False)
    return grove.join(root, halves(0, len(points) - 1), grove.leaf(float(points[-1]), float(rows[-1])))


def _isolate(vectors: Floats, weights: Floats, recipe: Recipe) -> Trees:
    """An isolation forest: raw scores rise as a row stands alone sooner."""
    from sklearn.ensemble import IsolationForest

    fill = _medians(vectors)
    plain = np.where(np.isnan(vectors), fill, vectors)
    sample = min(SAMPLE, len(plain))
    forest = IsolationForest(n_estimators=FOREST, max_samples=sample, random_state=recipe.seed, n_jobs=1)
    forest.fit(plain, sample_weight=None if np.all(weights == weights[0]) else weights)
    grove = _Grove([], [], [])
    scale = SPREAD / (FOREST * _usual_depth(np.array([sample]))[0])
    for one in forest.estimators_:
        grove.roots.append(_isolated(grove, one.tree_, fill, scale))
    return grove.trees()


def _medians(vectors: Floats) -> Floats:
    """What a missing value counts as: the middle of those that are there."""
    return np.array([np.median(held) if len(held := column[~np.isnan(column)]) else 0.0 for column in vectors.T])


def _isolated(grove: _Grove, tree: Any, fill: Floats, scale: float) -> int:
    lengths = _usual_depth(tree.n_node_samples)

    def grow(node: int, depth: int) -> int:
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left < 0:
            return grove.leaf(-scale * (depth + lengths[node]), float(tree.n_node_samples[node]))
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        here = grove.node(feature, _exact(threshold), nan_left=float(np.float32(fill[feature])) <= threshold)
        return grove.join(here, grow(left, depth + 1), grow(right, depth + 1))

    return grow(0, 0)


def _exact(threshold: float) -> float:
    """The largest double that, rounded to a single, is at most the threshold: the library compares singles."""
    single = np.float32(threshold)
    if float(single) > threshold:
        single = np.nextafter(single, np.float32(-np.inf))
    above = np.nextafter(single, np.float32(np.inf))
    middle = (float(single) + float(above)) / 2
    return middle if np.float32(middle) <= single else float(np.nextafter(middle, -np.inf))


def _usual_depth(samples: npt.NDArray[np.int64]) -> Floats:
    """Mean depth of a search tree of so many rows.

    Source: Liu, Ting, Zhou, "Isolation Forest" (ICDM 2008), equation 1.
    """
    count = np.maximum(samples.astype(np.float64), 2)
    found = 2 * (np.log(count - 1) + np.euler_gamma) - 2 * (count - 1) / count
    depth: Floats = np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, found))  # noqa: PLR2004
    return depth
