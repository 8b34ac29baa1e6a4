"""What one event leads to: rules, score, precedence, reasons, fallbacks; and the same again from the record."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from tests.judge.decisions.parts import NAMES, CountingFeatures, FormulaModel, some_rules, transaction, transactions

from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError, DataError, DefinitionError, Problems
from vedette.judge.decisions.decider import MODEL_REASONS, Decider
from vedette.judge.decisions.parts import PartStalled, Policy
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.payment.rules import HIGHEST_RISK, PaymentRules, RiskLevels, answer, parse_rule

PHASES = {
    "allow": (":is_checkout:", ":cvc_check: = 'pass'"),
    "block": (":is_checkout:", ":cvc_check: = 'pass'"),
    "review": (":is_checkout:", ":cvc_check: = 'pass'"),
    "challenge": (":is_checkout:", ":cvc_check: = 'pass'"),
}


def make(clock, *, features=None, model=None, rules=None, policy=Policy.OPEN) -> Decider:
    return Decider(
        features=features, model=model, rules=rules or some_rules(), clock=clock, policy=policy, features_version="f1"
    )


def brute_force(fired: set[tuple[str, int]]) -> str | None:
    """The stated order, written as a list: class and phase (0 before, 1 after authorisation)."""
    for step in (
        [("allow", 0)], [("block", 0)], [("allow", 1)], [("block", 1)],
        [("review", 0), ("review", 1)], [("challenge", 0), ("challenge", 1)],
    ):  # fmt: skip
        if fired & set(step):
            return step[0][0]
    return None


def test_precedence_over_every_combination() -> None:
    rules = {
        (action, phase): parse_rule(f"{action} if {condition}")
        for action, conditions in PHASES.items()
        for phase, condition in enumerate(conditions)
    }
    for size in range(len(rules) + 1):
        for chosen in itertools.combinations(rules, size):
            for ordered in (chosen, tuple(reversed(chosen))):
                said = answer([rules[key] for key in ordered])
                assert (said.value if said else None) == brute_force(set(chosen))


@pytest.mark.parametrize(
    ("event", "action"),
    [
        (transaction(1), Action.ALLOW),
        (transaction(1, amount=301), Action.BLOCK),
        (transaction(1, amount=301, customer=7), Action.ALLOW),
        (transaction(1, terminal=3), Action.CHALLENGE),
        (transaction(1, terminal=3, amount=301), Action.BLOCK),
        (transaction(1, terminal="3", customer="7"), Action.ALLOW),
    ],
)
def test_rules_alone(clock, event, action) -> None:
    decision = make(clock).decide(event)
    assert decision.action is action
    assert decision.challenge is (str(event.data["TERMINAL_ID"]) == "3")
    assert (decision.score, decision.risk_score, decision.model, decision.features) == (None, None, None, {})
    assert {rule.id: rule.result for rule in decision.rules}["busy"] == "unknown"


def test_without_rules_the_score_decides_through_the_builtin_rule_only(clock) -> None:
    features = CountingFeatures()
    decider = make(clock, features=features, model=FormulaModel(), rules=PaymentRules())
    for amount, level in ((0.0, "normal"), (265.0, "elevated"), (400.0, "highest")):
        features.customers = {"1": (0, amount, 0, 0)}
        decision = decider.decide(transaction(5))
        assert decision.risk_score is not None
        assert decider.rules.levels.level(decision.risk_score) == level
        assert decision.action is (Action.BLOCK if level == "highest" else Action.ALLOW)
        assert [rule.id for rule in decision.rules] == [HIGHEST_RISK]
    with pytest.raises(DefinitionError):
        RiskLevels(75, 65)


def test_risk_levels_change_where_they_say() -> None:
    levels = RiskLevels()
    assert [levels.level(score) for score in (None, 0, 64, 65, 74, 75, 99)] == [
        "not_assessed", "normal", "normal", "elevated", "elevated", "highest", "highest",
    ]  # fmt: skip


def test_reasons_are_largest_first_then_rules(clock) -> None:
    features = CountingFeatures()
    features.customers = {"1": (6, 900.0, 0, 0)}
    decision = make(clock, features=features, model=FormulaModel()).decide(transaction(1, amount=500))
    assert [reason.code for reason in decision.reasons] == [
        "model.customer_amount_sum", "model.customer_count", "rule.large", "rule.busy", f"rule.{HIGHEST_RISK}",
    ]  # fmt: skip
    weights = [abs(reason.weight) for reason in decision.reasons]
    assert weights == sorted(weights, reverse=True)
    assert decision.reasons[0].text == "customer amount sum is 900, which raises the risk"
    assert len([reason for reason in decision.reasons if reason.code.startswith("model.")]) <= MODEL_REASONS


def test_a_missing_feature_is_null_in_the_record_and_unknown_in_rules(clock) -> None:
    rules = some_rules(gap="block if not :seconds_since_previous: > 60")
    decision = make(clock, features=CountingFeatures(), rules=rules).decide(transaction(1))
    assert decision.features["seconds_since_previous"] is None
    assert {rule.id: rule.result for rule in decision.rules}["gap"] == "unknown"
    assert decision.action is Action.ALLOW


def test_nobody_sends_us_our_own_features(clock) -> None:
    features = CountingFeatures()
    features.customers = {"1": (6, 1.0, 0, 0)}
    event = transaction(1)
    event.data["customer_count"] = 0
    event.data["risk_level"] = "normal"
    assert make(clock, features=features).decide(event).action is Action.REVIEW


def test_the_model_needs_its_features(clock) -> None:
    with pytest.raises(DefinitionError, match="not computed"):
        make(clock, model=FormulaModel())


class StalledPart(CountingFeatures):
    def fetch(self, event):
        raise PartStalled("features")


class StalledModel(FormulaModel):
    def score(self, vector):
        raise PartStalled("model")


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize(
    ("features", "model", "code"),
    [(StalledPart(), FormulaModel(), "features"), (CountingFeatures(), StalledModel(), "model")],
)
def test_a_stalled_part_gives_a_marked_answer_by_policy(clock, policy, features, model, code) -> None:
    decider = make(clock, features=features, model=model, policy=policy)
    plain = decider.decide(transaction(1))
    assert (plain.fallback, plain.policy, plain.score) == (f"fallback.{code}", policy.value, None)
    assert plain.reasons[-1].code == f"fallback.{code}"
    assert plain.action.value == {"open": "allow", "closed": "block", "review": "review"}[policy]
    # Rules that need neither features nor score still count.
    assert decider.decide(transaction(2, amount=301)).action is Action.BLOCK
    assert decider.decide(transaction(3, amount=301, customer=7)).action is Action.ALLOW
    assert rebuild(plain, model=FormulaModel(), rules=decider.rules) == plain


def test_rebuild_is_bit_for_bit(clock) -> None:
    features = CountingFeatures()
    decider = make(clock, features=features, model=FormulaModel())
    for event in transactions(300):
        recorded = msgspec.json.decode(msgspec.json.encode(decider.decide(event)), type=Decision)
        features.apply(event)
        assert msgspec.json.encode(rebuild(recorded, model=FormulaModel(), rules=some_rules())) == msgspec.json.encode(
            recorded
        )


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"action": Action.BLOCK}, "action"),
        ({"score": 0.25}, "score"),
        ({"risk_score": 3}, "risk_score"),
        ({"rules": ()}, "rules"),
        ({"reasons": ()}, "reasons"),
        ({"features": {**dict.fromkeys(NAMES, 1.0), "customer_amount_sum": 5.0}}, "score"),
        ({"challenge": True}, "challenge"),
        ({"event": {**transaction(4).data, "TX_AMOUNT": 999.0}}, "action"),
        ({"fallback": "fallback.model", "policy": "open"}, "score"),
    ],
)
def test_rebuild_finds_a_tampered_record(clock, change, at) -> None:
    features = CountingFeatures()
    features.customers = {"1": (2, 40.0, 0, 0)}
    record = make(clock, features=features, model=FormulaModel()).decide(transaction(4))
    with pytest.raises(DataError) as wrong:
        rebuild(msgspec.structs.replace(record, **change), model=FormulaModel(), rules=some_rules())
    assert wrong.value.code == "decision.rebuild.differs"
    assert wrong.value.at.endswith(f"$.{at}")


def test_rebuild_refuses_other_versions(clock) -> None:
    record = make(clock, features=CountingFeatures(), model=FormulaModel()).decide(transaction(4))
    for model, rules, code in (
        (FormulaModel("cd" * 32), some_rules(), "decision.rebuild.model"),
        (None, some_rules(), "decision.rebuild.model"),
        (FormulaModel(), some_rules(more="block if :is_checkout:"), "decision.rebuild.rules"),
        (FormulaModel(), some_rules(large="block if :amount_in_usd: > 301"), "decision.rebuild.rules"),
    ):
        with pytest.raises(ConflictError) as wrong:
            rebuild(record, model=model, rules=rules)
        assert wrong.value.code == code
    broken = msgspec.structs.replace(record, policy="maybe")
    with pytest.raises(DataError, match="policy"):
        rebuild(broken, model=FormulaModel(), rules=some_rules())


def test_rebuild_reads_not_a_number_as_missing(clock) -> None:
    record = make(clock, features=CountingFeatures(), model=FormulaModel()).decide(transaction(4))
    assert not any(isinstance(value, float) and math.isnan(value) for value in record.features.values())
    assert np.isnan(CountingFeatures().fetch(transaction(4))[2])


def test_a_set_of_rules_is_checked() -> None:
    twice = [parse_rule("block if :is_checkout:")] * 2
    with pytest.raises(Problems, match="twice"):
        PaymentRules([twice[0], parse_rule("block if  :is_checkout:")])
    with pytest.raises(Problems, match="at most"):
        PaymentRules([parse_rule(f"block if :amount_in_usd: > {n}") for n in range(201)])


def test_check_lists_what_nothing_provides() -> None:
    rules = PaymentRules(
        [parse_rule("block if :email: = 'a' or :is_checkout: or :amount_in_usd: > 1 or ::k:: = 'v'", id="r")]
    )
    notes = rules.check({":amount_in_usd:", ":risk_level:"})
    assert [(note.rule_id, note.message) for note in notes] == [
        ("r", "nothing provides `:email:`, so it is always missing"),
        ("r", "nothing provides `:is_checkout:`, so it is always false"),
    ]
