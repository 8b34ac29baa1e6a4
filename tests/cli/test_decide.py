"""`vedette decide` by its contract, on a model trained here and on the real transactions."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from tests.judge.test_models import fit_small, history

from vedette.cli.main import main
from vedette.core.clock import SystemClock
from vedette.core.decision import Decision
from vedette.judge.decisions.opening import open_books
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.models.model import Model, load_model
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import read_rules
from vedette.sense.features.replay import replay
from vedette.sense.features.table import read_table, to_labels

RULES = """
- id: large
  owner: risk@example
  text: "block if :amount_in_usd: > 190"
  tests: [{given: {":amount_in_usd:": 191}, expect: fired}]
- id: busy
  text: "review if :customer_count_7d: >= 10"
- id: terminal
  text: "request 3d secure if ::terminal:: in ('3', '4')"
- id: score
  text: "review if :risk_score: >= 20"
"""
KEYS = ["event_id", "action", "score", "risk_score", "reasons", "rules", "model", "features", "fallback", "seq"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, rules, and one history in every form."""
    folder = tmp_path_factory.mktemp("decide")
    table = history()
    fit_small(table, folder / "model")
    (folder / "payment.yaml").write_text(RULES)
    part = table.slice(0, 2_500)
    pq.write_table(part, folder / "events.parquet")
    pa.csv.write_csv(part, folder / "events.csv")
    rows = [json.dumps({**row, "TX_DATETIME": row["TX_DATETIME"].isoformat()}) for row in part.to_pylist()]
    (folder / "events.ndjson.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return folder


@pytest.fixture
def command(capfdbinary):
    def run(*arguments: object) -> tuple[int, list[dict], str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return stop.value.code or 0, [json.loads(line) for line in out.splitlines()], err.decode()

    return run


def test_one_line_a_decision_by_the_contract(world, command) -> None:
    code, lines, err = command(
        "decide",
        "--model",
        world / "model",
        "--rules",
        world / "payment.yaml",
        "--events",
        world / "events.parquet",
        "--json",
    )
    assert (code, err) == (0, "")
    assert len(lines) == 2_500
    model = load_model(world / "model")
    assert [list(line) for line in lines[:3]] == [KEYS] * 3
    for line in lines:
        assert line["model"] == {"id": model.id, "sha256": model.sha256}
        assert 0 <= line["score"] <= 1
        assert line["risk_score"] == min(99, int(100 * line["score"]))
        assert [rule["id"] for rule in line["rules"]] == ["large", "busy", "terminal", "score", "builtin.highest_risk"]
        assert set(line["features"]) == set(model.features)
        weights = [abs(reason["weight"]) for reason in line["reasons"]]
        assert weights == sorted(weights, reverse=True)
        assert line["fallback"] is None
    assert {line["action"] for line in lines} >= {"allow", "review", "block"}
    assert [line["event_id"] for line in lines] == [
        str(row) for row in pq.read_table(world / "events.parquet")["TRANSACTION_ID"].to_pylist()
    ]


def test_every_form_of_file_gives_the_same_lines(world, command) -> None:
    told = []
    for name in ("events.parquet", "events.csv", "events.ndjson.gz"):
        _, lines, _ = command(
            "decide", "--model", world / "model", "--rules", world / "payment.yaml", "--events", world / name, "--json"
        )
        told.append(lines)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("labels", [True, False])
def test_features_are_those_of_the_offline_replay(world, command, labels) -> None:
    model = load_model(world / "model")
    _, lines, _ = command(
        "decide",
        "--model",
        world / "model",
        "--events",
        world / "events.parquet",
        "--json",
        "--labels" if labels else "--no-labels",
    )
    table = read_table([world / "events.parquet"], model.feature_set)
    known = to_labels(table, model.feature_set, delay=model.label_delay) if labels else None
    vectors = replay(model.feature_set, table, labels=known)
    online = np.array([[np.nan if v is None else v for v in line["features"].values()] for line in lines])
    np.testing.assert_array_equal(online, vectors)
    assert [line["score"] for line in lines[:200]] == [model.score(vector) for vector in vectors[:200]]


def test_rules_alone(world, command) -> None:
    rules = world / "lines.rules"
    rules.write_text("# bare lines\nblock if :amount_in_usd: > 190\n\n  allow if :customer: = '5'\n")
    _, lines, _ = command("decide", "--rules", rules, "--events", world / "events.csv", "--json")
    assert all(
        (line["score"], line["risk_score"], line["model"], line["features"], line["fallback"])
        == (None, None, None, {}, None)
        for line in lines
    )
    amounts = pq.read_table(world / "events.parquet").to_pylist()
    wanted = ["block" if row["TX_AMOUNT"] > 190 and row["CUSTOMER_ID"] != 5 else "allow" for row in amounts]
    assert [line["action"] for line in lines] == wanted


def test_bad_records_are_refused_one_by_one(world, command, tmp_path) -> None:
    good = {
        "TRANSACTION_ID": 1,
        "TX_DATETIME": "2018-04-01T00:00:00",
        "CUSTOMER_ID": 1,
        "TERMINAL_ID": 1,
        "TX_AMOUNT": 5.0,
    }
    bad = [
        ({"TX_AMOUNT": "5"}, "decision.event.type", "$.TX_AMOUNT"),
        ({"TX_AMOUNT": -5}, "decision.event.negative", "$.TX_AMOUNT"),
        ({"TX_DATETIME": "2099-01-01T00:00:00"}, "event.time.future", "$.TX_DATETIME"),
        ({"TX_DATETIME": "soon"}, "event.time.unparsable", "$.TX_DATETIME"),
        ({"TRANSACTION_ID": None}, "decision.event.no_id", "$.TRANSACTION_ID"),
        ({"CUSTOMER_ID": {"a": 1}}, "decision.event.type", "$.CUSTOMER_ID"),
        ({"note": "card 4242 4242 4242 4242"}, "request.pan_refused", "$.note"),
        ({"TRANSACTION_ID": 1, "TX_AMOUNT": 6.0}, "decision.event.conflict", "1"),
    ]
    lines = [json.dumps(good)]
    lines += [json.dumps({**good, "TRANSACTION_ID": 10 + n, **change}) for n, (change, _, _) in enumerate(bad)]
    lines += ["{broken", "[" * 10_000, json.dumps(good), json.dumps({**good, "TRANSACTION_ID": 2})]
    (tmp_path / "bad.ndjson").write_text("\n".join(lines))
    code, told, err = command(
        "decide",
        "--model",
        world / "model",
        "--rules",
        world / "payment.yaml",
        "--events",
        tmp_path / "bad.ndjson",
        "--json",
    )
    errors = [json.loads(line) for line in err.splitlines()]
    assert code == 0
    assert [line["event_id"] for line in told] == ["1", "1", "2"]
    assert told[0] == told[1]
    by_line = {error["line"]: error["error"] for error in errors}
    for line, (_, wanted, place) in enumerate(bad, 2):
        assert (by_line[line]["code"], by_line[line]["place"]) == (wanted, place)
    assert len(errors) == len(bad) + 2
    assert "4242" not in err


def test_broken_definitions_stop_at_once_with_their_place(world, command, tmp_path) -> None:
    rules = tmp_path / "bad.rules"
    rules.write_text("block if :amount_in_usd: > 1\nblock if :amount_in_us: > 1\n")
    code, lines, err = command("decide", "--rules", rules, "--events", world / "events.csv", "--json")
    assert (code, lines) == (2, [])
    assert "bad.rules:2:10" in err
    assert "did you mean" in err
    code, _, err = command("decide", "--events", tmp_path / "none.parquet", "--json")
    assert code == 2
    assert "decision.file.unreadable" in err


def test_a_log_folder_answers_again_and_goes_on(world, command, tmp_path) -> None:
    ask = (
        "decide",
        "--model",
        world / "model",
        "--rules",
        world / "payment.yaml",
        "--log",
        tmp_path / "log",
        "--json",
        "--events",
    )
    half = tmp_path / "half.parquet"
    pq.write_table(pq.read_table(world / "events.parquet").slice(0, 1_200), half)
    _, first, _ = command(*ask, half)
    _, again, _ = command(*ask, world / "events.parquet")
    assert again[:1_200] == first
    _, whole, _ = command(*ask[:5], "--events", world / "events.parquet", "--json")
    assert [strip(line) for line in again] == [strip(line) for line in whole]


def strip(line: dict) -> dict:
    """A line without its place: labels of another grouping take other places between the events."""
    return {name: value for name, value in line.items() if name != "seq"}


def test_a_recorded_decision_is_rebuilt_bit_for_bit(world, tmp_path, command) -> None:
    command(
        "decide",
        "--model",
        world / "model",
        "--rules",
        world / "payment.yaml",
        "--log",
        tmp_path,
        "--json",
        "--events",
        world / "events.csv",
    )
    model = load_model(world / "model")
    rules = read_rules(RULES, attributes=with_features(model.features))
    books = open_books(tmp_path, features=model.feature_set, model=model, rules=rules, clock=SystemClock())
    for record in books.log.read("decision", 0, 0, 300):
        decision = msgspec.json.decode(record.value, type=Decision)
        assert rebuild(decision, model=model, rules=rules) == decision
    books.close()


@pytest.mark.kill
def test_killed_in_mid_stream_and_started_again(world, tmp_path, rng, command) -> None:
    """The real command, killed by SIGKILL; engine and decisions end as those of a run that was let alone."""
    root = Path(__file__).resolve().parents[2]
    ask = [
        "decide",
        "--model",
        world / "model",
        "--rules",
        world / "payment.yaml",
        "--events",
        world / "events.parquet",
        "--json",
    ]
    environ = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONUNBUFFERED": "1"}
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "vedette", *map(str, ask), "--log", str(tmp_path / "killed")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
        )
        for _ in range(rng.randrange(1, 800)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        process.wait(300)
    _, after, _ = command(*ask, "--log", tmp_path / "killed")
    _, alone, _ = command(*ask, "--log", tmp_path / "alone")
    assert [strip(line) for line in after] == [strip(line) for line in alone]
    model = load_model(world / "model")
    assert checksum(tmp_path / "killed", model) == checksum(tmp_path / "alone", model)


def checksum(folder: Path, model: Model) -> str:
    rules = read_rules(RULES, attributes=with_features(model.features))
    (folder / "features.npz").unlink()
    books = open_books(folder, features=model.feature_set, model=model, rules=rules, clock=SystemClock())
    assert books.engine is not None
    found = books.engine.checksum()
    books.close()
    return found


def test_rules_may_read_shipped_features_without_a_model(world, command) -> None:
    _, with_model, _ = command(
        "decide",
        "--model",
        world / "model",
        "--rules",
        world / "payment.yaml",
        "--events",
        world / "events.csv",
        "--no-labels",
        "--json",
    )
    _, without, _ = command("decide", "--rules", world / "payment.yaml", "--events", world / "events.csv", "--json")
    assert [line["features"] for line in without] == [line["features"] for line in with_model]
    assert {line["score"] for line in without} == {None}
    busy = [[rule["result"] for rule in line["rules"] if rule["id"] == "busy"] for line in without]
    assert ["fired"] in busy


def test_a_table_for_people(world, capsys) -> None:
    with pytest.raises(SystemExit):
        main(
            [
                "decide",
                "--model",
                str(world / "model"),
                "--rules",
                str(world / "payment.yaml"),
                "--events",
                str(world / "events.csv"),
            ]
        )
    shown = capsys.readouterr().out
    assert "2,500 decisions on 2,500 records" in shown
    assert "large" in shown
