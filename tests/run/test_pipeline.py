"""`vedette pipeline`: following files that grow and turn up, and telling where the stages are."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vedette.cli.main import main
from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.log import SqliteLog

SOURCE = Path(__file__).resolve().parents[2] / "src"


def record(number, name="GetObject"):
    service = "cloudtrail" if name == "StopLogging" else "s3"
    data = {"eventID": f"e{number}", "eventTime": "2026-01-01T00:00:00Z", "eventVersion": "1", "eventName": name}
    return json.dumps(data | {"eventSource": f"{service}.amazonaws.com"}) + "\n"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["pipeline", *map(str, arguments)])
    printed = capsys.readouterr()
    return stop.value.code or 0, printed.out, printed.err


def places(capsys, home):
    code, out, err = call(capsys, "status", "--home", home, "--json")
    assert code == 0, err
    return {name: (each["place"], each["lag"]) for name, each in json.loads(out).items()}


def indexed(count):
    return {"reviews": (0, 0), "register": (0, 0), "sightings": (count, 0), "quality": (count, 0)}


def appended(home, count):
    """Waits until so many events are in the log and both stages behind it have taken them."""
    for _ in range(600):
        if (home / "log" / "event.db").exists():
            with SqliteLog(home / "log", SystemClock()) as log:
                taken = [log.committed(stage, "event", 0) for stage in ("store", "detect")]
                if log.end("event", 0) == count and taken == [count, count]:
                    return
        time.sleep(0.05)
    raise AssertionError(f"{count} events never came")


@pytest.mark.kill
def test_following_takes_what_is_added_and_ends_when_told(tmp_path, capsys):
    home, logs = tmp_path / "home", tmp_path / "logs"
    logs.mkdir()
    (logs / "a.ndjson").write_text(record(1) + record(2) + "no json\n" + record(3, "StopLogging")[:30])
    options = ["--sigma", str(shipped("rules/sigma")), "--home", str(home), "--json", "--follow", "--every", "0.05"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vedette", "pipeline", "run", *options, str(logs)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    try:
        appended(home, 2)
        third = record(3, "StopLogging")
        with (logs / "a.ndjson").open("a") as file:
            file.write(third[30:40])
            file.flush()
            (logs / "b.ndjson").write_text(record(4))
            appended(home, 3)
            file.write(third[40:])
        appended(home, 4)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0
    told = json.loads(out)
    assert told["sources"] == {"cloudtrail": {"read": 5, "appended": 4, "quarantined": 1, "duplicate": 0}}
    assert (told["stages"]["store"]["stored"], told["alerts"]["made"]) == (4, 1)
    assert places(capsys, home) == {
        "store": (4, 0),
        "detect": (4, 0),
        "detect_decisions": (0, 0),
        "alerts": (1, 0),
        **indexed(4),
    }


def test_status_without_a_log_says_so(tmp_path, capsys):
    code, _, err = call(capsys, "status", "--home", tmp_path / "none")
    assert (code, "pipeline.log.missing" in err) == (2, True)
    assert not (tmp_path / "none").exists()


def test_status_shows_who_is_behind(tmp_path, capsys):
    home = tmp_path / "home"
    (tmp_path / "a.ndjson").write_text(record(1) + record(2, "StopLogging"))
    assert call(capsys, "run", "--home", home, tmp_path / "a.ndjson", "--json")[0] == 0
    assert places(capsys, home) == {
        "store": (2, 0),
        "detect": (0, 2),
        "detect_decisions": (0, 0),
        "alerts": (0, 0),
        **indexed(2),
    }
    code, out, _ = call(capsys, "run", "--home", home, "--sigma", shipped("rules/sigma"), tmp_path / "a.ndjson")
    assert (code, "1 new alerts" in out) == (0, True), "rules that come later see what is in the log"
    assert places(capsys, home) == {
        "store": (2, 0),
        "detect": (2, 0),
        "detect_decisions": (0, 0),
        "alerts": (1, 0),
        **indexed(2),
    }
