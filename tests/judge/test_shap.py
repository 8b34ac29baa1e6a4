"""Shapley values of trees: equal to LightGBM's and to the definition, and each check seen to fail."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from test_models import KINDS, odd_rows, train_booster

from vedette.core.errors import DataError
from vedette.judge.models import shap
from vedette.judge.models.shap import quadrature, to_paths
from vedette.judge.models.trees import flatten

CLOSE = 1e-9


def plain_rows(seed, booster, count):
    """Odd rows without infinity: LightGBM keeps an infinite threshold in memory and writes it as 1e300."""
    rows = odd_rows(seed, booster, count)
    return np.where(np.isinf(rows), 1e300 * np.sign(rows), rows)


def explained(trees, rows):
    each = np.array([trees.contributions(row) for row in rows])
    assert trees.explained(rows).tobytes() == each.tobytes(), "rows together are not what they are alone"
    return each


@pytest.mark.parametrize("leaves", [4, 31, 127])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_lightgbm_and_to_the_score(kind, leaves):
    booster = train_booster(3, num_leaves=leaves, min_child_samples=5, feature_fraction=1.0, **KINDS[kind])
    trees, rows = flatten(booster.dump_model()), plain_rows(5, booster, 700)
    expected, found = booster.predict(rows, pred_contrib=True), explained(trees, rows)
    assert np.abs(found - expected[:, :-1]).max() < CLOSE
    assert np.abs(trees.bias - expected[:, -1]).max() < CLOSE
    assert np.abs(trees.bias + found.sum(1) - trees.raws(rows)).max() < CLOSE


@pytest.mark.parametrize("bug", ["cover", "leaf cover", "other side", "weights", "same above", "gain"])
def test_the_comparison_sees_planted_bugs(bug):
    booster = train_booster(3)
    trees, rows = flatten(booster.dump_model()), plain_rows(5, booster, 50)
    changes = {
        "cover": {"cover": np.concatenate([[trees.cover[0] * 2], trees.cover[1:]])},
        "leaf cover": {"leaf_cover": np.concatenate([[trees.leaf_cover[0] + 1], trees.leaf_cover[1:]])},
        "other side": {"left": trees.right, "right": trees.left},
    }
    wrong = dataclasses.replace(trees, **changes.get(bug, {}))
    for splits, _, factors, weights in wrong.paths.groups:
        if bug == "weights":
            weights[:] = weights * 1.000001
        if bug == "same above":
            splits["same"] = 0
        if bug == "gain":
            factors[:, shap.LEFT, 2 * shap.BLOCK :] *= 1.000001
    assert np.abs(explained(wrong, rows) - booster.predict(rows, pred_contrib=True)[:, :-1]).max() > CLOSE


def by_definition(node, row, known):
    """The game's value: mean over the leaves that a row with only these inputs known may reach."""
    if "leaf_value" in node:
        return Fraction(node["leaf_value"])
    sides = [node["left_child"], node["right_child"]]
    if node["split_feature"] in known:
        return by_definition(sides[0 if row[node["split_feature"]] <= node["threshold"] else 1], row, known)
    counts = [side.get("leaf_count", side.get("internal_count")) for side in sides]
    return sum(by_definition(s, row, known) * c for s, c in zip(sides, counts, strict=True)) / sum(counts)


def test_equal_to_the_definition():
    booster = train_booster(11, rounds=1, num_leaves=12, min_child_samples=5, use_missing=False)
    tree, trees = booster.dump_model()["tree_info"][0]["tree_structure"], flatten(booster.dump_model())
    for row in np.random.default_rng(1).normal(size=(5, 5)):
        for place, found in enumerate(trees.contributions(row)):
            others, total = [n for n in range(5) if n != place], Fraction(0)
            for size in range(5):
                weight = Fraction(math.factorial(size) * math.factorial(4 - size), math.factorial(5))
                for some in itertools.combinations(others, size):
                    gain = by_definition(tree, row, {*some, place}) - by_definition(tree, row, set(some))
                    total += weight * gain
            assert float(total) == pytest.approx(found, abs=CLOSE)


@pytest.mark.parametrize("points", [1, 2, 4, 8, 16, 64])
def test_quadrature_is_exact_for_polynomials(points):
    places, weights = quadrature(points)
    reference, scale = np.polynomial.legendre.leggauss(points)
    assert np.allclose(places, (reference + 1) / 2, atol=1e-14)
    assert np.allclose(weights, scale / 2, atol=1e-14)
    for power in range(2 * points):
        total = sum(Fraction(w) * Fraction(t) ** power for t, w in zip(places, weights, strict=True))
        assert float(total) == pytest.approx(1 / (power + 1), rel=1e-13)


def chain(depth):
    """A tree whose one long path reads a new input at each split."""
    nodes = np.arange(depth)
    right = [*range(1, depth), ~depth]
    columns = (nodes, nodes, np.zeros(depth), [~n for n in range(depth)], right)
    covers = np.arange(depth + 1, 1, -1).astype(float)
    return columns, (covers, np.ones(depth + 1), np.arange(depth + 1) / depth)


@pytest.mark.parametrize("depth", [1, 8, 9, 40, 128])
def test_long_paths(depth):
    columns, covers = chain(depth)
    paths = to_paths([0], columns, covers)
    out, row = np.zeros(depth), np.where(np.arange(depth) % 3 == 1, -1.0, 1.0)
    paths.add(row.reshape(1, -1), out.reshape(1, -1))
    reached = next((n for n in range(depth) if row[n] <= 0), depth)
    assert out.sum() + covers[2].mean() == pytest.approx(reached / depth, abs=CLOSE)


def test_a_path_of_too_many_inputs_is_refused():
    columns, covers = chain(2 * shap.MAX_POINTS + 1)
    with pytest.raises(shap.UnsupportedError):
        to_paths([0], columns, covers)


def test_damaged_covers_are_refused():
    trees = flatten(train_booster(3, rounds=2).dump_model())
    for name in ("cover", "leaf_cover"):
        for bad in (0.0, -1.0, math.nan):
            changed = getattr(trees, name).copy()
            changed[0] = bad
            with pytest.raises(DataError, match="damaged"):
                dataclasses.replace(trees, **{name: changed})
