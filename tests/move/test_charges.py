"""Charges and refunds: one effect for each key, the same bytes for each retry, and every refusal with its place."""

import json

import pytest
from money_world import MERCHANT, TENANT, World, charge

from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError, DataError, NotFoundError, TransientError
from vedette.move import chart
from vedette.move.charges import STEPS
from vedette.move.limits import Rate
from vedette.prove.dlp import find_pans


@pytest.fixture
def world(db, clock):
    world = World(db, clock)
    world.outbox.add_endpoint(TENANT, "https://hooks.example/acme")
    return world


def rows(world):
    tables = ("idempotency", "charge", "refund", "ledger_account", "ledger_transfer", "webhook_delivery")
    with world.db.read() as connection:
        return {
            name: [tuple(row) for row in connection.exec_driver_sql(f"select * from {name}").all()] for name in tables
        }


@pytest.mark.parametrize(("source", "status"), [("tok_visa", "captured"), ("tok_review", "captured")])
def test_a_charge_is_held_and_captured(world, source, status):
    answer = world.charges.create(TENANT, "k1", charge(source=source))
    body = answer.json()
    assert answer.status == 201
    assert body["status"] == status
    assert body["decision"]["risk_score"] == 25
    hold, capture = (int(body["ledger"][name], 16) for name in ("hold", "capture"))
    assert [t.amount for t in world.ledger.lookup_transfers(TENANT, [hold, capture])] == [1999, 1999]
    assert world.balance() == (0, 0, 0, 1999)
    assert world.balance(chart.Kind.CLEARING, "") == (0, 1999, 0, 0)
    assert world.ledger.trial_balance(TENANT) == {chart.to_ledger("EUR"): (0, 0)}
    assert [kind for kind, _ in world.events()] == ["charge.captured"]
    assert tuple(world.steps) == STEPS


@pytest.mark.parametrize(("source", "status"), [("tok_block", "blocked"), ("tok_challenge", "challenged")])
def test_a_refused_charge_moves_nothing(world, source, status):
    answer = world.charges.create(TENANT, "k1", charge(source=source))
    assert (answer.status, answer.json()["status"], answer.json()["ledger"]) == (201, status, None)
    assert world.transfers() == 0
    assert [kind for kind, _ in world.events()] == [f"charge.{status}"]
    assert world.charges.create(TENANT, "k1", charge(source=source)).body == answer.body
    assert world.charges.refund(TENANT, "r1", answer.json()["id"], {}).status == 402


def test_a_retry_gets_the_same_bytes_and_moves_nothing(world, clock):
    first = world.charges.create(TENANT, "k1", charge())
    held = rows(world)
    clock.advance(3_600)
    again = world.charges.create(TENANT, "k1", dict(reversed(charge().items())))
    assert (again.body, again.status, again.replayed) == (first.body, 201, True)
    assert rows(world) == held


def test_another_request_with_the_key_is_refused(world):
    world.charges.create(TENANT, "k1", charge())
    with pytest.raises(DataError, match=r"idempotency[.]mismatch"):
        world.charges.create(TENANT, "k1", charge(2000))
    other = world.charges.create("other", "k1", charge(2000))
    assert other.json()["amount_minor"] == 2000, "a key belongs to its tenant"


def test_a_request_in_flight_is_a_conflict(db, clock):
    nested = []

    def decide(event):
        nested.append(event.id)
        with pytest.raises(ConflictError, match=r"idempotency[.]key_in_use"):
            world.charges.create(TENANT, "k1", charge())
        return Decision(event_id=event.id, tenant=TENANT, action=Action.ALLOW, score=None, risk_score=None)

    world = World(db, clock, decide=decide)
    assert world.charges.create(TENANT, "k1", charge()).status == 201
    assert len(nested) == 1


def test_a_holder_that_wakes_late_is_refused(db, clock):
    slow = []

    def decide(event):
        slow.append(event.id)
        if len(slow) == 1:
            clock.advance(31)  # past the lease; a retry takes over and finishes
            answers.append(world.charges.create(TENANT, "k1", charge()))
        return Decision(event_id=event.id, tenant=TENANT, action=Action.ALLOW, score=None, risk_score=None)

    answers = []
    world = World(db, clock, decide=decide)
    with pytest.raises(ConflictError, match=r"idempotency[.]lease_lost"):
        world.charges.create(TENANT, "k1", charge())
    assert len(set(slow)) == 1, "both attempts decided on one event"
    assert world.charges.create(TENANT, "k1", charge()).body == answers[0].body
    assert world.balance() == (0, 0, 0, 1999)
    assert world.transfers() == 2


