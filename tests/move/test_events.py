"""A charge as an event: its fields, its entities, and the attributes that payment rules read from it."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_world import MERCHANT, TENANT, World, charge

from vedette.core.errors import TransientError
from vedette.core.event import Entity
from vedette.expr.nodes import Field, Space
from vedette.judge.decisions.bindings import TOLD, binding_of
from vedette.judge.decisions.decider import Decider
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.move.events import lift, to_charge
from vedette.move.requests import parse_charge

KNOWN = {
    "customer": "cus_7",
    "device": "dev_1",
    "ip_address": "203.0.113.9",
    "email": "Ada@Mail.example ",
    "card_country": "US",
    "ip_country": "BR",
    "country": "US",
    "is_recurring": "true",
    "cvc_check": "fail",
    "order": "o-1",
}


def event(**changes):
    wanted = parse_charge("k1", charge(**changes))
    return to_charge("evt_1", wanted, tenant=TENANT, charge="ch_1", time=1_000_000, asked_by="key_5", ingest_time=5)


def test_the_fields_of_a_charge():
    made = event(metadata=KNOWN)
    assert (made.source, made.id, made.event_time, made.raw_ref) == ("product", "evt_1", 1_000_000, "charge:ch_1@0")
    assert made.data == {
        "id": "evt_1",
        "type": "charge",
        "time": "1970-01-01T00:00:01.000000Z",
        "charge": "ch_1",
        "key": "key_5",
        "merchant": MERCHANT,
        "amount_minor": 1999,
        "currency": "EUR",
        "source": "tok_visa",
        "customer": "cus_7",
        "device": "dev_1",
        "ip": "203.0.113.9",
        "email": hashlib.sha256(b"ada@mail.example").hexdigest(),
        "email_domain": "mail.example",
        "card_country": "US",
        "ip_country": "BR",
        "country": "US",
        "is_recurring": True,
        "cvc_check": "fail",
        "metadata": {"order": "o-1"},
    }
    assert set(made.entities) == {
        Entity("merchant", MERCHANT),
        Entity("customer", "cus_7"),
        Entity("card", "tok_visa"),
        Entity("key", "key_5"),
        Entity("device", "dev_1"),
        Entity("ip", "203.0.113.9"),
    }


@pytest.mark.parametrize(
    "rule",
    [
        "block if :card_country: != :ip_country:",
        "block if :ip_address: = '203.0.113.9'",
        "block if :is_recurring:",
        "block if :cvc_check: = 'fail'",
        "block if :email_domain: = 'mail.example'",
        "block if :customer: = 'cus_7'",
        "block if ::customer:: = 'cus_7'",
        "block if ::order:: = 'o-1'",
        "block if :amount_in_eur: > 19",
        "block if :card_fingerprint: = 'tok_visa'",
        "block if :currency: = 'eur'",
    ],
)
def test_rules_read_what_the_merchant_told(rule, clock):
    decider = Decider(features=None, model=None, rules=PaymentRules([parse_rule(rule)]), clock=clock)
    assert decider.decide(event(metadata=KNOWN)).action == "block"
    if "amount" not in rule and "fingerprint" not in rule and "currency" not in rule:
        assert decider.decide(event(metadata={})).action == "allow", "the check can fail"


def test_a_merchant_cannot_tell_what_is_counted_here():
    told = dict.fromkeys(
        ["risk_score", "key_risk", "total_charges_per_customer_daily", "amount_in_usd", "currency"], "0"
    )
    made = event(metadata=told)
    assert made.data["metadata"] == told
    assert made.data["currency"] == "EUR"


@given(st.dictionaries(st.sampled_from([*TOLD, "order", "note"]), st.text(max_size=8), max_size=20))
def test_nothing_that_was_told_is_lost(metadata):
    told, rest = lift(metadata)
    moved = {name: text for name, text in metadata.items() if name not in rest}
    assert rest.items() <= metadata.items()
    assert {TOLD[name] for name in moved} | {"email_domain"} >= told.keys()
    assert {TOLD[name] for name in moved} <= told.keys()
    assert all(value not in ("", None) for value in told.values())


def test_every_told_name_is_read_under_its_own():
    data, _ = lift({name: "true" for name in TOLD if name != "ip"})
    binding = binding_of("product")
    for name in TOLD:
        assert binding.reader(Field(name, Space.ATTRIBUTE))(data) in ("true", True), name
        assert binding.reader(Field(name, Space.METADATA))(data) in ("true", True), name
        assert f":{name}:" in binding.provides()


def test_a_retry_by_another_key_asks_about_the_same_event(db, clock):
    seen = []

    def decide(event):
        seen.append(msgspec.json.encode(event))
        raise TransientError("decide.busy", "later")

    world = World(db, clock, decide=decide)
    for who in ("key_1", "key_2"):
        with pytest.raises(TransientError, match=r"decide[.]busy"):
            world.charges.create(TENANT, "k1", charge(), api_key=who)
        clock.advance(1)
    assert seen[0] == seen[1]
    assert msgspec.json.decode(seen[0])["data"]["key"] == "key_1"


def test_a_person_is_a_user():
    wanted = parse_charge("k1", charge())
    made = to_charge("e", wanted, tenant=TENANT, charge="c", time=1, asked_by="per_1", ingest_time=1)
    assert Entity("user", "per_1") in made.entities
    assert "key" not in made.data
