"""The score board on a truth and answers small enough to count by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from vedette.demo import score as board
from vedette.demo.day import Paid
from vedette.demo.truth import Attack, Benign, Fraud, Good, Truth
from vedette.demo.world.nouns import Answer

S = 1_000_000
MINUTE = 60 * S


def attack(name: str, kind: str, entities: tuple[str, ...], payments: tuple[str, ...] = (), start: int = 0) -> Attack:
    return Attack(id=name, kind=kind, start=start, end=start + 10 * MINUTE, entities=entities, payments=payments)


TRUTH = Truth(
    attacks=(
        attack("a1", "card_testing", ("ip:1", "card:c9"), ("p1", "p2", "p3")),
        attack("a2", "stolen_key", ("key:k1",), ("p4",)),
        attack("a3", "insider", ("user:u1",)),
    ),
    frauds=(Fraud(kind="stolen_card", start=0, end=MINUTE, entities=("card:c5",), payments=("p5",)),),
    benign=(Benign(kind="flash_sale", start=0, end=MINUTE, entities=("merchant:m1",)),),
    good=Good(customers=("g1", "g2", "g3", "g4"), payments=4),
)


def paid(name: str, answer: Answer, amount: int, customer: str = "", currency: str = "EUR") -> Paid:
    return Paid(name, 0, answer, "", amount, currency, customer)


def alert(name: str, made: int, *entities: str) -> dict[str, Any]:
    named = [dict(zip(("type", "id"), entity.split(":"), strict=True)) for entity in entities]
    return {"id": name, "title": f"title of {name}", "created_time": made, "entities": named}


ANSWERS = board.Answers(
    events=77,
    paid=(
        paid("p1", Answer.CAPTURED, 100),
        paid("p2", Answer.BLOCKED, 200),
        paid("p3", Answer.CHALLENGED, 300, currency="GBP"),
        paid("p4", Answer.UNAUTHORIZED, 400),
        paid("p5", Answer.CAPTURED, 50, customer="g1"),
        paid("p6", Answer.BLOCKED, 900, customer="g1"),
        paid("p7", Answer.CHALLENGED, 900, customer="g2"),
        paid("p8", Answer.CAPTURED, 900, customer="g3"),
        paid("p9", Answer.BLOCKED, 900, customer="stranger"),
    ),
    alerts=(
        alert("late", 9 * MINUTE, "ip:1"),
        alert("first", 4 * MINUTE, "card:c9", "ip:7"),
        alert("fraud", 2 * MINUTE, "card:c5"),
        alert("too-late", 71 * MINUTE, "user:u1"),
        alert("sale", 1 * MINUTE, "merchant:m1"),
        alert("key", 6 * MINUTE, "key:k1"),
    ),
    cases=2,
    revoked={"k1": 12 * MINUTE, "k2": 1},
    latencies=[0.010] * 98 + [0.020, 0.200],
)


def test_every_figure_is_as_counted_by_hand():
    found = board.judge(TRUTH, ANSWERS, seed=5)
    assert (found.events, found.payments, found.alerts, found.cases, found.seed) == (77, 9, 6, 2, 5)
    assert found.recall == pytest.approx(2 / 3, abs=1e-4)
    assert found.precision == pytest.approx(4 / 6, abs=1e-4)
    assert found.money_saved_minor == 200 + round(300 * 1.15) + 400
    assert found.money_lost_minor == 150
    assert (found.good_users, found.good_users_hurt, found.good_users_challenged) == (4, 0.25, 0.25)
    assert found.latency_ms == board.Latency(10.0, 200.0)
    assert found.time_to_detect_s == 300
    assert found.time_to_contain_s == 720
    first, key, insider = found.attacks
    assert (first.alert, first.by, first.seconds, first.stopped) == ("first", "title of first", 240, 2)
    assert (key.contained_s, key.seconds) == (720, 360)
    assert (insider.found, insider.seconds, insider.alert) == (False, None, "")
    assert [(one.kind, one.alerts) for one in found.unusual] == [("flash_sale", 1)]


def test_a_day_without_attacks_or_alerts_divides_by_nothing():
    empty = Truth(attacks=(), frauds=(), benign=(), good=Good(customers=(), payments=0))
    found = board.judge(empty, board.Answers(events=0, paid=(), alerts=(), cases=0, revoked={}, latencies=()), seed=0)
    assert (found.recall, found.precision, found.time_to_detect_s, found.time_to_contain_s) == (0, 0, None, None)


@pytest.mark.parametrize("wrong", ["never late", "any entity", "everybody is good", "only blocks count"])
def test_a_wrong_board_is_seen(monkeypatch, wrong: str):
    """Each planted mistake changes a figure that the test by hand checks."""
    right = board.judge(TRUTH, ANSWERS, seed=5)
    match wrong:
        case "never late":
            monkeypatch.setattr(board, "GRACE", 100 * MINUTE)
        case "any entity":
            monkeypatch.setattr(board, "_entities", lambda alert: frozenset({"ip:1", "user:u1", "key:k1"}))
        case "everybody is good":
            monkeypatch.setattr(board, "_met", lambda paid, theirs, customers, answers: {one.customer for one in paid})
        case _:
            monkeypatch.setattr(board, "_STOPPED", (Answer.BLOCKED,))
    assert board.judge(TRUTH, ANSWERS, seed=5) != right


def test_the_json_has_the_promised_keys():
    found = msgspec.to_builtins(board.judge(TRUTH, ANSWERS, seed=5))
    promised = "events payments alerts cases precision recall money_saved_minor good_users_hurt latency_ms"
    assert {*promised.split(), "time_to_detect_s", "time_to_contain_s", "seed"} <= set(found)
    assert set(found["latency_ms"]) == {"p50", "p99"}


def test_all_pages_are_asked_for():
    pages = {
        "/v1/alerts?limit=500": {"data": [alert("one", 1, "ip:1")], "next": "x"},
        "/v1/alerts?limit=500&after=x": {"data": [alert("two", 2, "ip:1")], "next": ""},
        "/v1/cases?limit=500": {"data": [{}], "has_more": False},
        "/v1/keys": {"data": [{"id": "k", "revoked": 3}, {"id": "l", "revoked": None}]},
    }
    answers = board.read_answers(pages.__getitem__, events=1, paid=[], latencies=[])
    assert [one["id"] for one in answers.alerts] == ["one", "two"]
    assert (answers.cases, answers.revoked) == (1, {"k": 3})
