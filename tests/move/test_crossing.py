"""Two services, two databases, a bus that nobody trusts: each crossing is applied once or fully reversed."""

import pytest
from crossing_world import CURRENCY, LIMIT_S, PAYEE, PAYER, TENANT, Receiving, World

from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.move import chart
from vedette.move.crossing import Kind, Message, State, parse_message


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def places(request, tmp_path):
    """Makes the two places of a schedule."""
    count = [0]

    def fresh():
        count[0] += 1
        if request.param == "sqlite":
            return (tmp_path / f"west{count[0]}.db", ""), (tmp_path / f"east{count[0]}.db", "")
        name = f"x{abs(hash(request.node.nodeid)) % 10**9}_{count[0]}"
        url = request.getfixturevalue("postgres_url")
        return (url, f"west_{name}"), (url, f"east_{name}")

    return fresh


@pytest.fixture
def world(places):
    world = World(places(), 0)
    world.rng.random = lambda: 0.9  # nobody dies by itself
    yield world
    world.close()


def begin(world, name="x1", amount=100, to=PAYEE):
    return world.west.service.start(TENANT, name, from_account=PAYER, to_account=to, amount=amount, currency=CURRENCY)


def transit(world):
    return world.sums(world.west, chart.account(chart.Kind.TRANSIT, CURRENCY, "east").id)


def test_money_arrives(world):
    assert begin(world).state is State.SENT
    assert transit(world) == (0, 0, 100, 0), "on its way, and everyone sees it"
    assert [one.id for one in world.west.service.in_transit(TENANT)] == ["x1"]
    (credit,) = world.west.service.due()
    assert world.west.service.due() == [], "not again before a while has passed"
    verdict = world.east.service.receive(parse_message(credit.encode()))
    assert verdict.kind is Kind.APPLIED
    assert world.east.service.receive(credit) == verdict
    assert world.west.service.receive(verdict).state is State.APPLIED
    assert world.west.service.receive(verdict).state is State.APPLIED
    assert transit(world) == (0, 0, 0, 100)
    world.wanted["x1"] = (100, PAYEE)
    world.verify()


def test_money_that_is_refused_comes_back(world):
    begin(world, to=99)
    (credit,) = world.west.service.due()
    verdict = world.east.service.receive(credit)
    assert (verdict.kind, verdict.reason) == (Kind.REFUSED, "credit_account_not_found")
    one = world.west.service.receive(verdict)
    assert (one.state, one.reason) == (State.REVERSED, "credit_account_not_found")
    world.wanted["x1"] = (100, 99)
    world.verify()


def test_past_its_limit_it_is_cancelled_and_late_money_is_turned_away(world):
    begin(world)
    (credit,) = world.west.service.due()
    world.clock.micros += round(LIMIT_S * 1e6)
    (cancel,) = world.west.service.due()
    assert (cancel.kind, cancel.fence) == (Kind.CANCEL, 2)
    assert world.west.service.in_transit(TENANT)[0].state is State.CANCELLING
    verdict = world.east.service.receive(cancel)
    assert (verdict.kind, verdict.reason) == (Kind.REFUSED, "cancelled")
    assert world.east.service.receive(credit).kind is Kind.REFUSED
    assert world.west.service.receive(verdict).state is State.REVERSED
    world.wanted["x1"] = (100, PAYEE)
    world.verify()


def test_a_cancel_that_comes_too_late_learns_that_the_money_is_there(world):
    begin(world)
    (credit,) = world.west.service.due()
    world.east.service.receive(credit)
    world.clock.micros += round(LIMIT_S * 1e6)
    (cancel,) = world.west.service.due()
    assert world.west.service.receive(world.east.service.receive(cancel)).state is State.APPLIED
    world.wanted["x1"] = (100, PAYEE)
    world.verify()


def test_what_the_ledger_does_not_hold_never_begins(world):
    with pytest.raises(ConflictError) as caught:
        begin(world, amount=1_001)
    assert caught.value.code == "ledger.exceeds_credits"
    with pytest.raises(NotFoundError):
        world.west.service.get(TENANT, "x1")


def test_an_id_stands_for_one_crossing(world):
    first = begin(world)
    assert begin(world) == first
    with pytest.raises(DataError, match="amount"):
        begin(world, amount=101)
    (credit,) = world.west.service.due()
    world.east.service.receive(credit)
    with pytest.raises(DataError, match="another crossing"):
        world.east.service.receive(Message(**{**_fields(credit), "amount": 5}))


def _fields(message):
    return {name: getattr(message, name) for name in message.__struct_fields__}


def test_odd_messages_are_refused(world):
    with pytest.raises(DataError):
        parse_message(b"{}")
    with pytest.raises(DataError):
        parse_message(b"not json")
    begin(world)
    (credit,) = world.west.service.due()
    with pytest.raises(DataError):
        world.west.service.receive(credit)
    with pytest.raises(DataError):
        world.east.service.receive(Message(kind=Kind.APPLIED, tenant=TENANT, crossing="x1", fence=1))
    with pytest.raises(NotFoundError):
        world.west.service.receive(Message(kind=Kind.APPLIED, tenant=TENANT, crossing="x9", fence=1))
    with pytest.raises(DataError):
        begin(world, name="x2", amount=0)


def schedule(places, seed, make_receiver=None):
    world = World(places(), seed, **({"make_receiver": make_receiver} if make_receiver else {}))
    try:
        world.play()
        world.verify()
        return world.deaths, len(world.wanted)
    finally:
        world.close()


@pytest.mark.kill
def test_seeded_schedules(places):
    seen = [schedule(places, seed) for seed in range(6)]
    assert sum(deaths for deaths, _ in seen) > 20
    assert sum(count for _, count in seen) > 10


@pytest.mark.soak
@pytest.mark.parametrize("block", range(40))
def test_1_000_schedules(request, places, block):
    """On SQLite; 200 of them on PostgreSQL too."""
    count = 25 if "sqlite" in request.node.name else 5
    for seed in range(1_000 + block * 25, 1_000 + block * 25 + count):
        schedule(places, seed)


class Careless(Receiving):
    """Does not look at the fence."""

    def _late(self, fence, highest):
        return False


class Forgetful(Receiving):
    """Does not remember what it cancelled."""

    def _decide(self, connection, message):
        if message.kind is Kind.CANCEL:
            return super()._decide(connection, Message(**{**_fields(message), "crossing": message.crossing + "?"}))
        return super()._decide(connection, message)


@pytest.mark.kill
@pytest.mark.parametrize("planted", [Careless, Forgetful])
def test_a_skipped_fence_is_caught(tmp_path, planted):
    count = iter(range(1_000))

    def places():
        n = next(count)
        return (tmp_path / f"west{n}.db", ""), (tmp_path / f"east{n}.db", "")

    def make(db, clock, ledgers, step):
        return planted(db, clock, ledgers, peer="west", step=step)

    def caught(seed):
        try:
            schedule(places, seed, make)
        except (AssertionError, DataError):
            return True
        return False

    assert any(caught(seed) for seed in range(60))
