"""Merchants' own rules: what they may say, whose payments they judge, and that nothing of others is in them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import FakeClock
from tests.judge.decisions.parts import transaction

from vedette.core.db import open_database
from vedette.core.decision import Action
from vedette.core.errors import ConflictError, DataError, DefinitionError, NotFoundError, VedetteError
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.payment.attributes import ATTRIBUTES, RISKS
from vedette.judge.payment.merchants import MAX_RULES, READABLE, join, own_of, read_own
from vedette.judge.payment.own import MerchantRules
from vedette.judge.payment.rules import MAX_RULES as PLATFORM_MAX
from vedette.judge.payment.rules import PaymentRules, parse_rule

EMAILS = [{"alias": "mine", "item_type": "email", "items": ["mule@example.com"]}]


def platform(**rules: str) -> PaymentRules:
    return PaymentRules(parse_rule(text, id=name) for name, text in rules.items())


def code(text, lists=()) -> str:
    with pytest.raises(VedetteError) as caught:
        read_own("m_9", text, lists)
    problems = getattr(caught.value, "problems", None) or [caught.value]
    return problems[0].code


def test_a_rule_reads_what_the_payment_carries() -> None:
    text = """
- id: far
  text: "block if :card_country: != :ip_country: and :amount_in_eur: > 500"
  reason: card and payer are in different countries
  tests:
    - {given: {":card_country:": FR, ":ip_country:": BR, ":amount_in_eur:": 600}, expect: block}
