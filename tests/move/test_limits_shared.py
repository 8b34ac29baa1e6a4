"""One suite for the limiters of one process and of many; many real processes against one bucket."""

import itertools
import multiprocessing
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.clock import SystemClock
from vedette.core.errors import DefinitionError, TransientError
from vedette.core.redis import Redis
from vedette.move.limits import Limits, Rate, RedisLimits, RedisSlots, Shedder, Slots, hold

NUMBERS = itertools.count()


@pytest.fixture
def store(redis_url):
    with_it = Redis(redis_url)
    yield with_it
    with_it.close()


@pytest.fixture(params=["process", "redis"])
def limits(request, clock):
    if request.param == "process":
        return Limits(clock)
    return RedisLimits(request.getfixturevalue("store"))


@pytest.fixture(params=["process", "redis"])
def slots(request, clock):
    if request.param == "process":
        return Slots(clock)
    return RedisSlots(request.getfixturevalue("store"))


SLOW = Rate(1, 3_600, 3)
LEASE_S = 2.0
"""By the clock of Redis: long enough that a busy machine asks twice within it."""
"""So slow that a test sees no refill, whatever the clock."""


def test_a_refusal_takes_nothing_from_any(limits):
    key, account = ("key:k1", Rate(1, 3_600, 2)), ("account:acme", Rate(1, 3_600, 5))
    assert [limits.ask([key, account]).passed for _ in range(4)] == [True, True, False, False]
    other = ("key:k2", Rate(1, 3_600, 9))
    assert [limits.ask([other, account]).passed for _ in range(5)] == [True, True, True, False, False]
    assert limits.ask([("key:k2", Rate(1, 3_600, 9))]).standings[0].remaining == 5, "the account refused, not the key"


def test_what_a_verdict_tells(limits):
    first = limits.ask([("key:k", SLOW)])
    assert [(each.remaining, each.reset_s) for each in first.standings] == [(2, 3_600)]
    limits.ask([("key:k", SLOW)])
    limits.ask([("key:k", SLOW)])
    refused = limits.ask([("key:k", SLOW)])
    assert (refused.passed, refused.standings[0].remaining) == (False, 0)
    assert 3_590 * 10**6 < refused.wait <= 3_600 * 10**6
    with pytest.raises(TransientError) as error:
        limits.take([("key:k", SLOW)])
    assert error.value.code == "limits.rate.exceeded"
    assert 3_590 < error.value.retry_after <= 3_600


def test_other_names_and_other_rates_are_other_buckets(limits):
    assert limits.ask([("a", Rate(1, 3_600, 1))]).passed
    assert limits.ask([("b", Rate(1, 3_600, 1))]).passed
    assert limits.ask([("a", Rate(2, 3_600, 1))]).passed
    assert not limits.ask([("a", Rate(1, 3_600, 1))]).passed


