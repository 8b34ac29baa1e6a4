"""The promise on size and speed, over all captures; `make soak` runs it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest
from tests.conftest import ROOT

EVENTS_PER_CPU_SECOND = 40_000
PEAK_MB = 600


@pytest.mark.soak
def test_all_captures_stay_fast_and_small(shared_data, tmp_path):
    events = tmp_path / "captures.ndjson"
    with gzip.open(shared_data / "windows" / "captures.ndjson.gz") as packed, events.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    command = [sys.executable, ROOT / "benchmarks" / "detect.py", "--engine", "ours", "--events", events]
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    result = json.loads(done.stdout)
    assert result["events"] == 361_100
    assert result["peak_mb"] < PEAK_MB
    assert result["events"] / result["cpu"] >= EVENTS_PER_CPU_SECOND
