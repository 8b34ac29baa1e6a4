"""The public oracles, and the command's contract."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from vedette.cli.main import main

OVERLAPPING = "488b44e7-3781-4a71-888d-c95abfacf44d"
"""Wants ` -Enabled ` and ` False` in one text, which share a space in `-Enabled False`. The list of expected counts says
0; by Sigma's definition it is 1, as it is for the SQL that pySigma's own SQLite backend gives. We count it."""


@pytest.fixture
def run(capsys, tmp_path):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["detect", "--cache", str(tmp_path / "cache"), *map(str, arguments)])
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_windows_counts_are_exact(run, shared_data):
    data = shared_data / "windows"
    code, out, _ = run(
        "--rules", shared_data / "sigma" / "rules.tar.gz", "--only", "rules/windows/**", "--counts",
        data / "evtx_to_mitre.ndjson.gz",
    )  # fmt: skip
    result = json.loads(out)
    assert (code, result["events"], result["quarantined"]) == (0, 10_011, 0)
    judged = set((data / "judged_rules.txt").read_text().split())
    expected = {row["rule_id"]: row["matches"] for row in lines(data / "evtx_to_mitre_expected.jsonl")}
    got = {rule: count for rule, count in result["matches"].items() if rule in judged}
    assert got == {**expected, OVERLAPPING: 1}
    skipped = {row["id"] for row in result["rules"]["skipped"]}
    assert result["rules"]["loaded"] + len(skipped) == 2_407
    assert not skipped & judged
    assert all(row["reason"] for row in result["rules"]["skipped"])


def test_every_regression_rule_fires(run, shared_data):
    data = shared_data / "sigma"
    with gzip.open(data / "regression.ndjson.gz", "rt") as file:
        origin = [json.loads(line)["_src"] for line in file]
    code, out, _ = run("--rules", data / "rules.tar.gz", "--json", data / "regression.ndjson.gz")
    assert code == 0
    fired = Counter((row["rule_id"], origin[row["line"] - 1]) for row in map(json.loads, out.splitlines()))
    wanted = lines(data / "regression_expected.jsonl")
    assert len(wanted) == 86
    assert [row for row in wanted if fired[row["rule_id"], row["file"]] < row["min_matches"]] == []


RULE = """title: '[bold]Trail stopped'
id: {id}
level: high
logsource: {{product: aws, service: cloudtrail}}
detection:
  s: {{eventName: {name}}}
  f: {{userIdentity.userName: robot}}
  condition: s and not f
