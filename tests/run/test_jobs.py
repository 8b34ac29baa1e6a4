"""Jobs over the event store: the alerts of the stream, each once, however they are cut, run or repeated."""

from __future__ import annotations

import shutil

import pytest
from jobs_world import FIRING, HOUR, SPAN, alerts, found, run, settings_of, stream, write

from vedette.core.errors import NotFoundError
from vedette.judge.sigma.history import Engine
from vedette.run.jobs.ledger import State
from vedette.run.jobs.running import Jobs
from vedette.run.parts import Parts
from vedette.sense.history import Span, counts, stored_days
from vedette.sense.store import Store


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    rules, path = write(folder)
    stream(folder / "home", rules, path)
    return folder / "home", rules


@pytest.fixture
def home(world, tmp_path):
    """An installation that has the events and nothing else."""
    shutil.copytree(world[0] / "store", tmp_path / "home" / "store")
    return tmp_path / "home"


@pytest.mark.parametrize("options", [{}, {"engine": Engine.SQL}, {"workers": 2}], ids=["matcher", "sql", "processes"])
def test_a_job_finds_what_the_stream_found(world, home, options):
    job, worked = run(home, world[1], **options)
    wanted, _ = found(world[0])
    signals, told = found(home)
    assert worked
    assert job.state is State.DONE
    assert signals == wanted
    assert set(wanted.values()) == FIRING
    assert told == len(wanted) == job.signals == job.fresh
    assert not (home / "jobs" / job.id).exists()


def test_alerts_are_those_of_the_stream(world, home):
    whole = Span(0, SPAN.end * 2)
    run(home, world[1], whole)
    # Beyond the newest event the stream still waits for what a finished span settles.
    known, made = alerts(world[0]), alerts(home)
    assert known.keys() <= made.keys()
    assert len(made) - len(known) <= 2
    assert all(made[one] == count for one, count in known.items())


def test_again_changes_nothing(world, home):
    first, _ = run(home, world[1])
    before, count = found(home), alerts(home)
    same, worked = run(home, world[1])
    assert (worked, same) == (False, first)
    anew, worked = run(home, world[1], again=True)
    assert (worked, anew.fresh, anew.signals) == (True, 0, first.signals)
    assert (found(home), alerts(home)) == (before, count)


def test_spans_beside_each_other_find_what_one_finds(world, home):
    for start in range(SPAN.start, SPAN.end, 6 * HOUR):
        run(home, world[1], Span(start, start + 6 * HOUR))
    wanted, _ = found(world[0])
    assert found(home) == (wanted, len(wanted))


def test_another_engine_is_the_same_job(world, home):
    first, _ = run(home, world[1])
    second, worked = run(home, world[1], engine=Engine.SQL)
    assert (second.id, worked) == (first.id, False)


def test_other_rules_are_another_job(world, home, tmp_path):
    first, _ = run(home, world[1])
    rules = tmp_path / "rules"
    shutil.copytree(world[1], rules)
    text = (rules / "all.yml").read_text()
    (rules / "all.yml").write_text(text.replace("title: Trail stopped", "title: Trail was stopped"))
    second, worked = run(home, rules)
    assert (second.id != first.id, worked) == (True, True)


def test_a_job_is_found_by_the_start_of_its_id(world, home, clock):
    job, _ = run(home, world[1])
    with Parts(settings_of(home), clock=clock) as parts:
        ledger = Jobs(parts, Store(home / "store")).ledger
        assert ledger.job(job.id[:8]) == job
        with pytest.raises(NotFoundError, match="no such job"):
            ledger.job("")


def test_days_and_counts(world):
    store = Store(world[0] / "store")
    days = stored_days(store, "default", "cloudtrail")
    assert len(days) == 4
    assert stored_days(store, "other", "cloudtrail") == stored_days(store, "default", "none") == []
    held = counts(store, "default", "cloudtrail", Span(days[0].start, days[-1].end), HOUR)
    assert sum(held.values()) == 72 * 30
    assert set(held.values()) <= set(range(25, 36))
