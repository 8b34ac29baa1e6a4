"""SIGKILL of the pipeline at every step and at random moments: nothing is lost, nothing counts twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pipeline_child import STEPS

from vedette.act.alerts import Alerts
from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.db import open_database
from vedette.core.log import SqliteLog
from vedette.core.projection import Projection
from vedette.demo.logs import write_cloudtrail, write_windows
from vedette.prove.evidence import FileAnchor, verify
from vedette.prove.evidence.collect import from_log
from vedette.run.pipeline.storing import to_event
from vedette.sense.sightings import Sightings
from vedette.sense.store import Store

pytestmark = pytest.mark.kill

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
EVENTS = 200
BAD = 6
TWICE = 12
"""CloudTrail records that come again with the same id, anywhere behind the first."""
SOURCES = ("cloudtrail", "windows")


@dataclass(frozen=True)
class Outcome:
    """What is there in the end, without times and without what depends on where the files are."""

    logged: Counter
    stored: Counter
    signals: frozenset
    alerts: Counter
    counted: int
    quarantined: Counter
    seen: Counter
    places: tuple


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """CloudTrail and Sysmon records with an intrusion in each, repeated records and bad lines in between."""
    folder = tmp_path_factory.mktemp("logs")
    rng, start = random.Random(3), datetime(2026, 3, 2, tzinfo=UTC)
    for name, write in (("cloudtrail", write_cloudtrail), ("windows", write_windows)):
        path = folder / f"{name}.ndjson"
        write(path, seed=5, events=EVENTS, start=start)
        lines = path.read_text().splitlines()
        for place in rng.sample(range(EVENTS), TWICE if name == "cloudtrail" else 0):
            lines.insert(rng.randrange(place + 1, len(lines) + 1), lines[place])
        for number in range(BAD // 2):
            lines.insert(rng.randrange(1, len(lines)), f"no json {number}")
        path.write_text("\n".join(lines) + "\n")
    return [folder / f"{name}.ndjson" for name in SOURCES]


def environment(**more):
    return {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}


def child(home, files, step="none", nth=0, **more):
    command = [sys.executable, str(HERE / "pipeline_child.py"), str(home), step, str(nth), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**more), check=False, timeout=300)


def finish(home, files, **more):
    done = child(home, files, **more)
    assert done.returncode == 0, done.stderr


def log_of(home, topic):
    with SqliteLog(home / "log", SystemClock()) as log:
        records = log.read(topic, 0, 0, 100_000)
        assert [record.offset for record in records] == list(range(len(records)))
        return records


def outcome(home):
    """Reads everything back by other ways than those that wrote it."""
    store = Store(home / "store")
    stored, quarantined = Counter(), Counter()
    for name in SOURCES:
        dataset = store.table(name).dataset(["default"])
        stored.update((name, text) for text in (dataset.to_table()["data"].to_pylist() if dataset else []))
    if (bad := store.table("quarantine").dataset(["default"])) is not None:
        quarantined.update((row["code"], row["raw"]) for row in bad.to_table().to_pylist())
    events = [to_event(record) for record in log_of(home, "event")]
    signals = {json.loads(record.value)["id"]: json.loads(record.value) for record in log_of(home, "signal")}
    state = open_database(home / "state.db")
    alerts = Alerts(state)
    found = alerts.find("default", limit=1_000)
    assert alerts.rejects() == []
    with SqliteLog(home / "log", SystemClock()) as log:
        ends = {topic: log.end(topic, 0) for topic in ("event", "signal")}
        places = (
            log.committed("store", "event", 0) - ends["event"],
            log.committed("detect", "event", 0) - ends["event"],
            alerts.place(0) - ends["signal"],
        )
        report = verify(state, FileAnchor(home / "anchor"), content=from_log(log))
    assert not report.findings
    state.close()
    index = Projection(home / "index.db")
    sightings = Sightings(index)
    named = Counter(entity for event in events for entity in set(event.entities))
    seen = Counter({entity: sightings.seen("default", entity).count for entity in named})
    places = (*places, sightings.place(0) - ends["event"])
    index.close()
    return Outcome(
        Counter((event.source, json.dumps(event.data, sort_keys=True)) for event in events),
        Counter({(name, json.dumps(json.loads(text), sort_keys=True)): n for (name, text), n in stored.items()}),
        frozenset((each["rule_id"], json.dumps(each["why"], sort_keys=True)) for each in signals.values()),
        Counter((each.title, each.signal_count) for each in found),
        sum(each.signal_count for each in found) - len(signals),
        quarantined,
        seen - named | named - seen,
        places,
    )


@pytest.fixture(scope="module")
def wanted(files, tmp_path_factory):
    """What a run that nobody killed leaves behind."""
    home = tmp_path_factory.mktemp("whole") / "home"
    finish(home, files)
    whole = outcome(home)
    read = sum(len(path.read_text().splitlines()) for path in files)
    stored, quarantined = sum(whole.stored.values()), sum(whole.quarantined.values())
    assert (read, stored, quarantined) == (2 * EVENTS + BAD + TWICE, 2 * EVENTS, BAD)
    assert sum(whole.logged.values()) == stored + TWICE
    assert whole.stored == Counter(set(whole.logged))
    assert len(whole.signals) >= 5
    assert (whole.counted, whole.seen, whole.places) == (0, Counter(), (0, 0, 0, 0))
    return whole


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(step, files, wanted, tmp_path):
    """Killed where the step is first reached, again where the next run reaches it, then left to finish."""
    home, died = tmp_path / "home", 0
    for nth in (1, 2):
        died += child(home, files, step, nth).returncode == -signal.SIGKILL
    assert died, f"{step} is never reached"
    finish(home, files)
    assert outcome(home) == wanted


def test_the_command_killed_at_random_moments(files, wanted, tmp_path):
    home, rng, died = tmp_path / "home", random.Random(17), 0
    rules = ["--sigma", str(shipped("rules/sigma")), "--home", str(home)]
    command = [sys.executable, "-m", "vedette", "pipeline", "run", *rules, "--json", *map(str, files)]
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        timer = threading.Timer(1.0 + rng.random() * 2.0, process.kill)
        timer.start()
        process.communicate(timeout=300)
        timer.cancel()
        died += process.returncode == -signal.SIGKILL
    assert died
    done = subprocess.run(command, capture_output=True, env=environment(), check=True, timeout=300)
    told = json.loads(done.stdout)
    for name in SOURCES:
        counts = told["sources"][name]
        assert counts["read"] == counts["appended"] + counts["quarantined"] + counts["duplicate"]
        assert counts["read"] == EVENTS + BAD // 2 + (TWICE if name == "cloudtrail" else 0)
    assert all(stage["lag"] == 0 for stage in told["stages"].values())
    assert outcome(home) == wanted


@pytest.mark.parametrize(
    ("mistake", "step"),
    [
        ("cursor_first", "intake.append.before"),
        ("no_resume", "intake.append.after"),
        ("no_mark", "store.commit.after"),
        ("place_first", "signal.append.before"),
        ("index_place_first", "index.before_commit"),
    ],
)
def test_a_planted_mistake_is_noticed(mistake, step, files, wanted, tmp_path):
    home = tmp_path / "home"
    assert child(home, files, step, 1, PLANT=mistake).returncode == -signal.SIGKILL
    finish(home, files, PLANT=mistake)
    assert outcome(home) != wanted
