"""Shipped rules on the stream: stages, shares, shadow, and that no batch is judged by two editions."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.clock import DAY, MICROS, to_iso
from vedette.core.event import Entity
from vedette.core.settings import Settings
from vedette.core.signal import Level
from vedette.judge.detectors import Detector
from vedette.judge.shipments import Document, Shipped, among
from vedette.judge.sigma.load import RuleSet
from vedette.run.following import Followers
from vedette.run.metrics import Meters
from vedette.run.parts import Parts
from vedette.run.pipeline.detection import load_detection
from vedette.run.pipeline.stream import advance
from vedette.run.rules.gates import documents_of
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

START = 20_500 * DAY
WHO = "per_1"
RULE = """title: Failed
id: 6b2f4d8e-3c5e-4f7a-9b0c-1d2e3f4a5b6c
logsource: {product: okta, service: okta}
detection: {failed: {outcome.result: FAILURE}, condition: failed}
"""
NAME = "6b2f4d8e-3c5e-4f7a-9b0c-1d2e3f4a5b6c"
BURST = """title: Burst
id: 5a1f3c7e-2b4d-4e6f-8a9b-0c1d2e3f4a5b
correlation: {type: event_count, rules: [failed], group-by: [actor.alternateId], timespan: 10m, condition: {gte: 3}}
---
title: Sign-in failed
id: 7b2f4d8e-3c5e-4f7a-9b0c-1d2e3f4a5b6c
name: failed
logsource: {product: okta, service: okta}
detection: {failed: {outcome.result: FAILURE}, condition: failed}
"""


class Clock:
    def __init__(self):
        self.time = START + DAY

    def now(self):
        return self.time

    def monotonic(self):
        return self.time / MICROS


def shipped(text, name=NAME):
    return Document(ids=(name,), title="Failed", files=(Shipped("r.yml", text.encode()),))


def record(number, who="a"):
    return {
        "uuid": f"u{number}",
        "published": to_iso(START + number * MICROS),
        "actor": {"alternateId": who},
        "outcome": {"result": "FAILURE"},
    }


class World:
    def __init__(self, folder, base=RULE):
        (folder / "rules").mkdir()
        (folder / "rules" / "r.yml").write_text(base)
        self.folder, self.clock, self.count = folder, Clock(), 0
        self.open()

    def open(self, detection=None):
        self.detection = detection = detection or load_detection([self.folder / "rules"])
        self.parts = Parts(Settings(home=self.folder / "home"), clock=self.clock)
        self.shipments, self.meters = self.parts.shipments, Meters()
        store = Store(self.folder / "home" / "store")
        self.followers = Followers(self.parts, store, self.meters, detection)

    def push(self, *people):
        source = load_sources()["identity"]
        for who in people:
            self.count += 1
            event = source.to_event(
                record(self.count, who), tenant="default", stream="s", offset=self.count, ingest_time=self.clock.now()
            )
            self.parts.log.append("event", "default", [msgspec.json.encode(event)])

    def turn(self):
        """The signals that one turn writes, as (title, who, shadow)."""
        self.clock.time += 2 * MICROS
        log = self.parts.log
        before = log.end("signal", 0)
        advance(log, self.followers.watching, self.meters)
        signals = [json.loads(each.value) for each in log.read("signal", 0, before, 10_000)]
        return [(one["title"], self.who(one), one.get("shadow", False)) for one in signals]

    @staticmethod
    def who(one):
        return next(each["id"] for each in one["entities"] if each["type"] == "user")


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.parts.close()


def test_a_ship_and_a_rollback_are_noticed_without_a_restart(world):
    world.push("a")
    assert world.turn() == [("Failed", "a", False)]
    world.shipments.ship(shipped(RULE.replace("title: Failed", "title: New")), percent=100, operator=WHO)
    world.push("a")
    assert world.turn() == [("New", "a", False)]
    world.shipments.rollback(NAME, operator=WHO)
    world.push("a")
    assert world.turn() == [("Failed", "a", False)]
    world.shipments.switch_off(NAME, operator=WHO)
    world.push("a")
    assert world.turn() == []
    assert NAME not in world.followers.rollout.newest().rules


def test_the_shadow_raises_nothing_and_is_counted_beside_what_is_live(world):
    world.shipments.ship(shipped(RULE.replace("title: Failed", "title: New")), percent=0, operator=WHO)
    world.push("a", "a", "b")
    assert sorted(world.turn()) == sorted(
        [("Failed", who, False) for who in "aab"] + [("New", who, True) for who in "aab"]
    )
    assert {alert.title for alert in world.parts.alerts.find("default")} == {"Failed"}
    ((name, shadow),) = world.parts.alerts.shadows("default").items()
    assert (name[0], shadow.signals, shadow.alerts) == (NAME, 3, 2)
    assert world.followers.rollout.newest().rules[NAME].title == "Failed"


def test_a_share_of_the_entities_has_the_new_version_and_the_others_the_old(world):
    people = [f"p{number}" for number in range(40)]
    world.push("a")
    world.turn()
    seen = set()
    for percent in (10, 50, 90, 100):
        world.shipments.ship(shipped(RULE.replace("title: Failed", "title: New")), percent=percent, operator=WHO)
        world.push(*people)
        signals = world.turn()
        assert sorted(who for _, who, _ in signals) == sorted(people)
        new = {who for title, who, _ in signals if title == "New"}
        assert seen <= new
        seen = new
        assert new == {who for who in people if percent == 100 or among(NAME, f"user:{who}", percent)}
    assert 1 < sum(among(NAME, f"user:{who}", 50) for who in people) < 39


@given(st.text(min_size=1), st.text(), st.integers(0, 100), st.integers(0, 100))
def test_a_greater_share_only_adds(unit, name, one, other):
    low, high = sorted((one, other))
    key = Entity("user", name).key
    assert among(unit, key, low) <= among(unit, key, high)
    assert not among(unit, key, 0)
    assert among(unit, key, 100)


def test_shares_are_about_what_they_say():
    for percent in (1, 10, 50):
        hits = sum(among("unit", f"user:{number}", percent) for number in range(20_000))
        assert abs(hits / 20_000 - percent / 100) < 0.01


def test_a_correlation_goes_on_counting_when_it_goes_live(tmp_path):
    """What was counted in shadow is not lost when the same version goes live."""
    world = World(tmp_path)
    name = "5a1f3c7e-2b4d-4e6f-8a9b-0c1d2e3f4a5b"
    unit = Document(ids=(name, NAME.replace("6b", "7b")), title="Burst", files=(Shipped("b.yml", BURST.encode()),))
    world.shipments.ship(unit, percent=0, operator=WHO)
    world.push("a", "a")
    assert {title for title, _, _ in world.turn()} == {"Failed"}
    world.shipments.ship(unit, percent=100, operator=WHO)
    world.push("a")
    assert ("Burst", "a", False) in world.turn()
    world.parts.close()


def test_a_version_goes_through_the_pipelines_it_was_shipped_with(world):
    """Also when the installation has others, or has none; another pipeline is another version."""
    foreign = RULE.replace("outcome.result", "event.outcome")
    pipeline = (
        b"{name: ours, priority: 20, transformations: [{type: field_name_mapping, mapping: {event.outcome: %s}}]}"
    )
    plain = shipped(foreign)
    through = [
        msgspec.structs.replace(plain, pipelines=(Shipped("p.yml", pipeline % to),))
        for to in (b"outcome.result", b"no")
    ]
    assert len({plain.version, *(one.version for one in through)}) == 3
    assert through[0].pipelines[0].digest == hashlib.sha256(pipeline % b"outcome.result").hexdigest()
    wanted = ([("Failed", "a", False)], [], [])
    for document, want in zip((through[0], through[1], plain), wanted, strict=True):
        world.shipments.ship(document, percent=100, operator=WHO)
        world.push("a")
        assert world.turn() == want
    world.shipments.rollback(NAME, operator=WHO)
    world.shipments.rollback(NAME, operator=WHO)
    world.push("a")
    assert world.turn() == [("Failed", "a", False)], "the pipelines came back with the version"


def test_detectors_in_python_go_through_the_stages(tmp_path):
    world = World(tmp_path)

    def failed(data):
        return {"result": "FAILURE"} if data["outcome"]["result"] == "FAILURE" else None

    one = Detector("py", "1", "Python", Level.LOW, ("identity",), failed)
    world.detection.rules = replace(world.detection.rules, rules=(), detectors=(one,))
    world.open(world.detection)
    (document,) = documents_of(RuleSet((), detectors=(one,)), []).values()
    people = [f"p{number}" for number in range(40)]

    def told():
        world.push(*people)
        return world.turn()

    assert told() == [("Python", who, False) for who in people], "live, as it is installed"
    world.shipments.ship(document, percent=0, operator=WHO)
    assert told() == [("Python", who, shadow) for who in people for shadow in (False, True)], "beside what is live"
    world.shipments.switch_off("py", operator=WHO)
    assert told() == []
    world.shipments.ship(document, percent=30, operator=WHO)
    share = {who for _, who, shadow in told() if not shadow}
    assert 0 < len(share) < len(people)
    world.shipments.ship(document, percent=100, operator=WHO)
    assert told() == [("Python", who, False) for who in people]
    world.detection.rules = replace(world.detection.rules, detectors=(replace(one, version="2"),))
    world.open(world.detection)
    assert told() == [], "the version that was shipped is gone, and nobody shipped the other"
    assert "detectors.version.missing" in world.followers.rollout.newest().live.rules.skipped[0].reason
    world.parts.close()


def test_exceptions_end_by_day_while_the_stream_runs(tmp_path):
    world = World(tmp_path)
    until = to_iso(world.clock.now())[:10]
    exception = (
        "title: Robots\nlogsource: {product: okta, service: okta}\n"
        "filter: {rules: any, robot: {actor.alternateId: a}, condition: not robot}\n"
        f"vedette: {{owner: it, reason: nightly job, expires: {until}}}\n"
    )
    files = (Shipped("r.yml", RULE.encode()), Shipped("e.yml", exception.encode()))
    world.shipments.ship(Document(ids=(NAME,), title="Failed", files=files), percent=100, operator=WHO)
    world.push("a", "b")
    assert world.turn() == [("Failed", "b", False)]
    world.clock.time += DAY
    world.push("a")
    assert world.turn() == [("Failed", "a", False)]
    world.parts.close()


CHILD = Path(__file__).with_name("rollout_child.py")
STEPS = ("signal.after", "place.before", "applied.before", "applied.after")


def child(home, step, nth, plant=""):
    env = os.environ | {"PLANT": plant}
    return subprocess.run([sys.executable, CHILD, home, step, str(nth)], env=env, check=False, timeout=300).returncode


def judged(home, step, nth, plant=""):
    """Titles by event, over a run that is killed at a step and begun again after a further ship."""
    code = child(home, step, nth, plant)
    assert code in {0, -signal.SIGKILL}
    assert child(home, "", 0, plant) == 0
    found = {}
    for line in (home / "signals.ndjson").read_text().splitlines():
        one = json.loads(line)
        found.setdefault(one["event_id"], set()).add(one["rule_version"])
    return code, found


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_batch_is_judged_again_by_the_same_versions(tmp_path, step):
    code, found = judged(tmp_path / "home", step, 2)
    assert code == -signal.SIGKILL
    assert len(found) == 120
    assert {event: versions for event, versions in found.items() if len(versions) > 1} == {}
    assert len({version for versions in found.values() for version in versions}) >= 2


def test_a_reader_that_does_not_keep_its_place_is_noticed(tmp_path):
    _, found = judged(tmp_path / "home", "signal.after", 2, plant="newest_at_start")
    assert any(len(versions) > 1 for versions in found.values())
