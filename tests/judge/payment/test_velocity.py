"""Velocity attributes have their values from features of charges: counts without the payment itself, bounded, in units."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import FakeClock

from vedette.core.content import shipped
from vedette.judge.decisions.opening import open_books
from vedette.judge.payment.attributes import ATTRIBUTES, BOUNDED_CAP, with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.judge.payment.velocity import backed, backing
from vedette.move.events import product
from vedette.run.payments.shipped import set_for
from vedette.sense.features.definition import load_features

AT = 1_772_000_000
FEATURES = load_features(shipped("features") / "velocity.yaml")


def test_every_feature_backs_attributes_of_the_table() -> None:
    given = backed(FEATURES.names)
    assert {backing(name) for name in given} == set(FEATURES.names)
    assert len(given) >= len(FEATURES.names) > 60
    assert all(name in ATTRIBUTES for name in given)


@pytest.mark.parametrize(
    ("attribute", "feature"),
    [
        ("total_charges_per_card_number_hourly", "total_charges_per_card_number_1h"),
        ("card_count_for_ip_address_all_time", "card_count_for_ip_address_1825d"),
        ("total_customers_for_card_yearly", "total_customers_for_card_365d"),
        ("seconds_since_card_first_seen", "seconds_since_card_first_seen_1825d"),
        ("customer_count_1h", "customer_count_1h"),
    ],
)
def test_backing(attribute: str, feature: str) -> None:
    assert backing(attribute) == feature


def charges(rules: PaymentRules, folder: Path, rows):
    clock = FakeClock((AT + 10**6) * 1_000_000)
    features = set_for([rules], "product")
    books = open_books(folder, features=features, model=None, rules=rules, clock=clock)
    for number, (seconds, values) in enumerate(rows):
        data = {
            "id": f"evt_{number}", "type": "charge", "time": AT + seconds, "charge": f"ch_{number}", "merchant": "m",
            "amount_minor": 500, "currency": "EUR", "metadata": {}, **values,
        }  # fmt: skip
        event = product().to_event(data, tenant="default", stream="t", offset=number, ingest_time=clock.now())
        decision = books.recorder.decide(event)
        yield {rule.id for rule in decision.rules if rule.result == "fired"}, decision, books.recorder.decider
    books.close()


def rules_of(**texts: str) -> PaymentRules:
    table = with_features(FEATURES.names)
    return PaymentRules([parse_rule(f"block if {text}", id=name, attributes=table) for name, text in texts.items()])


def test_counts_leave_the_payment_out_and_look_back_as_long_as_they_say(tmp_path: Path) -> None:
    rules = rules_of(
        first=":total_charges_per_card_number_hourly: = 0",
        third=":total_charges_per_card_number_hourly: >= 2",
        day=":total_charges_per_card_number_daily: >= 3",
        never="is_missing(:seconds_since_card_first_seen:)",
        later=":seconds_since_card_first_seen: >= 3600",
    )
    rows = [(seconds, {"source": "tok_1"}) for seconds in (0, 60, 120, 3_660)]
    said = [fired for fired, _, _ in charges(rules, tmp_path, rows)]
    assert said[0] == {"first", "never"}
    assert said[1] == set()
    assert said[2] == {"third"}
    # The window is [t - 3600 s, t): the payment at 60 s is just in it, that at 0 s is not.
    assert said[3] == {"third", "day", "later"}


def test_bounded_counts_stop_at_their_cap(tmp_path: Path) -> None:
    rules = rules_of(
        full=f":card_count_for_ip_address_daily: >= {BOUNDED_CAP}",
        over=f":card_count_for_ip_address_daily: > {BOUNDED_CAP}",
        total=":total_charges_per_ip_address_daily: > 25",
    )
    rows = [(n, {"source": f"tok_{n}", "ip": "203.0.113.9"}) for n in range(40)]
    said = [fired for fired, _, _ in charges(rules, tmp_path, rows)]
    assert [("full" in fired) for fired in said] == [n >= BOUNDED_CAP for n in range(40)]
    assert not any("over" in fired for fired in said)
    assert [("total" in fired) for fired in said] == [n > 25 for n in range(40)]


def test_without_the_entity_a_count_is_missing(tmp_path: Path) -> None:
    rules = rules_of(few=":total_charges_per_email_daily: >= 0", gone="is_missing(:card_count_for_email_daily:)")
    [(fired, decision, decider)] = charges(rules, tmp_path, [(0, {"source": "tok_1"})])
    assert fired == {"gone"}
    assert decider.rules.version == decision.rules_version
