"""What is not as usual is told in time, and what is usual is not: nights, weekends, batches, lunch, a bank holiday."""

from __future__ import annotations

import msgspec
import pytest
from quality_streams import DAY, HOUR, KINDS, MINUTE, MONDAY, One, run

from vedette.sense.quality.profile import FORGET, Kind, Profile
from vedette.sense.quality.rhythm import LEAST, Rhythm
from vedette.sense.quality.shape import types_of

# A Tuesday at ten: every kind of source is at work.
WHEN = 8 + 10 / 24


def without_user(one: One) -> One:
    return one._replace(data={name: value for name, value in one.data.items() if name != "user"})


def code_as_text(one: One) -> One:
    return one._replace(data={**one.data, "code": str(one.data["code"])})


def late_clock(one: One) -> One:
    return one._replace(event=one.event - 30 * MINUTE)


def early_clock(one: One) -> One:
    return one._replace(event=one.event + 10 * MINUTE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1])
def test_nothing_is_told_of_usual_weeks(kind: str, seed: int) -> None:
    found, profile = run(kind, 28 if kind == "busy" else 35, seed=seed)
    assert found == []
    assert len(msgspec.json.encode(profile)) < 16_000


@pytest.mark.parametrize(
    ("change", "told", "minutes"),
    [
        (without_user, (Kind.DROPPED, "user"), 35),
        (code_as_text, (Kind.TYPE, "code"), 35),
        (late_clock, (Kind.SKEWED, ""), 52),
        (early_clock, (Kind.SKEWED, ""), 52),
        (lambda _: None, (Kind.SILENT, ""), 20),
    ],
)
@pytest.mark.parametrize(("source", "pace"), [("busy", 1), ("office", 2)])
def test_each_fault_is_told_once_and_in_time(source, pace, change, told, minutes) -> None:
    found, profile = run(source, 10, change=change, from_day=WHEN)
    (problem,) = found
    assert (problem.kind, problem.field) == told
    assert 0 < problem.told - (MONDAY + WHEN * DAY) <= pace * minutes * MINUTE
    assert [one.kind for one in profile.problems.values()] == [told[0]]


@pytest.mark.parametrize("change", [without_user, code_as_text, late_clock])
def test_a_fault_that_ends_is_over(change) -> None:
    until = MONDAY + round((WHEN + 0.1) * DAY)
    found, profile = run("busy", 10, change=lambda one: change(one) if one.ingest < until else one, from_day=WHEN)
    assert len(found) == 1
    assert profile.problems == {}


@pytest.mark.parametrize("change", [without_user, code_as_text, late_clock])
def test_what_goes_on_is_usual_in_the_end(change) -> None:
    found, profile = run("busy", 17, change=change, from_day=WHEN)
    assert len(found) == 1
    assert found[0].since + FORGET < MONDAY + 17 * DAY
    assert profile.problems == {}


def test_an_hourly_file_that_does_not_come() -> None:
    (problem,) = run("hourly", 10, change=lambda _: None, from_day=WHEN)[0]
    assert problem.told - problem.since < 5 * HOUR


def test_history_that_is_read_is_no_skewed_clock() -> None:
    def yesterday(one: One) -> One:
        # A day of records within minutes.
        return one._replace(event=one.event - DAY + (one.ingest - MONDAY) % (10 * MINUTE) * 100)

    assert run("busy", 10, change=yesterday, from_day=WHEN)[0] == []


def test_one_outage_teaches_nothing_and_a_new_rhythm_does() -> None:
    def nightly(one: One) -> One | None:
        return None if one.ingest % DAY // HOUR < 5 else one

    found, _ = run("busy", 24, change=nightly, from_day=8)
    # Each hour of the week learns by itself: after some nights the quiet is what is usual.
    assert 2 <= len(found) <= 9
    assert found[-1].told < MONDAY + 18 * DAY
    once = [MONDAY + (8 * 24 + hour) * HOUR for hour in (9, 13)]

    def outages(one: One) -> One | None:
        return None if once[0] < one.ingest < once[1] or one.ingest > once[0] + 7 * DAY else one

    found, _ = run("busy", 16, change=outages, from_day=8)
    assert len(found) == 2
    assert found[-1].told - found[-1].since < 25 * MINUTE


def test_a_stated_time_needs_no_learning() -> None:
    profile = Profile("s")
    list(profile.take([(MONDAY, MONDAY, b"{}")], msgspec.json.decode, {}))
    assert profile.quiet(MONDAY + HOUR, since=MONDAY) is None
    assert profile.quiet(MONDAY + HOUR, since=MONDAY, stated=HOUR) is None
    told = profile.quiet(MONDAY + HOUR + 1, since=MONDAY, stated=HOUR)
    assert told
    assert (told.kind, told.since) == (Kind.SILENT, MONDAY)
    assert profile.quiet(MONDAY + 2 * HOUR, since=MONDAY, stated=HOUR) is None, "told once"
    assert profile.quiet(MONDAY + 9 * HOUR, since=MONDAY + 9 * HOUR, stated=HOUR) is None
    list(profile.take([(MONDAY + 10 * HOUR, 0, b"{}")], msgspec.json.decode, {}))
    assert profile.problems == {}


def test_nobody_listened_is_not_silence() -> None:
    _, profile = run("busy", 10)
    last = profile.rhythm.last
    assert profile.quiet(last + 5 * HOUR, since=last + 5 * HOUR - 1) is None
    assert profile.quiet(last + 5 * HOUR, since=last) is not None


def test_rhythm_before_it_is_known() -> None:
    rhythm = Rhythm()
    assert rhythm.limit(MONDAY) is None
    for minute in range(23 * 60):
        rhythm.take(MONDAY + minute * MINUTE)
    assert rhythm.limit(MONDAY + DAY) is None
    for minute in range(23 * 60, 25 * 60):
        rhythm.take(MONDAY + minute * MINUTE)
    assert rhythm.limit(MONDAY + 25 * HOUR) == LEAST


def test_types() -> None:
    values = ["x", 1, 1.5, True, {}, [], None, "", "y"]
    assert types_of(values) == {"text": 2, "number": 2, "truth": 1, "object": 1, "list": 1}
    assert types_of([None, "", None]) == types_of([]) == {}


@pytest.mark.parametrize("batch", [7, 5_000])
def test_the_same_in_any_batches(batch: int) -> None:
    assert run("busy", 3, change=without_user, from_day=2, batch=batch) == run(
        "busy", 3, change=without_user, from_day=2
    )


@pytest.mark.parametrize("minutes", [30, -30, 600])
def test_a_clock_that_leaps_is_told_of_a_file_an_hour(minutes: int) -> None:
    found, _ = run(
        "hourly", 4, change=lambda one: one._replace(event=one.event - minutes * MINUTE), from_day=2 + 1 / 48
    )
    (problem,) = found
    assert problem.kind is Kind.SKEWED
    assert problem.told - (MONDAY + 2 * DAY) <= (5 if minutes > 60 else 4) * HOUR


def test_files_that_waited_for_half_a_day_are_no_skewed_clock() -> None:
    def late(one: One) -> One:
        begin, end = MONDAY + 2 * DAY, MONDAY + 2.5 * DAY
        hour = (one.ingest - begin) // HOUR
        return (
            one._replace(ingest=int(end + hour * 6 * MINUTE + one.ingest % 100)) if begin <= one.ingest < end else one
        )

    found, _ = run("hourly", 4, change=late, from_day=0)
    assert [one.kind for one in found] in ([], [Kind.SILENT])


def test_the_same_in_any_batches_and_after_a_restart() -> None:
    _, whole = run("office", 9)
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Profile) == whole
