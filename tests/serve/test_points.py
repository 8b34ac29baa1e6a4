"""Decision points over HTTP: one file, and the route of payments answers for them."""

from __future__ import annotations

import pytest
from serve_world import World

POINT = """point: gift_cards
about: Buying a gift card
id: order
time: {at: epoch_s}
entities: {buyer: [buyer]}
attributes: {buyer: cased, amount_minor: number, currency: text}
features:
  - {name: bought, aggregation: count, by: buyer, windows: [1h]}
score: {base: 0.02, odds: [{id: again, if: ":bought_1h: >= 1", times: 30, reason: another one within the hour}]}
rules:
  - {id: dear, text: "block if :amount_in_eur: > 500", reason: gift cards end at 500}
  - {id: likely, text: "review if :risk_score: >= 20", reason: a person looks first}
"""
AT = 1_700_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "points").mkdir()
    (home / "points" / "gift_cards.yaml").write_text(POINT)
    made = World(home)
    yield made
    made.close()


def ask(world, order, **values):
    event = {"order": order, "at": AT, "buyer": "b1", "amount_minor": 5_000, "currency": "EUR", **values}
    return world.post("/v1/decisions", world.full, {"event": event, "source": "gift_cards"})


def test_one_file_is_score_rules_review_and_reasons(world) -> None:
    first = ask(world, "o1").json()
    assert (first["action"], first["risk_score"], first["reasons"]) == ("allow", 2, [])
    second = ask(world, "o2", at=AT + 60).json()
    assert (second["action"], second["features"]["bought_1h"]) == ("review", 1.0)
    assert [reason["text"] for reason in second["reasons"]] == ["another one within the hour", "a person looks first"]
    dear = ask(world, "o3", amount_minor=50_001, buyer="b2").json()
    assert (dear["action"], dear["reasons"][0]["text"]) == ("block", "gift cards end at 500")
    assert ask(world, "o2", at=AT + 60).json() == second
    assert ask(world, "o2", at=AT + 61).status_code == 409
    read = world.send("GET", "/v1/decisions/o2", world.full)
    assert read.json() == second


def test_a_payment_may_have_the_same_id(world) -> None:
    made = ask(world, "77", buyer="b3").json()
    card = {"TRANSACTION_ID": 77, "TX_DATETIME": "2023-11-14 10:00:00", "CUSTOMER_ID": 7, "TERMINAL_ID": 9}
    paid = world.post("/v1/decisions", world.full, {"event": {**card, "TX_AMOUNT": 12.5}}).json()
    assert paid["event_id"] == made["event_id"]
    assert paid["features"] != made["features"]
    assert ask(world, "77", buyer="b3").json() == made


def test_what_cannot_be_decided_on_names_its_field(world) -> None:
    for values, code, place in (
        ({"order": None}, "decision.event.no_id", "$.order"),
        ({"at": "soon"}, "event.time.unparsable", "$.at"),
        ({"amount_minor": 1.5}, "money.amount.invalid", ""),
    ):
        answer = ask(world, **{"order": "x", **values})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, code), answer.text
        assert not place or error["place"] == place
