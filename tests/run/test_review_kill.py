"""A verdict on a decision is a label in the log exactly once, wherever the process is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from vedette.core.clock import SystemClock
from vedette.core.log import SqliteLog

CHILD = Path(__file__).with_name("review_child.py")
MOMENTS = ["after verdict", "after handing", "before paying"]
MORE = ["before verdict", "before handing", "after paying"]


def run(home: Path, moment: str) -> int:
    done = subprocess.run([sys.executable, CHILD, home, moment], capture_output=True, env=dict(os.environ), check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr.decode()
    return done.returncode


def labels(home: Path) -> list[dict[str, object]]:
    with SqliteLog(home / "log", SystemClock()) as log:
        events = [msgspec.json.decode(record.value) for record in log.read("event", 0, 0, 1_000)]
    return [event["data"] for event in events if event["source"] == "label"]


@pytest.mark.parametrize("moment", [*MOMENTS, *(pytest.param(each, marks=pytest.mark.soak) for each in MORE)])
def test_the_label_is_there_once(tmp_path, moment) -> None:
    assert run(tmp_path, moment) == -signal.SIGKILL
    assert run(tmp_path, "none") == 0
    (label,) = labels(tmp_path)
    assert (label["event_id"], label["fraud"], label["kind"]) == ("1", True, "verdict")


def test_a_label_that_counts_as_learned_when_it_is_handed_over_is_lost(tmp_path) -> None:
    assert run(tmp_path, "forgetful") == -signal.SIGKILL
    run(tmp_path, "none")
    assert labels(tmp_path) == []
