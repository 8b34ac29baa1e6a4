"""What if: every fold against the real trees, every answer against an exhaustive search, and planted faults."""

from __future__ import annotations

import itertools
import math

import lightgbm
import msgspec
import numpy as np
import pytest

from vedette.core.clock import SystemClock
from vedette.core.decision import Action
from vedette.core.event import Event
from vedette.judge import whatif
from vedette.judge.decisions.decider import Decider
from vedette.judge.models import training
from vedette.judge.models.calibration import Calibration
from vedette.judge.models.folding import fold
from vedette.judge.models.model import Model, store_model
from vedette.judge.models.trees import flatten
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.judge.whatif import AMOUNT, AmountMoves, find_whatif, literals
from vedette.sense.features.definition import parse_features

FEATURES = """
source: product
event_id: id
event_time: time
fields:
  amount: {path: amount_minor, decimals: 0}
label: {path: fraud, keep: 60d, lateness: 7d}
views:
  - view: charge
    features:
      - {name: amount, aggregation: value, field: amount}
      - {name: hour, aggregation: hour}
  - view: card
    entity: card
    key: source
    features:
      - {name: card_count, aggregation: count, windows: [1h, 1d], include_current: true}
      - {name: card_mean, aggregation: mean, field: amount, windows: [1d], include_current: true}
      - {name: card_sum, aggregation: sum, field: amount, windows: [1h], include_current: true}
      - {name: card_since_previous, aggregation: seconds_since_previous}
      - {name: card_fraud_count, aggregation: fraud_count, windows: [7d]}
"""


