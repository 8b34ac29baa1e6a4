"""The verbs ingest, query and sources, as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vedette.cli.main import main
from vedette.sense.sources import load_sources


@dataclass(frozen=True)
class Ran:
    returncode: int
    stdout: str
    stderr: str


Verb = Callable[..., Ran]


@pytest.fixture
def vedette(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    monkeypatch.setenv("COLUMNS", "200")

    def run(home: Path, *arguments: str) -> Ran:
        monkeypatch.setenv("VEDETTE_HOME", str(home))
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        out, err = capsys.readouterr()
        return Ran(int(stopped.value.code or 0), out, err)

    return run


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    file = tmp_path / "trail.ndjson"
    record = {"eventTime": "2024-01-01T00:00:00Z", "eventSource": "s3", "eventName": "[red]\x1b[2J", "awsRegion": "eu"}
    file.write_text(f"{json.dumps(record)}\njunk\n{json.dumps(record)}\n")
    return file


def test_ingest_then_query(vedette: Verb, tmp_path: Path, logs: Path) -> None:
    home = tmp_path / "home"
    first = vedette(home, "ingest", "--json", str(logs))
    assert (first.returncode, first.stderr) == (0, "")
    assert json.loads(first.stdout) == {"cloudtrail": {"read": 3, "stored": 2, "quarantined": 1, "duplicate": 0}}
    again = vedette(home, "ingest", "--source", "cloudtrail", str(logs))
    assert "cloudtrail" in again.stdout
    rows = vedette(home, "query", "--json", "SELECT id, eventName, date FROM cloudtrail ORDER BY 1")
    assert rows.returncode == 0, rows.stderr
    assert [json.loads(line)["eventName"] for line in rows.stdout.splitlines()] == ["[red]\x1b[2J"] * 2
    shown = vedette(home, "query", "SELECT eventName FROM cloudtrail", "--rows", "1")
    assert "[red]\\x1b[2J" in shown.stdout
    assert "only the first 1 rows" in shown.stderr
    why = vedette(home, "query", "--json", "SELECT source, code, line FROM quarantine")
    assert json.loads(why.stdout) == {"source": "cloudtrail", "code": "sources.json.syntax", "line": 2}
    bound = vedette(home, "query", "--json", "SELECT $a AS a, $b AS b", "-p", "a=1=2", "-p", "b=")
    assert json.loads(bound.stdout) == {"a": "1=2", "b": ""}
    bound = vedette(home, "query", "--json", "SELECT ? AS a", "-p", "a=1")
    assert json.loads(bound.stdout) == {"a": "a=1"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("ingest", "--json", "gone.log"), "files.path.missing"),
        (("ingest", "--json", "--source", "nope", "pyproject.toml"), "sources.name.unknown"),
        (("query", "--json", "DROP TABLE x"), "query.text.not_select"),
        (
            ("query", "--json", "SELECT count(*) FROM range(1000000000000)", "--timeout", "0.2"),
            "query.deadline.exceeded",
        ),
        (("sources", "show", "nope", "--json"), "sources.name.unknown"),
    ],
)
def test_errors_are_coded(vedette: Verb, tmp_path: Path, arguments: tuple[str, ...], code: str) -> None:
    ran = vedette(tmp_path, *arguments)
    assert ran.returncode == 2
    assert json.loads(ran.stderr)["error"]["code"] == code


def test_sources_are_listed_shown_and_tried(vedette: Verb, tmp_path: Path, logs: Path) -> None:
    assert set(json.loads(vedette(tmp_path, "sources", "--json").stdout)) == set(load_sources())
    assert all(name in vedette(tmp_path, "sources").stdout for name in load_sources())
    shown = vedette(tmp_path, "sources", "show", "cloudtrail")
    assert "ocsf.src_endpoint.ip" in shown.stdout
    tried = json.loads(vedette(tmp_path, "sources", "try", "auto", str(logs), "--json").stdout)
    assert tried["source"] == "cloudtrail"
    assert (tried["read"], tried["parsed"], tried["refused"]) == (3, 2, {"sources.json.syntax": 1})
    assert tried["sample"]["ocsf"]["cloud"] == {"region": "eu"}
    assert "\x1b" not in vedette(tmp_path, "sources", "try", "cloudtrail", str(logs)).stdout
    assert not (tmp_path / "store").exists()
