"""Coverage rests on data that arrives, tests that pass and fields that are there; it falls when one of them goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from quality_home import SOURCES, Home
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.cli.rules import coverage as verb
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import load
from vedette.judge.sigma.logsources import LogSources
from vedette.run.rules.coverage import REPORT, State, Threat, make_coverage, navigator_layer
from vedette.run.rules.rule_tests import RuleTests
from vedette.run.rules.trend import Trend
from vedette.sense.intel.attack import Attack, Group, Tactic, Technique
from vedette.sense.intel.bundle import Imported, keep_attack

RULES = """
title: Trail stopped
id: 00000000-0000-4000-8000-00000000000a
logsource: {product: aws, service: cloudtrail}
detection: {stopped: {eventName: StopLogging}, condition: stopped}
tags: [attack.defense-evasion, attack.t1562.008]
vedette:
  tests:
    - {name: stopped, fires: true, event: {eventVersion: "1", eventSource: s3, eventName: StopLogging}}
---
title: Sign-in failed
id: 00000000-0000-4000-8000-00000000000c
name: failed
logsource: {product: okta, service: okta}
detection: {failed: {outcome.result: FAILURE}, condition: failed}
tags: [attack.t1110]
---
title: Many fail
id: 00000000-0000-4000-8000-00000000000d
tags: [attack.t1110.003, threat.insider]
correlation: {type: event_count, rules: [failed], group-by: [client.ipAddress], timespan: 10m, condition: {gte: 3}}
vedette:
  tests:
    - name: three
      fires: true
      steps:
        - {count: 3, every: 1s, event: {uuid: "u{n}", eventType: s, outcome: {result: FAILURE}, client: {ipAddress: 1.2.3.4}}}
---
title: Untested
id: 00000000-0000-4000-8000-00000000000e
logsource: {product: aws, service: cloudtrail}
detection: {it: {eventName: DeleteTrail}, condition: it}
tags: [attack.t1078]
"""
ATTACK = Attack(
    "18.1",
    "",
    {
        one.id: one
        for one in (
            Technique("T1562.008", "Disable Cloud Logs", ("defense-evasion",), revoked_by="T1685.002"),
            Technique("T1685.002", "Disable Cloud Logs", ("defense-evasion",), added=True),
            Technique("T1110", "Brute Force", ("credential-access",)),
            Technique("T1110.003", "Password Spraying", ("credential-access",)),
            Technique("T1078", "Valid Accounts", ("initial-access",)),
            Technique("T1490", "Inhibit System Recovery", ("impact",)),
        )
    },
    (Tactic("TA0001", "Initial Access", "initial-access"), Tactic("TA0005", "Defense Evasion", "defense-evasion")),
    {"G0001": Group("G0001", "Grey Fox", ("UNC1",), ("T1490", "T1562.008"))},
)
TRAIL = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home in which two sources arrive, with rules beside it; the verb reads its clock."""
    home = Home(tmp_path / "home")
    home.days(0, 2, "cloudtrail", "identity")
    (tmp_path / "rules.yml").write_text(RULES)
    keep_attack(home.folder, Imported(ATTACK, "here", 1))
    monkeypatch.setattr(verb, "SystemClock", lambda: home.clock)
    return home


def run(home: Home, *words: str) -> dict[str, Any]:
    rules = str(home.folder.parent / "rules.yml")
    whole = ["rules", "coverage", "--home", str(home.folder), "--rules", rules, "--json", *words]
    done = CliRunner().invoke(build(whole, verbs()), whole)
    assert done.exit_code == 0, done.exception
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def states(shown: dict[str, Any]) -> dict[str, str]:
    return {cell["id"]: cell["state"] for cell in shown["techniques"]}


def test_what_is_covered_and_what_is_not(place: Home) -> None:
    shown = run(place)
    assert states(shown) == {
        "T1685.002": "covered",
        "T1110": "partial",
        "T1110.003": "covered",
        "T1078": "lost",
    }
    assert shown["counts"] == {"covered": 2, "partial": 1, "lost": 1, "none": 1}
    (lost,) = shown["lost"]
    assert (lost["title"], lost["why"]) == ("Untested", ["no test makes it fire"])
    assert shown["threats"] == {
        "external": {"counting": 1, "rules": 2, "techniques": 1},
        "insider": {"counting": 1, "rules": 1, "techniques": 1},
    }
    assert states(run(place, "--untested"))["T1078"] == "covered"


def test_it_falls_when_a_source_stops(place: Home) -> None:
    assert states(run(place))["T1110.003"] == "covered"
    place.days(2, 4, "cloudtrail")
    shown = run(place)
    assert states(shown)["T1110.003"] == "lost"
    assert states(shown)["T1685.002"] == "covered"
    assert ["no data arrives: identity"] in [one["why"] for one in shown["lost"]]
    assert states(run(place, "--within", "3d"))["T1110.003"] == "covered"


