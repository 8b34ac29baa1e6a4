"""Charges in batches: the same as one by one, for any interleaving, duplicates, mismatches, bad lines and failures."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from money_world import MERCHANT, TENANT, World, charge

from vedette.core.db import open_database
from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError, DataError, TransientError, VedetteError
from vedette.move import charges as module
from vedette.move import chart
from vedette.move.charges import MAX_AGE, MAX_BATCH, ChargeItem
from vedette.move.ledger.nouns import Transfer, TransferFlags
from vedette.move.limits import Rate
from vedette.prove.dlp import find_pans


class Still:
    """A clock that stands still, for worlds of their own in one test."""

    def now(self):
        return 1_700_000_000_000_000

    def monotonic(self):
        return 0.0


NOW = Still().now()
SOURCES = ["tok_visa", "tok_block", "tok_challenge", "tok_review", "tok_busy", "tok_odd", "tok_4242424242424242"]


class Decides:
    """Decides by the token; `tok_busy` fails at first, `tok_odd` is refused for good. Remembers the order."""

    def __init__(self):
        self.asked = []
        self.busy = {}

    def __call__(self, event):
        word = event.data["source"].split("_")[1]
        order = event.data["metadata"]["order"]
        if word == "busy" and self.busy.setdefault(order, 2):
            self.busy[order] -= 1
            raise TransientError("decide.busy", "later")
        if word == "odd":
            raise DataError("decide.odd", "not this one")
        self.asked.append((event.event_time, order, event.data["source"]))
        action = Action(word) if word in list(Action) else Action.ALLOW
        return Decision(event_id="e", tenant=TENANT, action=action, score=None, risk_score=None, time=event.event_time)


def shown(outcome):
    """What a client can tell of an outcome, without the ids that are drawn at random."""
    if isinstance(outcome, VedetteError):
        return type(outcome).__name__, outcome.code, outcome.place
    body = outcome.json()
    kept = {name: body[name] for name in ("status", "amount_minor", "merchant", "metadata") if name in body}
    return outcome.status, outcome.replayed, kept, "ledger" in body and body["ledger"] is not None, body.get("error")


def rows(world):
    """What is stored, without ids and times."""
    queries = (
        "select key, operation, fence, lease_until > 0, status from idempotency order by key",
        "select status, amount_minor, refunded_minor, currency, source, merchant, created from charge order by 2, 1, 5, 6",
        "select code, ledger, amount, flags from ledger_transfer order by 3, 4",
        "select status, count(*) from ledger_pending group by 1",
        "select debits_pending, debits_posted, credits_pending, credits_posted from ledger_account order by id",
        "select count(*) from webhook_delivery",
    )
    with world.db.read() as connection:
        return [[tuple(row) for row in connection.exec_driver_sql(query).all()] for query in queries]


def one_by_one(world, items):
    """The meaning of a batch: single charges in order of their times."""
    found = {}
    for place, item in sorted(enumerate(items), key=lambda pair: pair[1].time or NOW):
        try:
            found[place] = world.charges.create(TENANT, item.key, item.charge, api_key=item.api_key, time=item.time)
        except VedetteError as error:
            found[place] = error
    return [found[place] for place in range(len(items))]


keys = st.sampled_from(["k0", "k1", "k2", "k3", "k4", "k5", "", "k\n", "4242424242424242"])
requests = st.builds(
    lambda source, amount, merchant, order: charge(amount, source=source, merchant=merchant, metadata={"order": order}),
    st.sampled_from(SOURCES),
    st.sampled_from([100, 100, 200, -1]),
    st.sampled_from([MERCHANT, "m-2"]),
    st.sampled_from(["o-1", "o-2"]),
)
times = st.sampled_from([None, NOW, NOW - 1, NOW - 60_000_000, NOW - MAX_AGE, NOW + 1, NOW - MAX_AGE - 1])
lines = st.builds(ChargeItem, keys, st.one_of(requests, st.just({"amount_minor": 1})), times, st.just("key_1"))


def play(folder, batches, *, grouped, size=2, plant=lambda _world: None):
    """What clients are told, what is stored, and what was decided in which order."""
    decides = Decides()
    database = open_database(folder / "money.db")
    world = World(database, Still(), decide=decides)
    world.outbox.add_endpoint(TENANT, "https://hooks.example/acme")
    plant(world)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "SLICE", size)
        act = world.charges.create_many if grouped else lambda _tenant, items: one_by_one(world, items)
        told = [[shown(outcome) for outcome in act(TENANT, items)] for items in batches]
    assert all(sums == (0, 0) for sums in world.ledger.trial_balance(TENANT).values())
    stored = rows(world)
    database.close()
    # Who asks again after a failure may have been passed by others; without failures the order is the same.
    failed = any(one[0] == "TransientError" for many in told for one in many)
    return told, stored, sorted(decides.asked) if failed else decides.asked


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.lists(lines, max_size=12), max_size=3), st.integers(1, 4))
def test_a_batch_is_its_charges_one_by_one(tmp_path_factory, batches, size):
    grouped = play(tmp_path_factory.mktemp("money"), batches, grouped=True, size=size)
    assert grouped == play(tmp_path_factory.mktemp("money"), batches, grouped=False)


def shuffled(world):
    """The answer of one line is given to the next."""
    inner = world.charges._carry_out

    def carry_out(begun, decide):
        outcomes = inner(begun, decide)
        places = sorted(outcomes)
        return dict(zip(places, [outcomes[place] for place in [*places[1:], *places[:1]]], strict=True))

    world.charges._carry_out = carry_out


def forgetful(world):
    """Claims are not given back when their decision fails."""
    world.keys.release = lambda *claims: None


def untimely(world):
    """Charges are decided in the order of the lines."""
    inner = world.charges._check
    world.charges._check = lambda tenant, place, item: dataclasses.replace(inner(tenant, place, item), time=place)


def partial(world):
    """The hold is made and the capture forgotten."""
    inner = world.ledger.create_transfers

    def create_transfers(tenant, transfers, *, within=None):
        plain = [msgspec.structs.replace(t, flags=t.flags & ~1) for t in transfers[::2]]
        return [status for status in inner(tenant, plain, within=within) for _ in range(2)]

    world.ledger.create_transfers = create_transfers


@pytest.mark.parametrize(("plant", "size"), [(shuffled, 9), (forgetful, 9), (untimely, 1), (partial, 9)])
def test_the_check_sees_planted_mistakes(tmp_path_factory, plant, size):
    items = [
        ChargeItem("k1", charge(100, metadata={"order": "o-1"}), NOW - 1),
        ChargeItem("k2", charge(200, source="tok_block", metadata={"order": "o-1"}), NOW - 2),
        ChargeItem("k3", charge(300, source="tok_odd", metadata={"order": "o-2"}), NOW - 3),
    ]
    good = play(tmp_path_factory.mktemp("money"), [items], grouped=False)
    assert play(tmp_path_factory.mktemp("money"), [items], grouped=True, size=size) == good
    assert play(tmp_path_factory.mktemp("money"), [items], grouped=True, size=size, plant=plant) != good


@pytest.fixture
def world(db, clock):
    return World(db, clock)


def test_a_batch_on_every_database(world):
    items = [ChargeItem(f"k{n}", charge(100 + n, merchant=f"m-{n % 3}")) for n in range(40)]
    first = world.charges.create_many(TENANT, [*items, items[0], ChargeItem("k1", charge(1))])
    assert [answer.status for answer in first[:41]] == [201] * 41
    assert (first[40].body, first[40].replayed) == (first[0].body, True)
    assert first[41].code == "idempotency.mismatch"
    again = world.charges.create_many(TENANT, list(reversed(items)))
    assert [answer.body for answer in reversed(again)] == [answer.body for answer in first[:40]]
    assert world.transfers() == 80
    assert tuple(world.steps[:5]) == module.STEPS, "one commit of each kind"


def test_a_batch_beside_singles_and_other_batches(world):
    """Sixteen threads with shared keys: one effect and one answer for each key, on both databases."""
    told = {}
    lock = threading.Lock()

    def single(n):
        return [(f"k{n}", patiently(lambda: world.charges.create(TENANT, f"k{n}", charge(100 + n))))]

    def many(first):
        left = [ChargeItem(f"k{n}", charge(100 + n)) for n in range(first, first + 10)]
        found = []
        for _ in range(600):
            outcomes = list(zip(left, world.charges.create_many(TENANT, left), strict=True))
            found += [(item.key, answer) for item, answer in outcomes if not isinstance(answer, VedetteError)]
            left = [item for item, answer in outcomes if isinstance(answer, VedetteError)]
            if not left:
                return found
        raise AssertionError(left)

    def work(number):
        found = many(number % 3 * 5) if number % 2 else [pair for n in range(8) for pair in single((number + n) % 20)]
        with lock:
            for key, answer in found:
                assert told.setdefault(key, answer.body) == answer.body

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert world.transfers() == 2 * len(told)
    assert world.balance()[3] == sum(100 + int(key[1:]) for key in told)


def patiently(act):
    while True:
        try:
            return act()
        except ConflictError as error:
            if error.code != "idempotency.key_in_use":
                raise
            time.sleep(0.005)


def test_a_batch_has_a_rate_of_its_own(db, clock):
    world = World(db, clock, rates=(Rate(1, 1, 1), Rate(1, 1, 1)))
    items = [ChargeItem(f"k{n}", charge()) for n in range(5)]
    assert all(answer.status == 201 for answer in world.charges.create_many(TENANT, items))
    world.charges.create_many(TENANT, [])
    with pytest.raises(TransientError, match=r"limits[.]rate[.]exceeded"):
        world.charges.create_many(TENANT, items)
    assert world.charges.create(TENANT, "k9", charge()).status == 201


def test_a_batch_is_bounded(world):
    with pytest.raises(DataError, match=r"charge[.]batch[.]too_large"):
        world.charges.create_many(TENANT, [ChargeItem("k", charge())] * (MAX_BATCH + 1))


def test_what_stops_all_stands_in_the_place_of_each(db, clock):
    def fail(_events):
        raise TransientError("log.append.failed", "the disk is full")

    world = World(db, clock)
    decide, world.charges._decide = world.charges._decide, fail
    items = [ChargeItem(f"k{n}", charge()) for n in range(3)]
    assert [error.code for error in world.charges.create_many(TENANT, items)] == ["log.append.failed"] * 3
    world.charges._decide = decide
    assert [answer.status for answer in world.charges.create_many(TENANT, items)] == [201] * 3


def test_a_charge_that_the_ledger_refuses_leaves_no_hold(world):
    id_ = chart.account(chart.Kind.MERCHANT, "EUR", "m-closed")
    clearing = chart.account(chart.Kind.CLEARING, "EUR")
    world.ledger.create_accounts(TENANT, [id_, clearing])
    closing = int(TransferFlags.PENDING | TransferFlags.CLOSING_CREDIT)
    shut = Transfer(
        id=7, debit_account_id=clearing.id, credit_account_id=id_.id, ledger=id_.ledger, code=1, flags=closing
    )
    assert world.ledger.create_transfers(TENANT, [shut]) == ["created"]
    items = [ChargeItem("k1", charge(merchant="m-closed")), ChargeItem("k2", charge())]
    refused, fine = world.charges.create_many(TENANT, items)
    assert (refused.status, refused.json()["error"]["code"]) == (402, "ledger.credit_account_already_closed")
    assert fine.status == 201
    assert world.charges.create(TENANT, "k1", charge(merchant="m-closed")).body == refused.body
    assert world.balance(merchant="m-closed") == (0, 0, 0, 0)


def test_no_card_number_is_told_or_kept(world, caplog):
    items = [ChargeItem("k1", charge(source="tok_4242424242424242")), ChargeItem("4242 4242 4242 4242", charge())]
    for error in world.charges.create_many(TENANT, items):
        assert error.code == "request.pan_refused"
        assert not find_pans(str(error) + caplog.text)
    assert not any(rows(world)[:3])
