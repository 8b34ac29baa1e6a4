"""Quiet streams: what waits for later events has its answer by the clock, once, and not before it could come late."""

from __future__ import annotations

import msgspec
import pytest

from vedette.core.clock import DAY, MICROS, to_iso
from vedette.core.settings import Settings
from vedette.run.following import Followers
from vedette.run.metrics import Meters
from vedette.run.parts import Parts
from vedette.run.pipeline import detecting as module
from vedette.run.pipeline.detecting import IDLE_S
from vedette.run.pipeline.detection import load_detection
from vedette.run.pipeline.stream import advance
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

START = 20_500 * DAY
MINUTE = 60 * MICROS
RULES = """
title: A few failures, not many
id: 31111111-1111-4111-8111-111111111111
level: low
correlation:
  {type: event_count, rules: [failed], group-by: [actor.alternateId], timespan: 10m, condition: {gte: 2, lte: 5}}
---
title: Asked, and never answered
id: 41111111-1111-4111-8111-111111111111
level: low
correlation:
  type: temporal_ordered
  rules: [asked, answered]
  group-by: [actor.alternateId]
  timespan: 10m
  condition: asked and not answered
---
title: Failed
id: 51111111-1111-4111-8111-111111111111
name: failed
logsource: {product: okta, service: okta}
detection: {s: {outcome.result: FAILURE}, condition: s}
---
title: Asked
id: 61111111-1111-4111-8111-111111111111
name: asked
logsource: {product: okta, service: okta}
detection: {s: {eventType: asked}, condition: s}
---
title: Answered
id: 71111111-1111-4111-8111-111111111111
name: answered
logsource: {product: okta, service: okta}
detection: {s: {eventType: answered}, condition: s}
"""
FEW, UNANSWERED = "A few failures, not many", "Asked, and never answered"


class Clock:
    def __init__(self):
        self.time = START

    def now(self):
        return self.time

    def monotonic(self):
        return (self.time - START) / MICROS


class World:
    def __init__(self, folder):
        (folder / "r.yml").write_text(RULES)
        self.folder, self.clock, self.count = folder, Clock(), 0
        self.open()

    def open(self):
        self.parts = Parts(Settings(home=self.folder / "home"), clock=self.clock)
        detection = load_detection([self.folder / "r.yml"])
        assert not detection.rules.skipped
        self.followers = Followers(self.parts, Store(self.folder / "home" / "store"), Meters(), detection)

    def restart(self):
        self.parts.close()
        self.open()

    def push(self, who, kind="x", result="FAILURE", tenant="default", ago=0):
        self.count += 1
        data = {
            "uuid": f"u{self.count}",
            "published": to_iso(self.clock.time - ago),
            "eventType": kind,
            "actor": {"alternateId": who},
            "outcome": {"result": result},
        }
        source = load_sources()["identity"]
        event = source.to_event(data, tenant=tenant, stream="s", offset=self.count, ingest_time=self.clock.time)
        self.parts.log.append("event", tenant, [msgspec.json.encode(event)])

    def told(self):
        """Titles and ids of all signals so far."""
        log = self.parts.log
        found = [one for part in range(log.partitions("signal")) for one in log.read("signal", part, 0, 99)]
        return [(one["title"], one["id"]) for one in (msgspec.json.decode(one.value) for one in found)]

    def passes(self, minutes):
        """Lets time pass a minute at a time; the titles that are told, and at which minute."""
        found = []
        for minute in range(minutes):
            before = len(self.told())
            advance(self.parts.log, self.followers.watching, Meters())
            found += [(title, minute) for title, _ in self.told()[before:]]
            self.clock.time += MINUTE
        return found


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.parts.close()


def test_the_last_window_of_a_stream_that_fell_silent_has_its_answer(world):
    for _ in range(3):
        world.push("ada")
    world.push("bob", "asked", "SUCCESS")
    told = world.passes(60)
    assert {title for title, _ in told} == {FEW, UNANSWERED}
    assert len(told) == 2
    # The window, then as long as data may be late, then at most a tick.
    assert all(20 <= minute <= 22 for _, minute in told)


def test_nothing_is_told_while_data_may_come(world):
    world.push("ada")
    world.push("ada")
    assert world.passes(9) == []
    for _ in range(5):
        world.push("ada", ago=8 * MINUTE)
    assert world.passes(60) == [], "seven are many: they came before the answer was due"


def test_what_comes_after_the_answer_is_late(world):
    world.push("ada")
    world.push("ada")
    assert [title for title, _ in world.passes(40)] == [FEW]
    for _ in range(5):
        world.push("ada", ago=40 * MINUTE)
    assert world.passes(40) == []


def test_a_time_in_which_nobody_ran_is_no_quiet(world):
    world.push("ada")
    world.push("ada")
    assert world.passes(5) == []
    world.clock.time += DAY
    world.restart()
    assert world.passes(int(IDLE_S // 60) - 1) == []
    assert [title for title, _ in world.passes(40)] == [FEW]
    world.restart()
    assert world.passes(60) == [], "told once, whoever asks"


def test_a_busy_tenant_keeps_no_quiet_one_waiting(world):
    world.push("ada", tenant="quiet")
    world.push("ada", tenant="quiet")
    told = []
    for number in range(40):
        world.push(f"p{number}", result="SUCCESS", tenant="busy")
        told += world.passes(1)
    assert [title for title, _ in told] == [FEW]


def test_the_check_sees_a_stream_without_ticks(world, monkeypatch):
    monkeypatch.setattr(module._Stream, "_tick", lambda *_: None)
    world.push("ada")
    world.push("ada")
    assert world.passes(60) == []


def test_cut_between_signal_and_journal_it_is_told_again_with_its_id(world, monkeypatch):
    world.push("ada")
    world.push("ada")
    world.passes(15)

    def full(*_):
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(module.Journal, "keep", full)
        patch.setattr(module, "IDLE_S", 1_260.0)
        with pytest.raises(OSError, match="full"):
            world.passes(20)
    world.restart()
    world.passes(40)
    titles, ids = zip(*world.told(), strict=True)
    assert titles == (FEW, FEW)
    assert len(set(ids)) == 1
