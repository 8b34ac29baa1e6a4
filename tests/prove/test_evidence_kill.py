"""SIGKILL of a process that appends evidence: what it was told is kept is kept, once, and everything verifies."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.log import SqliteLog
from vedette.prove.evidence import Collector, Evidence, FileAnchor, verify
from vedette.prove.evidence.collect import from_log
from vedette.prove.evidence.tables import records
from vedette.prove.keys import KeyRing

ROOT = Path(__file__).resolve().parents[2]


def run_until_killed(home: Path, run: int, seconds: float) -> list[str]:
    """What the process acknowledged before it was killed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(Path(__file__).with_name("evidence_writer.py")), str(home), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        rest = process.stdout.read()
    lines = (first + rest).split("\n")[:-1]
    assert lines, "the process died before it did anything"
    return lines


def kill_and_check(home: Path, rounds: int, rng: random.Random) -> None:
    acknowledged: list[str] = []
    clock = SystemClock()
    for run in range(rounds):
        acknowledged += run_until_killed(home, run, rng.uniform(0, 0.15))
        database = open_database(home / "state.db")
        with SqliteLog(home / "log", clock) as log:
            report = verify(database, FileAnchor(home / "anchor"), content=from_log(log))
            assert report.findings == [], run
        database.close()
    signer = KeyRing(home / "keys", "evidence", "vedette.local/evidence").signer()
    database = open_database(home / "state.db")
    evidence = Evidence(database, signer, FileAnchor(home / "anchor"), clock)
    with SqliteLog(home / "log", clock) as log:
        while Collector(evidence, log, clock, topics=["decision"], settled=0).collect():
            pass
        evidence.checkpoint()
        kept = [json.loads(record.value)["n"] for record in log.read("decision", 0, 0, 10**6)]
        report = verify(database, FileAnchor(home / "anchor"), content=from_log(log))
        assert (report.state, report.unanchored, report.contents) == ("ok", 0, report.size)
    with database.read() as connection:
        ids = [row.id for row in connection.execute(records.select())]
    database.close()
    assert len(set(ids)) == len(ids)
    assert sorted(i for i in ids if i.startswith("decision")) == sorted(f"decision/0/{i}" for i in range(len(kept)))
    assert len(set(kept)) == len(kept)
    for line in acknowledged:
        place, name = line.split()
        if place == "log":
            assert {f"{name}.{i}" for i in range(7)} <= set(kept)
        else:
            assert f"snapshot/{name}" in ids


@pytest.mark.kill
def test_killed_writer_loses_and_repeats_nothing(tmp_path: Path) -> None:
    kill_and_check(tmp_path, 5, random.Random(7))


@pytest.mark.kill
@pytest.mark.soak
def test_killed_writer_many_times(tmp_path: Path) -> None:
    kill_and_check(tmp_path, 200, random.Random(11))
