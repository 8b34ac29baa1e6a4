"""Payouts and freezes: money reserved, paid, returned; nothing is paid once a freeze was answered."""

import threading

import pytest
from money_world import MERCHANT, TENANT, World, charge

from vedette.core.errors import DataError, NotFoundError
from vedette.move import chart

WANTED = {"amount_minor": 700, "currency": "EUR", "merchant": MERCHANT}


@pytest.fixture
def world(db, clock):
    world = World(db, clock)
    world.outbox.add_endpoint(TENANT, "https://hooks.example/acme")
    world.charges.create(TENANT, "k1", charge(1000))
    return world


def test_a_payout_is_reserved_paid_and_returned(world):
    answer = world.payouts.schedule(TENANT, "p1", WANTED)
    id_ = answer.json()["id"]
    assert (answer.status, answer.json()["status"]) == (201, "scheduled")
    assert world.balance() == (700, 0, 0, 1000)
    paid = world.payouts.pay(TENANT, "p2", id_)
    assert (paid.status, paid.json()["status"]) == (200, "paid")
    assert world.balance() == (0, 700, 0, 1000)
    assert world.payouts.pay(TENANT, "p2", id_).body == paid.body
    assert world.payouts.pay(TENANT, "p3", id_).status == 409
    assert world.payouts.give_back(TENANT, "p4", id_).json()["status"] == "returned"
    assert world.balance() == (0, 700, 0, 1700)
    assert world.balance(chart.Kind.PAYOUT, "") == (0, 700, 0, 700)
    assert world.payouts.give_back(TENANT, "p5", id_).status == 409
    kinds = {kind for kind, _ in world.events()}
    assert kinds == {"charge.captured", "payout.scheduled", "payout.paid", "payout.returned"}


def test_more_than_the_balance_is_refused(world):
    assert world.payouts.schedule(TENANT, "p1", WANTED).status == 201
    refused = world.payouts.schedule(TENANT, "p2", WANTED)
    assert (refused.status, refused.json()["error"]["code"]) == (402, "ledger.exceeds_credits")
    assert world.payouts.schedule(TENANT, "p2", WANTED).body == refused.body


def test_a_cancelled_payout_gives_its_money_back(world):
    id_ = world.payouts.schedule(TENANT, "p1", WANTED).json()["id"]
    assert world.payouts.cancel(TENANT, "p2", id_).json()["status"] == "cancelled"
    assert world.balance() == (0, 0, 0, 1000)
    assert world.payouts.pay(TENANT, "p3", id_).status == 409


def test_a_freeze_stops_what_is_not_paid(world):
    id_ = world.payouts.schedule(TENANT, "p1", WANTED).json()["id"]
    frozen = world.payouts.freeze(TENANT, MERCHANT, "key stolen", "f1")
    assert frozen.json() == {"merchant": MERCHANT, "frozen": True, "reason": "key stolen", "payouts": [id_]}
    assert world.payouts.freeze(TENANT, MERCHANT, "key stolen", "f1").body == frozen.body
    assert world.payouts.freeze(TENANT, MERCHANT, "key stolen", "f2").json()["payouts"] == []
    refused = world.payouts.pay(TENANT, "p2", id_)
    assert (refused.status, refused.json()["error"]["code"]) == (409, "payout.frozen")
    later = world.payouts.schedule(TENANT, "p3", {**WANTED, "amount_minor": 100}).json()
    assert later["status"] == "frozen"
    thawed = world.payouts.unfreeze(TENANT, MERCHANT, "cleared", "f3").json()
    assert thawed["payouts"] == sorted([id_, later["id"]])
    assert not world.payouts.is_frozen(TENANT, MERCHANT)
    assert world.payouts.pay(TENANT, "p2", id_).body == refused.body, "the key keeps its answer"
    assert world.payouts.pay(TENANT, "p4", id_).status == 200


def test_a_freeze_is_of_one_merchant_and_tenant(world):
    id_ = world.payouts.schedule(TENANT, "p1", WANTED).json()["id"]
    world.payouts.freeze(TENANT, "shop-2", "x", "f1")
    world.payouts.freeze("other", MERCHANT, "x", "f1")
    assert world.payouts.pay(TENANT, "p2", id_).status == 200


def test_payouts_are_walled(world):
    id_ = world.payouts.schedule(TENANT, "p1", WANTED).json()["id"]
    with pytest.raises(NotFoundError):
        world.payouts.pay("other", "p2", id_)
    with pytest.raises(DataError, match=r"request[.]pan_refused"):
        world.payouts.freeze(TENANT, MERCHANT, "card 4242424242424242", "f1")


def test_no_payout_slips_past_a_freeze(db, clock):
    """Many payouts race one freeze: those paid after the freeze was answered would show."""
    world = World(db, clock)
    world.charges.create(TENANT, "k1", charge(1000))
    ids = [world.payouts.schedule(TENANT, f"p{n}", {**WANTED, "amount_minor": 10}).json()["id"] for n in range(16)]
    paid, lock = [], threading.Lock()
    answered = threading.Event()

    def pay(part):
        for id_ in part:
            late = answered.is_set()
            status = world.payouts.pay(TENANT, f"pay-{id_}", id_).status
            with lock:
                paid.append((status, late))

    def freeze():
        frozen.extend(world.payouts.freeze(TENANT, MERCHANT, "x", "f1").json()["payouts"])
        answered.set()

    frozen = []
    threads = [threading.Thread(target=pay, args=(ids[n::3],)) for n in range(3)] + [threading.Thread(target=freeze)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = sum(status == 200 for status, _ in paid)
    assert done + len(frozen) == 16
    assert not [late for status, late in paid if late and status == 200]
    assert world.balance() == (10 * len(frozen), 10 * done, 0, 1000)
