"""Disputes: what is held, what evidence is worth, who gets the money, and what the outcome teaches."""

import itertools
import json
import random

import pytest
from money_child import Skewed
from money_world import MERCHANT, TENANT, World, charge
from test_kill import answered, child, killed

from vedette.core.clock import to_iso
from vedette.core.errors import DataError, NotFoundError
from vedette.core.label import Label
from vedette.move import chart
from vedette.move.dispute import DISPUTES, DisputeStatus
from vedette.move.disputes import STEPS
from vedette.move.ledger.check import check

DAY_S = 86_400


@pytest.fixture
def world(db, clock):
    return World(db, clock)


def due(world, days=10):
    return to_iso(world.clock.now() + days * DAY_S * 1_000_000)


def opened(world, key="d1", amount=2_000, **changed):
    """A captured charge and its dispute."""
    made = world.charges.create(TENANT, f"charge-of-{key}", charge(amount)).json()
    wanted = {"charge": made["id"], "reason": "fraudulent", "evidence_due": due(world), **changed}
    return made, world.disputes.open(TENANT, key, wanted)


IDS = itertools.count()


def verbs(world):
    def act(name, dispute, **body):
        key = f"{name}-{next(IDS)}"
        if name == "settle":
            return world.disputes.settle(TENANT, key, dispute)
        if name == "submit":
            return world.disputes.submit(TENANT, key, dispute, {"evidence": {"receipt": "signed"}})
        return world.disputes.decide(TENANT, key, dispute, {"outcome": body["outcome"]})

    return act


def sums(world, kind, merchant=""):
    return world.balance(kind=kind, merchant=merchant)


def labels(world):
    waiting = [one.event for one in world.disputes._told.waiting(500)]
    return [event for event in waiting if event.source == "label"]


def told(world):
    waiting = [one.event for one in world.disputes._told.waiting(500)]
    return [event.data["status"] for event in waiting if event.data.get("type") == "dispute"]


@pytest.mark.parametrize(("outcome", "merchant"), [("won", (0, 0, 0, 2_000)), ("lost", (0, 2_000, 0, 2_000))])
def test_from_opened_to_settled(world, outcome, merchant):
    made, answer = opened(world)
    assert (answer.status, answer.json()["status"], answer.json()["held_minor"]) == (201, "opened", 2_000)
    dispute = answer.json()["id"]
    assert world.balance() == (2_000, 0, 0, 2_000), "held: it can be neither paid out nor refunded"
    act = verbs(world)
    assert act("submit", dispute).json()["evidence"] == {"receipt": "signed"}
    assert labels(world) == []
    world.clock.advance(3 * DAY_S)
    assert act("decide", dispute, outcome=outcome).json()["status"] == outcome
    (label,) = labels(world)
    assert Label(**label.data) == Label(
        event_id=made["decision"]["event_id"],
        tenant=TENANT,
        fraud=outcome == "lost",
        observed_time=world.clock.now(),
        kind="dispute",
    )
    assert world.balance() == (2_000, 0, 0, 2_000), "decided is not settled"
    assert act("settle", dispute).json()["status"] == "settled"
    assert world.balance() == merchant
    clearing = (0, 2_000, 0, 0) if outcome == "won" else (0, 2_000, 0, 2_000)
    assert sums(world, chart.Kind.CLEARING) == clearing
    assert sums(world, chart.Kind.DISPUTE) == ((0, 0, 0, 0) if outcome == "won" else (0, 2_000, 0, 2_000))
    assert told(world) == ["opened", "submitted", outcome, "settled"]
    assert check(world.db).findings == []


def test_only_a_lost_dispute_about_fraud_is_fraud(world):
    for reason, outcome in itertools.product(("fraudulent", "duplicate"), ("won", "lost")):
        _, answer = opened(world, f"{reason}-{outcome}", reason=reason)
        verbs(world)("decide", answer.json()["id"], outcome=outcome)
    assert [event.data["fraud"] for event in labels(world)] == [False, True, False, False]


