"""Hunts as objects: a hit is a case, a miss is evidence with its date, a run again tells whether rows are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import ConflictError, DataError, DefinitionError, NotFoundError
from vedette.core.settings import load_settings
from vedette.run.investigation.hunts import Hunts, SavedHunt
from vedette.run.parts import Parts
from vedette.sense.store import Store

TENANT = "default"
NOW = SystemClock().now()
SQL = "select id, data->>'$.eventName' as done from cloudtrail where data->>'$.eventName' = 'StopLogging'"


def trail(parts: Parts, number: int, name: str) -> None:
    data = {
        "eventID": f"e{number}",
        "eventTime": to_iso(NOW),
        "eventName": name,
        "eventSource": "cloudtrail.amazonaws.com",
    }
    source = parts.sources["cloudtrail"]
    event = source.to_event(data, tenant=TENANT, stream="s", offset=number, ingest_time=NOW)
    Store(parts.settings.store_folder).append(source, [event])


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(load_settings(None, {"VEDETTE_HOME": str(tmp_path)}), clock=SystemClock()) as made:
        yield made


def test_a_miss_is_evidence_and_a_hit_is_one_case(parts: Parts) -> None:
    trail(parts, 1, "GetTrail")
    hunts = Hunts(parts, Store(parts.settings.store_folder))
    hunts.save(
        TENANT, SavedHunt(name="quiet-trail", hypothesis="somebody stops the trail", sql=SQL, techniques=("T1562",))
    )
    missed, _ = hunts.run(TENANT, "quiet-trail", operator="ana")
    assert (missed.rows, missed.case, missed.same) == (0, "", None)
    assert missed.evidence.endswith(f"quiet-trail/{missed.time}")
    assert parts.evidence.size() == 1
    trail(parts, 2, "StopLogging")
    found, answer = hunts.run(TENANT, "quiet-trail", operator="bob")
    assert (found.rows, found.same, found.evidence) == (1, False, "")
    assert answer.table.to_pylist() == [{"id": "e2", "done": "StopLogging"}]
    again, _ = hunts.run(TENANT, "quiet-trail", operator="ana")
    assert (again.digest, again.same, again.case) == (found.digest, True, found.case)
    assert len(parts.cases.find(TENANT)) == 1
    notes = [str(entry.body) for entry in parts.cases.timeline(TENANT, found.case) if "sha256" in str(entry.body)]
    assert len(notes) == 2
    assert "the same rows as before" in notes[1]
    assert [one.rows for one in hunts.runs(TENANT, "quiet-trail")] == [0, 1, 1]
    assert hunts.all("other") == []
    with pytest.raises(NotFoundError):
        hunts.run("other", "quiet-trail", operator="eve")


def test_a_hunt_that_cannot_run_is_not_saved(parts: Parts) -> None:
    trail(parts, 1, "GetTrail")
    hunts = Hunts(parts, Store(parts.settings.store_folder))
    good = SavedHunt(name="one", hypothesis="x", sql=SQL)
    hunts.save(TENANT, good)
    with pytest.raises(ConflictError):
        hunts.save(TENANT, good)
    for bad in ({"name": "a b"}, {"hypothesis": " "}, {"hypothesis": "x" * 30_000}):
        with pytest.raises(DefinitionError):
            hunts.save(TENANT, SavedHunt(**{"name": "two", "hypothesis": "x", "sql": SQL, **bad}))
    for sql in ("drop table x", "select 1; select 2", "select * from nothing", "select * from read_csv('/etc/passwd')"):
        with pytest.raises(DataError):
            hunts.save(TENANT, SavedHunt(name="two", hypothesis="x", sql=sql))


def run(*words: str) -> Any:
    return CliRunner().invoke(build(words, verbs()), words)


def test_the_command_line(tmp_path: Path) -> None:
    with Parts(load_settings(None, {"VEDETTE_HOME": str(tmp_path)}), clock=SystemClock()) as made:
        trail(made, 1, "StopLogging")
    home = ("--home", str(tmp_path))
    assert run("hunts", "save", "t", "--hypothesis", "h", "--sql", SQL, *home).exit_code == 0
    assert "never run" in run("hunts", "list", *home).stdout
    done = run("hunts", "run", "t", "--by", "ana", "--json", *home)
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (1, 1)
    assert "1 rows" in run("hunts", "list", *home).stdout
    assert run("hunts", "state", "t", "confirmed", *home).exit_code != 0, "settled without words"
    assert run("hunts", "link", "t", *home).exit_code != 0
    assert run("hunts", "link", "t", "--rule", "own.rule", "--by", "ana", *home).exit_code == 0
    settled = run("hunts", "state", "t", "confirmed", "--found", "it was a role", "--by", "ana", *home)
    assert settled.stdout.splitlines()[0] == "confirmed: it was a role"
    shown = json.loads(run("hunts", "state", "t", "--json", *home).stdout)
    assert (shown["state"], shown["rules"], shown["by"], len(shown["cases"])) == ("confirmed", ["own.rule"], "ana", 1)
