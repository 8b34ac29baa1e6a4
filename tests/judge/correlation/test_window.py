"""The window against a brute-force model: any order within the lateness, duplicates, batches; and planted mistakes."""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.judge.correlation import moments as moments_module
from vedette.judge.correlation import window as window_module
from vedette.judge.correlation.definition import Condition, Kind, Measure
from vedette.judge.correlation.moments import Moment, chain
from vedette.judge.correlation.patterns import Pattern
from vedette.judge.correlation.window import Limits, Window

LATENESS = 40
PARTS = 3
RISING = [{"gte": 3}, {"gt": 1}, {"gte": 2}]
BOUNDED = [{"lt": 3}, {"lte": 2}, {"eq": 2}, {"neq": 3}, {"gte": 2, "lte": 3}]
TALLIES = (Kind.EVENT_COUNT, Kind.VALUE_COUNT, Kind.TEMPORAL, Kind.TEMPORAL_ORDERED, Kind.VALUE_SUM)


# The model: all moments at once, every window looked at, nothing remembered.


def longest(window):
    """Longest chain by trying every way on, over (time, event, part)."""

    def on(last):
        nexts = [
            one for one in window
            if last is None or (one.time >= last.time and one.part > last.part and one.id != last.id)
        ]  # fmt: skip
        return max((1 + on(one) for one in nexts), default=0)

    return on(None)


def amount(measure, window):
    values = [one.value for one in window]
    match measure.kind:
        case Kind.TEMPORAL_ORDERED:
            return longest(window)
        case Kind.VALUE_SUM:
            return sum(map(Fraction, values))
        case Kind.VALUE_AVG:
            return sum(map(Fraction, values)) / len(values)
        case Kind.VALUE_MEDIAN:
            return statistics.median(map(Fraction, values))
        case Kind.VALUE_PERCENTILE:
            ranked = sorted(values)
            return next(one for n, one in enumerate(ranked, 1) if 100 * n >= measure.percentile * len(ranked))
        case _:
            return len(set(values))


def neighbours(chain):
    """True when times do not go back and no event follows itself."""
    pairs = itertools.pairwise(chain)
    return all(one.time <= other.time and one.id != other.id for one, other in pairs)


def stands_in(chain, bad, span):
    """True when an unwanted moment stands in its place about a chain."""
    before = [one for one in chain if one.part < bad.part]
    after = [one for one in chain if one.part > bad.part]
    begin = before[-1].time if before else chain[-1].time - span + 1
    end = after[0].time if after else chain[0].time + span - 1
    return begin <= bad.time <= end


def there(pattern, own, end, measure):
    """True when some choice of a moment for each wanted part does it; every choice is tried."""
    span, ordered = measure.span, measure.kind is Kind.TEMPORAL_ORDERED
    window = [one for one in own if end - span < one.time <= end]
    bad = [one for one in own if one.part in pattern.unwanted]
    for chosen in itertools.product(*[[one for one in window if one.part == part] for part in sorted(pattern.wanted)]):
        last = max(one.time for one in chosen)
        if (ordered and not neighbours(chosen)) or (pattern.unwanted and last != end):
            continue
        if ordered and any(stands_in(chosen, one, span) for one in bad):
            continue
        first = min(one.time for one in chosen)
        if not ordered and any(last - span < one.time < first + span for one in bad):
            continue
        return True
    return False