"""
EVENT = {
    "eventVersion": "1.08", "eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging", "eventID": "e-1",
    "eventTime": "2024-03-01T10:00:00Z", "userIdentity": {"userName": "eve", "accessKeyId": "AKIA1"},
    "sourceIPAddress": "203.0.113.7", "awsRegion": "eu-west-1",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a.yml").write_text(RULE.format(id="aaaaaaaa-0000-0000-0000-000000000000", name="StopLogging"))
    (rules / "b.yml").write_text(RULE.format(id="aaaaaaaa-0000-0000-0000-000000000000", name="'*Logging'"))
    (rules / "c.yml").write_text(RULE.format(id="cccccccc-0000-0000-0000-000000000000", name="'*Logging'"))
    (rules / "d.yml").write_text("title: [")
    return tmp_path


def trail(folder, *records):
    path = folder / "trail.ndjson"
    path.write_bytes(
        b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in records)
    )
    return path


def test_counts_count_everything_once(run, folder):
    robot = {**EVENT, "userIdentity": {"userName": "ROBOT"}}
    path = trail(folder, EVENT, EVENT, robot, b"{broken", b'"text"', {**EVENT, "eventTime": "never"})
    code, out, _ = run("--rules", folder / "rules", "--source", "cloudtrail", "--counts", path)
    assert code == 0
    assert json.loads(out) == {
        "events": 6,
        "quarantined": 2,
        "rules": {
            "loaded": 3,
            "skipped": [{"id": "d.yml", "reason": json.loads(out)["rules"]["skipped"][0]["reason"]}],
        },
        "matches": {"aaaaaaaa-0000-0000-0000-000000000000": 3, "cccccccc-0000-0000-0000-000000000000": 3},
    }
    assert "documents.yaml.invalid" in out


def test_json_says_which_event_and_why(run, folder):
    path = trail(folder, {**EVENT, "eventName": "Other"}, EVENT)
    code, out, _ = run("--rules", folder / "rules", "--only", "c*", "--json", path)
    assert code == 0
    assert json.loads(out) == {
        "rule_id": "cccccccc-0000-0000-0000-000000000000",
        "title": "[bold]Trail stopped",
        "level": "high",
        "event_id": "e-1",
        "source": "cloudtrail",
        "line": 2,
        "time": "2024-03-01T10:00:00.000000Z",
        "entities": [
            {"type": "user", "id": "eve"}, {"type": "key", "id": "AKIA1"}, {"type": "ip", "id": "203.0.113.7"},
        ],
        "why": {"eventName": "StopLogging"},
    }  # fmt: skip


def test_card_numbers_are_not_shown_as_reasons(run, folder):
    path = trail(folder, {**EVENT, "eventName": "4111111111111111 Logging"})
    _, out, _ = run("--rules", folder / "rules", "--only", "c*", "--json", path)
    assert out
    assert "4111111111111111" not in out


def test_the_table_is_for_people(run, folder):
    code, out, _ = run("--rules", folder / "rules", trail(folder, EVENT))
    assert code == 0
    assert "[bold]Trail stopped" in out, "titles are text, never markup"
    assert "1 events (0 quarantined), 3 rules (1 skipped), 2 rules matched 2 times" in out
    assert "documents.yaml.invalid" in out


def test_nothing_is_an_answer_too(run, folder):
    assert run("--rules", folder / "rules", trail(folder, {**EVENT, "eventName": "Other"}))[0] == 0
    code, out, _ = run("--rules", folder / "rules", "--counts", trail(folder, {"who": "knows"}))
    assert (code, json.loads(out)["events"], json.loads(out)["quarantined"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--rules", "nowhere", "x.ndjson"], "sigma.rules.missing"),
        (["--rules", "{rules}", "nowhere.ndjson"], "files.path.missing"),
        (["--rules", "{rules}", "--source", "moon", "x.ndjson"], "sources.name.unknown"),
    ],
)
def test_what_cannot_be_opened_is_an_error(run, folder, arguments, error):
    code, out, err = run(*(part.format(rules=folder / "rules") for part in arguments), "--counts")
    assert (code, out) == (2, "")
    assert error in err


def test_half_a_gzip_file_is_read_as_far_as_it_goes(run, folder):
    path = folder / "trail.ndjson.gz"
    whole = gzip.compress(b"".join(json.dumps({**EVENT, "n": n}).encode() + b"\n" for n in range(2_000)))
    path.write_bytes(whole[: len(whole) // 2])
    code, out, _ = run("--rules", folder / "rules", "--only", "c*", "--counts", path)
    result = json.loads(out)
    assert code == 0
    assert result["quarantined"] == 1
    assert result["matches"]["cccccccc-0000-0000-0000-000000000000"] == result["events"] - 1 > 100


SECRET_READ = """
title: Secret read
id: 11111111-2222-4333-8444-555555555555
logsource: {product: aws, service: cloudtrail}
detection: {sel: {eventName: GetSecretValue}, condition: sel}
"""


def test_records_of_a_delivered_document_count_one_by_one(run, tmp_path):
    """CloudTrail delivers files of the form {"Records": [...]}: each record is an event, on its document's line."""
    (tmp_path / "rule.yml").write_text(SECRET_READ)
    names = ["GetSecretValue", "ListBuckets", "GetSecretValue"]
    records = [
        {"eventVersion": "1", "eventSource": "s", "eventName": name, "eventTime": f"2026-01-01T00:00:0{place}Z"}
        for place, name in enumerate(names)
    ]
    (tmp_path / "trail.json").write_text(json.dumps({"Records": records}) + "\n")
    code, out, _ = run("--rules", tmp_path / "rule.yml", "--counts", tmp_path / "trail.json")
    result = json.loads(out)
    assert (code, result["events"], result["quarantined"]) == (0, 3, 0)
    assert result["matches"] == {"11111111-2222-4333-8444-555555555555": 2}
    _, out, _ = run("--rules", tmp_path / "rule.yml", "--json", tmp_path / "trail.json")
    assert [json.loads(line)["time"] for line in out.splitlines()] == [
        "2026-01-01T00:00:00.000000Z",
        "2026-01-01T00:00:02.000000Z",
    ]
    assert len({json.loads(line)["event_id"] for line in out.splitlines()}) == 2


def test_a_file_of_a_folder_that_cannot_be_opened_is_one_bad_record(run, tmp_path):
    (tmp_path / "rule.yml").write_text(SECRET_READ)
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.json.gz").write_bytes(b"not gzip")
    (folder / "b.json").write_text(
        '{"eventVersion":"1","eventSource":"s","eventName":"GetSecretValue","eventTime":"2026-01-01T00:00:00Z"}\n'
    )
    code, out, _ = run("--rules", tmp_path / "rule.yml", "--counts", folder)
    result = json.loads(out)
    assert (code, result["events"], result["quarantined"], sum(result["matches"].values())) == (0, 2, 1, 1)


def test_no_rule_selected_is_warned_of(tmp_path, capsys):
    (tmp_path / "rules").mkdir()
    (tmp_path / "e.ndjson").write_text("{}\n")
    with pytest.raises(SystemExit) as stopped:
        main(["detect", "--rules", str(tmp_path / "rules"), "--only", "x/**", "--counts", str(tmp_path / "e.ndjson")])
    out, err = capsys.readouterr()
    assert stopped.value.code == 0
    assert json.loads(out)["rules"] == {"loaded": 0, "skipped": []}
    assert err.startswith("warning: `x/**` matches none of the rule files")
