"""One interface for all learners, calibration brought back, metrics against scikit-learn, intervals, money, drift."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.judge.models import costs, drift, learners
from vedette.judge.models.calibration import Calibration, fit_calibration, reliability
from vedette.judge.models.costs import Costs
from vedette.judge.models.learners import Imbalance, Learner, Method, Recipe, learn
from vedette.judge.models.metrics import Ranking, bootstrap, summary
from vedette.judge.models.model import Model, load_model, store_model
from vedette.judge.models.profile import make_profile, read_profile
from vedette.judge.models.registry import KEY, NOTE, PURPOSE, Registry
from vedette.prove.keys import KeyRing
from vedette.sense.features.definition import parse_features

FEATURES = parse_features(
    """
source: pay
event_time: at
fields: {a: {path: a}, b: {path: b}, c: {path: c}}
views:
  - view: event
    features:
      - {name: a, aggregation: value, field: a}
      - {name: b, aggregation: value, field: b}
      - {name: c, aggregation: value, field: c}
"""
)


def rows(seed: int, count: int = 8_000, rate: float = 0.03) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, truth, and the true probability of each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    logit = math.log(rate / (1 - rate)) - 1.0 + 1.6 * x[:, 0] + 0.8 * np.maximum(x[:, 1], 0)
    chance = 1 / (1 + np.exp(-logit))
    x[rng.random(count) < 0.1, 2] = np.nan
    return x, (rng.random(count) < chance).astype(np.int64), chance


@pytest.mark.parametrize("learner", Learner)
def test_every_learner_ranks_and_serves_from_the_same_kernel(learner):
    x, fraud, _ = rows(1)
    fresh, truth, _ = rows(2)
    trees = learn(x, fraud, Recipe(learner, rounds=60))
    again = learn(x, fraud, Recipe(learner, rounds=60))
    assert trees.raws(fresh).tobytes() == again.raws(fresh).tobytes()
    found = Ranking(trees.raws(fresh), truth).curve().average_precision
    # Frauds are not rare outliers by the anomaly model's measure alone; it must still beat chance.
    assert found > (1.3 if learner is Learner.ISOLATION else 3) * truth.mean()
    for vector in fresh[:20]:
        assert trees.bias + trees.contributions(vector).sum() == pytest.approx(trees.raw(vector), abs=1e-9)


def test_the_forest_equals_the_library():
    from sklearn.ensemble import IsolationForest

    x, fraud, _ = rows(3, 2_000)
    x = np.nan_to_num(x)
    trees = learn(x, fraud, Recipe(Learner.ISOLATION))
    forest = IsolationForest(
        n_estimators=learners.FOREST, max_samples=learners.SAMPLE, random_state=Recipe().seed, n_jobs=1
    ).fit(x)
    fresh = np.nan_to_num(rows(4, 1_000)[0])
    # score_samples is -2^(-depth / usual depth): its logarithm is ours but for the scale.
    expected = np.log2(-forest.score_samples(fresh)) * learners.SPREAD
    assert np.abs(trees.raws(fresh) - expected).max() < 1e-9


def test_a_threshold_splits_doubles_as_the_library_splits_singles():
    rng = np.random.default_rng(5)
    for threshold in rng.normal(size=200).tolist():
        exact = learners._exact(threshold)
        for value in (threshold, exact, np.nextafter(exact, np.inf), np.nextafter(exact, -np.inf)):
            assert (value <= exact) == (float(np.float32(value)) <= threshold)


def test_the_anomaly_model_finds_a_pattern_held_out_of_the_labels():
    rng = np.random.default_rng(6)
    x, fraud, _ = rows(6, 6_000)
    new = rng.choice(6_000, 60, replace=False)
    x[new] = [5.0, -6.0, 7.0]
    fraud[new] = 0
    fresh, truth, _ = rows(7, 6_000)
    fresh[:40] = np.array([5.0, -6.0, 7.0]) + rng.normal(scale=0.3, size=(40, 3))
    truth[:] = 0
    truth[:40] = 1
    forest = Ranking(learn(x, fraud, Recipe(Learner.ISOLATION)).raws(fresh), truth).curve()
    assert forest.recall_at(0.01) > 0.9


@pytest.mark.parametrize("imbalance", Imbalance)
def test_probabilities_are_right_whatever_was_done_about_rare_frauds(imbalance):
    x, fraud, _ = rows(8, 20_000)
    held, truth, _ = rows(9, 20_000)
    fresh, came, chance = rows(10, 20_000)
    trees = learn(x, fraud, Recipe(imbalance=imbalance, rounds=60))
    calibration = fit_calibration(trees.raws(held), truth)
    scores = calibration.scores(trees.raws(fresh))
    assert abs(scores.mean() - came.mean()) < 0.004
    assert reliability(scores, came)["ece"] < 0.01
    assert np.abs(scores - chance).mean() < 0.02
    if imbalance in (Imbalance.WEIGHTS, Imbalance.UNDERSAMPLE):
        # The check can fail: without calibration these two are far off.
        assert reliability(1 / (1 + np.exp(-trees.raws(fresh))), came)["ece"] > 0.05


def test_isotonic_calibration_rises_and_is_right():
    x, fraud, _ = rows(11, 20_000)
    fresh, came, _ = rows(12, 20_000)
    trees = learn(x, fraud, Recipe(rounds=60))
    held, truth, _ = rows(13, 20_000)
    found = fit_calibration(trees.raws(held), truth, method=Method.ISOTONIC)
    raws = np.sort(trees.raws(fresh))
    scores = found.scores(raws)
    assert (np.diff(scores) >= 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert reliability(found.scores(trees.raws(fresh)), came)["ece"] < 0.006


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
def test_metrics_equal_scikit_learn(seed, count, weighted):
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, count) / 12
    fraud = rng.integers(0, 2, count)
    if fraud.min() == fraud.max():
        fraud[0] = 1 - fraud[0]
    weights = rng.random(count) + 0.1 if weighted else None
    curve = Ranking(scores, fraud, weights).curve()
    assert curve.average_precision == pytest.approx(
        average_precision_score(fraud, scores, sample_weight=weights), abs=1e-12
    )
    assert curve.auc == pytest.approx(roc_auc_score(fraud, scores, sample_weight=weights), abs=1e-12)
    best = max(f1_score(fraud, scores >= cut, sample_weight=weights) for cut in np.unique(scores))
    assert curve.f1 == pytest.approx(best, abs=1e-12)


def test_intervals_of_clusters_are_wider_and_hold_the_truth():
    rng = np.random.default_rng(14)
    held = plain = 0
    wider = []
    for seed in range(20):
        customers = np.repeat(np.arange(60), 20)
        bad = rng.random(60) < 0.2
        fraud = (bad[customers] & (rng.random(1_200) < 0.8)).astype(np.int64)
        scores = rng.random(1_200)
        statistic = {"rate": lambda times, f=fraud: float(np.average(f, weights=times))}
        low, high = bootstrap(statistic, customers, rounds=100, seed=seed)["rate"]
        alone = bootstrap(statistic, np.full(1_200, -1), rounds=100, seed=seed)["rate"]
        held += low <= 0.16 <= high
        plain += alone[0] <= 0.16 <= alone[1]
        wider.append((high - low) / (alone[1] - alone[0]))
        del scores
    assert held >= 16 > plain
    assert np.median(wider) > 2


def test_a_summary_holds_every_metric_with_its_interval():
    _, fraud, chance = rows(15, 3_000)
    found = summary(Ranking(chance, fraud), np.arange(3_000) % 500, budget=50, rounds=30)
    assert all(one["low"] <= one["value"] + 0.05 and one["value"] - 0.05 <= one["high"] for one in found.values())
    assert found["ap"]["low"] < found["ap"]["high"]


def test_the_threshold_is_the_cheapest_and_moves_the_right_way():
    _, fraud, chance = rows(16, 20_000)
    amounts = np.full(20_000, 10_000.0)
    thresholds = []
    for friction in (500, 1_000, 4_000):
        price = Costs(friction_minor=friction, margin=0.0, dispute_minor=1_500)
        found = costs.money(chance, fraud, amounts, np.arange(20_000), costs=price, rounds=50)
        threshold = found["threshold"]["value"]
        thresholds.append(threshold)
        brute = {
            cut: float(price.saved(amounts, fraud)[chance >= cut].sum())
            for cut in np.quantile(chance, np.arange(0, 1, 0.01))
        }
        assert found["saved_minor"]["value"] >= max(brute.values())
        assert found["threshold"]["low"] <= threshold <= found["threshold"]["high"]
        # With calibrated scores the cheapest threshold is near the break-even probability.
        assert threshold == pytest.approx(price.break_even(10_000), abs=0.08)
    assert thresholds[0] < thresholds[1] < thresholds[2]


def watched(seed: int = 20) -> tuple[drift.Watch, np.ndarray]:
    x, fraud, chance = rows(seed, 20_000)
    return drift.Watch(make_profile(x, chance, fraud, names=("a", "b", "c"))), chance


def test_a_quiet_month_raises_nothing():
    alarms = 0
    for day in range(30):
        watch, _ = watched()
        x, fraud, chance = rows(1_000 + day, 2_000)
        watch.add(x, chance)
        watch.learn(fraud)
        alarms += bool(watch.look().findings)
    assert alarms <= 1


@pytest.mark.parametrize("broken", ["missing", "frozen", "unit"])
def test_a_broken_feature_is_named(broken):
    watch, _ = watched()
    x, _, chance = rows(30, 1_000)
    x[:, 1] = {"missing": np.full(1_000, np.nan), "frozen": np.full(1_000, 0.3), "unit": x[:, 1] * 100}[broken]
    watch.add(x, chance)
    found = watch.look()
    assert (found.level, found.findings[0].name) == (drift.Level.BROKEN, "b")
    assert [one.name for one in found.findings] == ["b"]


def test_shift_of_a_feature_and_of_labels_is_named():
    watch, _ = watched()
    x, fraud, chance = rows(31, 2_000)
    x[:, 0] += 0.7
    watch.add(x, chance)
    assert {(one.name, one.level) for one in watch.look().findings} == {("a", drift.Level.ACT)}
    watch.clear()
    watch.add(rows(32, 2_000)[0], rows(32, 2_000)[2])
    watch.learn((np.random.default_rng(1).random(2_000) < 4 * fraud.mean()).astype(np.int64))
    assert [one.name for one in watch.look().findings] == ["label"]


def test_performance_is_estimated_before_labels():
    _, fraud, chance = rows(33, 40_000)
    found = drift.estimate(chance, 0.2)
    stop = chance >= 0.2
    assert found["precision"] == pytest.approx(fraud[stop].mean(), abs=0.03)
    assert found["recall"] == pytest.approx(stop[fraud == 1].mean(), abs=0.03)
    assert found["ap"] == pytest.approx(Ranking(chance, fraud).curve().average_precision, abs=0.03)


def test_weights_of_a_control_group_bring_the_truth_back():
    # A model that blocks above 0.1 hides its own mistakes; one in ten of the blocked is let through and weighs ten.
    rng = np.random.default_rng(34)
    x, fraud, chance = rows(34, 60_000)
    blocked = chance > 0.1
    let = ~blocked | (rng.random(len(x)) < 0.1)
    weights = np.where(blocked, 10.0, 1.0)[let]
    full = Ranking(chance, fraud).curve()
    seen = Ranking(chance[let], fraud[let], weights).curve()
    blind = Ranking(chance[~blocked], fraud[~blocked]).curve()
    assert seen.average_precision == pytest.approx(full.average_precision, abs=0.07)
    assert abs(blind.average_precision - full.average_precision) > 0.1
    plain = fit_calibration(learn(x[let], fraud[let], Recipe(rounds=40)).raws(x), fraud, weights=None)
    assert plain != Calibration()
    trees = learn(x[let], fraud[let], Recipe(rounds=40), weights)
    honest = fit_calibration(trees.raws(x[let]), fraud[let], weights=weights)
    assert honest.scores(trees.raws(x)).mean() == pytest.approx(fraud.mean(), abs=0.004)
    biased = fit_calibration(trees.raws(x[let]), fraud[let])
    assert abs(biased.scores(trees.raws(x)).mean() - fraud.mean()) > 0.006


def a_model(folder: Path, seed: int = 40) -> Model:
    x, fraud, chance = rows(seed, 2_000)
    return store_model(
        folder,
        trees=learn(x, fraud, Recipe(rounds=5)),
        calibration=Calibration(knots=((-4.0, 0.01), (0.0, 0.4), (2.0, 0.4))),
        features=FEATURES,
        label_delay=0,
        card={"limits": []},
        profile=make_profile(x, chance, fraud, names=FEATURES.names),
    )


def test_a_model_directory_keeps_knots_and_profile(tmp_path):
    model = a_model(tmp_path)
    assert model.calibration.score(0.0) == 0.4
    assert model.calibration.score(99.0) == 0.4
    assert model.profile is not None
    assert read_profile(model.profile.to_bytes()) == model.profile
    (tmp_path / "profile.json").write_text("{}")
    with pytest.raises(DataError) as refused:
        load_model(tmp_path)
    assert refused.value.code == "model.file.hash"


def test_only_what_this_installation_signed_is_loaded(tmp_path, clock):
    ring = KeyRing(tmp_path / "keys", PURPOSE, KEY)
    registry = Registry(tmp_path / "models", ring, clock)
    model = a_model(tmp_path / "new")
    entry = registry.add(tmp_path / "new", operator="ines", note="first")
    assert registry.add(tmp_path / "new", operator="other") == entry
    assert registry.load(entry.id).sha256 == registry.load(entry.sha256[:8]).sha256 == model.sha256
    assert [one.operator for one in registry.entries()] == ["ines"]
    with pytest.raises(NotFoundError):
        registry.find("ffffff")
    # Another installation's signature is not ours; a rotated key's is.
    ring.rotate()
    assert registry.load(entry.id).sha256 == model.sha256
    foreign = Registry(tmp_path / "models", KeyRing(tmp_path / "foreign", PURPOSE, KEY), clock)
    foreign._keys.signer()
    with pytest.raises(DataError) as refused:
        foreign.load(entry.id)
    assert refused.value.code == "model.registry.signature"


@pytest.mark.parametrize("file", ["model.npz", "features.yaml", "profile.json", "model.json", NOTE])
def test_a_changed_file_is_never_loaded(tmp_path, clock, file):
    registry = Registry(tmp_path / "models", KeyRing(tmp_path / "keys", PURPOSE, KEY), clock)
    a_model(tmp_path / "new")
    entry = registry.add(tmp_path / "new", operator="ines")
    path = registry.folder_of(entry) / file
    raw = path.read_bytes()
    if file == "model.json":
        card = json.loads(raw)
        raw = json.dumps(card | {"limits": ["none"]}).encode()
        path.write_bytes(raw)
    else:
        path.write_bytes(raw.replace(raw[20:24], b"zzzz", 1))
    with pytest.raises((DataError, ConflictError)) as refused:
        registry.load(entry.sha256)
    assert refused.value.code in {"model.registry.changed", "model.registry.signature"}
    assert bool(registry.damaged()) == (file == NOTE)


def test_a_forger_who_may_write_but_not_sign_changes_nothing(tmp_path, clock):
    registry = Registry(tmp_path / "models", KeyRing(tmp_path / "keys", PURPOSE, KEY), clock)
    a_model(tmp_path / "new")
    entry = registry.add(tmp_path / "new", operator="ines")
    forger = Registry(tmp_path / "forged", KeyRing(tmp_path / "elsewhere", PURPOSE, KEY), clock)
    a_model(tmp_path / "evil", seed=41)
    forged = forger.add(tmp_path / "evil", operator="ines")
    forger.folder_of(forged).rename(tmp_path / "models" / forged.sha256)
    assert registry.damaged() == [forged.sha256]
    assert [one.id for one in registry.entries()] == [entry.id]
    with pytest.raises(DataError):
        registry.load(forged.sha256)