def test_what_the_merchant_does_not_have_is_covered(world):
    made = world.charges.create(TENANT, "k1", charge(2_000)).json()
    payout = world.payouts.schedule(
        TENANT, "p1", {"amount_minor": 1_400, "currency": "EUR", "merchant": MERCHANT}
    ).json()
    world.payouts.pay(TENANT, "p2", payout["id"])
    wanted = {"charge": made["id"], "reason": "fraudulent", "evidence_due": due(world)}
    shape = world.disputes.open(TENANT, "d1", wanted).json()
    assert (shape["amount_minor"], shape["held_minor"], shape["covered_minor"]) == (2_000, 600, 1_400)
    assert sums(world, chart.Kind.RESERVE) == (1_400, 0, 0, 0)
    act = verbs(world)
    act("decide", shape["id"], outcome="lost")
    act("settle", shape["id"])
    assert sums(world, chart.Kind.RESERVE) == (0, 1_400, 0, 0)
    assert world.balance() == (0, 2_000, 0, 2_000)
    assert check(world.db).findings == []


def test_what_is_disputed_cannot_be_refunded_or_disputed_again(world):
    made, answer = opened(world, amount_minor=1_500)
    refund = world.charges.refund(TENANT, "r1", made["id"], {"amount_minor": 501})
    assert (refund.status, refund.json()["error"]["code"]) == (402, "refund.amount.exceeds_captured")
    assert world.charges.refund(TENANT, "r2", made["id"], {"amount_minor": 500}).status == 201
    again = {"charge": made["id"], "reason": "duplicate", "evidence_due": due(world)}
    refused = world.disputes.open(TENANT, "d9", again)
    assert (refused.status, refused.json()["error"]["code"]) == (402, "dispute.amount.exceeds_captured")
    act = verbs(world)
    act("decide", answer.json()["id"], outcome="won")
    act("settle", answer.json()["id"])
    assert world.charges.refund(TENANT, "r3", made["id"], {}).json()["amount_minor"] == 1_500
    assert check(world.db).findings == []


def test_a_charge_that_moved_no_money_has_no_dispute(world):
    made = world.charges.create(TENANT, "k1", charge(source="tok_block")).json()
    wanted = {"charge": made["id"], "reason": "fraudulent", "evidence_due": due(world)}
    assert world.disputes.open(TENANT, "d1", wanted).status == 402


def test_evidence_has_a_deadline(world):
    _, answer = opened(world)
    world.clock.advance(10 * DAY_S)
    late = verbs(world)("submit", answer.json()["id"])
    assert (late.status, late.json()["error"]["code"]) == (409, "dispute.evidence.late")
    assert world.disputes.lapse() == 1
    assert world.disputes.lapse() == 0
    assert world.disputes.get(TENANT, answer.json()["id"]).status is DisputeStatus.LOST
    (label,) = labels(world)
    assert label.data["observed_time"] == world.clock.now()


def test_submitted_in_time_does_not_lapse(world):
    _, answer = opened(world)
    verbs(world)("submit", answer.json()["id"])
    world.clock.advance(20 * DAY_S)
    assert world.disputes.lapse() == 0


ALLOWED = {
    ("opened", "submit"): "submitted",
    **{(state, verb): verb for state in ("opened", "submitted") for verb in ("won", "lost")},
    **{(state, "settle"): "settled" for state in ("won", "lost")},
}


def test_any_order_of_verbs_follows_the_machine(world):
    act, rng = verbs(world), random.Random(3)
    for n in range(25):
        _, answer = opened(world, f"d{n}")
        dispute, state = answer.json()["id"], "opened"
        for _ in range(6):
            verb = rng.choice(["submit", "won", "lost", "settle"])
            got = act(verb, dispute) if verb in ("submit", "settle") else act("decide", dispute, outcome=verb)
            allowed = ALLOWED.get((state, verb))
            assert got.status == (200 if allowed else 409), (state, verb)
            state = allowed or state
            assert world.disputes.get(TENANT, dispute).status == state
    assert check(world.db).findings == []