def rows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Vectors that could be of real charges: whole counts that hold each other, a mean and a sum with the amount."""
    amount = rng.integers(1, 5_000, count)
    hour, count_1h = rng.integers(0, 24, count), rng.integers(1, 12, count)
    count_1d = count_1h + rng.integers(0, 12, count)
    mean = (amount + rng.integers(0, 3_000, count) * (count_1d - 1)) / count_1d
    since = np.where(rng.random(count) < 0.1, np.nan, rng.integers(1, 90_000, count))
    columns = (
        amount,
        hour,
        count_1h,
        count_1d,
        mean,
        amount + rng.integers(0, 9_000, count),
        since,
        rng.integers(0, 3, count),
    )
    return np.stack(columns, axis=1).astype(np.float64)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    rng = np.random.default_rng(3)
    x = rows(rng, 4_000)
    risk = 0.0006 * x[:, 0] + 0.35 * x[:, 2] + 0.05 * x[:, 3] + (x[:, 1] < 6) + 0.8 * x[:, 7] + rng.normal(0, 1, 4_000)
    options = {
        "objective": "binary",
        "num_leaves": 12,
        "verbose": -1,
        "num_threads": 1,
        "seed": 1,
        "min_data_in_leaf": 20,
    }
    booster = lightgbm.train(options, lightgbm.Dataset(x, (risk > 5).astype(int)), 25)
    training.round_leaves(booster)
    features = parse_features(FEATURES, path="test")
    return store_model(
        tmp_path_factory.mktemp("model"),
        trees=flatten(booster.dump_model()),
        calibration=Calibration(1.0, 1.0, 0.0),
        features=features,
        label_delay=0,
        card={},
    )


class Given:
    def __init__(self, model, vector):
        self.names, self._vector = model.features, vector

    def fetch(self, event):
        return self._vector

    def apply(self, event):
        pass

    def learn(self, label):
        pass


RULES = ("block if :risk_score: > 80", "review if :risk_score: > 50")
RULED = (*RULES, "block if :card_count_1h: >= 9 and :risk_score: > 20", "challenge if :amount_in_eur: > 40")


def rule_set(model, texts):
    attributes = with_features(model.features)
    return PaymentRules([parse_rule(text, id=f"r{at}", attributes=attributes) for at, text in enumerate(texts)])


def decided(model, rules, vector):
    data = {"amount_minor": int(vector[0]), "currency": "EUR", "merchant": "m", "metadata": {}}
    event = Event(id="e", tenant="t", source="product", event_time=0, ingest_time=0, seq=1, data=data)
    decider = Decider(features=Given(model, vector), model=model, rules=rules, clock=SystemClock())
    return decider.decide(event)


def find(record, model, rules, budget=60.0):
    return find_whatif(record, model=model, rules=rules, monotonic=SystemClock().monotonic, budget_s=budget)


def test_a_fold_is_the_model_at_every_cell(model):
    rng = np.random.default_rng(5)
    for vector in rows(rng, 12):
        for first, second in ((0, -1), (2, 3), (4, 5), (6, 0)):
            one, other, grid = fold(model.trees, vector, first, second, np.array([7.5]), np.zeros(0))
            for i, j in itertools.product(range(len(one) + 1), range(len(other) + 1)):
                changed = vector.copy()
                changed[first] = one[i] if i < len(one) else one[-1] + 1
                if second >= 0:
                    changed[second] = other[j] if j < len(other) else other[-1] + 1 if len(other) else changed[second]
                assert grid[i, j] == model.raw(changed)


def choices(model, rules, record, name):
    """Every value worth trying, the slow way: around each cut of any tree and of any rule, whole where it must be."""
    place = model.features.index(name)
    cuts = {*model.trees.threshold[model.trees.feature == place].tolist(), *literals(rules).get(name, ())}
    whole = name.startswith(("card_count", "hour"))
    near = (
        [math.floor(cut) + step for cut in cuts for step in (0, 1)]
        if whole
        else [value for cut in cuts for value in (cut, math.nextafter(cut, math.inf))]
    )
    high = 23 if name == "hour" else math.inf
    low = 1 if name.startswith("card_count") else min(0, record.features[name])
    return [float(value) for value in near if low <= value <= high], cuts


def slow(model, rules, record, free):
    """The cheapest change of these inputs, by trying all of them with the real model and rules."""
    vector = np.array([math.nan if value is None else value for value in record.features.values()])
    best = math.inf
    tried = [choices(model, rules, record, name) for name in free]
    for values in itertools.product(*(values for values, _ in tried)):
        changed, cost = vector.copy(), 0.0
        for name, value, (_, cuts) in zip(free, values, tried, strict=True):
            held = record.features[name]
            step = abs(sum(cut < value for cut in cuts) - sum(cut < held for cut in cuts))
            changed[model.features.index(name)] = value
            cost += step / (len(cuts) + 1) if step else math.inf
        if cost >= best or changed[2] > changed[3]:
            continue
        said = decided(model, rules, changed)
        # The amount of the event is as it was: only features change here.
        milder = list(Action).index(said.action) < list(Action).index(record.action)
        if milder if record.action is not Action.ALLOW else said.action is not Action.ALLOW:
            best = cost
    return best


@pytest.mark.parametrize("texts", [RULES, RULED], ids=["score", "ruled"])
def test_it_finds_what_trying_everything_finds(model, texts):
    rules, rng = rule_set(model, texts), np.random.default_rng(11)
    free = ("hour", "card_count_1h", "card_count_1d", "card_since_previous")
    changed = 0
    for vector in rows(rng, 8):
        record = decided(model, rules, vector)
        present = [name for name in free if record.features[name] is not None]
        found = find(record, model, rules)
        assert found.complete
        for name in present:
            told = [each.cost for each in found.found if [one.name for one in each.changes] == [name]]
            wanted = slow(model, rules, record, (name,))
            assert (min(told) if told else math.inf) == pytest.approx(wanted), (name, record.action)
            changed += bool(told)
        for each in found.found:
            check(model, rules, record, each)
    assert changed


def test_the_cheapest_pair_is_the_cheapest(model):
    rules, rng = rule_set(model, RULES), np.random.default_rng(2)
    seen = 0
    for vector in rows(rng, 60):
        record = decided(model, rules, vector)
        if record.action is Action.ALLOW:
            continue
        found = find(record, model, rules)
        pairs = [each for each in found.found if len(each.changes) == 2]
        singles = [each.cost for each in found.found if len(each.changes) == 1]
        names = ("hour", "card_count_1h", "card_count_1d")
        slowest = min(slow(model, rules, record, pair) for pair in itertools.combinations(names, 2))
        best = min([*singles, *(each.cost for each in pairs)], default=math.inf)
        assert best <= slowest + 1e-9
        seen += bool(pairs)
        if seen == 2:
            return
    raise AssertionError("no payment needed two changes")


def check(model, rules, record, each):
    """What is told is what the model and the rules say, seen from outside."""
    vector = np.array([math.nan if value is None else value for value in record.features.values()])
    data = dict(record.event)
    names = list(record.features)
    for change in each.changes:
        if change.name == AMOUNT:
            moves = AmountMoves.of(model.feature_set, record)
            data, vector = moves.moved(data, tuple(names), vector, int(change.after))
        else:
            vector[names.index(change.name)] = change.after
    event = Event(id="e", tenant="t", source="product", event_time=0, ingest_time=0, seq=1, data=data)
    said = Decider(features=Given(model, vector), model=model, rules=rules, clock=SystemClock()).decide(event)
    assert (said.action, said.score) == (each.action, each.score)
    assert said.action is not record.action


def test_the_nearest_amount_by_a_rule(model):
    rules = rule_set(model, ["block if :amount_in_eur: > 40"])
    vector = min(rows(np.random.default_rng(1), 50), key=model.score)
    vector[0] = 4_100
    found = [each for each in find(decided(model, rules, vector), model, rules).found if each.changes[0].name == AMOUNT]
    assert [(each.changes[0].after, each.action) for each in found] == [(4_000.0, Action.ALLOW)]


def test_the_nearest_amount_by_the_model(model):
    """All that follows from the amount moves with it; every nearer amount, one by one, changes nothing."""
    rules, rng = rule_set(model, RULES), np.random.default_rng(9)
    for vector in rows(rng, 400):
        record = decided(model, rules, vector)
        if record.action is Action.ALLOW:
            continue
        found = [each for each in find(record, model, rules, 0.0).found if each.changes[0].name == AMOUNT]
        if found:
            break
    change = found[0].changes[0]
    moves = AmountMoves.of(model.feature_set, record)
    assert {"amount", "card_mean_1d", "card_sum_1h"} == set(moves.slopes)
    decider = Decider(features=Given(model, vector), model=model, rules=rules, clock=SystemClock())
    step = 1 if change.after > change.before else -1
    for minor in range(int(change.before) + step, int(change.after), step):
        data, moved = moves.moved(record.event, model.features, vector, minor)
        event = Event(id="e", tenant="t", source="product", event_time=0, ingest_time=0, seq=1, data=data)
        said = decider.answer(event, moved, decider.assess(moved))
        assert list(Action).index(said.action) >= list(Action).index(record.action), minor


def test_a_model_that_says_something_else_is_found(model, monkeypatch):
    """Planted: the fold forgets half of the trees; what it claims is decided again and not told."""
    rules = rule_set(model, RULES)
    record = next(
        each
        for vector in rows(np.random.default_rng(2), 60)
        if (each := decided(model, rules, vector)).action is not Action.ALLOW
    )

    def wrong(*arguments):
        one, other, grid = fold(*arguments)
        return one, other, grid - 100

    monkeypatch.setattr(whatif, "fold", wrong)
    for each in find(record, model, rules).found:
        check(model, rules, record, each)


def test_a_decision_by_policy_has_no_what_if(model):
    rules = rule_set(model, RULES)
    record = decided(model, rules, rows(np.random.default_rng(1), 1)[0])
    record = msgspec.structs.replace(record, fallback="fallback.model", policy="closed")
    assert find(record, model, rules).found == ()


def test_without_a_model_rules_alone_are_searched():
    rules = PaymentRules([parse_rule("block if :amount_in_eur: > 40", id="large")])
    data = {"amount_minor": 9_000, "currency": "EUR", "metadata": {}}
    event = Event(id="e", tenant="t", source="product", event_time=0, ingest_time=0, data=data)
    record = Decider(features=None, model=None, rules=rules, clock=SystemClock()).decide(event)
    (found,) = find(record, None, rules).found
    assert (found.changes[0].after, found.action) == (4_000.0, Action.ALLOW)
