"""A game day names the steps between a rule and its answer that would fail, and only these; it starts nothing."""

from __future__ import annotations

import json

import pytest

from vedette.cli.main import main
from vedette.core.content import shipped
from vedette.core.settings import Settings
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.logsources import LogSources
from vedette.prove.access.policy import Role
from vedette.prove.trail import acts_of
from vedette.run.cases.gameday import Mark, hold, way_of
from vedette.run.parts import Parts
from vedette.run.rules.rule_tests import RuleTests
from vedette.sense.sources import load_sources

RULE = "8e1d7a60-3b5c-4f0e-8f6a-7d2b9c4e5f88"
RULES = shipped("rules/sigma") / "identity" / "factor_removed.yml"
SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
BOOK = f"""\
id: ask_first
version: 1
title: Ask, then tell
owner: identity
secrets: [pager]
inputs:
  user: {{from: "${{alert.entities.user}}"}}
triggers:
  - {{type: alert, rules: [{RULE}]}}
steps:
  - {{id: ask, type: approval, title: "Tell of ${{inputs.user}}", covers: [tell], deadline: 1h}}
  - {{id: tell, type: action, action: notify, arguments: {{text: "${{inputs.user}}"}}}}
  - id: of_root
    type: if-condition
    condition: ["${{inputs.user}}", "=", root]
    on_true:
      - {{id: never, type: action, action: notify, arguments: {{text: "${{alert.entities.account}}"}}}}
"""


@pytest.fixture
def home(tmp_path, clock):
    with Parts(Settings(home=tmp_path, tenant="acme"), clock=clock) as parts:
        parts.access.create_tenant("acme")
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "ask_first.yaml").write_text(BOOK)
    return tmp_path


def drills(home, clock, **environ):
    tests = RuleTests(rule_files(RULES), PLACES, SOURCES)
    with Parts(Settings(home=home, tenant="acme"), clock=clock, environ=environ) as parts:
        return {one.rule_id: one for one in hold(tests, way_of(parts, "acme", "ada"))}


def test_what_is_missing_is_named_until_it_is_there(home, clock):
    found = drills(home, clock)[RULE]
    assert found.about == ("user:ada@example.test",)
    assert "ask_first" in found.playbooks
    assert [step.name for step in found.failed if step.name.startswith("ask_first")] == [
        "ask_first: secret pager",
        "ask_first: approval",
    ]
    with Parts(Settings(home=home, tenant="acme"), clock=clock) as parts:
        for name in ("ada", "identity", "eve"):
            person = parts.access.people.create("acme", name)
            parts.access.people.grant("acme", person.id, Role.RESPONDER if name != "eve" else Role.ANALYST, by="system")
    again = drills(home, clock, VEDETTE_SECRET_PAGER="x")[RULE]
    assert [step.name for step in again.failed if step.name.startswith("ask_first")] == ["ask_first: approval"], (
        "who asks, who owns the playbook and who has not the role may not approve"
    )
    with Parts(Settings(home=home, tenant="acme"), clock=clock) as parts:
        person = parts.access.people.create("acme", "bob")
        parts.access.people.grant("acme", person.id, Role.RESPONDER, by="system")
    whole = drills(home, clock, VEDETTE_SECRET_PAGER="x")[RULE]
    assert not [step for step in whole.failed if step.name.startswith("ask_first")]
    assert "ask_first: never" not in [step.name for step in whole.steps], "a branch that is not taken"
    assert [step.note for step in whole.steps if step.mark is Mark.BY_HAND] == [
        "Ask the person on a known number. Unless they know of it: set the factor again,",
        "end the sessions, and list what the account did since.",
    ]


def test_a_rule_without_an_alert_needs_no_answer(home, clock):
    quiet = drills(home, clock)["4d5e6f70-8192-4a3b-9c4d-5e6f70819223"]
    assert not quiet.failed
    assert quiet.playbooks == ()


def test_a_playbook_that_an_alert_starts_must_get_its_inputs(home, clock):
    book = (home / "playbooks" / "ask_first.yaml").read_text().replace("entities.user}", "entities.host}", 1)
    (home / "playbooks" / "ask_first.yaml").write_text(book)
    failed = drills(home, clock)[RULE].failed
    assert [step.name for step in failed if step.name.startswith("ask_first")] == ["ask_first: inputs"]


def test_a_test_that_does_not_fire_fails_first(home, clock, tmp_path):
    broken = tmp_path / "broken.yml"
    broken.write_text(RULES.read_text().replace("user.mfa.factor.deactivate, user", "user.mfa.other, user"))
    tests = RuleTests(rule_files(broken), PLACES, SOURCES)
    with Parts(Settings(home=home, tenant="acme"), clock=clock) as parts:
        found = next(one for one in hold(tests, way_of(parts, "acme", "ada")) if one.rule_id == RULE)
    assert [(step.name, step.note) for step in found.failed] == [
        ("test: it happens", "it did not fire"),
        ("alert", "no test of it fires"),
    ]


def run(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(["gameday", *map(str, words)])
    shown = capsys.readouterr()
    assert not shown.err
    return stopped.value.code, shown.out


def test_the_command_keeps_what_failed_in_the_audit_trail(home, clock, monkeypatch, capsys):
    monkeypatch.setenv("VEDETTE_OPERATOR", "ada")
    code, out = run(capsys, RULES, "--home", home, "--tenant", "acme", "--json")
    shown = json.loads(out)
    assert (code, shown["rules"], shown["failed"]) == (1, 2, 1)
    code, out = run(capsys, RULES, "--home", home, "--tenant", "acme")
    assert code == 1
    assert "failed  ask_first: secret pager  secrets.name.unknown" in out
    assert out.splitlines()[-1].startswith("2 rules, 1 with a step that failed; 1 with a playbook")
    with Parts(Settings(home=home, tenant="acme"), clock=clock) as parts:
        kept = [act for act in acts_of(parts.log, "acme", "ada").records if act.action == "gameday.held"]
    assert [act.detail["failed"] for act in kept] == ["1", "1"]
    assert "ask_first: secret pager, ask_first: approval" in kept[0].detail["steps"]