def test_a_failed_decision_is_not_stored(db, clock):
    seen = []

    def decide(event):
        seen.append(event.id)
        if len(seen) == 1:
            raise TransientError("decide.busy", "later")
        return Decision(event_id=event.id, tenant=TENANT, action=Action.ALLOW, score=None, risk_score=None)

    world = World(db, clock, decide=decide)
    with pytest.raises(TransientError):
        world.charges.create(TENANT, "k1", charge())
    assert world.charges.create(TENANT, "k1", charge()).status == 201
    assert len(seen) == 2
    assert len(set(seen)) == 1


def test_over_the_limit_nothing_is_kept(db, clock):
    world = World(db, clock, rates=(Rate(1, 1, 2), Rate(1, 1, 3)))
    for key in ("k1", "k2"):
        assert world.charges.create(TENANT, key, charge(), api_key="a").status == 201
    with pytest.raises(TransientError, match=r"limits[.]rate[.]exceeded") as refused:
        world.charges.create(TENANT, "k3", charge(), api_key="a")
    assert refused.value.retry_after == 1.0
    assert world.charges.create(TENANT, "k1", charge(), api_key="a").replayed, "a replay costs nothing"
    assert world.charges.create(TENANT, "k3", charge(), api_key="b").status == 201, "the refusal took nothing"
    with pytest.raises(TransientError):
        world.charges.create(TENANT, "k4", charge(), api_key="b")
    clock.advance(1)
    assert world.charges.create(TENANT, "k4", charge(), api_key="a").status == 201


PANS = ["4242424242424242", "4242 4242 4242 4242", "3782-822463-10005"]


@pytest.mark.parametrize("pan", PANS)
@pytest.mark.parametrize("field", ["source", "merchant", "currency", "metadata", "key", "name"])
def test_a_card_number_is_refused_before_anything_is_kept(world, pan, field, caplog):
    key = pan if field == "key" else "k1"
    wanted = charge()
    if field == "metadata":
        wanted["metadata"] = {"note": f"card {pan}"}
    elif field == "name":
        wanted["metadata"] = {pan: "x"}
    elif field != "key":
        wanted[field] = f"tok_{pan}" if field == "source" else pan
    with pytest.raises(DataError) as refused:
        world.charges.create(TENANT, key, wanted)
    assert refused.value.code == "request.pan_refused"
    assert not any(held for name, held in rows(world).items() if name != "webhook_endpoint")
    assert not find_pans(str(refused.value) + caplog.text)


@pytest.mark.parametrize(
    ("changed", "code", "place"),
    [
        ({"amount_minor": -1}, "money.amount.invalid", "$.amount_minor"),
        ({"amount_minor": 0}, "money.amount.invalid", "$.amount_minor"),
        ({"amount_minor": 19.99}, "money.amount.invalid", "$.amount_minor"),
        ({"amount_minor": True}, "money.amount.invalid", "$.amount_minor"),
        ({"amount_minor": "1999"}, "money.amount.invalid", "$.amount_minor"),
        ({"amount_minor": 2**127}, "money.amount.invalid", "$.amount_minor"),
        ({"currency": "ZZZ"}, "money.currency.unknown", "$.currency"),
        ({"currency": "eur"}, "money.currency.unknown", "$.currency"),
        ({"currency": None}, "request.field.type", "$.currency"),
        ({"source": "card"}, "charge.source.invalid", "$.source"),
        ({"source": 7}, "request.field.type", "$.source"),
        ({"merchant": "a b"}, "request.merchant.invalid", "$.merchant"),
        ({"metadata": []}, "request.field.type", "$.metadata"),
        ({"metadata": {"a": 1}}, "request.field.type", "$.metadata['a']"),
        ({"metadata": {"a": "x" * 501}}, "charge.metadata.too_large", "$.metadata['a']"),
        ({"metadata": {str(n): "" for n in range(51)}}, "charge.metadata.too_large", "$.metadata"),
        ({"tip": 1}, "request.field.unknown", "$.'tip'"),
    ],
)
def test_a_malformed_charge_names_its_field(world, changed, code, place):
    with pytest.raises(DataError) as refused:
        world.charges.create(TENANT, "k1", charge(**changed))
    assert (refused.value.code, refused.value.place) == (code, place)
    assert world.charges.create(TENANT, "k1", charge()).status == 201, "a refused request does not use its key"


