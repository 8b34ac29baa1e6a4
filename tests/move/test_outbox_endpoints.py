"""Endpoints: order about one object, health, dead letters by hand, and that a slow one holds nobody up."""

import random
import threading
import time
from collections import Counter, defaultdict

import pytest
from money_world import SECRET, Response

from vedette.core.db import open_database
from vedette.core.errors import ConflictError, DefinitionError, NotFoundError
from vedette.core.ids import Ids
from vedette.move.outbox import SCHEDULE_S, DeliveryStatus, Dispatcher, Outbox
from vedette.move.outbox.dispatcher import CONNECTIONS, PER_ENDPOINT
from vedette.move.outbox.outbox import KEEP_DEAD, KEEP_DELIVERED
from vedette.move.webhooks import verify

TENANT = "acme"


class World:
    def __init__(self, db, clock, threads=0):
        self.db, self.clock = db, clock
        self.outbox = Outbox(db, clock, Ids(clock))
        self.sent, self.answers = [], lambda _post: 200
        rng, secrets_of = random.Random(1), lambda *_: [SECRET]
        self.dispatcher = Dispatcher(db, clock, send=self.send, secrets_of=secrets_of, rng=rng, threads=threads)

    def send(self, post):
        self.sent.append(post)
        answer = self.answers(post)
        return answer if isinstance(answer, Response) else Response(answer)

    def emit(self, *subjects, tenant=TENANT):
        with self.db.begin() as connection:
            self.outbox.emit_many(connection, tenant, [("thing.changed", {"id": subject}) for subject in subjects])

    def only(self):
        (endpoint,) = self.outbox.endpoints(TENANT)
        return endpoint

    def bodies(self):
        return [post.content.decode().split('"id":"')[2].split('"')[0] for post in self.sent]


@pytest.fixture
def world(db, clock):
    return World(db, clock)


def test_order_is_kept_about_one_object_and_only_there(world, clock):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/a", ordered=True)
    world.emit("x", "x", "y")
    world.emit("x")
    world.answers = lambda post: 500 if post.content.count(b'"x"') else 200
    world.dispatcher.run_once()
    assert world.bodies() == ["x", "y"], "later ones about x wait for the first, y does not"
    world.answers = lambda _post: 200
    clock.advance(10)
    assert world.dispatcher.run_once() == 3
    assert world.bodies() == ["x", "y", "x", "x", "x"]
    ids = [post.headers["webhook-id"] for post in world.sent]
    in_order = [each.event_id for each in world.outbox.deliveries(TENANT) if each.subject == "x"]
    assert [ids[2], ids[3], ids[4]] == sorted(in_order, key=ids.index)
    assert ids[0] == ids[2]


def test_a_dead_one_lets_the_later_ones_go(world, clock):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/a", ordered=True)
    world.emit("x", "x")
    first = []
    world.answers = lambda post: (
        500 if post.headers["webhook-id"] == (first or [post.headers["webhook-id"]])[0] else 200
    )
    for _ in range(len(SCHEDULE_S)):
        world.dispatcher.run_once()
        first[:] = first or [world.sent[0].headers["webhook-id"]]
        clock.advance(200_000)
    world.dispatcher.run_once()
    assert Counter(each.status for each in world.outbox.deliveries(TENANT)) == {"dead": 1, "delivered": 1}


def test_without_order_nothing_waits(world):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/a")
    world.emit("x", "x", "x")
    world.answers = lambda _post: 500
    assert world.dispatcher.run_once() == 3


