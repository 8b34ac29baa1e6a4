"""The stage over a real log: each fault raises its alert once, whenever the process stops; rules are marked degraded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from quality_home import DAY, HOUR, MINUTE, MONDAY, SOURCES, TENANT, Home, drain

from vedette.core.signal import Signal
from vedette.judge.sigma.load import RuleSet, load
from vedette.judge.sigma.logsources import LogSources
from vedette.run.parts import Parts
from vedette.run.pipeline.quality import Quality

RULES = """
title: Trail stopped
id: 00000000-0000-4000-8000-00000000000a
logsource: {product: aws, service: cloudtrail}
detection: {stopped: {eventName: StopLogging}, condition: stopped}
---
title: By Eve
id: 00000000-0000-4000-8000-00000000000b
logsource: {product: aws, service: cloudtrail}
detection: {eve: {userIdentity.userName: eve}, condition: eve}
---
title: Sign-in failed
id: 00000000-0000-4000-8000-00000000000c
name: failed
logsource: {product: okta, service: okta}
detection: {failed: {outcome.result: FAILURE}, condition: failed}
---
title: Many fail
id: 00000000-0000-4000-8000-00000000000d
correlation: {type: event_count, rules: [failed], group-by: [client.ipAddress], timespan: 10m, condition: {gte: 3}}
"""
STOPPED, EVE, FAILED, MANY = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abcd")


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> RuleSet:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(RULES)
    found = load([path], LogSources({name: one.logsource for name, one in SOURCES.items()}))
    assert not found.skipped
    return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two days of both sources."""
    made = Home(tmp_path)
    made.days(0, 2, "cloudtrail", "identity")
    return made


def quality_of(parts: Parts, rules: RuleSet) -> Quality:
    return Quality(parts.index, parts.clock, parts.sources, rules)


def signals(parts: Parts) -> list[Signal]:
    return [msgspec.json.decode(one.value, type=Signal) for one in parts.log.read("signal", 0, 0, 1_000)]


@pytest.mark.parametrize(
    ("change", "rule_id", "degraded"),
    [
        ({"eventName": None}, "quality.dropped", {STOPPED}),
        ({"eventName": 7}, "quality.type", {STOPPED}),
        ({"lag": HOUR}, "quality.skewed", {STOPPED, EVE}),
    ],
)
def test_a_fault_becomes_an_alert_and_marks_its_rules(
    home: Home, rules: RuleSet, change: dict[str, Any], rule_id: str, degraded: set[str]
) -> None:
    home.days(2, 2.1, "identity")
    home.days(2, 2.1, "cloudtrail", **change)
    with home.parts() as parts:
        quality = quality_of(parts, rules)
        drain(quality, parts.log)
        (signal,) = signals(parts)
        assert (signal.rule_id, signal.entities[0].key) == (rule_id, "source:cloudtrail")
        assert signal.event_time - (MONDAY + 2 * DAY) <= HOUR + MINUTE
        assert set(quality.degraded(TENANT)) == degraded
        assert signal.why["rules"] == len(degraded)
        parts.alerts.consume(parts.log)
        (alert,) = parts.alerts.find(TENANT)
        assert alert.rule_id == rule_id
    home.days(2.1, 2.2, "cloudtrail", "identity")
    with home.parts() as parts:
        quality = quality_of(parts, rules)
        drain(quality, parts.log)
        assert quality.problems(TENANT) == []
        assert quality.degraded(TENANT) == {}
        assert len(signals(parts)) == 1


def test_silence_is_told_by_the_clock_once_and_ends(home: Home, rules: RuleSet) -> None:
    with home.parts() as parts:
        quality = quality_of(parts, rules)
        drain(quality, parts.log)
        for _ in range(16):
            home.clock.advance(60)
            quality.consume(parts.log)
        told = {one.entities[0].id: one for one in signals(parts)}
        assert set(told) == {"cloudtrail", "identity"}
        assert told["cloudtrail"].rule_id == "quality.silent"
        assert quality.degraded(TENANT).keys() == {STOPPED, EVE, FAILED, MANY}
        home.clock.advance(3_600)
        quality.consume(parts.log)
        assert len(signals(parts)) == 2
    with home.parts() as parts:
        # Another process: what was told is known.
        home.clock.advance(3_600)
        quality = quality_of(parts, rules)
        quality.consume(parts.log)
        assert len(signals(parts)) == 2
    home.days(2.2, 2.21, "identity")
    with home.parts() as parts:
        quality = quality_of(parts, rules)
        drain(quality, parts.log)
        assert [one.source for one in quality.problems(TENANT)] == ["cloudtrail"]
        assert quality.degraded(TENANT).keys() == {STOPPED, EVE}


def test_a_night_in_which_nobody_listened_is_no_silence(home: Home, rules: RuleSet) -> None:
    with home.parts() as parts:
        quality = quality_of(parts, rules)
        drain(quality, parts.log)
        home.clock.advance(12 * 3_600)
        quality.consume(parts.log)  # the machine slept
        home.clock.advance(300)
        quality.consume(parts.log)
        assert signals(parts) == []
    home.clock.advance(3_600)
    with home.parts() as parts:
        quality_of(parts, rules).consume(parts.log)
        assert signals(parts) == []


def test_an_index_made_again_says_the_same_with_the_same_ids(home: Home, rules: RuleSet) -> None:
    home.days(2, 2.1, "cloudtrail", eventName=None)
    bodies = []
    for limit in (5_000, 333):
        with home.parts() as parts:
            quality = quality_of(parts, rules)
            while quality.consume(parts.log, limit=limit):
                pass
            with parts.index.read() as connection:
                query = "select tenant, source, body, problems from quality_profile order by 1, 2"
                bodies.append(connection.execute(query).fetchall())
        for suffix in ("", "-wal", "-shm"):
            (home.folder / f"index.db{suffix}").unlink(missing_ok=True)
    assert bodies[0] == bodies[1]
    with home.parts() as parts:
        first, again = signals(parts)
        assert first == again
        parts.alerts.consume(parts.log)
        (alert,) = parts.alerts.find(TENANT)
        assert len(parts.alerts.signals(TENANT, alert.id)) == 1


def test_arrivals_and_what_is_not_watched(home: Home, rules: RuleSet) -> None:
    with home.parts() as parts:
        parts.log.append(
            "event", "x", [b"no event", b'{"tenant":"t","source":"nobody","event_time":1,"ingest_time":1}']
        )
        quality = quality_of(parts, rules)
        drain(quality, parts.log)
        arrivals = quality.arrivals(TENANT)
        assert arrivals["cloudtrail"].records == 2 * 2880
        assert arrivals["cloudtrail"].last == MONDAY + 2 * DAY - MINUTE // 2
        assert set(arrivals) == {"cloudtrail", "identity"}
        assert quality.arrivals("other") == {}
        assert quality.place(0) == parts.log.end("event", 0)