def brute(measure, moments):
    """(group, spell) of every signal."""
    found = set()
    for group in {key for key, _ in moments}:
        own = {one for key, one in moments if key == group}
        peaks = {}
        for end in {one.time for one in own}:
            if measure.patterns:
                found |= {(group, end // measure.span) for one in measure.patterns if there(one, own, end, measure)}
                continue
            value = amount(measure, [one for one in own if end - measure.span < one.time <= end])
            spell = end // measure.span
            if measure.kind in TALLIES and not measure.condition.rising:
                peaks[spell] = max(peaks.get(spell, value), value)
            elif measure.condition.holds(value):
                found.add((group, spell))
        found |= {(group, spell) for spell, peak in peaks.items() if measure.condition.holds(peak)}
    return found


# Streams


def random_pattern(rng):
    parts = rng.sample(range(PARTS), rng.randint(1, PARTS))
    wanted = frozenset(parts[: rng.randint(1, len(parts))])
    return Pattern(wanted, frozenset(parts) - wanted)


def random_measure(rng):
    kind = rng.choice([kind for kind in Kind if not kind.ours])
    bounds = rng.choice(RISING + BOUNDED)
    patterns = ()
    if kind in {Kind.TEMPORAL, Kind.TEMPORAL_ORDERED} and rng.random() < 0.6:
        patterns = tuple(random_pattern(rng) for _ in range(rng.randint(1, 3)))
        bounds = {"gte": min(len(one.wanted) for one in patterns)}
    share = rng.choice([0, 33.3, 50, 90, 100])
    return Measure(kind, 5 * rng.randint(1, 12), Condition(**bounds), PARTS, share, patterns)


def random_value(rng, measure, event, part):
    number = rng.randint(0, 5)
    match measure.kind:
        case Kind.EVENT_COUNT:
            return event
        case Kind.VALUE_COUNT:
            return f"v{number}"
        case Kind.TEMPORAL | Kind.TEMPORAL_ORDERED:
            return part
        case _:
            return number / 4 if number % 2 else number


def random_stream(rng, measure):
    """(group, moment) in an order whose disorder stays within the lateness, with duplicates. Many times are equal."""
    found = []
    for _ in range(rng.randint(0, 40)):
        time, part = 5 * rng.randint(0, 60), rng.randrange(PARTS)
        event = f"e{rng.randint(0, 3)}@{time}"
        found.append(((rng.choice("ab"),), Moment(time, event, part, random_value(rng, measure, event, part))))
    found += [one for one in found if rng.random() < 0.3]
    return sorted(found, key=lambda one: one[1].time + rng.randint(0, LATENESS))


def run(measure, stream, cuts, **limits):
    """What the window says, in batches."""
    window = Window(measure, Limits(**{"lateness": LATENESS} | limits))
    found = []
    tides = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        batch = stream[begin:end]
        for key, moment in batch:
            found += [(key, one) for one in window.add(key, moment)]
        if batch:
            tides.append(max(one.time for _, one in batch))
            found += [(one.group, one) for one in window.advance(tides[-1], min(tides[-64:]))]
    found += [(one.group, one) for one in window.finish()]
    fresh = [(one.group, one.spell) for _, one in found if one.fresh]
    assert len(fresh) == len(set(fresh)), "one signal for each group and spell"
    assert window.held >= 0
    return set(fresh), [one for _, one in found]


def check(seed):
    rng = random.Random(seed)
    measure = random_measure(rng)
    stream = random_stream(rng, measure)
    cuts = sorted(rng.randint(0, len(stream)) for _ in range(rng.randint(0, 4)))
    wanted = brute(measure, set(stream))
    got, crossings = run(measure, stream, cuts)
    assert got == wanted
    assert run(measure, sorted(stream, key=lambda one: one[1].time), [])[0] == wanted, "history says the same"
    for one in crossings:
        assert measure.condition.holds(one.amount)
        if one.fresh:
            assert one.moments
            assert all(one.end - measure.span < each.time <= one.end for each in one.moments)


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**64))
def test_the_window_says_what_the_model_says(seed):
    check(seed)


def check_all(count):
    for seed in range(count):
        check(seed)


@pytest.mark.soak
def test_the_window_says_what_the_model_says_of_10_000_streams():
    check_all(10_000)


# Planted mistakes: each is noticed by the same check.


def closed_at_both_ends(monkeypatch):
    original = moments_module.Group._leave
    monkeypatch.setattr(moments_module.Group, "_leave", lambda self, until: original(self, until - 1))


def late_ones_only_for_themselves(monkeypatch):
    monkeypatch.setattr(window_module.Window, "_between", lambda self, key, group, place: [])


def duplicates_count(monkeypatch):
    original = moments_module.Group.insert

    def insert(self, moment):
        while (place := original(self, moment)) is None:
            moment = moment._replace(
                id=moment.id + "'", value=str(moment.value) + "'" if type(moment.value) is str else moment.value
            )
        return place

    monkeypatch.setattr(moments_module.Group, "insert", insert)


def order_does_not_matter(monkeypatch):
    monkeypatch.setattr(
        window_module, "chain", lambda moments, parts: list({one.part: one for one in moments}.values())
    )


def one_group_hides_the_others(monkeypatch):
    original = window_module.Window.add
    monkeypatch.setattr(window_module.Window, "add", lambda self, key, moment: original(self, ("a",), moment))


