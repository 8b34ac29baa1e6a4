"""The tester of rules: it passes what is right, and says of each planted fault what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.cli.main import main
from vedette.core.clock import MICROS
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.logsources import LogSources
from vedette.run.rules.rule_tests import RuleTests
from vedette.sense.sources import load_sources
from vedette.sense.times import TimeFormat, parse_time, write_time

SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
STOPPED = """title: Trail stopped
id: 0e0b8a1c-5a0f-4f8e-9d0e-3f1a2b4c5d6e
level: high
logsource: {product: aws, service: cloudtrail}
detection:
  stopped: {eventSource: cloudtrail.amazonaws.com, eventName: [StopLogging, DeleteTrail]}
  robot: {userIdentity.userName: terraform}
  condition: stopped and not robot
vedette:
  group: {window: 2h, title: "Trail stopped by ${entity}"}
  tests:
    - name: stopped
      event: {eventSource: cloudtrail.amazonaws.com, eventName: StopLogging, userIdentity: {arn: "arn:eve"}}
      expect: {title: "Trail stopped by user:arn:eve", level: high, key: "user:arn:eve", entities: ["user:arn:eve"]}
    - name: by the robot
      fires: false
      event: {eventSource: cloudtrail.amazonaws.com, eventName: StopLogging, userIdentity: {userName: Terraform}}
"""
BURST = """title: Burst
id: 5a1f3c7e-2b4d-4e6f-8a9b-0c1d2e3f4a5b
name: burst
correlation: {type: value_count, rules: [failed], group-by: [client.ipAddress], timespan: 10m,
  condition: {gte: 3, field: actor.alternateId}}
vedette:
  tests:
    - name: three people
      fires: ["ip:203.0.113.7"]
      steps: [{count: 3, every: 1m, event: {outcome: {result: FAILURE}, client: {ipAddress: 203.0.113.7},
        actor: {alternateId: "u{n}"}}}]
---
title: Sign-in failed
id: 6b2f4d8e-3c5e-4f7a-9b0c-1d2e3f4a5b6c
name: failed
logsource: {product: okta, service: okta}
detection: {failed: {outcome.result: FAILURE}, condition: failed}
"""


def results(text):
    tests = RuleTests([RuleFile("a.yml", text.encode())], PLACES, SOURCES)
    assert not tests.rules.skipped, tests.rules.skipped
    return list(tests.run())


def test_what_is_right_passes():
    assert [(one.test, one.problem) for one in results(STOPPED)] == [("stopped", ""), ("by the robot", "")]
    assert [(one.test, one.problem) for one in results(BURST)] == [("three people", "")]


@pytest.mark.parametrize(
    ("right", "wrong", "problem", "why"),
    [
        (
            "eventName: StopLogging, userIdentity: {arn",
            "eventName: StartLogging, userIdentity: {arn",
            "did not fire",
            "eventName",
        ),
        ("{userName: Terraform}", "{userName: eve}", "it fired 1 times, not 0", "stopped|eventName"),
        ("level: high, key", "level: low, key", "level is `high`, not `low`", ""),
        ('key: "user:arn:eve"', 'key: "user:bob"', "key is `user:arn:eve`, not `user:bob`", ""),
        ('by user:arn:eve"', 'by someone"', "title is `Trail stopped by user:arn:eve`", ""),
        ('["user:arn:eve"]', '["user:arn:eve", "ip:1"]', "entities is `user:arn:eve`, not `ip:1, user:arn:eve`", ""),
    ],
)
def test_a_fault_in_a_test_of_a_rule_is_told(right, wrong, problem, why):
    assert right in STOPPED
    failed = [one for one in results(STOPPED.replace(right, wrong)) if not one.passed]
    assert len(failed) == 1
    assert problem in failed[0].problem
    assert any(word in " ".join(failed[0].why) for word in why.split("|"))


@pytest.mark.parametrize(
    ("right", "wrong", "problem", "why"),
    [
        ("gte: 3", "gte: 4", "it did not fire for ip:203.0.113.7", "value_count gte 4"),
        ("count: 3, every: 1m", "count: 3, every: 6m", "it did not fire", "value_count"),
        ('"u{n}"', '"u{n%2}"', "it did not fire", "value_count is 2"),
        ("203.0.113.7}", "203.0.113.8}", "it did not fire for ip:203.0.113.7; it fired for ip:203.0.113.8", ""),
        ("result: FAILURE}", "result: SUCCESS}", "it did not fire", "outcome.result"),
        ("every: 1m,", "every: 1m, late: 2s,", "", ""),
    ],
)
def test_a_fault_in_a_test_of_a_correlation_is_told(right, wrong, problem, why):
    assert right in BURST
    (result,) = results(BURST.replace(right, wrong, 1))
    assert problem in result.problem
    assert bool(problem) is not result.passed
    assert why in " ".join(result.why)


def test_events_that_are_delivered_too_late_are_not_counted():
    """The third of three comes too late, behind one that shows how far time has come."""
    steps = """steps:
        - {count: 2, event: {outcome: {result: FAILURE}, client: {ipAddress: 203.0.113.7}, actor: {alternateId: "u{n}"}}}
        - {late: LATE, event: {outcome: {result: FAILURE}, client: {ipAddress: 203.0.113.7}, actor: {alternateId: z}}}
        - {at: 35m, count: 70, event: {outcome: {result: FAILURE}, client: {ipAddress: 203.0.113.9}, actor: {alternateId: z}}}