def test_absurd_rates_are_refused():
    with pytest.raises(DefinitionError):
        Rate(1, 86_400, 10**9)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_shared_one_counts_to_the_microsecond(store, count, period, burst):
    """What Redis holds after each step is what exact fractions give, at the server's own times."""
    rate, limits, name = Rate(count, period, burst), RedisLimits(store), f"x{next(NUMBERS)}"
    until = 0  # arrival time x count
    for _ in range(2 * burst + 2):
        verdict = limits.ask([(name, rate)])
        start = verdict.now * count
        after = max(until, start) + rate.step
        assert verdict.passed is (after - start <= rate.room)
        assert verdict.wait == max(0, -(-(after - start - rate.room) // count))
        if verdict.passed:
            until = after
        assert verdict.until[0] == max(until, start)
        if verdict.wait and verdict.wait < 3_000:
            time.sleep(verdict.wait / 1e6)


def test_many_in_one_round_trip_are_decided_one_after_the_other(store):
    limits = RedisLimits(store)
    many = limits.ask_many([[("key:k", SLOW)]] * 5)
    assert [each.passed for each in many] == [True, True, True, False, False]
    store.client.script_flush()
    assert not limits.ask_many([[("key:k", SLOW)]])[0].passed, "a server that lost the script is taught again"
    store.client.script_flush()
    assert not limits.ask([("key:k", SLOW)]).passed


def test_empty_buckets_leave_redis(store):
    RedisLimits(store).ask([("key:k", Rate(1_000, 1, 1))])
    time.sleep(0.02)
    assert store.client.keys("*") == []


def test_a_server_that_is_gone_is_told():
    with pytest.raises(TransientError) as error:
        RedisLimits(Redis("redis://127.0.0.1:1/0")).ask([("key:k", SLOW)])
    assert error.value.code == "core.redis.unavailable"


def greedy(redis_url, key, wanted, start, answers):
    """A process that asks as fast as it can, so often and for so long at least."""
    store, (times, seconds, rate) = Redis(redis_url, timeout_s=240), wanted
    limits = RedisLimits(store)
    buckets = [(f"key:{key}", Rate(100_000, 1, 100_000)), ("account:acme", rate)]
    start.wait()
    passed = asked = 0
    until = time.monotonic() + seconds
    while asked < times or time.monotonic() < until:
        passed += limits.ask(buckets).passed
        asked += 1
    store.close()
    answers.put((passed, asked))


def crowd(redis_url, processes, times, seconds, rate):
    forked = multiprocessing.get_context("fork")
    start, answers = forked.Barrier(processes + 1), forked.SimpleQueue()
    started = [
        forked.Process(target=greedy, args=(redis_url, f"k{n}", (times, seconds, rate), start, answers))
        for n in range(processes)
    ]
    for each in started:
        each.start()
    begun = time.monotonic()
    start.wait(300)
    found = [answers.get() for _ in started]
    lasted = time.monotonic() - begun
    for each in started:
        each.join()
    return sum(passed for passed, _ in found), sum(asked for _, asked in found), lasted


def test_sixteen_processes_never_get_more_than_burst_and_rate(redis_url):
    rate = Rate(20, 1, 50)
    passed, asked, lasted = crowd(redis_url, 16, 60, 0, rate)
    assert asked == 960 > passed, "they must want more than they get"
    assert passed <= rate.burst + rate.count * lasted
    assert passed >= rate.burst, "and get what is theirs"


@pytest.mark.soak
def test_sixteen_processes_for_a_while(redis_url):
    rate = Rate(500, 1, 100)
    passed, asked, lasted = crowd(redis_url, 16, 0, 30, rate)
    assert asked > passed
    assert rate.burst + rate.count * 20 <= passed <= rate.burst + rate.count * lasted


# Slots


def test_slots_are_taken_together_and_come_back(slots):
    key, account = ("key:k1", 2), ("account:acme", 3)
    first, second = slots.acquire([key, account]), slots.acquire([key, account])
    with pytest.raises(TransientError) as error:
        slots.acquire([key, account])
    assert error.value.code == "limits.concurrency.exceeded"
    assert error.value.retry_after > 0
    third = slots.acquire([("key:k2", 2), account])
    with pytest.raises(TransientError):
        slots.acquire([("key:k3", 2), account])
    slots.release(first)
    slots.release(first)
    with hold(slots, [key, account]), pytest.raises(TransientError):
        slots.acquire([account])
    slots.acquire([account])
    for lease in (second, third):
        slots.release(lease)


def test_a_slot_whose_holder_died_comes_back(clock):
    slots = Slots(clock, lease_s=5)
    slots.acquire([("a", 1)])
    clock.advance(4.9)
    with pytest.raises(TransientError):
        slots.acquire([("a", 1)])
    clock.advance(0.2)
    slots.release(slots.acquire([("a", 1)]))
    assert not slots._held, "nothing is left behind"


def test_a_shared_slot_whose_holder_died_comes_back(store):
    slots = RedisSlots(store, lease_s=LEASE_S)
    slots.acquire([("a", 1)])
    with pytest.raises(TransientError):
        slots.acquire([("a", 1)])
    time.sleep(LEASE_S + 0.03)
    slots.acquire([("a", 1)])


def test_a_share_is_kept_for_what_is_critical(slots):
    shedder = Shedder(slots, 10, reserved=0.2)
    held = [shedder.admit(critical=False) for _ in range(8)]
    for _ in range(2):
        with pytest.raises(TransientError) as error:
            shedder.admit(critical=False)
        assert error.value.code == "limits.load.shed"
    held += [shedder.admit(critical=True) for _ in range(2)]
    with pytest.raises(TransientError):
        shedder.admit(critical=True)
    for lease in held[-3:]:
        shedder.release(lease)
    with pytest.raises(TransientError):
        shedder.admit(critical=False) and shedder.admit(critical=False)


def test_a_process_that_counts_alone_would_let_through_too_much():
    """The check is seen to fail: limiters that share nothing pass twice."""
    both = [Limits(SystemClock()), Limits(SystemClock())]
    assert sum(each.ask([("account:acme", Rate(1, 3_600, 1))]).passed for each in both) == 2
