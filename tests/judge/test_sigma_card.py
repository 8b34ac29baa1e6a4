"""The rule card: what people may write under `vedette:`, and what they are told when it is wrong."""

from __future__ import annotations

from datetime import date

import pytest

from vedette.core.errors import DefinitionError
from vedette.core.signal import Level
from vedette.judge.grouping import Grouping, Missing, Suppression
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.card import CardTest, Expected, Step, parse_card
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.sources import load_sources

RULE = b"""title: A
id: 0e0b8a1c-5a0f-4f8e-9d0e-3f1a2b4c5d6e
name: a
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventName: StopLogging}, condition: s}
vedette:
  owner: cloud-security
  risk: 40
  budget: 5
  group: {by: [entity, why.eventName], window: 2h, missing: separate, title: "${entity}"}
  suppress: {by: [entity], for: 1d}
  tests:
    - {name: stopped, event: {eventName: StopLogging}, expect: {level: medium, key: "user:eve"}}
    - {name: read, fires: false, events: [{eventName: GetObject, at: 2026-01-31}, {eventName: ListObjects}]}
---
title: B
correlation: {type: event_count, rules: [a], group-by: [sourceIPAddress], timespan: 10m, condition: {gte: 3}}
vedette:
  owner: cloud-security
  tests:
    - name: thrice
      fires: ["ip:203.0.113.7"]
      source: cloudtrail
      steps: [{count: 3, every: 1m, late: 30s, event: {eventName: StopLogging, sourceIPAddress: 203.0.113.7}}]
"""


@pytest.fixture(scope="module")
def places():
    return LogSources({name: source.logsource for name, source in load_sources().items()})


def test_cards_reach_rules_and_correlations(places):
    rules = build([RuleFile("a.yml", RULE)], places)
    assert not rules.skipped
    card = rules.rules[0].card
    assert (card.owner, card.risk, card.budget, card.proven) == ("cloud-security", 40, 5, True)
    assert card.group == Grouping(
        by=("entity", "why.eventName"), window_s=7_200, missing=Missing.SEPARATE, title="${entity}"
    )
    assert card.suppress == Suppression(span_s=86_400)
    assert card.tests[0].expect == Expected(level=Level.MEDIUM, key="user:eve")
    assert card.tests[1].steps == (
        Step(event={"eventName": "GetObject", "at": "2026-01-31"}),
        Step(event={"eventName": "ListObjects"}, at_s=1),
    )
    correlation = rules.correlations[0]
    event = {"eventName": "StopLogging", "sourceIPAddress": "203.0.113.7"}
    step = Step(event=event, source="cloudtrail", count=3, every_s=60, late_s=30)
    assert correlation.card.tests == (CardTest(name="thrice", fires=("ip:203.0.113.7",), steps=(step,)),)
    assert not correlation.card.proven


def test_cards_are_kept_with_compiled_rules(places, tmp_path):
    files = [RuleFile("a.yml", RULE)]
    built = load_cached(files, places, tmp_path)
    kept = load_cached(files, places, tmp_path)
    assert [rule.card for rule in kept.rules] == [rule.card for rule in built.rules]
    assert kept.correlations == built.correlations
    assert list(tmp_path.iterdir())


def test_a_card_of_a_global_document_is_that_of_each_rule(places):
    text = b"action: global\nvedette: {owner: everyone}\n---\n" + RULE.partition(b"\n---")[0]
    assert build([RuleFile("a.yml", text)], places).rules[0].card.owner == "everyone"


@pytest.mark.parametrize(
    ("written", "code", "line"),
    [
        ("vedette: {ower: x}", "sigma.card.invalid", 6),
        ("vedette: 7", "sigma.card.invalid", 6),
        ("vedette:\n  group:\n    window: soon", "sigma.card.span", 8),
        ("vedette:\n  group: {by: [user]}", "sigma.card.key", 7),
        ("vedette:\n  suppress: {by: [entity]}", "sigma.card.invalid", 7),
        ("vedette:\n  risk: 101", "sigma.card.range", 7),
        ("vedette:\n  budget: -1", "sigma.card.range", 7),
        ("vedette:\n  expires: soon", "sigma.card.invalid", 7),
        ("vedette:\n  tests:\n    - {name: a, fires: true}", "sigma.card.test", 8),
        ("vedette:\n  tests:\n    - {name: a, fires: often, event: {}}", "sigma.card.test", 8),
        ("vedette:\n  tests:\n    - {name: a, fires: [eve], event: {}}", "sigma.card.test", 8),
        ("vedette:\n  tests:\n    - {name: a, fires: false, event: {}, expect: {key: x}}", "sigma.card.test", 8),
        ("vedette:\n  tests:\n    - {name: a, event: {}, events: [{}]}", "sigma.card.test", 8),
        ("vedette:\n  tests:\n    - name: a\n      steps: [{event: {}, every: 5}]", "sigma.card.span", 9),
        ("vedette:\n  tests:\n    - name: a\n      steps: [{event: {}, count: 0}]", "sigma.card.test", 8),
    ],
)
def test_what_is_wrong_is_told_with_its_place(places, written, code, line):
    head = RULE.decode().partition("vedette:")[0]
    skipped = build([RuleFile("a.yml", (head + written).encode())], places).skipped
    assert len(skipped) == 1
    assert f"[{code}]" in skipped[0].reason
    assert f"line {line}:" in skipped[0].reason


def test_risk_points_follow_the_level_where_none_are_stated():
    assert parse_card(None).points(Level.HIGH) == 50
    assert parse_card({"risk": 7}).points(Level.HIGH) == 7


def test_an_exception_states_its_last_day():
    assert parse_card({"owner": "a", "reason": "b", "expires": "2027-01-31"}).expires == date(2027, 1, 31)
    with pytest.raises(DefinitionError) as error:
        parse_card({"expires": 20270131})
    assert error.value.code == "sigma.card.invalid"
