"""Schedules: intervals that are due, missed or late, each judged once in effect."""

from __future__ import annotations

import msgspec
import pytest
from jobs_world import FIRST, HOUR, found, settings_of, stream, write

from vedette.core.errors import DefinitionError, NotFoundError
from vedette.run.jobs.running import Jobs
from vedette.run.jobs.schedules import Cause, Schedule, Schedules
from vedette.run.parts import Parts
from vedette.sense.history import Span
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

SINCE = FIRST // HOUR * HOUR
LATENESS = 24 * HOUR


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    rules, path = write(folder)
    # Without the correlation that waits: with it an interval is over only hours later.
    text = (rules / "all.yml").read_text().split("\n---\n")
    (rules / "all.yml").write_text("\n---\n".join(text[:3]))
    stream(folder / "home", rules, path)
    store = Store(folder / "home" / "store")
    events = [one for some in store.between("default", "cloudtrail", 0, 1 << 60) for one in some]
    return folder / "home", rules, sorted(events, key=lambda one: one.event_time)


class Home:
    """An installation in which time passes and events arrive."""

    def __init__(self, folder, clock, rules):
        self.folder, self.clock, self.store = folder, clock, Store(folder / "store")
        self._source = load_sources()["cloudtrail"]
        self.schedule = Schedule(
            tenant="default", name="hourly", rules=(str(rules),), every=HOUR, lateness=LATENESS, since=SINCE
        )

    def arrive(self, events):
        self.store.append(self._source, events)

    def at(self, hours):
        self.clock.micros = SINCE + round(hours * HOUR)

    def due(self):
        """Runs what is due; gives the intervals' causes."""
        with Parts(settings_of(self.folder), clock=self.clock) as parts:
            schedules = Schedules(parts.state, self.store, self.clock)
            schedules.put(self.schedule)
            done = schedules.run(self.schedule, Jobs(parts, self.store))
        return [gap.cause for _, covered in done for gap in covered]

    def gaps(self, **options):
        with Parts(settings_of(self.folder), clock=self.clock) as parts:
            schedules = Schedules(parts.state, self.store, self.clock)
            schedules.put(self.schedule)
            return schedules.gaps(self.schedule, ["cloudtrail"], **options)

    def found(self):
        return found(self.folder, Span(0, 1 << 60))


@pytest.fixture
def home(world, tmp_path, clock):
    return Home(tmp_path / "home", clock, world[1])


def wanted(world, hours):
    return found(world[0], Span(SINCE, SINCE + hours * HOUR))[0]


def part(world, first, last):
    return [one for one in world[2] if SINCE + first * HOUR <= one.event_time < SINCE + last * HOUR]


def test_hour_by_hour_it_finds_what_the_stream_found(world, home):
    for hour in range(1, 13):
        home.arrive(part(world, hour - 1, hour))
        home.at(hour)
        assert home.due() == [Cause.DUE]
        assert home.due() == []
    assert home.found() == (wanted(world, 12), len(wanted(world, 12)))


def test_hours_that_nobody_ran_are_gaps_and_are_filled(world, home):
    home.arrive(part(world, 0, 12))
    home.at(12)
    assert [(gap.cause, gap.start) for gap in home.gaps()] == [
        (Cause.DUE if hour == 11 else Cause.MISSED, SINCE + hour * HOUR) for hour in range(12)
    ]
    assert home.due() == [*[Cause.MISSED] * 11, Cause.DUE]
    assert home.gaps() == []
    assert home.found() == (wanted(world, 12), len(wanted(world, 12)))


def test_a_gap_in_the_middle_is_found(world, home):
    home.arrive(part(world, 0, 12))
    home.at(4)
    home.due()
    home.schedule = msgspec.structs.replace(home.schedule, since=SINCE + 8 * HOUR)
    home.at(12)
    home.due()
    home.schedule = msgspec.structs.replace(home.schedule, since=SINCE)
    assert [gap.start for gap in home.gaps()] == [SINCE + hour * HOUR for hour in range(4, 8)]
    home.due()
    assert home.found() == (wanted(world, 12), len(wanted(world, 12)))


def test_late_events_are_covered_and_nothing_is_told_twice(world, home):
    events = part(world, 0, 12)
    late = [one for one in events if int(one.id[1:]) % 7 == 0 or ("errorCode" in one.data and int(one.id[1:]) % 3 == 0)]
    held = {one.id for one in late}
    for hour in range(1, 13):
        home.arrive([one for one in part(world, hour - 1, hour) if one.id not in held])
        home.at(hour)
        home.due()
    before, _ = home.found()
    assert before != wanted(world, 12)
    home.arrive(late)
    home.at(12.5)
    gaps = home.gaps()
    assert {gap.cause for gap in gaps} == {Cause.LATE}
    assert sum(gap.events for gap in gaps) == len(late)
    home.due()
    assert home.gaps() == []
    signals, told = home.found()
    assert signals.keys() >= wanted(world, 12).keys()
    assert told == len(signals)
    # What windows showed before the late events came, they show no more: told signals are never taken back.
    assert {one for one in signals if one not in wanted(world, 12)} <= before.keys()


def test_beyond_the_lateness_an_interval_is_closed(world, home):
    events = part(world, 0, 3)
    home.arrive(events[:-5])
    home.at(3)
    home.due()
    home.arrive(events[-5:])
    home.at(3 + 25)
    assert {gap.cause for gap in home.gaps()} == {Cause.MISSED, Cause.DUE}
    assert sum(gap.events for gap in home.gaps(deep=True) if gap.cause is Cause.LATE) == 5


def test_an_interval_waits_for_what_correlations_wait_for(world, home):
    home.at(3)
    assert len(home.gaps(ahead=2 * HOUR)) == 1


def test_a_schedule_has_a_name_and_a_width(home, clock):
    with Parts(settings_of(home.folder), clock=clock) as parts:
        schedules = Schedules(parts.state, home.store, clock)
        for wrong in ({"name": "a b"}, {"every": 0}, {"lateness": -1}):
            with pytest.raises(DefinitionError, match="plain name"):
                schedules.put(msgspec.structs.replace(home.schedule, **wrong))
        with pytest.raises(NotFoundError, match="no such schedule"):
            schedules.drop("default", "hourly")
        schedules.put(home.schedule)
        assert schedules.all("default") == [home.schedule]
        assert schedules.all("other") == []
        schedules.drop("default", "hourly")
        assert schedules.all("default") == []


def test_counting_after_judging_would_lose_an_event(world, home, monkeypatch):
    """The planted mistake: the number of events is taken when the job is over."""
    run = Jobs.run
    late = part(world, 0, 1)[-3:]

    def meanwhile(self, spec, detection, **options):
        done = run(self, spec, detection, **options)
        home.arrive(late)
        return done

    home.arrive(part(world, 0, 1)[:-3])
    home.at(1)
    monkeypatch.setattr(Jobs, "run", meanwhile)
    home.due()
    monkeypatch.undo()
    assert [gap.events for gap in home.gaps()] == [3]
    held, cover = Schedules._held, Schedules._cover

    def afterwards(self, schedule, gaps, _held, job_id):
        cover(self, schedule, gaps, held(self, schedule, ["cloudtrail"], Span(gaps[0].start, gaps[-1].end)), job_id)

    monkeypatch.setattr(Schedules, "_cover", afterwards)
    monkeypatch.setattr(Jobs, "run", meanwhile)
    late = part(world, 1, 2)[-3:]
    home.arrive(part(world, 1, 2)[:-3])
    home.at(2)
    home.due()
    assert home.gaps() == []