@pytest.mark.parametrize("parameters", [None, [], "x", 7, {}, {"amount_minor": 1}])
def test_a_charge_is_an_object_with_all_fields(world, parameters):
    with pytest.raises(DataError, match=r"request[.]field"):
        world.charges.create(TENANT, "k1", parameters)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
def test_a_key_has_a_form(world, key):
    with pytest.raises(DataError, match=r"idempotency[.]key[.]invalid"):
        world.charges.create(TENANT, key, charge())


@pytest.mark.parametrize("currency", ["JPY", "KWD", "EUR"])
def test_large_amounts_and_every_exponent(world, currency):
    amount = 2**127 - 1
    body = world.charges.create(TENANT, "k1", charge(amount, currency=currency)).json()
    assert body["amount_minor"] == amount
    assert world.balance(currency=currency) == (0, 0, 0, amount)
    assert chart.to_currency(chart.to_ledger(currency)) == currency


def test_refunds_never_pass_what_was_captured(world):
    id_ = world.charges.create(TENANT, "k1", charge()).json()["id"]
    part = world.charges.refund(TENANT, "r1", id_, {"amount_minor": 500})
    assert (part.status, part.json()["amount_minor"]) == (201, 500)
    assert world.charges.refund(TENANT, "r1", id_, {"amount_minor": 500}).body == part.body
    assert world.charges.get(TENANT, id_).status == "partially_refunded"
    over = world.charges.refund(TENANT, "r2", id_, {"amount_minor": 1500})
    assert over.status == 402
    assert over.json()["error"]["code"] == "refund.amount.exceeds_captured"
    assert world.charges.refund(TENANT, "r2", id_, {"amount_minor": 1500}).body == over.body
    rest = world.charges.refund(TENANT, "r3", id_, {})
    assert rest.json()["amount_minor"] == 1499
    assert world.charges.get(TENANT, id_).status == "refunded"
    assert world.charges.refund(TENANT, "r4", id_, {}).status == 402
    assert world.balance() == (0, 1999, 0, 1999)
    assert sorted(kind for kind, _ in world.events()) == ["charge.captured", "charge.refunded", "charge.refunded"]


def test_a_refund_needs_its_own_key(world):
    id_ = world.charges.create(TENANT, "k1", charge()).json()["id"]
    with pytest.raises(DataError, match=r"idempotency[.]mismatch"):
        world.charges.refund(TENANT, "k1", id_, {})


def test_a_refund_of_money_that_left_is_refused(world):
    id_ = world.charges.create(TENANT, "k1", charge()).json()["id"]
    world.payouts.schedule(TENANT, "p1", {"amount_minor": 1000, "currency": "EUR", "merchant": MERCHANT})
    refused = world.charges.refund(TENANT, "r1", id_, {})
    assert (refused.status, refused.json()["error"]["code"]) == (402, "ledger.exceeds_credits")
    assert world.charges.get(TENANT, id_).status == "captured"
    assert world.charges.refund(TENANT, "r2", id_, {"amount_minor": 999}).status == 201


def test_another_tenants_charge_is_not_found(world):
    id_ = world.charges.create(TENANT, "k1", charge()).json()["id"]
    with pytest.raises(NotFoundError):
        world.charges.get("other", id_)
    with pytest.raises(NotFoundError):
        world.charges.refund("other", "r1", id_, {})


def test_the_answer_is_the_contract(world):
    body = world.charges.create(TENANT, "k1", charge()).body
    assert {"id", "status", "decision", "ledger"} <= json.loads(body).keys()
    assert not find_pans(body.decode())


def test_keys_expire(world, clock):
    first = world.charges.create(TENANT, "k1", charge())
    clock.advance(4 * 86_400)
    assert world.keys.sweep() == 1
    assert world.charges.create(TENANT, "k1", charge()).json()["id"] != first.json()["id"]
    clock.advance(4 * 86_400)
    assert not world.charges.create(TENANT, "k1", charge(5)).replayed, "an expired key is new without a sweep too"
