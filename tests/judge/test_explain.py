"""Explanations say what the engines did, clause by clause, and show no card number."""

from __future__ import annotations

import msgspec
import pytest
from tests.judge.decisions.parts import CountingFeatures, FormulaModel, some_rules, transaction, transactions

from vedette.core.errors import ConflictError
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.parts import Policy
from vedette.judge.explain import explain_data, explain_decision, explain_on_event, explain_payment_rule, to_lines
from vedette.judge.payment.rules import parse_rule


def test_every_decision_is_explained_as_it_was_made(clock) -> None:
    features = CountingFeatures()
    rules = some_rules(gap="review if not :seconds_since_previous: > 40 and is_missing(::note::)")
    decider = Decider(features=features, model=FormulaModel(), rules=rules, clock=clock)
    for event in transactions(300):
        record = decider.decide(event)
        shown = explain_decision(record, rules)
        assert {rule.id: rule.result for rule in shown.rules} == {rule.id: rule.result for rule in record.rules}
        assert [rule.result for rule in shown.rules] == sorted(
            (rule.result for rule in shown.rules), key=["fired", "unknown", "quiet"].index
        )
        fired = [rule.id for rule in shown.rules if rule.result == "fired"]
        if record.action == "allow" and not fired:
            assert shown.because == "no rule fired, so the payment is allowed"
        else:
            assert shown.because.startswith(f"{record.action} rule ")
        features.apply(event)


def test_a_clause_shows_what_it_read() -> None:
    rule = parse_rule("block if (:amount_in_usd: > 5 or :email: like '%@x.com') and not ::tier:: = 'gold'", id="r")
    shown = explain_payment_rule(rule, {":amount_in_usd:": 4.5, ":email:": None, "::tier::": "tin"})
    assert shown.result == "unknown"
    either, tier = shown.clause.children
    assert [(clause.result, [(v.field, v.value, v.missing) for v in clause.values]) for clause in either.children] == [
        ("false", [(":amount_in_usd:", 4.5, False)]),
        ("unknown", [(":email:", None, False)]),
    ]
    assert (tier.result, tier.children[0].result) == ("true", "false")
    assert next(iter(to_lines(shown))) == "r (block): unknown"
    assert "::tier:: is 'tin'" in "\n".join(to_lines(shown))
    assert explain_payment_rule(rule, {}).clause.children[0].children[0].values[0].missing


def test_a_policy_answer_names_the_part(clock) -> None:
    rules = some_rules()
    decider = Decider(features=None, model=None, rules=rules, clock=clock, policy=Policy.CLOSED)
    shown = explain_decision(decider.fall_back(transaction(1), "log"), rules)
    assert (shown.action, shown.fallback) == ("block", "fallback.log")
    assert shown.because == "log did not answer in time and no allow or block rule fired: policy fail closed"
    assert explain_decision(decider.fall_back(transaction(2, amount=999), "log"), rules).because.startswith(
        "block rule"
    )


def test_other_rules_are_refused(clock) -> None:
    record = Decider(features=None, model=None, rules=some_rules(), clock=clock).decide(transaction(1))
    with pytest.raises(ConflictError):
        explain_decision(record, some_rules(more="block if :is_checkout:"))


def test_a_rule_on_an_event_alone(clock) -> None:
    decider = Decider(features=None, model=None, rules=some_rules(), clock=clock)
    shown = {rule.id: explain_on_event(rule, transaction(1, amount=301), decider) for rule in decider.rules.rules}
    assert (shown["large"].result, shown["busy"].result) == ("fired", "unknown")
    assert msgspec.json.decode(msgspec.json.encode(shown["large"]))["clause"]["values"] == [
        {"field": ":amount_in_usd:", "value": 301, "missing": False}
    ]


def test_card_numbers_and_long_values_are_not_shown() -> None:
    rule = parse_rule("block if ::note:: includes 'x' or ::long:: = 'y'")
    shown = explain_payment_rule(rule, {"::note::": "card 4242 4242 4242 4242", "::long::": "z" * 5_000})
    text = "\n".join(to_lines(shown))
    assert "4242 4242" not in text
    assert len(text) < 1_000


def test_a_condition_over_data() -> None:
    rule = parse_rule("block if :is_checkout:")
    result, clause, _ = explain_data(rule.node, {"is_checkout": True})
    assert result == "quiet"
    assert clause.children[0].values[0].missing
