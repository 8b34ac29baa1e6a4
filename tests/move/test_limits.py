"""GCRA against a brute-force bucket that counts in fractions; refusals take nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import DefinitionError, TransientError
from vedette.move.limits import Limits, Rate

RATES = st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 6)).map(lambda numbers: Rate(*numbers))


class Clock:
    def __init__(self):
        self.micros = 1_000_000

    def now(self):
        raise AssertionError("wall time must not be read")

    def monotonic(self):
        return self.micros / 1e6


class Bucket:
    """Tokens that refill continuously: the obvious way, in fractions."""

    def __init__(self, rate, now):
        self.rate, self.tokens, self.at = rate, Fraction(rate.burst), now

    def refill(self, now):
        grown = Fraction((now - self.at) * self.rate.count, self.rate.period_s * 1_000_000)
        self.tokens, self.at = min(Fraction(self.rate.burst), self.tokens + grown), now

    def wait(self):
        return max(Fraction(0), (1 - self.tokens) * self.rate.period_s * 1_000_000 / self.rate.count)


@given(
    st.lists(RATES, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 3_000_000), st.sets(st.integers(0, 2), min_size=1)), max_size=60),
)
def test_as_the_brute_force_bucket(rates, requests):
    clock = Clock()
    limits = Limits(clock)
    model = [Bucket(rate, clock.micros) for rate in rates]
    for gap, chosen in requests:
        clock.micros += gap
        used = sorted({place % len(rates) for place in chosen})
        for bucket in model:
            bucket.refill(clock.micros)
        wait = max(model[place].wait() for place in used)
        buckets = [(f"b{place}", rates[place]) for place in used]
        if wait:
            with pytest.raises(TransientError) as refused:
                limits.take(buckets)
            # Rounded up to the microsecond, never down: a client that waits this long is let through.
            assert 0 <= round(refused.value.retry_after * 1e6) - wait < 1
        else:
            limits.take(buckets)
            for place in used:
                model[place].tokens -= 1


def test_waiting_as_told_is_enough():
    clock = Clock()
    limits = Limits(clock)
    buckets = [("a", Rate(3, 1, 2)), ("b", Rate(7, 5, 4))]
    for _ in range(50):
        try:
            limits.take(buckets)
        except TransientError as refused:
            clock.micros += round(refused.retry_after * 1e6)
            limits.take(buckets)


def test_the_memory_is_bounded():
    clock = Clock()
    limits = Limits(clock, max_buckets=100)
    busy = Rate(1, 3_600, 2)
    for n in range(1_000):
        limits.take([(f"b{n}", busy)])
    assert len(limits) <= 100
    full = ("account", busy)
    for n in range(1_000):
        limits.ask([(f"d{n}", busy), full])
    assert len(limits) <= 101, "what is refused leaves nothing behind either"
    clock.micros += 3_600_000_000
    for n in range(101):
        limits.take([(f"c{n}", busy)])
    assert len(limits) <= 101, "empty buckets are dropped first"


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_rates_are_positive(numbers):
    with pytest.raises(DefinitionError):
        Rate(*numbers)