def fixed_windows(monkeypatch):
    original = moments_module.Group._leave

    def leave(self, until):
        original(self, (until + self.span) // self.span * self.span - 1)

    monkeypatch.setattr(moments_module.Group, "_leave", leave)


def settled_too_early(monkeypatch):
    original = window_module.Window._settle
    monkeypatch.setattr(
        window_module.Window,
        "_settle",
        lambda self, horizon: original(self, None if horizon is None else horizon + LATENESS),
    )


@pytest.mark.parametrize(
    "plant",
    [
        closed_at_both_ends,
        late_ones_only_for_themselves,
        duplicates_count,
        order_does_not_matter,
        one_group_hides_the_others,
        fixed_windows,
        settled_too_early,
    ],
)
def test_a_planted_mistake_is_noticed(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - a wrong answer, or a shape it cannot hold
        check_all(1_000)


# What the model does not say


def moment(time, event="", part=0, value=None):
    return Moment(time, event or f"e{time}", part, value if value is not None else event or f"e{time}")


def test_a_signal_shows_the_first_window_seen_and_not_more_than_it_says():
    window = Window(Measure(Kind.EVENT_COUNT, 100, Condition(gte=12), 1))
    found = [one for time in range(40) for one in window.add(("g",), moment(time))]
    assert [(one.end, one.spell, one.amount, one.fresh) for one in found] == [(11, 0, 12, True)]
    assert [one.time for one in found[0].moments] == list(range(2, 12))


def test_an_attack_that_goes_on_is_told_once_each_timespan():
    window = Window(Measure(Kind.EVENT_COUNT, 100, Condition(gte=5), 1))
    found = [one for time in range(0, 1_000, 10) for one in window.add(("g",), moment(time))]
    assert [one.spell for one in found] == list(range(10))


def test_groups_are_bounded_and_the_oldest_go_first():
    window = Window(Measure(Kind.EVENT_COUNT, 100, Condition(gte=2), 1), Limits(lateness=10, groups=100))
    for number in range(10_000):
        window.add((f"g{number}",), moment(1))
    assert window.groups <= 100
    assert window.counts["evicted"] >= 9_900
    assert window.held == window.groups
    assert [one.group for one in window.add(("g9999",), moment(2))] == [("g9999",)], "the newest are still there"


def among_keys_that_come_once(keys, limits):
    """Sprays found of 20, one guess a minute each, while all keys come in four timespans; the window."""
    rng, span = random.Random(3), 3_600
    starts = [rng.randrange(3 * span) for _ in range(20)]
    sprays = sorted((at + n * 60, f"spray-{attack}", f"u{n}") for attack, at in enumerate(starts) for n in range(12))
    noise = ((n * 4 * span // keys, f"key-{n}", f"user-{n % 99}") for n in range(keys))
    window, found = Window(Measure(Kind.VALUE_COUNT, span, Condition(gte=10), 1), limits), set()
    for number, (at, key, value) in enumerate(heapq.merge(noise, sprays)):
        found |= {one.group for one in window.add((key,), moment(at, f"e{number}", value=value))}
        assert window.groups <= limits.groups
        if number % 500 == 0:
            window.advance(at, at)
    return len(found), window


def test_keys_that_come_once_hide_no_group_that_comes_again():
    found, window = among_keys_that_come_once(40_000, Limits(lateness=60, groups=4_000))
    assert found == 20
    assert window.counts["evicted"] > 10_000, "and what went is told"


@pytest.mark.soak
def test_a_million_keys_are_held_in_bounded_memory():
    tracemalloc.start()
    found, window = among_keys_that_come_once(1_000_000, Limits(lateness=600))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 20
    assert window.counts["evicted"] > 500_000
    assert peak < 200_000_000


def test_what_no_window_can_need_is_forgotten():
    window = Window(Measure(Kind.EVENT_COUNT, 100, Condition(gte=1_000), 1), Limits(lateness=10))
    for time in range(0, 100_000, 50):
        window.add((str(time),), moment(time))
        window.add(("busy",), moment(time))
        window.advance(time, time)
    assert window.groups < 10
    assert window.held < 50


def test_a_busy_value_never_pushes_the_others_out():
    limits = Limits(lateness=10, group_moments=50)
    window = Window(Measure(Kind.VALUE_COUNT, 100_000, Condition(gte=20), 1), limits)
    found = []
    for number in range(20):
        for time in range(100):
            found += window.add(("ip",), moment(number * 1_000 + time, value="ada"))
        found += window.add(("ip",), moment(number * 1_000 + 500, value=f"user{number}"))
    assert [one.amount for one in found] == [20]
    assert window.counts["thinned"] > 1_000


def test_one_event_is_not_two_neighbours_of_a_chain():
    both = [Moment(5, "e", 0, 0), Moment(5, "e", 1, 1)]
    assert len(chain(both, 2)) == 1
    assert [one.id for one in chain([*both, Moment(5, "f", 1, 1)], 2)] == ["e", "f"], "equal times stand in any order"


def test_a_late_moment_is_judged_with_what_is_there_and_counted():
    window = Window(Measure(Kind.EVENT_COUNT, 100, Condition(gte=2), 1), Limits(lateness=10))
    window.add(("g",), moment(1_000))
    window.advance(1_000, 1_000)
    window.add(("g",), moment(500))
    assert [one.end for one in window.add(("g",), moment(520))] == [520]
    assert window.counts["late"] == 2