def test_a_dead_letter_is_sent_again_by_hand(world, clock):
    endpoint = world.outbox.add_endpoint(TENANT, "https://hooks.example/a")
    world.emit("x")
    world.answers = lambda _post: 500
    for _ in range(len(SCHEDULE_S)):
        world.dispatcher.run_once()
        clock.advance(200_000)
    (dead,) = world.outbox.deliveries(TENANT, status=DeliveryStatus.DEAD)
    assert world.only().dead == 1
    for tenant, event, to in (
        ("other", dead.event_id, endpoint),
        (TENANT, "evt_x", endpoint),
        (TENANT, dead.event_id, "we_x"),
    ):
        with pytest.raises(NotFoundError):
            world.outbox.replay(tenant, event, to)
    world.outbox.enable(TENANT, endpoint, enabled=False)
    with pytest.raises(ConflictError):
        world.outbox.replay(TENANT, dead.event_id, endpoint)
    world.outbox.enable(TENANT, endpoint)
    world.outbox.replay(TENANT, dead.event_id, endpoint)
    with pytest.raises(ConflictError) as twice:
        world.outbox.replay(TENANT, dead.event_id, endpoint)
    assert twice.value.code == "outbox.delivery.not_dead"
    world.answers = lambda _post: 200
    assert world.dispatcher.run_once() == 1
    assert len({(post.headers["webhook-id"], post.content) for post in world.sent}) == 1, "the same event"
    assert [each.status for each in world.outbox.deliveries(TENANT)] == ["delivered"]
    found = world.sent[-1]
    assert verify(found.content, found.headers, scheme="standard", secrets=[SECRET], now=clock.now() // 1_000_000)


def test_health_is_told_and_an_endpoint_that_fails_is_left_alone(world, clock):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/a")
    world.emit(*"abcdefgh")
    assert world.only().health == "ok"
    world.answers = lambda _post: 500
    world.dispatcher.run_once()
    assert (world.only().health, world.only().failures, world.only().last_error) == ("paused", 8, "500")
    world.emit("new")
    assert world.dispatcher.run_once() == 0, "not even a new one is tried"
    clock.advance(100)
    world.answers = lambda _post: 200
    assert world.dispatcher.run_once() == 9
    assert (world.only().health, world.only().failures, world.only().waiting) == ("ok", 0, 0)
    assert world.only().last_success == clock.now()
    world.answers = lambda _post: 410
    world.emit("x")
    world.dispatcher.run_once()
    assert (world.only().health, world.only().enabled) == ("disabled", False)


def test_retry_after_is_respected(world, clock):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/a")
    world.emit("x")
    world.answers = lambda _post: Response(429, {"retry-after": "120"})
    world.dispatcher.run_once()
    world.emit("y")
    clock.advance(119)
    assert world.dispatcher.run_once() == 0
    world.answers = lambda _post: 200
    clock.advance(60)
    assert world.dispatcher.run_once() == 2
    for odd in ("soon", "-5", "1e9", "٣", ""):
        world.answers = lambda _post, odd=odd: Response(503, {"retry-after": odd})
        world.emit("z")
        assert world.dispatcher.run_once() == 1
        clock.advance(7)
        world.answers = lambda _post: 200
        assert world.dispatcher.run_once() == 1


@pytest.mark.parametrize("scheme", ["standard", "timestamped"])
def test_each_endpoint_has_its_scheme(world, clock, scheme):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/a", scheme=scheme)
    world.emit("x")
    world.dispatcher.run_once()
    (post,) = world.sent
    found = verify(post.content, post.headers, scheme=scheme, secrets=[SECRET], now=clock.now() // 1_000_000)
    assert found.message_id == post.headers["webhook-id"]
    with pytest.raises(DefinitionError):
        world.outbox.add_endpoint(TENANT, "https://hooks.example/a", scheme="md5")


def test_what_is_settled_is_forgotten_in_time(world, clock):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/a")
    world.emit("x", "y")
    world.answers = lambda post: 410 if b'"y"' in post.content else 200
    world.dispatcher.run_once()
    assert world.outbox.sweep() == 0
    clock.micros += KEEP_DELIVERED + 1
    assert (world.outbox.sweep(), [each.status for each in world.outbox.deliveries(TENANT)]) == (1, ["dead"])
    clock.micros += KEEP_DEAD
    assert (world.outbox.sweep(), world.outbox.deliveries(TENANT)) == (1, [])


# With threads


def drain(world, seconds=240.0):
    made, until = 0, time.monotonic() + seconds
    while world.outbox.deliveries(TENANT, status=DeliveryStatus.WAITING):
        made += world.dispatcher.run_once()
        assert time.monotonic() < until
    return made


def test_threads_deliver_everything_once_with_few_connections_each(db, clock):
    world = World(db, clock, threads=12)
    running, most, lock = Counter(), Counter(), threading.Lock()

    def answer(post):
        with lock:
            running[post.url] += 1
            most[post.url] = max(most[post.url], running[post.url])
        time.sleep(0.001)
        with lock:
            running[post.url] -= 1
        return 200

    world.answers = answer
    for n in range(3):
        world.outbox.add_endpoint(TENANT, f"https://hooks.example/{n}")
    world.emit(*(str(n) for n in range(100)))
    assert drain(world) == 300
    world.dispatcher.close()
    got = defaultdict(set)
    for post in world.sent:
        got[post.url].add(post.headers["webhook-id"])
    assert len(world.sent) == 300
    assert [len(ids) for ids in got.values()] == [100] * 3
    assert 1 < max(most.values()) <= CONNECTIONS


def test_a_slow_endpoint_holds_nobody_up(db, clock, monkeypatch):
    monkeypatch.setattr("vedette.move.outbox.dispatcher.PATIENCE_S", 0.05)
    clock.monotonic = time.monotonic
    world, hold = World(db, clock, threads=6), threading.Event()
    world.answers = lambda post: (hold.wait(300) and 200) if "slow" in post.url else 200
    slow = world.outbox.add_endpoint(TENANT, "https://slow.example/")
    quick = world.outbox.add_endpoint(TENANT, "https://quick.example/")
    world.emit(*(str(n) for n in range(200)))

    def left(endpoint):
        waiting = world.outbox.deliveries(TENANT, status=DeliveryStatus.WAITING)
        return sum(each.endpoint_id == endpoint for each in waiting)

    until = time.monotonic() + 240
    while left(quick):
        world.dispatcher.run_once()
        assert time.monotonic() < until
    assert left(slow) == 200
    leased = [each for each in world.outbox.deliveries(TENANT) if each.endpoint_id == slow and each.attempts]
    assert len(leased) <= PER_ENDPOINT
    hold.set()
    drain(world)
    world.dispatcher.close()
    assert len(world.sent) == 400


def test_closing_gives_back_what_was_not_begun(db, clock, monkeypatch):
    monkeypatch.setattr("vedette.move.outbox.dispatcher.PATIENCE_S", 0.0)
    world, hold = World(db, clock, threads=2), threading.Event()
    world.answers = lambda _post: hold.wait(300) and 200
    world.outbox.add_endpoint(TENANT, "https://slow.example/")
    world.emit(*(str(n) for n in range(20)))
    world.dispatcher.run_once()
    threading.Timer(0.1, hold.set).start()
    world.dispatcher.close()
    done = Counter(each.status for each in world.outbox.deliveries(TENANT))
    again = World(db, clock)
    assert again.dispatcher.run_once() == done["waiting"]
    assert done["delivered"] == len(world.sent)
    assert {each.status for each in world.outbox.deliveries(TENANT)} == {"delivered"}


def test_an_error_that_nobody_foresaw_is_a_failed_attempt(db, clock):
    world = World(db, clock, threads=2)

    def broken(_post):
        raise RuntimeError

    world.answers = broken
    world.outbox.add_endpoint(TENANT, "https://hooks.example/")
    world.emit("x")
    assert world.dispatcher.run_once() == 1
    (each,) = world.outbox.deliveries(TENANT)
    assert (each.status, each.attempts, each.error) == ("waiting", 1, "outbox.internal")
    world.dispatcher.close()


BEFORE = """
create table webhook_endpoint (tenant text not null, id text not null, url text not null, enabled integer not null,
 created integer not null, primary key (tenant, id)) strict;
create table webhook_delivery (tenant text not null, event_id text not null, endpoint_id text not null,
 body blob not null, status text not null, attempts integer not null, next_at integer not null, fence integer not null,
 created integer not null, error text not null, primary key (tenant, event_id, endpoint_id)) strict;
insert into webhook_endpoint values ('acme', 'we_1', 'https://hooks.example/', 1, 5);
insert into webhook_delivery values ('acme', 'evt_1', 'we_1', x'7b7d', 'waiting', 0, 5, 0, 5, '');
insert into webhook_delivery values ('acme', 'evt_2', 'we_1', x'7b7d', 'dead', 9, 5, 9, 5, '500');
create table schema_version (component text primary key not null, version integer not null) strict;
insert into schema_version values ('outbox', 1)"""


def test_tables_of_before_are_widened(tmp_path, clock):
    db = open_database(tmp_path / "money.db")
    with db.begin() as connection:
        for statement in BEFORE.split(";"):
            connection.exec_driver_sql(statement)
    world = World(db, clock)
    assert (world.only().scheme, world.only().dead) == ("timestamped", 1)
    assert world.dispatcher.run_once() == 1
    assert "Webhook-Signature" in world.sent[0].headers
    db.close()
