"""Why a rule is quiet: the least it lacks; and of a correlation, how many of how many, in which window and group."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.judge.explain import RuleExplanation, to_lines
from vedette.judge.sigma.explain import Explainer, take
from vedette.judge.sigma.load import load
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.sources import load_sources

RULES = """
title: Sign-in failed
id: 00000000-0000-4000-8000-000000000001
name: failed
logsource: {product: okta, service: okta}
detection: {failed: {outcome.result: FAILURE}, condition: failed}
---
title: Sign-in
id: 00000000-0000-4000-8000-000000000002
name: worked
logsource: {product: okta, service: okta}
detection:
  worked: {outcome.result: [SUCCESS, ALLOW]}
  office: {client.ipAddress: 10.0.0.1}
  condition: worked and not office
---
title: Count
id: 00000000-0000-4000-8000-000000000003
name: many
correlation: {type: TYPE, rules: [PARTS], group-by: [client.ipAddress], timespan: 10m, BOUNDS}
"""
COUNT, WORKED = "00000000-0000-4000-8000-000000000003", "00000000-0000-4000-8000-000000000002"


def signin(minute: float, who: str, result: str = "FAILURE", ip: str | None = "203.0.113.7") -> dict[str, Any]:
    seconds = round(minute * 60)
    stamp = f"2026-03-02T{12 + seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"
    client = {} if ip is None else {"client": {"ipAddress": ip}}
    return {
        "uuid": f"u{minute}{who}",
        "published": stamp,
        "eventType": "user.session.start",
        "actor": {"alternateId": who},
        "outcome": {"result": result},
        **client,
    }


def explainer(
    tmp_path: Path,
    events: list[dict[str, Any]],
    *,
    kind: str = "event_count",
    over: str = "failed",
    condition: str = "gte: 3",
    more: str = "",
) -> Explainer:
    bounds = f"condition: {{{condition}}}" if condition else "generate: false"
    text = RULES.replace("TYPE", kind).replace("PARTS", over).replace("BOUNDS", bounds) + more
    (tmp_path / "rules.yml").write_text(text)
    (tmp_path / "events.ndjson").write_text("".join(json.dumps(event) + "\n" for event in events))
    known = load_sources()
    rules = load([tmp_path / "rules.yml"], LogSources({name: one.logsource for name, one in known.items()}))
    assert not rules.skipped
    return Explainer(rules, known, take([tmp_path / "events.ndjson"], known))


def correlation(
    tmp_path: Path, events: list[dict[str, Any]], *, asked: dict[str, Any] | None = None, **words: str
) -> list[RuleExplanation]:
    made = explainer(tmp_path, events, **words)
    return made.correlation(made._rules.correlations[-1], **(asked or {}))


def rule(made: Explainer, rule_id: str, line: int = 0) -> RuleExplanation:
    shown = made.rule(next(one for one in made._rules.rules if one.id == rule_id), line)
    assert shown
    return shown


def test_a_match_and_a_miss_of_a_rule(tmp_path: Path) -> None:
    made = explainer(tmp_path, [signin(0, "ada"), signin(1, "bob", "SUCCESS", "10.0.0.1"), signin(2, "eve", "SUCCESS")])
    hit = rule(made, WORKED)
    assert (hit.result, hit.event_id, hit.lacks) == ("fired", "u2eve", ())
    lack = rule(made, WORKED, 1).lacks[0]
    assert lack.wanted == ('outcome.result is "ALLOW"', 'outcome.result is "SUCCESS"')
    assert (lack.values[0].field, lack.values[0].value) == ("outcome.result", "FAILURE")
    (lack,) = rule(made, WORKED, 2).lacks
    assert lack.wanted == ('not client.ipAddress is "10.0.0.1"',)


def test_the_nearest_event_is_the_one_that_lacks_least(tmp_path: Path) -> None:
    shown = rule(
        explainer(tmp_path, [signin(0, "a", "X", "10.0.0.1"), signin(1, "b", "ALOW"), signin(2, "c", "Y")]), WORKED
    )
    assert shown.event_id == "u1b"
    assert shown.lacks[0].wanted[0] == 'outcome.result is "ALLOW"'
    assert any(line.startswith("  lacks: outcome.result is") for line in to_lines(shown))


def test_two_of_three_in_a_window(tmp_path: Path) -> None:
    # Three in all, but never three within ten minutes; the other address has one.
    events = [signin(0, "a"), signin(8, "a"), signin(11, "a"), signin(1, "b", ip="198.51.100.1")]
    near, far = correlation(tmp_path, events)
    assert near.result == far.result == "quiet"
    assert [read.value for read in near.clause.values] == ["203.0.113.7", 2]
    assert near.clause.children[0].text == "`failed` fired 2 times in this window, 3 in this group"
    assert near.lacks[0].wanted == ("event_count gte 3",)
    assert near.event_id == "u11a"
    assert [read.value for read in far.clause.values] == ["198.51.100.1", 1]
    fired = correlation(tmp_path, [*events, signin(9, "a")])[0]
    assert (fired.result, fired.lacks) == ("fired", ())


def test_a_group_and_a_record_of_choice(tmp_path: Path) -> None:
    events = [signin(0, "a"), signin(1, "b", ip="198.51.100.1"), signin(2, "c", "SUCCESS", ip="192.0.2.1")]
    (one,) = correlation(tmp_path, events, asked={"group": {"client.ipAddress": "198.51.100.1"}})
    assert one.clause.values[0].value == "198.51.100.1"
    (one,) = correlation(tmp_path, events, asked={"line": 2})
    assert one.clause.values[0].value == "198.51.100.1"
    # A record that fires nothing still says which group it would have been in, and that nothing is there.
    (one,) = correlation(tmp_path, events, asked={"line": 3})
    assert one.lacks[0].values[0].missing


def test_distinct_values(tmp_path: Path) -> None:
    shown = correlation(
        tmp_path,
        [signin(n, who) for n, who in enumerate("aabba")],
        kind="value_count",
        condition="gte: 3, field: actor.alternateId",
    )[0]
    assert shown.clause.values[1].value == 2
    assert len(shown.clause.children[0].children) == 5


@pytest.mark.parametrize("kind", ["temporal", "temporal_ordered"])
def test_the_missing_rule_is_named_with_its_nearest_event(tmp_path: Path, kind: str) -> None:
    words = {"kind": kind, "over": "failed, worked", "condition": ""}
    shown = correlation(tmp_path, [signin(0, "a"), signin(1, "b", "ALOW")], **words)[0]
    assert [child.result for child in shown.clause.children] == ["true", "false"]
    assert shown.clause.children[1].children[0].text == "nearest: event `u1b`"
    assert shown.lacks[0].wanted[0].startswith("`worked` fires in the same 600 s")
    assert shown.lacks[1].wanted[0] == 'outcome.result is "ALLOW"'
    late = correlation(tmp_path, [signin(0, "a"), signin(30, "b", "SUCCESS")], **words)[0]
    assert not late.lacks[0].values[0].missing
    assert correlation(tmp_path, [signin(0, "a"), signin(5, "b", "SUCCESS")], **words)[0].result == "fired"


def test_a_wrong_order(tmp_path: Path) -> None:
    words = {"kind": "temporal_ordered", "over": "failed, worked", "condition": ""}
    shown = correlation(tmp_path, [signin(0, "b", "SUCCESS"), signin(5, "a")], **words)[0]
    assert shown.result == "quiet"
    assert "after what stands before it" in shown.lacks[0].wanted[0]


def test_an_upper_bound_that_was_passed(tmp_path: Path) -> None:
    shown = correlation(tmp_path, [signin(n / 10, "a") for n in range(5)], condition="gte: 7, lte: 9")[0]
    assert (shown.result, shown.clause.values[1].value) == ("quiet", 5)


def test_events_without_the_group(tmp_path: Path) -> None:
    shown = correlation(tmp_path, [signin(0, "a"), signin(1, "b", ip=None), signin(2, "c", ip=None)])[0]
    assert shown.clause.children[-1].text == "2 events fired a rule without client.ipAddress, so in no group"


def test_a_correlation_over_a_correlation(tmp_path: Path) -> None:
    text = """
