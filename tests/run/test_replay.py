"""An attack that is played: who told of which technique, who did not, stage by stage, from outside and inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_coverage import ATTACK, RULES
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.core.errors import DataError
from vedette.run.rules.replay import parse_replay
from vedette.sense.intel.bundle import Imported, keep_attack


def trail(name: str, second: int) -> dict[str, Any]:
    time = f"2026-03-02T12:00:{second:02}Z"
    return {
        "eventVersion": "1",
        "eventSource": "s3",
        "eventName": name,
        "eventTime": time,
        "eventID": f"{name}{second}",
    }


def failure(second: int) -> dict[str, Any]:
    return {
        "uuid": f"u{second}",
        "eventType": "s",
        "published": f"2026-03-02T12:00:{second:02}Z",
        "actor": {"alternateId": "ada"},
        "client": {"ipAddress": "192.0.2.1"},
        "outcome": {"result": "FAILURE"},
    }


LINES = [
    {"technique": "T1562.008", "case": "one", "event": trail("StopLogging", 50)},
    *({"technique": "T1110", "threat": "insider", "case": "one", "event": failure(second)} for second in range(3)),
    {"technique": "T1490", "case": "one", "event": trail("DeleteBackup", 55)},
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "attack.ndjson").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    keep_attack(tmp_path / "home", Imported(ATTACK, "here", 1))
    return tmp_path


def run(home: Path, *words: str) -> Any:
    rules = ["--rules", str(home / "rules.yml"), "--home", str(home / "home")]
    whole = ["rules", "replay", str(home / "attack.ndjson"), *rules, *words]
    return CliRunner().invoke(build(whole, verbs()), whole)


def test_who_told_of_what(home: Path) -> None:
    done = run(home, "--json")
    assert done.exit_code == 1
    shown = json.loads(done.stdout)
    assert [(one["technique"], one["threat"], one["events"], bool(one["rules"])) for one in shown["techniques"]] == [
        ("T1110", "insider", 3, True),  # by the rule of a sub-technique, on all three
        ("T1490", "external", 1, False),
        ("T1685.002", "external", 1, True),  # the file says it with its older id
    ]
    assert shown["missed"] == ["T1490"]
    assert shown["threats"] == {"external": {"played": 2, "told": 1}, "insider": {"played": 1, "told": 1}}


def test_stages_of_the_attack_with_their_gap(home: Path) -> None:
    lines = [*LINES, {"technique": "T1078", "case": "one", "event": trail("DeleteTrail", 58)}]
    (home / "attack.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (case,) = json.loads(run(home, "--json").stdout)["cases"]
    assert [(stage["tactic"], stage["gap"], len(stage["signals"])) for stage in case["stages"]] == [
        ("Initial Access", False, 1),
        ("Defense Evasion", False, 1),
        ("", False, 1),  # this small ATT&CK has no column for it
    ]
    assert "case one" in run(home).stdout


def test_all_told_and_the_trend(home: Path) -> None:
    run(home)
    (home / "attack.ndjson").write_text("".join(json.dumps(line) + "\n" for line in LINES[:4]))
    done = run(home, "--trend")
    assert done.exit_code == 0, done.exception
    assert "0 of 2 missed" in done.stdout
    assert "missed: none" in done.stdout


def test_lines_that_are_none() -> None:
    assert parse_replay([b"", b'{"technique": "T1", "event": {}}', b" "])[0].technique == "T1"
    for line in (b"{", b"[]", b'{"technique": "T1"}', b'{"technique": "T1", "event": {}, "x": 1}'):
        with pytest.raises(DataError) as caught:
            parse_replay([b"", line])
        assert caught.value.code == "replay.line.invalid"
        assert "line 2" in str(caught.value)
