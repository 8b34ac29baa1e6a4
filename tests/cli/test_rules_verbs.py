"""The verbs that ship, list, take back, compare and begin rules, over a real home."""

from __future__ import annotations

import hashlib
import json

import pytest

from vedette.cli.main import main
from vedette.core.clock import SystemClock
from vedette.core.log import SqliteLog

NAME = "0e0b8a1c-5a0f-4f8e-9d0e-3f1a2b4c5d6e"
RULE = f"""title: Trail stopped
id: {NAME}
status: test
description: Whoever stops the trail hides what comes next.
logsource: {{product: aws, service: cloudtrail}}
detection:
  stopped: {{eventSource: cloudtrail.amazonaws.com, eventName: [StopLogging, DeleteTrail]}}
  condition: stopped
falsepositives: [a planned change]
level: high
tags: [attack.t1685.002]
vedette:
  owner: cloud-security
  budget: 2
  runbook: Switch it on again.
  tests:
    - {{name: stopped, event: {{eventSource: cloudtrail.amazonaws.com, eventName: StopLogging}}}}
    - {{name: looked at, fires: false, event: {{eventSource: cloudtrail.amazonaws.com, eventName: DescribeTrails}}}}
"""


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yml").write_text(RULE)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["rules", *map(str, arguments)])
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


def test_through_the_stages_and_back(run, tmp_path):
    code, out, _ = run("ship", "r.yml", "--home", "home", "--by", "ada", "--json")
    assert (code, json.loads(out)["shipped"][0]["stage"]) == (0, "shadow")
    assert json.loads(run("ship", "r.yml", "--home", "home", "--json")[1])["shipped"][0]["seq"] == 0
    assert "staged 10 %" in run("ship", "r.yml", "--home", "home", "--percent", "10")[1]
    assert "live" in run("ship", "r.yml", "--home", "home", "--live", "--note", "quiet")[1]
    code, _, err = run("ship", "r.yml", "--home", "home", "--shadow")
    assert (code, "rules.ship.live" in err) == (2, True)
    (row,) = json.loads(run("list", "--home", "home", "--json")[1])
    assert (row["rule_id"], row["title"], row["stage"], row["note"]) == (NAME, "Trail stopped", "live", "quiet")
    assert json.loads(run("rollback", NAME, "--home", "home", "--json")[1])["stage"] == "staged"
    assert json.loads(run("rollback", NAME, "--home", "home", "--off", "--json")[1])["stage"] == "off"
    with SqliteLog(tmp_path / "home" / "log", SystemClock()) as log:
        told = [json.loads(one.value) for one in log.read("audit", 0, 0, 100)]
    actions = [one["action"] for one in told]
    assert actions == ["rules.ship", "rules.ship", "rules.ship", "rules.rollback", "rules.off"]
    assert (told[0]["actor"], told[0]["target"], told[2]["detail"]["note"]) == ("ada", NAME, "quiet")


def test_pipelines_go_with_what_is_shipped(run, tmp_path):
    rule = tmp_path / "r.yml"
    rule.write_text(rule.read_text().replace("eventName: [", "event.action: ["))
    content = "{priority: 20, transformations: [{type: field_name_mapping, mapping: {event.action: eventName}}]}"
    (tmp_path / "p.yml").write_text(content)
    assert run("ship", "r.yml", "--home", "home", "--json")[0] == 1, "its tests do not pass without"
    code, out, err = run("ship", "r.yml", "--home", "home", "--pipeline", "p.yml", "--json")
    assert code == 0, out + err
    assert json.loads(out)["shipped"][0]["pipelines"] == {"p.yml": hashlib.sha256(content.encode()).hexdigest()}


@pytest.mark.parametrize(
    "lack",
    [
        ("  owner: cloud-security\n", "", "check", "has no owner"),
        ("tags: [attack.t1685.002]\n", "", "check", "has no ATT&CK technique"),
        ("fires: false, ", "", "check", "has no test that leaves it quiet"),
        ("  budget: 2\n", "", "spec", "has no `budget`"),
        ("description: Whoever stops the trail hides what comes next.\n", "", "spec", "what it is after"),
        ("Switch it on again.", "CHANGE ME", "spec", "still says `CHANGE ME`"),
        ("[StopLogging, DeleteTrail]", "[DeleteTrail]", "test", "it did not fire"),
        ("product: aws", "product: moon", "check", "sigma.logsource.unmapped"),
    ],
)
def test_what_lacks_a_part_is_not_shipped(run, tmp_path, lack):
    right, wrong, gate, message = lack
    assert right in RULE
    (tmp_path / "r.yml").write_text(RULE.replace(right, wrong))
    code, out, _ = run("ship", "r.yml", "--home", "home", "--json")
    report = json.loads(out)
    assert (code, report["shipped"]) == (1, [])
    assert any(one["gate"] == gate and message in one["message"] for one in report["obstacles"])
    assert not (tmp_path / "home" / "state.db").exists()


