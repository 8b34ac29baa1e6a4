"""What rules cost: the dear one is named, and in it the dear clause; the slow stage too. Time is a clock of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.core.event import Event
from vedette.expr.matcher import Matcher
from vedette.judge.sigma import profile as module
from vedette.judge.sigma.load import RuleSet, load
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.profile import Sample, Stages, profile_rules, profile_stages
from vedette.sense.sources import load_sources

SOURCES = load_sources()
RULES = """
title: Cheap
id: cheap
logsource: {product: aws, service: cloudtrail}
detection: {it: {eventName: StopLogging}, condition: it}
---
title: Dear
id: dear
logsource: {product: aws, service: cloudtrail}
detection: {it: {eventName: GetObject, userAgent|re: 'a+b'}, condition: it}
"""


@pytest.fixture
def rules(tmp_path: Path) -> RuleSet:
    (tmp_path / "rules.yml").write_text(RULES)
    return load([tmp_path / "rules.yml"], LogSources({name: one.logsource for name, one in SOURCES.items()}))


def sample(count: int = 100) -> Sample:
    events = [
        Event(
            id=str(number),
            tenant="t",
            source="cloudtrail",
            event_time=number,
            ingest_time=number,
            data={"eventVersion": "1", "eventName": "GetObject", "userAgent": f"aab {number % 20}"},
        )
        for number in range(count)
    ]
    return Sample(SOURCES["cloudtrail"], events, decode=0.001)


class Ticking:
    """A clock that a matcher moves: a second for each event and regex that it was built with."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def matcher(self, nodes: Any) -> Any:
        real, dear = Matcher(nodes), sum("matches" in module.to_text(node) for node in nodes)

        class Slow:
            prepare = real.prepare

            def match_many(_self, events: Any) -> Any:  # noqa: N805
                self.seconds += len(events) * (1 + 9 * dear)
                return real.match_many(events)

        return Slow()


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    clock = Ticking()
    monkeypatch.setattr(module, "Matcher", clock.matcher)
    return clock


def test_the_dear_rule_and_its_dear_clause(rules: RuleSet, ticking: Ticking) -> None:
    done = []
    costs = profile_rules(rules, [sample()], ticking, lambda at, of: done.append((at, of)))
    dear, cheap = costs
    assert (dear.title, dear.micros, dear.matches) == ("Dear", 10e6, 100)
    assert (cheap.title, cheap.micros, cheap.matches) == ("Cheap", 1e6, 0)
    assert dear.clauses[0].text.startswith("userAgent matches")
    assert [clause.true for clause in dear.clauses] == [100, 100]
    assert done == [(1, 2), (2, 2)]


def test_stages(rules: RuleSet, ticking: Ticking) -> None:
    found = profile_stages(rules, SOURCES, sample(), ticking)
    assert (found.events, found.rules, found.decode, found.match, found.again) == (100, 2, 10.0, 10e6, 10e6)
    assert (found.repeats, found.slow) == (0.8, "match")
    assert Stages("s", 1, 1, decode=9, match=1, again=1, explain=1, correlate=2, repeats=0).slow == "decode"


def test_the_verb(tmp_path: Path, rules: RuleSet) -> None:
    assert rules.rules
    record = {"eventVersion": "1", "eventSource": "s3", "eventName": "GetObject", "userAgent": "aab"}
    lines = [{**record, "eventID": str(number), "eventTime": "2026-01-01T00:00:00Z"} for number in range(50)]
    (tmp_path / "trail.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run(*words: str) -> Any:
        whole = ["rules", "profile", *words]
        return CliRunner().invoke(build(whole, verbs()), whole)

    words = ["--rules", str(tmp_path / "rules.yml"), str(tmp_path / "trail.ndjson")]
    shown = json.loads(run(*words, "--json").stdout)
    assert [(one["source"], one["events"], one["rules"]) for one in shown["sources"]] == [("cloudtrail", 50, 2)]
    assert {one["title"] for one in shown["rules"]} == {"Cheap", "Dear"}
    assert "CPU microseconds an event" in run(*words).stdout
    nothing = run("--rules", str(tmp_path / "rules.yml"), "--home", str(tmp_path / "none"))
    assert getattr(nothing.exception, "code", "") == "rules.records.missing"
