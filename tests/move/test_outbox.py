"""The dispatcher: schedule, leases, fencing, dead letters, gone endpoints."""

from itertools import pairwise

import pytest
from money_world import SECRET, TENANT, World, charge

from vedette.core.errors import NotFoundError, TransientError
from vedette.move.outbox import JITTER, LEASE_S, SCHEDULE_S
from vedette.move.webhooks import verify


@pytest.fixture
def world(db, clock):
    world = World(db, clock)
    world.endpoint = world.outbox.add_endpoint(TENANT, "https://hooks.example/acme")
    world.charges.create(TENANT, "k1", charge())
    return world


def only(world):
    (delivery,) = world.outbox.deliveries(TENANT)
    return delivery


def test_a_delivery_is_signed_and_sent_once(world, clock):
    assert world.dispatcher.run_once() == 1
    (post,) = world.sent
    assert verify(post.content, post.headers, scheme="standard", secrets=[SECRET], now=clock.now() // 1_000_000)
    assert post.headers["webhook-id"] == only(world).event_id
    assert (post.url, only(world).status) == ("https://hooks.example/acme", "delivered")
    assert world.dispatcher.run_once() == 0


@pytest.mark.parametrize("reply", [500, 302, 404, 199, TransientError("egress.timeout", "slow")])
def test_failures_follow_the_schedule_to_the_dead(world, clock, reply):
    times = []
    for _ in range(len(SCHEDULE_S)):
        clock.micros = max(clock.micros, only(world).next_at)
        world.replies = [reply]
        assert world.dispatcher.run_once() == 1
        times.append(clock.micros)
    for (before, after), wait in zip(pairwise(times), SCHEDULE_S[1:], strict=True):
        assert wait <= (after - before) / 1e6 <= wait * (1 + JITTER)
    dead = only(world)
    assert (dead.status, dead.attempts) == ("dead", len(SCHEDULE_S))
    assert dead.error == (reply.code if isinstance(reply, Exception) else str(reply))
    assert len({post.headers["webhook-id"] for post in world.sent}) == 1
    assert len({post.content for post in world.sent}) == 1
    clock.advance(10 * 86_400)
    assert world.dispatcher.run_once() == 0


def test_gone_disables_the_endpoint(world):
    world.charges.create(TENANT, "k2", charge())
    world.replies = [410]
    world.dispatcher.run_once()
    world.dispatcher.run_once()
    statuses = sorted((d.status, d.error) for d in world.outbox.deliveries(TENANT))
    # The second was leased in the same round; whether it was sent or not, the endpoint gets nothing more.
    assert statuses[0] == ("dead", "410")
    world.sent.clear()
    world.charges.create(TENANT, "k3", charge())
    assert world.dispatcher.run_once() == 0
    assert not world.sent
    world.outbox.enable(TENANT, world.endpoint)
    world.charges.create(TENANT, "k4", charge())
    assert world.dispatcher.run_once() == 1


def test_a_lease_keeps_others_away_until_it_ends(world, clock):
    (held,) = world.dispatcher.lease(10)
    assert world.dispatcher.lease(10) == []
    clock.advance(LEASE_S)
    (taken,) = world.dispatcher.lease(10)
    assert taken.fence == held.fence + 1
    assert world.dispatcher.settle(held, 200) is False, "the late holder is refused"
    assert only(world).status == "waiting"
    assert world.dispatcher.settle(taken, 500) is True
    assert world.dispatcher.settle(taken, 200) is True
    assert world.dispatcher.settle(taken, 500) is False, "what is delivered stays delivered"
    assert only(world).status == "delivered"


def test_slow_endpoints_do_not_eat_the_lease_of_others(world, clock):
    for n in range(5):
        world.charges.create(TENANT, f"more-{n}", charge())
    send = world.send

    def slow(post):
        clock.advance(19)
        return send(post)

    world.dispatcher._send = slow
    assert world.dispatcher.run_once() == 3, "the rest is given back"
    waiting = [d for d in world.outbox.deliveries(TENANT) if d.status == "waiting"]
    assert [d.attempts for d in waiting] == [0] * 3
    while world.dispatcher.run_once():
        pass
    assert {d.status for d in world.outbox.deliveries(TENANT)} == {"delivered"}
    assert len(world.sent) == 6


def test_endpoints_are_walled(db, clock):
    world = World(db, clock)
    world.outbox.add_endpoint("other", "https://hooks.example/other")
    world.charges.create(TENANT, "k1", charge())
    assert world.dispatcher.run_once() == 0
    with pytest.raises(NotFoundError):
        world.outbox.enable(TENANT, "we_unknown")


def test_every_endpoint_gets_the_event(world):
    world.outbox.add_endpoint(TENANT, "https://hooks.example/second")
    world.charges.create(TENANT, "k2", charge())
    world.dispatcher.run_once()
    assert len(world.sent) == 3
    ids = [post.headers["webhook-id"] for post in world.sent]
    assert len(set(ids)) == 2