def test_a_key_happens_once(world):
    made, answer = opened(world)
    wanted = {"charge": made["id"], "reason": "fraudulent", "evidence_due": due(world)}
    again = world.disputes.open(TENANT, "d1", wanted)
    assert (again.body, again.replayed) == (answer.body, True)
    with pytest.raises(DataError, match="mismatch"):
        world.disputes.open(TENANT, "d1", {**wanted, "reason": "duplicate"})
    assert [one.id for one in world.disputes.of_charge(TENANT, made["id"])] == [answer.json()["id"]]


def test_another_tenant_sees_nothing(world):
    made, answer = opened(world)
    with pytest.raises(NotFoundError):
        world.disputes.get("other", answer.json()["id"])
    with pytest.raises(NotFoundError):
        world.disputes.settle("other", "k", answer.json()["id"])
    assert world.disputes.of_charge("other", made["id"]) == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"reason": "angry"}, "dispute.reason.unknown"),
        ({"evidence_due": "2001-01-01T00:00:00Z"}, "dispute.evidence_due.out_of_range"),
        ({"evidence_due": "soon"}, "event.time.unparsable"),
        ({"amount_minor": 0}, "money.amount.invalid"),
        ({"extra": 1}, "request.field.unknown"),
        ({"network_reason": "4242424242424242"}, "request.pan_refused"),
    ],
)
def test_bad_disputes_are_refused(world, changed, code):
    with pytest.raises(DataError) as caught:
        opened(world, **changed)
    assert caught.value.code == code


def test_bad_evidence_and_outcomes_are_refused(world):
    _, answer = opened(world)
    dispute = answer.json()["id"]
    for evidence in ({}, {"a": 1}, {"a": "x" * 20_001}, "text", {"a": "4242424242424242"}):
        with pytest.raises(DataError):
            world.disputes.submit(TENANT, "s", dispute, {"evidence": evidence})
    with pytest.raises(DataError) as caught:
        world.disputes.decide(TENANT, "s", dispute, {"outcome": "drawn"})
    assert caught.value.code == "dispute.outcome.unknown"


def test_the_auditor_sees_an_edited_dispute(world):
    _, answer = opened(world)
    at = DISPUTES.c.id == answer.json()["id"]
    for values in (
        {"held_minor": 1},
        {"status": "settled", "outcome": "lost"},
        {"amount_minor": 1},
        {"id": "dp_other"},
    ):
        with world.db.begin() as connection:
            held = dict(connection.execute(DISPUTES.select().where(at)).mappings().one())
            connection.execute(DISPUTES.update().where(at).values(values))
        found = {finding.code for finding in check(world.db).findings}
        assert found & {"dispute.transfer", "dispute.returned", "dispute.amount"}
        with world.db.begin() as connection:
            connection.execute(DISPUTES.delete())
            connection.execute(DISPUTES.insert().values(held))
    assert check(world.db).findings == []


@pytest.mark.kill
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("verb", ["dispute", "evidence", "won", "settle"])
def test_killed_at_every_step(db, target, verb, step):
    world = World(db, Skewed(0.0))
    made = world.charges.create(TENANT, "k1", charge(2_000)).json()
    wanted = {"charge": made["id"], "reason": "fraudulent", "evidence_due": due(world)}
    argument = json.dumps(wanted)
    if verb != "dispute":
        argument = world.disputes.open(TENANT, "d1", wanted).json()["id"]
    if verb == "settle":
        world.disputes.decide(TENANT, "d3", argument, {"outcome": "lost"})
    killed(child(target, verb, die_at=step, argument=argument))
    status, body = answered(child(target, verb, argument=argument, skew=61.0))
    assert status in (200, 201)
    again = answered(child(target, verb, argument=argument, skew=61.0))
    assert again == (status, body)
    assert world.balance() == ((0, 2_000, 0, 2_000) if verb == "settle" else (2_000, 0, 0, 2_000))
    assert len(labels(world)) == (verb in ("won", "settle"))
    assert check(db).findings == []