- text: "review if :email: in @mine or ::order kind:: = 'gift'"
- text: "allow if :risk_level: = 'highest' and :customer: in ('cus_1')"
"""
    found = read_own("m_9", text, EMAILS)
    assert [rule.action for rule in found.rules] == ["block", "review", "allow"]
    assert found.rules[0].id == "own.far"
    assert {rule.owner for rule in found.rules} == {"m_9"}
    assert read_own("m_9", "").rules == ()


@pytest.mark.parametrize(
    ("text", "lists", "wanted"),
    [
        ("block if :risk_score: > 60", (), "payment.merchant.attribute"),
        ("block if :card_risk: > 60", (), "payment.merchant.attribute"),
        ("block if :total_charges_per_card_number_daily: > 3", (), "payment.merchant.attribute"),
        ("block if :seconds_since_card_first_seen: < 60", (), "payment.merchant.attribute"),
        ("block if :email: in @email_blocklist", (), "payment.merchant.list"),
        ("block if :amount_in_eur: >", (), "payment.rule.syntax"),
        ("block if :email: in @mine", [{"alias": "mine"}], "payment.list.shape"),
        ("\n".join(f"block if :amount_in_eur: > {n}" for n in range(MAX_RULES + 1)), (), "payment.merchant.too_many"),
    ],
)  # fmt: skip
def test_what_tells_of_others_is_refused(text, lists, wanted) -> None:
    assert code(text, lists) == wanted


def test_nothing_that_is_counted_or_scored_may_be_read() -> None:
    hidden = {name for name in ATTRIBUTES if name not in READABLE}
    assert {"risk_score", *RISKS, "fraudulent_dispute_score"} <= hidden
    assert all(("_per_" in name or "_count_" in name) <= (name in hidden) for name in ATTRIBUTES)
    assert {"risk_level", "email", "amount_in_eur", "merchant", "customer"} <= READABLE.keys()


def test_failing_tests_and_bad_names_are_refused() -> None:
    text = '- {text: "block if :amount_in_eur: > 5", tests: [{given: {":amount_in_eur:": 1}, expect: block}]}'
    assert code(text) == "payment.test.failed"
    for name in ("", "a/b", "x" * 101, "a\nb"):
        with pytest.raises(DefinitionError, match="merchant"):
            read_own(name, "")


def test_the_platform_comes_first_and_its_limit_is_its_own() -> None:
    many = PaymentRules([parse_rule(f"block if :amount_in_usd: > {n}", id=f"p{n}") for n in range(PLATFORM_MAX)])
    joined = join(many, read_own("m_9", "block if :amount_in_eur: > 1"))
    assert [rule.id for rule in joined.rules[:PLATFORM_MAX]] == [f"p{n}" for n in range(PLATFORM_MAX)]
    assert len(own_of(joined)) == 1
    assert joined.version != many.version
    assert join(many, read_own("m_9", "")) is many


# Deciding


def decider(rules: PaymentRules) -> Decider:
    return Decider(features=None, model=None, rules=rules, clock=FakeClock(0))


def payment(merchant: str | None, number: int = 1):
    event = transaction(number)
    data = {**event.data, "TX_AMOUNT": 50.0} | ({"merchant": merchant} if merchant else {})
    return msgspec.structs.replace(event, data=data)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["m_1", "m_2", "m_3"]), st.sampled_from(["allow", "block", "review"]), min_size=1),
    st.lists(st.sampled_from(["m_1", "m_2", "m_3", "", "m_4"]), min_size=1, max_size=12),
    st.booleans(),
)
def test_a_rule_judges_its_own_merchants_payments_and_no_others(actions, merchants, warm) -> None:
    base = platform(large="block if :amount_in_usd: > 300", terms="challenge if :amount_in_usd: > 40")
    own = {name: join(base, read_own(name, f"{action} if :amount_in_usd: > 1")) for name, action in actions.items()}
    made = decider(base.with_merchants(own))
    if warm:
        made.warm()
    for merchant in merchants:
        decision = made.decide(payment(merchant or None))
        ids = {result.id for result in decision.rules}
        assert any(one.startswith("own.") for one in ids) == (merchant in actions)
        assert decision.action == actions.get(merchant, Action.CHALLENGE)
        assert decision.rules_version == own.get(merchant, base).version
        assert rebuild(decision, model=None, rules=own.get(merchant, base)) == decision


def test_other_rules_take_the_place_between_two_payments_and_unchanged_ones_stay() -> None:
    base = platform(large="block if :amount_in_usd: > 300")
    one, two = (join(base, read_own(name, "block if :amount_in_usd: > 1")) for name in ("m_1", "m_2"))
    made = decider(base.with_merchants({"m_1": one, "m_2": two}))
    made.warm()
    changed = join(base, read_own("m_2", "review if :amount_in_usd: > 1"))
    later = made.with_rules(base.with_merchants({"m_1": one, "m_2": changed}))
    said = [later.decide(payment(name)).action for name in ("m_1", "m_2", "m_3")]
    assert said == ["block", "review", "allow"]
    assert later.with_rules(base).decide(payment("m_1")).action == "allow"
    assert made.rules.state != later.rules.state


# Keeping


@pytest.fixture
def kept(tmp_path):
    database = open_database(tmp_path / "state.db", schema="state")
    yield MerchantRules(database, FakeClock(1_000_000))
    database.close()


def test_versions_are_kept_and_stand_until_the_next(kept) -> None:
    base = platform(large="block if :amount_in_usd: > 300")
    assert kept.standing("acme", "m_9") is None
    first = kept.ship("acme", "m_9", "block if :email: in @mine", EMAILS, operator="per_1", reason="mules", after=0)
    assert (first.number, kept.standing("acme", "m_9")) == (1, first)
    with pytest.raises(ConflictError) as late:
        kept.ship("acme", "m_9", "", [], operator="per_2", after=0)
    assert late.value.code == "payment.merchant.changed_since"
    joined = kept.beside("acme", base)
    version = joined.of_merchant("m_9").version
    kept.ship("acme", "m_9", "", [], operator="per_2", after=1)
    assert kept.beside("acme", base) is base
    own, held = kept.joined("acme", version, "m_9")
    assert (held, join(base, own).version) == (base.version, version)
    assert [one.number for one in kept.history("acme", "m_9")] == [2, 1]


def test_neither_tenants_nor_merchants_meet(kept) -> None:
    base = platform(large="block if :amount_in_usd: > 300")
    kept.ship("acme", "m_9", "block if :amount_in_usd: > 1", [], operator="per_1")
    kept.ship("acme", "m_8", "block if :amount_in_usd: > 1", [], operator="per_1")
    assert kept.beside("globex", base) is base
    assert kept.history("globex", "m_9") == []
    joined = kept.beside("acme", base)
    # The same words by two merchants are two sets, each with its own author.
    assert {rule.owner for rule in own_of(joined.of_merchant("m_9"))} == {"m_9"}
    own, _ = kept.joined("acme", joined.of_merchant("m_8").version, "m_8")
    assert {rule.owner for rule in own.rules} == {"m_8"}
    assert kept.joined("globex", joined.of_merchant("m_8").version, "m_8") is None
    with pytest.raises(NotFoundError):
        kept.version("globex", "m_9", 1)


def test_what_is_refused_is_not_kept(kept) -> None:
    with pytest.raises(VedetteError):
        kept.ship("acme", "m_9", "block if :risk_score: > 1", [], operator="per_1")
    with pytest.raises(DataError):
        kept.ship("acme", "m_9", "# " + "x" * 300_000, [], operator="per_1")
    assert kept.state("acme") == 0
