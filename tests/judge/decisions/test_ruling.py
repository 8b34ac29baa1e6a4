"""A ready rule set says what its rules say one by one, whatever is read and whatever is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.judge.decisions.parts import NAMES, CountingFeatures, FormulaModel, some_rules, transactions

from vedette.core.decision import Action
from vedette.judge.decisions import decider as deciding
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.parts import Reasoning
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.decisions.ruling import Ruling
from vedette.judge.decisions.top import largest
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule

PLACES = {f":{name}:": (place, 6.0 if place == 3 else math.inf) for place, name in enumerate(NAMES)}
CONDITIONS = (
    ":customer_count: > 5",
    ":customer_count: = 5",
    ":customer_amount_sum: <= 100.5",
    ":known_frauds: != 0",
    ":known_frauds: > 6",
    ":known_frauds: >= 6",
    "is_missing(:seconds_since_previous:)",
    "is_missing(:customer:)",
    "is_missing(::terminal::)",
    ":amount_in_usd: >= 20",
    ":amount_in_usd: < 9007199254740992",
    ":risk_score: > 70",
    ":risk_level: = 'highest'",
    ":risk_level: != 'normal'",
    ":customer: in ('7', 'Straße', 'a')",
    ":customer: = 'A'",
    ":customer: != 'a'",
    "::terminal:: in ('3', '4')",
    "::terminal:: = 'X'",
    "::terminal:: > 3",
    "::terminal:: like 'x%'",
    ":email: includes 'evil'",
    ":card_country: != :ip_country:",
    ":ip_country: in ('DE', 'US')",
    ":is_anonymous_ip:",
    "not :is_recurring:",
)


@st.composite
def rule_sets(draw):
    texts = []
    for _ in range(draw(st.integers(1, 6))):
        parts = draw(st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=4))
        text = parts[0]
        for part in parts[1:]:
            text = f"{draw(st.sampled_from(['', 'not ']))}({text}) {draw(st.sampled_from(['and', 'or']))} {part}"
        texts.append(f"{draw(st.sampled_from(['allow', 'block', 'review', 'challenge']))} if {text}")
    table = with_features(NAMES)
    return PaymentRules([parse_rule(text, id=f"r{n}", attributes=table) for n, text in enumerate(texts)])


NUMBERS = st.sampled_from([0.0, 5.0, 5, 19.99, 20, 100.5, 2**53, 2**53 + 1, 71, math.inf])
ODD = st.sampled_from([None, True, False, "20", "x", "", -1, math.nan, "nan"])
TEXTS = st.sampled_from(["7", "STRASSE", "straße", "A", "a", "3", "X", "xy", "DE", "us", "evil@x", 3, 7.0, True, None])
VALUES = st.fixed_dictionaries(
    {},
    optional={
        ":amount_in_usd:": NUMBERS | ODD,
        ":risk_score:": st.sampled_from([None, 0, 70, 71, 99]),
        ":risk_level:": st.sampled_from(["normal", "elevated", "highest", "not_assessed"]),
        **dict.fromkeys([":customer:", "::terminal::", ":email:", ":card_country:", ":ip_country:"], TEXTS),
        **dict.fromkeys([":is_anonymous_ip:", ":is_recurring:"], st.sampled_from([True, False, None, "true", 1])),
    },
)
VECTORS = st.lists(st.sampled_from([math.nan, 0.0, 5.0, 6.0, 100.5, 101.0, math.inf]), min_size=4, max_size=4)


def differing(rules, ruling, vector, values):
    whole = dict(values)
    for key, (place, cap) in PLACES.items():
        whole[key] = None if math.isnan(vector[place]) else min(vector[place], cap)
    results, fired = rules.results(whole)
    found = ruling.judge(np.array(vector), {**values, **{key: whole[key] for key in ruling.reads}})
    return found is not None and (found.results, found.fired) != (results, tuple(fired))


@settings(max_examples=300, deadline=None)
@given(rule_sets(), st.lists(st.tuples(VECTORS, VALUES), min_size=1, max_size=6))
def test_equal_to_the_rules_one_by_one(rules, events):
    ruling = Ruling(rules, PLACES)
    for vector, values in events:
        assert not differing(rules, ruling, vector, values)


@pytest.mark.parametrize("bug", ["op", "unknown", "folding", "memory"])
def test_the_comparison_sees_planted_bugs(bug, monkeypatch):
    table = with_features(NAMES)
    texts = ["block if :customer_count: > 5", "review if not :email: = 'A'", "allow if ::terminal:: in ('3')"]
    rules = PaymentRules([parse_rule(text, id=f"r{n}", attributes=table) for n, text in enumerate(texts)])
    ruling = Ruling(rules, PLACES)
    if bug == "op":
        ruling._table["op"] += 1
    if bug == "unknown":
        monkeypatch.setattr("vedette.judge.decisions.ruling.UNKNOWN", 0)
    if bug == "folding":
        monkeypatch.setattr("vedette.judge.decisions.ruling.fold", lambda text: text)
    if bug == "memory":
        ruling.judge(np.zeros(4), {})
        ruling._known = dict.fromkeys(map(bytes, np.ndindex(3, 3, 3, 3)), next(iter(ruling._known.values())))
    events = [([n, 0.0, 0.0, 0.0], {":email:": text}) for n in (5.0, 6.0) for text in ("a", "A", "b", None)]
    assert any(differing(rules, ruling, vector, values) for vector, values in events)


def test_most_events_need_no_second_look():
    rules = some_rules()
    ruling = Ruling(rules, PLACES)
    assert ruling.judge(np.zeros(4), {":amount_in_usd:": 20.0, ":customer:": "7", "::terminal::": "3"}) is not None
    assert ruling.judge(np.zeros(4), {":amount_in_usd:": "20"}) is None


def test_a_warm_decider_answers_as_a_cold_one_and_its_records_are_made_again(clock):
    answers = []
    for warm in (False, True):
        decider = Decider(features=CountingFeatures(), model=FormulaModel(), rules=some_rules(), clock=clock)
        if warm:
            decider.warm()
        found = []
        for event in transactions(200):
            found.append(decider.decide(event))
            decider.features.apply(event)
        answers.append(found)
    assert answers[0] == answers[1]
    assert {decision.action for decision in answers[0]} >= {Action.ALLOW, Action.BLOCK, Action.CHALLENGE}
    for decision in answers[1]:
        assert rebuild(decision, model=FormulaModel(), rules=some_rules()) == decision


@pytest.mark.parametrize("reasoning", Reasoning)
def test_reasons_when_they_are_wanted(clock, reasoning):
    decider = Decider(
        features=CountingFeatures(), model=FormulaModel(), rules=some_rules(), clock=clock, reasoning=reasoning
    )
    for event in transactions(200):
        decision = decider.decide(event)
        decider.features.apply(event)
        told = [reason for reason in decision.reasons if reason.code.startswith("model.")]
        flagged = reasoning is Reasoning.FLAGGED and decision.action is not Action.ALLOW
        assert bool(told) is (decision.features["customer_count"] > 0 and (reasoning is Reasoning.ALWAYS or flagged))
        assert rebuild(decision, model=FormulaModel(), rules=some_rules()) == decision


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -2.5]), max_size=12), st.integers(0, 6))
def test_largest(weights, count):
    expected = np.argsort(-np.abs(np.array(weights, np.float64)), kind="stable")[:count].tolist()
    assert largest(np.array(weights, np.float64), count).tolist() == expected
    assert deciding.MODEL_REASONS == 5