---
title: Outer
id: 00000000-0000-4000-8000-000000000004
correlation: {type: temporal_ordered, rules: [many, worked], group-by: [client.ipAddress], timespan: 30m}
"""
    words = {"more": text}
    shown = correlation(tmp_path, [signin(n, "a") for n in range(3)], **words)[0]
    assert [child.result for child in shown.clause.children] == ["true", "false"]
    assert (
        correlation(tmp_path, [*(signin(n, "a") for n in range(3)), signin(9, "b", "ALLOW")], **words)[0].result
        == "fired"
    )


@pytest.mark.parametrize("seed", range(8))
def test_amounts_against_brute_force(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    events = [signin(rng.randrange(3000) / 60, rng.choice("abc"), ip=f"192.0.2.{rng.randrange(3)}") for _ in range(40)]
    events = list({event["uuid"]: event for event in events}.values())
    for kind, field in (("event_count", "uuid"), ("value_count", "actor")):
        shown = correlation(
            tmp_path,
            events,
            asked={"most": 9},
            kind=kind,
            condition="gte: 99, field: actor.alternateId" if kind == "value_count" else "gte: 99",
        )
        found = {one.clause.values[0].value: one.clause.values[1].value for one in shown}
        for address, amount in found.items():
            own = [
                (event["published"], json.dumps(event[field]))
                for event in events
                if event["client"]["ipAddress"] == address
            ]
            sizes = []
            for end, _ in own:
                last = int(end[11:13]) * 3600 + int(end[14:16]) * 60 + int(end[17:19])
                inside = {
                    value
                    for stamp, value in own
                    if last - 600 < int(stamp[11:13]) * 3600 + int(stamp[14:16]) * 60 + int(stamp[17:19]) <= last
                }
                sizes.append(len(inside))
            assert amount == max(sizes)


def run(*words: str) -> Any:
    return CliRunner().invoke(build(words, verbs()), list(words))


def test_the_verb(tmp_path: Path) -> None:
    explainer(tmp_path, [signin(0, "a"), signin(1, "b")])
    rules, events = str(tmp_path / "rules.yml"), str(tmp_path / "events.ndjson")
    done = run("rules", "explain", rules, "--event", events, "--rule-id", COUNT, "--json")
    shown = json.loads(done.stdout)
    assert (shown["result"], shown["lacks"][0]["values"][0]["value"]) == ("quiet", 2)
    same = run("explain", "--sigma", rules, "--event", events, "--line", "1", "--rule-id", COUNT, "--json")
    assert json.loads(same.stdout) == shown
    text = run("rules", "explain", rules, "--event", events, "--group", "client.ipAddress=203.0.113.7").stdout
    assert "lacks: event_count gte 3   [event_count is 2]" in text
    for words, code in (
        (("rules", "explain", rules), "explain.request.incomplete"),
        (("rules", "explain", rules, "--event", events, "--line", "9"), "explain.event.missing"),
        (("rules", "explain", rules, "--event", events, "--group", "x"), "explain.group.invalid"),
        (("rules", "explain", rules, "--event", events, "--rule-id", "x"), "explain.rule.unknown"),
    ):
        assert getattr(run(*words).exception, "code", "") == code
