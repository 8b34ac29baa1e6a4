"""Jobs over the event store: the alerts of the stream, each once, however they are cut, run or repeated."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from jobs_world import FIRING, HOUR, RULES, SPAN, alerts, found, run, settings_of, stream, write

from vedette.core.clock import SystemClock
from vedette.core.errors import NotFoundError
from vedette.core.log import SqliteLog
from vedette.judge.shipments import Document, Shipped
from vedette.judge.sigma.history import Engine
from vedette.run.jobs.detect import job_id_of
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


@pytest.mark.parametrize("percent", [None, 0, 50, 100], ids=["off", "shadow", "half", "live"])
def test_a_job_finds_what_the_stream_found_at_any_stage(world, home, tmp_path, percent):
    """What was shipped stands in for the file, as far as its stage goes; correlations too."""
    ids = tuple(re.findall(r"^id: (.*)$", RULES, re.MULTILINE))
    changed = RULES.replace("contains: denied", "contains: Denied").replace("gte: 4", "gte: 3")
    document = Document(ids=ids, title="All", files=(Shipped("all.yml", changed.encode()),))
    streamed = tmp_path / "streamed"
    for one in (streamed, home):
        with Parts(settings_of(one), clock=SystemClock()) as parts:
            if percent is None:
                parts.shipments.switch_off(ids[0], operator="x")
                continue
            parts.shipments.ship(document, percent=percent, operator="x")
    stream(streamed, world[1], world[1].parent / "trail.ndjson")
    before = job_id_of(spec_of(world[0], world[1]))
    job, _ = run(home, world[1])
    wanted, told = shadows(streamed), shadows(home)
    assert told == wanted
    assert {shadow for _, shadow in wanted.values()} == ({False, True} if percent == 0 else {False})
    assert (ids[0] in {rule for rule, _ in wanted.values()}) is (percent is not None)
    assert job.id != before, "another stage, another job"


def spec_of(home, rules):
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        return Jobs(parts, Store(home / "store")).spec([str(rules)], SPAN, tenant="default")[0]


def shadows(home):
    """Signal id -> rule and whether it is of the shadow, of the span."""
    with SqliteLog(home / "log", SystemClock()) as log:
        told = [json.loads(record.value) for record in log.read("signal", 0, 0, 100_000)]
    return {
        (one["id"], one.get("shadow", False)): (one["rule_id"], one.get("shadow", False))
        for one in told
        if SPAN.start <= one["event_time"] < SPAN.end
    }


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