def test_it_falls_when_a_test_breaks(place: Home) -> None:
    rules = place.folder.parent / "rules.yml"
    rules.write_text(RULES.replace("{eventName: StopLogging}", "{eventName: StopLoging}"))
    shown = run(place)
    assert states(shown)["T1685.002"] == "lost"
    assert ["its test fails: stopped"] in [one["why"] for one in shown["lost"]]


def test_it_falls_when_a_field_is_gone_and_comes_back(place: Home) -> None:
    place.days(2, 2.1, "cloudtrail", eventName=None)
    place.days(2, 2.1, "identity")
    shown = run(place)
    assert states(shown)["T1685.002"] == "lost"
    assert any("`eventName` is gone" in why for one in shown["lost"] for why in one["why"])
    place.days(2.1, 2.2, "cloudtrail", "identity")
    assert states(run(place))["T1685.002"] == "covered"


def test_the_trend_has_a_row_a_day(place: Home) -> None:
    run(place)
    run(place)
    place.days(2, 4, "cloudtrail")
    days = run(place, "--trend")["trend"]
    assert [(one["day"], one["covered"]) for one in days] == [("2026-01-07", 2), ("2026-01-09", 1)]
    with place.parts() as parts:
        assert Trend(parts.state).of("other", REPORT) == []


def test_an_actor(place: Home) -> None:
    shown = run(place, "--actor", "unc1")["actor"]
    assert [(one["technique"], one["state"], one["rules"], one["hits"]) for one in shown["techniques"]] == [
        ("T1490", "none", [], 0),
        ("T1685.002", "covered", [TRAIL], 0),
    ]


def test_stages_in_which_a_rule_is_quiet_do_not_count(place: Home) -> None:
    places = LogSources({name: one.logsource for name, one in SOURCES.items()})
    tests = RuleTests(rule_files(place.folder.parent / "rules.yml"), places, SOURCES)
    loaded, tested = tests.rules, list(tests.run())
    found = make_coverage(
        loaded, ATTACK, arriving=SOURCES, tested=tested, degraded={}, off={TRAIL: "shadow"}, untested=True
    )
    cells = {cell.id: cell for cell in found.cells}
    assert cells["T1685.002"].state is State.LOST
    assert found.by_threat()[Threat.EXTERNAL]["counting"] == 1


FORMAT: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "versions": dict,
    "domain": str,
    "description": str,
    "sorting": int,
    "layout": dict,
    "hideDisabled": bool,
    "techniques": list,
    "gradient": dict,
    "legendItems": list,
    "selectTechniquesAcrossTactics": bool,
}
"""Properties of layer format 4.5 that are used here."""
TECHNIQUE = {"techniqueID": str, "score": int, "color": str, "comment": str, "enabled": bool, "metadata": list}


def test_the_layer_is_as_its_format_says(place: Home) -> None:
    path = place.folder.parent / "layer.json"
    run(place, "--navigator", str(path))
    layer = json.loads(path.read_text())
    assert {name: type(value) for name, value in layer.items()} == FORMAT
    assert layer["versions"] == {"attack": "18", "navigator": "5.1.0", "layer": "4.5"}
    assert layer["domain"] == "enterprise-attack"
    assert layer["gradient"]["minValue"] < layer["gradient"]["maxValue"]
    assert layer["layout"]["layout"] in {"side", "flat", "mini"}
    for one in layer["techniques"]:
        assert {name: type(value) for name, value in one.items()} == TECHNIQUE
        assert all(set(each) == {"name", "value"} for each in one["metadata"])
        assert all(isinstance(each["value"], str) and each["value"] for each in one["metadata"])
    # Under the id that this version of ATT&CK has.
    ids = {one["techniqueID"]: one["score"] for one in layer["techniques"]}
    assert ids == {"T1562.008": 100, "T1110": 50, "T1110.003": 100, "T1078": 10}


def test_a_plan_needs_no_home(place: Home, tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    words = ["rules", "coverage", "--home", str(missing), "--rules", str(tmp_path / "rules.yml")]
    done = CliRunner().invoke(build(words, verbs()), words)
    assert getattr(done.exception, "code", "") == "intel.attack.missing"
    words[3] = str(place.folder)
    words.append("--plan")
    done = CliRunner().invoke(build(words, verbs()), [*words, "--lost"])
    assert done.exit_code == 0, done.exception
    assert "2 covered, 1 partial, 1 lost, 1 none" in done.stdout
    assert "no test makes it fire" in done.stdout


def test_layer_of_nothing(place: Home) -> None:
    loaded = load([place.folder.parent / "rules.yml"], LogSources({}))
    found = make_coverage(loaded, ATTACK, arriving=(), tested=(), degraded={})
    assert navigator_layer(found, ATTACK)["techniques"] == []
