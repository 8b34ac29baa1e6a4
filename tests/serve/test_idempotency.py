"""One effect per key over HTTP, whoever asks how often, and what the API promises about it in docs/api.md."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
from serve_world import ALL_SCOPES, OTHER, charge, code_of, fresh

CALLERS = 32


def transfers(world):
    with world.platform.money.read() as connection:
        return connection.exec_driver_sql("select count(*) from ledger_transfer").scalar_one()


def patiently(world, key, body=None):
    """Sends until the answer is final: a request in hand elsewhere answers 409 `idempotency.key_in_use`."""
    while True:
        answer = world.post("/v1/charges", world.full, body or charge(), key=key)
        if code_of(answer) != "idempotency.key_in_use":
            return answer


def test_concurrent_requests_with_one_key_have_one_effect_and_one_answer(world):
    key, before = fresh(), transfers(world)
    barrier = Barrier(CALLERS)

    def ask(_number):
        barrier.wait()
        return patiently(world, key)

    with ThreadPoolExecutor(CALLERS) as threads:
        answers = list(threads.map(ask, range(CALLERS)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert transfers(world) == before + 2, "one hold, one capture"
    assert world.platform.ledger.trial_balance("acme").values()
    assert all(sums == (0, 0) for sums in world.platform.ledger.trial_balance("acme").values())


def test_distinct_keys_have_an_effect_each(world):
    """The check above would see a second effect: two keys give two charges."""
    before = transfers(world)
    first, second = (patiently(world, fresh()) for _ in range(2))
    assert first.json()["id"] != second.json()["id"]
    assert transfers(world) == before + 4


def test_a_key_with_another_body_is_refused(world):
    key = fresh()
    assert patiently(world, key).status_code == 201
    for changed in (charge(2000), charge(currency="USD"), charge(metadata={"order": "o-2"})):
        answer = world.post("/v1/charges", world.full, changed, key=key)
        assert (answer.status_code, code_of(answer)) == (422, "idempotency.mismatch")


def test_white_space_and_order_of_fields_make_no_other_body(world):
    key = fresh()
    first = patiently(world, key)
    wanted = dict(reversed(charge().items()))
    again = world.post("/v1/charges", world.full, wanted, key=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("key", [None, ""])
def test_no_key_is_refused(world, key):
    for path in ("/v1/charges", "/v1/payouts", "/v1/merchants/m_9/freeze"):
        secret = world.chief if "freeze" in path else world.full
        answer = world.post(path, secret, charge(), key=key)
        assert (answer.status_code, code_of(answer)) == (400, "idempotency.key_missing"), path


def test_a_key_that_is_too_long_is_refused(world):
    answer = world.post("/v1/charges", world.full, charge(), key="k" * 256)
    assert (answer.status_code, code_of(answer)) == (400, "idempotency.key.invalid")


def test_a_request_refused_before_it_began_leaves_its_key_free(world):
    key = fresh()
    assert world.post("/v1/charges", world.full, charge(-5), key=key).status_code == 400
    assert world.post("/v1/charges", world.full, charge(5), key=key).status_code == 201


def test_an_error_that_is_an_answer_is_kept(world):
    key = fresh()
    wanted = {"amount_minor": 10**12, "currency": "EUR", "merchant": "m_poor"}
    first, again = (world.post("/v1/payouts", world.full, wanted, key=key) for _ in range(2))
    assert first.status_code == 402
    assert (again.status_code, again.content) == (402, first.content)
    assert again.headers["idempotent-replayed"] == "true"


def test_keys_of_two_tenants_never_meet(world):
    key = fresh()
    theirs = world.key(ALL_SCOPES, OTHER)
    ours = patiently(world, key)
    other = world.post("/v1/charges", theirs, charge(7), key=key)
    assert other.status_code == 201
    assert other.json()["id"] != ours.json()["id"]
    assert "idempotent-replayed" not in other.headers


def test_decisions_repeat_by_event_id_without_any_key(world):
    event = {
        "TRANSACTION_ID": 31_337,
        "TX_DATETIME": "2026-03-02 10:00:00",
        "CUSTOMER_ID": 1,
        "TERMINAL_ID": 2,
        "TX_AMOUNT": 300,
    }
    first, again = (world.post("/v1/decisions", world.full, {"event": event}) for _ in range(2))
    assert first.content == again.content
    assert first.json()["action"] == "challenge"


def test_a_request_in_hand_elsewhere_is_told_to_come_again(world, monkeypatch):
    """While the first request waits for its decision, a second one with the key does not wait and does nothing."""
    key, arrived, go_on = fresh(), Event(), Event()
    decide = world.platform.charges._decide_each

    def wait(event):
        arrived.set()
        assert go_on.wait(300)
        return decide(event)

    monkeypatch.setattr(world.platform.charges, "_decide_each", wait)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(world.post, "/v1/charges", world.full, charge(), key=key)
        assert arrived.wait(300)
        second = world.post("/v1/charges", world.full, charge(), key=key)
        go_on.set()
        assert (second.status_code, code_of(second)) == (409, "idempotency.key_in_use")
        assert first.result().status_code == 201