def test_a_rule_over_its_budget_is_not_shipped_but_with_a_reason(run, tmp_path, monkeypatch):
    events = "\n".join(
        json.dumps(
            {
                "eventVersion": "1.08",
                "eventID": f"e{n}",
                "eventTime": f"2026-03-02T{n:02}:00:00Z",
                "eventSource": "cloudtrail.amazonaws.com",
                "eventName": "StopLogging",
                "awsRegion": "eu-west-1",
                "userIdentity": {"arn": f"arn:{n}"},
            }
        )
        for n in range(20)
    )
    (tmp_path / "trail.ndjson").write_text(events)
    with pytest.raises(SystemExit):
        main(["pipeline", "run", "--home", "home", "--source", "cloudtrail", "trail.ndjson"])
    code, out, _ = run("backtest", "--rules", "r.yml", "--home", "home", "--from", "2026-03-02", "--to", "2026-03-04")
    assert (code, "10.00 alerts a day, 2 allowed" in out) == (1, True)
    code, out, _ = run("ship", "r.yml", "--home", "home", "--from", "2026-03-02")
    assert (code, "nothing was shipped" in out) == (0, False)  # 20 alerts over 260 days are few
    (tmp_path / "r.yml").write_text(RULE.replace("budget: 2", "budget: 0.001"))
    code, out, _ = run("ship", "r.yml", "--home", "home", "--from", "2026-03-02")
    assert (code, "backtest: Trail stopped" in out) == (1, True)
    code, _, _ = run("ship", "r.yml", "--home", "home", "--from", "2026-03-02", "--waive", "attack is on")
    assert code == 0
    (row,) = json.loads(run("list", "--home", "home", "--json")[1])
    assert row["note"] == "waived: attack is on"


def test_what_began_loads_and_passes_and_is_not_shipped(run):
    assert run("new", "rules/x.yml", "--source", "identity", "--title", 'Say "x": y')[0] == 0
    assert run("test", "rules")[0] == 0
    code, out, _ = run("ship", "rules", "--home", "home", "--check")
    assert (code, "CHANGE ME" in out) == (1, True)
    assert run("new", "rules/x.yml", "--source", "identity")[0] == 2
    assert run("new", "rules/y.yml", "--source", "nowhere")[0] == 2


def test_a_difference_is_one_of_meaning(run, tmp_path):
    laid_out = RULE.replace("[StopLogging, DeleteTrail]", "[StopLogging,  # first\n    DeleteTrail]")
    (tmp_path / "n.yml").write_text(laid_out)
    assert run("diff", "r.yml", "n.yml") == (0, "", "")
    changed = laid_out.replace("level: high", "level: low").replace("[StopLogging", "[UpdateTrail")
    (tmp_path / "n.yml").write_text(changed.replace("name: looked at", "name: another"))
    code, out, _ = run("diff", "r.yml", "n.yml")
    assert code == 1
    for line in (
        "- level: high",
        "+ level: low",
        '- clause of cloudtrail: eventName is "StopLogging"',
        '+ clause of cloudtrail: eventName is "UpdateTrail"',
        "- test: looked at",
        "+ test: another",
    ):
        assert f"  {line}\n" in out
    kinds = json.loads(run("diff", "r.yml", "n.yml", "--json")[1])
    assert [one["change"] for one in kinds] == ["changed"]


FILTER = f"""title: Robot
id: 1e0b8a1c-5a0f-4f8e-9d0e-3f1a2b4c5d6e
logsource: {{product: aws, service: cloudtrail}}
filter: {{rules: [{NAME}], robot: {{userIdentity.arn: robot}}, condition: not robot}}
vedette: {{owner: platform, reason: nightly, expires: 2099-01-31}}
"""


@pytest.mark.parametrize(
    ("change", "state", "code"),
    [
        (("", ""), "applies", 0),
        (("2099-01-31", "2020-01-31"), "expired", 1),
        ((", expires: 2099-01-31", ""), "no end", 1),
        ((NAME, "nothing"), "narrows nothing", 1),
        (("owner: platform, ", ""), "applies", 1),
    ],
)
def test_exceptions_are_listed_with_their_state(run, tmp_path, change, state, code):
    (tmp_path / "exceptions").mkdir()
    (tmp_path / "exceptions" / "robot.yml").write_text(FILTER.replace(*change) if change[0] else FILTER)
    found, out, _ = run("exceptions", "r.yml", "--json")
    (row,) = json.loads(out)
    assert (found, row["state"], row["used"]) == (code, state, None)
    events = [
        {"eventVersion": "1", "eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging", "awsRegion": "x"}
        | {"eventTime": "2026-03-02T00:00:00Z", "userIdentity": {"arn": who}}
        for who in ("robot", "eve")
    ]
    (tmp_path / "trail.ndjson").write_text("\n".join(map(json.dumps, events)))
    (row,) = json.loads(run("exceptions", "r.yml", "--used", "--events", "trail.ndjson", "--json")[1])
    assert row["used"] == (1 if state in {"applies", "no end"} else 0)


def test_a_share_and_live_at_once_are_refused(run):
    assert run("ship", "r.yml", "--home", "home", "--live", "--percent", "5")[0] == 2
    assert run("rollback", "nope", "--home", "home")[0] == 2
    assert run("list", "--home", "nowhere")[0] == 2
