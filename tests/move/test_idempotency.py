"""Claims alone: who holds a key, who lost it, what is kept."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.errors import ConflictError, DataError
from vedette.move.idempotency import KEEP, Answer, Claim, Idempotency, Request, to_answer

SECRET = b"sixteen bytes or more"


def request(key="k", tenant="acme", operation="POST /x", parameters=None):
    return Request(tenant, key, operation, parameters)


@pytest.fixture
def keys(db, clock):
    return Idempotency(db, clock, SECRET)


def claim(keys, wanted, resource="r1"):
    with keys.db.begin() as connection:
        return keys.claim(connection, wanted, resource)


def write(keys, method, *arguments):
    with keys.db.begin() as connection:
        return getattr(keys, method)(connection, *arguments)


def test_only_the_newest_fence_may_write(keys, clock):
    old = claim(keys, request())
    with pytest.raises(ConflictError, match="key_in_use"):
        claim(keys, request(), "r2")
    clock.advance(30)
    new = claim(keys, request(), "r2")
    assert (new.fence, new.resource, new.created) == (2, "r1", old.created)
    for method, argument in (("advance", "p"), ("finish", to_answer(200, {}))):
        with pytest.raises(ConflictError, match="lease_lost"):
            write(keys, method, old, argument)
    keys.release(old)
    keys.forget(old)
    with pytest.raises(ConflictError, match="key_in_use"):
        claim(keys, request())
    new = write(keys, "advance", new, "p")
    write(keys, "finish", new, to_answer(200, {"n": 1}))
    with pytest.raises(ConflictError, match="lease_lost"):
        write(keys, "finish", new, to_answer(200, {"n": 2}))
    assert claim(keys, request()) == Answer(200, b'{"n":1}', replayed=True)
    assert keys.stored(request()) == Answer(200, b'{"n":1}', replayed=True)


def test_advancing_renews_the_lease(keys, clock):
    held = claim(keys, request())
    for _ in range(4):
        clock.advance(20)
        held = write(keys, "advance", held, "p")
    with pytest.raises(ConflictError, match="key_in_use"):
        claim(keys, request())


def test_release_and_forget(keys):
    held = claim(keys, request())
    keys.release(held)
    again = claim(keys, request(), "r2")
    assert (again.fence, again.resource) == (2, "r1"), "released: the same thing goes on"
    keys.forget(again)
    fresh = claim(keys, request(), "r3")
    assert (fresh.fence, fresh.resource) == (1, "r3"), "forgotten: as if never sent"
    fresh = write(keys, "advance", fresh, "p")
    keys.forget(fresh)
    with pytest.raises(ConflictError, match="key_in_use"):
        claim(keys, request())


@pytest.mark.parametrize(
    "other", [request(operation="POST /y"), request(parameters={"a": 2}), request(parameters={"a": True})]
)
def test_other_requests_do_not_match(keys, other):
    keys.once(request(parameters={"a": 1}), "r", lambda _connection, _claim: to_answer(200, 1))
    for act in (lambda: claim(keys, other), lambda: keys.stored(other)):
        with pytest.raises(DataError, match=r"idempotency[.]mismatch"):
            act()


def test_once_rolls_back_whole(keys):
    class Stopped(Exception):
        pass

    def stop(_connection, _claim):
        raise Stopped

    with pytest.raises(Stopped):
        keys.once(request(), "r1", stop)
    assert keys.once(request(), "r2", lambda _connection, held: to_answer(200, held.resource)).json() == "r2"


def test_a_sweep_leaves_what_is_live(keys, clock):
    keys.once(request("done"), "r", lambda _connection, _claim: to_answer(200, 1))
    clock.micros += KEEP - 1
    assert keys.sweep() == 0
    running = claim(keys, request("running"))
    clock.micros += 1
    assert keys.sweep() == 1
    assert keys.stored(request("done")) is None
    write(keys, "advance", running, "p")


def test_the_secret_keys_the_fingerprint(db, clock):
    one, two = (Idempotency(db, clock, secret) for secret in (SECRET, SECRET + b"2"))
    assert one._fingerprint(request()) != two._fingerprint(request())
    with pytest.raises(DataError, match=r"idempotency[.]secret[.]short"):
        Idempotency(db, clock, b"short")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["claim", "advance", "finish", "release", "wait"]), st.integers(0, 3)), max_size=14
    )
)
def test_one_answer_and_one_holder(db, clock, moves):
    """Any order of claims, writes by any holder that ever was, and waits: the first finish wins, old holders lose."""
    keys = Idempotency(db, clock, SECRET)
    wanted = request(key=f"k{clock.now()}-{id(moves)}")
    clock.advance(1)
    claims, answer, until = [], None, 0
    for move, pick in moves:
        if move == "wait":
            clock.advance(12 * pick)
        elif move == "claim":
            try:
                got = claim(keys, wanted, f"r{len(claims)}")
            except ConflictError:
                assert answer is None
                assert clock.now() < until
                continue
            if isinstance(got, Answer):
                assert got.body == answer
                continue
            assert isinstance(got, Claim)
            assert answer is None
            assert not claims or clock.now() >= until
            claims.append(got)
            until = clock.now() + 30_000_000
        elif claims:
            held = claims[pick % len(claims)]
            current = held.fence == claims[-1].fence and answer is None
            if move == "release":
                keys.release(held)
                until = clock.now() if current else until
                continue
            body = f"{held.fence}".encode()
            try:
                write(keys, move, held, "p" if move == "advance" else Answer(200, body))
            except ConflictError:
                assert not current
                continue
            assert current
            answer = body if move == "finish" else None
            until = clock.now() + 30_000_000
