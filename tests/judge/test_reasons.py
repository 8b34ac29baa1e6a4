"""Plain words from the table, and what a merchant may see."""

from __future__ import annotations

import msgspec
import pytest
from tests.conftest import FakeClock
from tests.judge.decisions.parts import CountingFeatures, FormulaModel, some_rules, transaction

from vedette.core.errors import DefinitionError
from vedette.judge.decisions.decider import Decider
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.judge.reasons import load_words, merchant_view, plain
from vedette.sense.features.definition import load_features, shipped


def test_every_shipped_feature_of_card_payments_has_words():
    words = load_words()
    for name in load_features(shipped("card_transactions")).names:
        entry, _ = words._find(name)
        assert entry is not None, name
        assert not any(digit in words.merchant(name, 1.0) for digit in "0123456789")


def test_words():
    words = load_words()
    assert (
        words.analyst("customer_count_30d", 12.0, -0.1)
        == "12 payments of this customer in 30 days, which lowers the risk"
    )
    assert words.analyst("customer_mean_7d", None, 0.1) == "customer mean 7d is missing, which raises the risk"
    assert words.analyst("own_thing_3h", 1.5, 0.1) == "own thing 3h is 1.5, which raises the risk"
    assert words.merchant("own_thing_3h", 0.1) == "the pattern of payments raises the risk"


@pytest.mark.parametrize(
    "text",
    ["a: {analyst: '{other}', merchant: x}", "a: {analyst: x, merchant: '{value}'}", "a: {analyst: x}", "a: [1]"],
)
def test_a_table_that_is_wrong(tmp_path, text):
    path = tmp_path / "words.yaml"
    path.write_text(text + "\n")
    with pytest.raises(DefinitionError) as caught:
        load_words(path)
    assert caught.value.code == "reasons.table.invalid"


def test_the_merchant_sees_no_number_no_threshold_and_no_rule_of_others():
    rules = [
        parse_rule("block if :amount_in_usd: > 123", id="secret", owner="platform"),
        parse_rule("review if :amount_in_usd: > 45", id="mine", owner="m_1"),
        parse_rule("review if :amount_in_usd: > 46", id="theirs", owner="m_2", reason="a large payment"),
    ]
    features = CountingFeatures()
    features.customers = {"1": (7, 777.0, 0, 0)}
    decider = Decider(features=features, model=FormulaModel(), rules=PaymentRules(rules), clock=FakeClock())
    event = transaction(1, amount=200.5)
    event = msgspec.structs.replace(event, data={**event.data, "merchant": "m_1"})
    record = decider.decide(event)
    seen = merchant_view(record, decider.rules, load_words(), merchant="m_1")
    text = msgspec.json.encode(seen).decode()
    assert seen.action == "block"
    assert {reason.code for reason in seen.reasons} >= {"rule.mine", "rule"}
    assert "a large payment" in text
    for hidden in ("secret", "theirs", "123", "45", "46", "777", "200.5", str(record.score), "weight", "features"):
        assert hidden not in text
    assert [reason.code for reason in plain(record, load_words())] == [reason.code for reason in record.reasons]


def test_an_answer_by_policy_says_so():
    decider = Decider(features=None, model=None, rules=some_rules(), clock=FakeClock())
    seen = merchant_view(decider.fall_back(transaction(1), "log"), decider.rules, load_words(), merchant="")
    assert (seen.by_policy, seen.reasons[-1].code) == (True, "fallback")
