"""A shop's payments, a model of them and rules, for the benchmarks of charges."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vedette.demo.world import World

DAY = datetime(2026, 3, 2, tzinfo=UTC)
RULES = """\
block if :risk_score: >= 90
review if :card_country: != :ip_country: and :risk_score: > 60
challenge if :customer_count_10m: > 20
"""


def payments(count: int) -> list[dict[str, Any]]:
    """Requests for charges of a day of the demo world."""
    steps = World(seed=1, day=DAY, scale=0.2).steps()
    return [payment.request for payment in islice((one for step in steps for one in step.payments), count)]


def prepare(folder: Path) -> tuple[Path, Path]:
    """A model of the charge features, and rules."""
    history, model, rules = folder / "history.parquet", folder / "model", folder / "rules.txt"
    pq.write_table(World(seed=1, day=DAY, scale=0.05).history(), history)
    features = Path(__file__).resolve().parent.parent / "content" / "features" / "charges.yaml"
    span = ["--train-start", "2026-01-20", "--train-days", "25", "--delay-days", "7"]
    command = ["model", "train", "--source", "product", "--features", str(features), "--events", str(history), *span]
    vedette(folder / "home", *command, "--out", str(model))
    rules.write_text(RULES)
    return model, rules


def vedette(home: Path, *arguments: str) -> str:
    environ = {**os.environ, "VEDETTE_HOME": str(home)}
    command = [sys.executable, "-m", "vedette", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def cpu_of(pid: int) -> float:
    """CPU seconds of this process, or of another."""
    if not pid:
        held = resource.getrusage(resource.RUSAGE_SELF)
        return held.ru_utime + held.ru_stime
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