"""
    start, end = BURST.index("steps:"), BURST.index("---\n")
    text = BURST[:start] + steps + BURST[end:]
    assert results(text.replace("LATE", "13m"))[0].passed
    assert results(text.replace("LATE", "40m"))[0].problem == "it did not fire for ip:203.0.113.7"


def test_a_test_brings_its_own_look_ups():
    text = STOPPED.replace("userIdentity.userName: terraform", "'userIdentity.userName|expand': '%robots%'")
    with_list = text.replace(
        "- name: by the robot", "- name: by the robot\n      lists: {robots: [terraform, atlantis]}"
    )
    assert [one.problem for one in results(with_list)] == ["", ""]
    wrong = with_list.replace("[terraform, atlantis]", "[atlantis]")
    assert [one.problem for one in results(wrong)] == ["", "it fired 1 times, not 0"]


def test_another_rule_of_the_file_may_fire_only_when_it_is_named():
    other = STOPPED.partition("vedette:")[0].replace("0e0b", "1e0b").replace("level: high", "name: other\nlevel: low")
    failed = results(f"{STOPPED}---\n{other}")[0]
    assert "`other` of the same file fires too" in failed.problem
    named = STOPPED.replace("- name: stopped", "- name: stopped\n      also: [other]")
    assert results(f"{named}---\n{other}")[0].passed


def test_a_test_of_a_rule_that_reads_several_sources_names_one():
    (failed, _) = results(STOPPED.replace("- name: stopped", "- name: stopped\n      source: nowhere"))
    assert "[rules.test.source]" in failed.problem


@settings(max_examples=200)
@given(st.integers(0, 4_000_000_000 * MICROS), st.sampled_from(list(TimeFormat)))
def test_times_are_written_as_they_are_read(micros, form):
    digits = {TimeFormat.CLF: MICROS, TimeFormat.AUDIT: 1_000, TimeFormat.EPOCH_S: 1}.get(form, 1)
    time = micros // digits * digits
    assert parse_time(write_time(time, form), form) == time


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["rules", "test", *map(str, arguments)])
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out

    return call


PAYMENT = """
- id: large
  text: "block if :amount_in_usd: > 500"
  tests:
    - {given: {":amount_in_usd:": 600}, expect: fired}
    - {given: {":amount_in_usd:": 500}, expect: quiet}
"""


def test_the_verb_tests_sigma_and_payment_rules_alike(run, tmp_path):
    (tmp_path / "a.yml").write_text(STOPPED)
    (tmp_path / "payment.yaml").write_text(PAYMENT)
    code, out = run(tmp_path, "--json")
    report = json.loads(out)
    assert (code, report["passed"], report["failed"], report["untested"]) == (0, 4, 0, [])
    assert {one["rule_id"] for one in report["tests"]} == {"0e0b8a1c-5a0f-4f8e-9d0e-3f1a2b4c5d6e", "large"}


def test_the_verb_fails_and_names_the_clause(run, tmp_path):
    (tmp_path / "a.yml").write_text(STOPPED.replace("StopLogging, Del", "StopLoggin, Del"))
    (tmp_path / "payment.yaml").write_text(PAYMENT.replace("500}", "501}"))
    code, out = run(tmp_path)
    assert code == 1
    assert "FAIL a.yml: Trail stopped: stopped" in out
    assert 'lacks: eventName is "StopLoggin" or eventName is "DeleteTrail"' in out
    assert "it is fired, not quiet" in out
    assert "2 tests of 2 rules passed, 2 failed" in out


def test_the_verb_fails_for_a_rule_that_cannot_match(run, tmp_path):
    (tmp_path / "a.yml").write_text(STOPPED.replace("product: aws", "product: moon"))
    code, out = run(tmp_path)
    assert (code, "sigma.logsource.unmapped" in out) == (1, True)
