"""The verbs of models from end to end: train, report, ship by gates, trials, roll back, list, watch, retrain."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from decided_history import fast_history

from vedette.cli.main import main
from vedette.core.errors import ConflictError
from vedette.judge.models import training
from vedette.judge.models.report import to_html
from vedette.run.jobs import retrain
from vedette.run.rules.gates import Gate, model_obstacles

KIND = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """History in a file, whose kinds of fraud an attacker wrote."""
    folder = tmp_path_factory.mktemp("history")
    table = fast_history(days=42, a_day=160)
    kinds = [KIND if fraud else "" for fraud in table["TX_FRAUD"].to_pylist()]
    pa.parquet.write_table(table.append_column("KIND", pa.array(kinds)), folder / "history.parquet")
    return folder


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setattr(training, "FOLDS", 2)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in arguments])
        out = capsys.readouterr()
        return int(end.value.code or 0), out.out, out.err

    return call


def test_a_model_from_history_to_trial_and_back(made: Path, tmp_path: Path, run):
    events, home = ("--events", made / "history.parquet"), ("--home", tmp_path / "home")
    span = ("--train-start", "2018-04-15", "--train-days", 12, "--rounds", 25)
    for name, learner in (("trees", "lightgbm"), ("card", "logistic")):
        assert run("model", "train", *events, *span, "--learner", learner, "--out", tmp_path / name)[0] == 0
    both = ("--model", tmp_path / "trees", "--model", tmp_path / "card")
    told = run(
        *("model", "report", *both, *events, "--test-start", "2018-05-04", "--kind", "KIND", "--rounds", 20),
        *("--out", tmp_path / "report", "--json"),
    )
    assert told[0] == 0, told
    found = json.loads((tmp_path / "report/report.json").read_text())
    assert json.loads(told[1])["metrics"] == found["metrics"]
    assert {one["learner"] for one in found["candidates"]} == {"lightgbm", "logistic"}
    assert found["naive_baseline"]["recall"] == 0
    assert set(found["probes"]) == {"one_feature", "unknown_labels", "shuffled_labels", "strangers"}
    page = (tmp_path / "report/report.html").read_text()
    assert KIND in found["kinds"]
    assert "onerror=alert" not in page.replace("&lt;img src=x onerror=alert(1)&gt;", "").replace(
        "\\u003cimg src=x onerror=alert(1)>", ""
    )

    # Nobody is answered without a report; in shadow nobody is answered anyway.
    ship = ("model", "ship", tmp_path / "trees", *home)
    refused = run(*ship, "--percent", 10, "--json")
    assert (refused[0], json.loads(refused[1])["obstacles"][0]["gate"]) == (1, "report")
    assert run(*ship, "--shadow")[0] == 0
    report = ("--report", tmp_path / "report/report.json")
    shipped = run(*ship, "--percent", 10, *report, "--waive", "a demonstration", "--json")
    assert json.loads(shipped[1])["shipped"]["percent"] == 10
    listed = json.loads(run("model", "list", *home, "--json")[1])
    assert (len(listed["models"]), listed["damaged"]) == (1, [])
    name = listed["models"][0]["id"]
    assert json.loads(run("model", "show", name, *home, "--json")[1])["id"] == name

    # One part at a time: another would be judged by this one's doing.
    (tmp_path / "payment.rules").write_text("block if :risk_score: > 90\n")
    busy = run("model", "ship", "--rules", tmp_path / "payment.rules", *home)
    assert (busy[0], "is on trial" in busy[1]) == (1, True)
    assert run("model", "rollback", *home)[0] == 0
    assert run("model", "rollback", *home)[0] == 0
    standing = json.loads(run("model", "trials", *home, "--json")[1])["standings"]["model"]
    assert (standing["live"], standing["trial"], standing["action"]) == ("", "", "rollback")
    nothing = run("model", "rollback", *home, "--json")
    assert (nothing[0], json.loads(nothing[2])["error"]["code"]) == (2, "model.rollback.nothing")

    # The verb tells a difference, and a broken field.
    compared = run(
        *("model", "compare", tmp_path / "trees", tmp_path / "card", *events, "--test-start", "2018-05-04"),
        *("--rounds", 20, "--json"),
    )
    assert json.loads(compared[1])["ap"]["low"] <= json.loads(compared[1])["ap"]["value"]
    table = pa.parquet.read_table(made / "history.parquet")
    place = table.column_names.index("TX_AMOUNT")
    cents = pa.array(table["TX_AMOUNT"].to_numpy() * 100)
    pa.parquet.write_table(table.set_column(place, "TX_AMOUNT", cents), tmp_path / "cents.parquet")
    watched = run(
        *("model", "watch", "--model", tmp_path / "trees", "--events", tmp_path / "cents.parquet"),
        *("--since", "2018-05-01", "--every", 1_000, "--json"),
    )
    windows = json.loads(watched[1])["windows"]
    assert watched[0] == 1
    assert "amount" in [one["name"] for one in windows[0]["watched"]["findings"] if one["level"] == "broken"]


def test_retraining_makes_one_challenger_and_goes_on_after_a_kill(made: Path, tmp_path: Path, run, monkeypatch):
    home = ("--home", tmp_path / "home")
    command = (
        *("model", "retrain", "--events", made / "history.parquet", "--window-days", 10, "--rounds", 15),
        *(*home, "--json"),
    )

    def stop(*_arguments, **_options):
        raise ConflictError("test.stop", "the process ended here")

    with monkeypatch.context() as patched:
        patched.setattr(retrain, "evaluate", stop)
        assert run(*command)[0] == 2
    before = (tmp_path / "home").rglob("model.npz")
    stamps = {path: path.stat().st_mtime_ns for path in before}
    assert stamps
    done = run(*command, "--now")
    found = json.loads(done[1])["challenger"]
    assert done[0] == bool(found["obstacles"])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    if not found["obstacles"]:
        assert found["standing"]["trial"]
    assert json.loads(run(*command)[1])["challenger"] is None
    again = json.loads(run(*command, "--now")[1])["challenger"]
    assert (again["sha256"], again["job"]["id"]) == (found["sha256"], found["job"]["id"])


def a_report(**changes) -> dict:
    own = {"sha256": "aa", "ap": {"value": 0.6, "low": 0.5, "high": 0.7}, "p99_us": 50.0}
    whole = {
        "model": {"sha256": "aa"},
        "metrics": {"ap": {"value": 0.6, "low": 0.5, "high": 0.7}},
        "test": {"base_rate": 0.001},
        "reliability": {"ece": 0.001},
        "probes": {"one_feature": {"passed": True}},
        "candidates": [own],
    }
    return whole | changes


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        (None, {}),
        (Gate.REPORT, {"model": {"sha256": "bb"}}),
        (Gate.REPORT, {"metrics": {"accuracy": 0.999}}),
        (Gate.QUALITY, {"metrics": {"ap": {"value": 0.01, "low": 0.002, "high": 0.1}}}),
        (
            Gate.QUALITY,
            {
                "candidates": [
                    {"sha256": "aa", "p99_us": 50.0},
                    {"sha256": "serving", "ap": {"value": 0.8, "low": 0.75}, "p99_us": 50.0},
                ]
            },
        ),
        (Gate.CALIBRATION, {"reliability": {"ece": 0.2}}),
        (Gate.LEAK, {"probes": {}}),
        (Gate.LEAK, {"probes": {"shuffled_labels": {"passed": False}}}),
        (Gate.LATENCY, {"candidates": [{"sha256": "aa", "p99_us": 9_000.0}]}),
    ],
)
def test_each_gate_refuses(gate, changes):
    found = list(model_obstacles("m", a_report(**changes), sha256="aa", serving="serving"))
    assert [one.gate for one in found] == ([gate] if gate else [])


def test_the_page_runs_only_its_own_scripts():
    library = "window.echarts = undefined;"
    found = json.loads((Path(__file__).parent / "evaluation.json").read_text())
    page = to_html(found, library)
    policy = re.search(r'content="(default-src[^"]+)"', page)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert "http" not in page.replace("http-equiv", "")
