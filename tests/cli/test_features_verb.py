"""`vedette features`: definitions told, a history filled or written, looked at and compared; what was served checked."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from vedette.cli.main import main
from vedette.core.clock import SystemClock
from vedette.core.decision import Decision
from vedette.core.event import Event
from vedette.core.log import SqliteLog
from vedette.judge.decisions.opening import open_books
from vedette.judge.decisions.recorder import DECIDED, DECISIONS
from vedette.judge.payment.rules import PaymentRules
from vedette.sense.features import profile
from vedette.sense.features.definition import parse_features

DEFINITIONS = """
source: pay
event_id: id
event_time: time
fields:
  amount: {path: amount, decimals: 2, unit: EUR}
  device: {path: device, text: true}
label: {path: fraud, keep: 60d}
views:
  - view: card
    entity: card
    key: card
    capacity: 64
    features:
      - {name: count, aggregation: count, windows: [1d, all], include_current: false}
      - {name: spread, aggregation: std, field: amount, windows: [7d], include_current: true}
      - {name: devices, aggregation: distinct, field: device, windows: [7d], include_current: true}
      - {name: rate, aggregation: fraud_rate}
"""
START = 1_700_000_000_000_000


@pytest.fixture
def run(capsys):
    def run_(*arguments: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as left:
            main([str(one) for one in arguments])
        told = capsys.readouterr()
        assert (left.value.code or 0) == code, told
        return told.out

    return run_


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(4)
    times = START + np.cumsum(rng.integers(0, 9_000, 300)) * 1_000_000
    table = pa.table(
        {
            "id": np.arange(300).astype(str),
            "time": pa.array(times, pa.timestamp("us")),
            "card": rng.integers(0, 9, 300).astype(str),
            "amount": rng.integers(100, 9_000, 300) / 100,
            "device": rng.choice(["a", "b", "<b>"], 300),
            "fraud": rng.integers(0, 2, 300),
        }
    )
    pa.parquet.write_table(table, tmp_path / "history.parquet")
    (tmp_path / "mine.yaml").write_text(DEFINITIONS)
    return tmp_path / "mine.yaml", tmp_path / "history.parquet"


def test_definitions_are_told_with_units_meaning_and_memory(run, files):
    told = json.loads(run("features", "check", files[0], "--json"))
    by_name = {one["name"]: one for one in told["features"]}
    assert by_name["spread_7d"]["unit"] == "EUR"
    assert by_name["spread_7d"]["missing"] == "fewer than two values"
    assert by_name["count_all"]["missing"] == ""
    assert told["bytes_per_entity"]["card"] > 8 * 64
    assert "fewer than two values" in run("features", "check", files[0])


def test_a_history_is_written_looked_at_and_compared(run, files, tmp_path: Path):
    out, page = tmp_path / "train.parquet", tmp_path / "page.html"
    run("features", "backfill", "--features", files[0], "--events", files[1], "--out", out)
    written = pa.parquet.read_table(out)
    assert written.num_rows == 300
    assert written.column_names[:2] == ["event_id", "event_time"]
    shown = json.loads(run("features", "show", files[0], "--events", files[1], "--html", page, "--json"))
    seen = {one["name"]: one for one in shown["features"]}
    values = written["spread_7d"].to_numpy()
    assert seen["spread_7d"]["missing"] == np.isnan(values).mean()
    assert seen["spread_7d"]["quantiles"]["50"] == np.nanmedian(values)
    assert sum(seen["spread_7d"]["counts"]) == (~np.isnan(values)).sum()
    assert "plot-spread_7d" in page.read_text()
    assert "spread_7d" in run("features", "show", files[0], "--events", files[1])
    other = tmp_path / "other.yaml"
    other.write_text(
        DEFINITIONS.replace("std, field: amount, windows: [7d]", "std, field: amount, windows: [7d, 2d]")
        .replace("count, windows: [1d, all]", "count, windows: [all]")
        .replace("capacity: 64", "capacity: 3")
    )
    found = json.loads(run("features", "diff", files[0], other, "--events", files[1], "--json"))
    assert (found["added"], found["removed"]) == (["spread_2d"], ["count_1d"])
    assert "devices_7d" in found["redefined"]
    moved = {one["name"]: one for one in found["values"]}
    assert moved["spread_7d"]["changed"] > 0.2
    assert moved["count_all"]["changed"] == 0
    assert "redefined" in run("features", "diff", files[0], other, "--events", files[1])


def test_profiles_of_odd_columns():
    empty = profile.profile_of("x", np.array([np.nan, np.nan]))
    assert (empty.missing, empty.quantiles, empty.mean) == (1.0, {}, None)
    assert profile.profile_of("x", np.zeros(0)).rows == 0
    alike = profile.profile_of("x", np.full(5, 3.0))
    assert (alike.zero, alike.distinct, sum(alike.counts)) == (0.0, 1, 5)
    page = profile.to_html("<script>", {"x": "<b>"}, [alike], "")
    assert "<script>" not in page.replace("<script>{", "").split("<h1>")[1].split("</h1>")[0]
    same = profile.differences({"x": np.arange(9.0)}, {"x": np.arange(9.0)})[0]
    assert (same.psi, same.changed) == (0.0, 0.0)
    assert profile.differences({"x": np.arange(99.0)}, {"x": np.arange(99.0) + 60})[0].psi > 0.25


def test_what_was_served_is_compared_with_the_log(run, files, tmp_path: Path):
    home, features, clock = tmp_path / "home", parse_features(DEFINITIONS), SystemClock()
    log = SqliteLog(home / "log", clock)
    books = open_books(
        home / "decisions" / "default", features=features, model=None, rules=PaymentRules(), clock=clock, log=log
    )
    for number in range(60):
        data = {"id": str(number), "card": str(number % 4), "amount": 1.0 + number, "device": "d"}
        event = Event(
            id=str(number), tenant="default", source="pay", event_time=START + number, ingest_time=START, data=data
        )
        books.recorder.decide(event)
    found = json.loads(run("features", "check", files[0], "--served", "--home", home, "--json"))
    assert (found["sampled"], found["mismatched"]) == (60, 0)
    held = msgspec.json.decode(log.read(DECISIONS, 0, 59, 1)[0].value, type=Decision)
    wrong = msgspec.structs.replace(held, features={**held.features, "count_all": 99.0})
    log.append(DECISIONS, f"{DECIDED}default", [msgspec.json.encode(wrong)])
    books.close()
    log.close()
    said = run("features", "check", files[0], "--served", "--home", home, code=1)
    assert "count_all: served 99.0, the log says" in said
    part = json.loads(run("features", "check", files[0], "--served", "--share", "0", "--home", home, "--json"))
    assert part["sampled"] == 0
