"""`vedette explain`: a decision from the log or a line, a payment rule and a Sigma rule on an event."""

from __future__ import annotations

import json

import pytest

from vedette.cli.main import main

RULES = "block if :amount_in_usd: > 100\nreview if ::terminal:: = '9' and not is_missing(:email:)\n"
EVENTS = [
    {"TRANSACTION_ID": n, "TX_DATETIME": "2018-04-01T00:00:00", "CUSTOMER_ID": 1, "TERMINAL_ID": 9, "TX_AMOUNT": amount}
    for n, amount in enumerate((50.0, 150.0), 1)
]
SIGMA = """
title: Logging stopped
id: 11111111-2222-4333-8444-555555555555
level: high
logsource: {product: aws, service: cloudtrail}
detection:
  sel: {eventName: StopLogging}
  filter: {userIdentity.type: Root}
  condition: sel and not filter
"""
TRAIL = {
    "eventVersion": "1.08", "eventTime": "2024-01-01T00:00:00Z", "eventSource": "cloudtrail.amazonaws.com",
    "eventName": "StopLogging", "awsRegion": "eu-west-1", "eventID": "e-1", "userIdentity": {"type": "IAMUser"},
}  # fmt: skip


@pytest.fixture
def files(tmp_path):
    (tmp_path / "p.rules").write_text(RULES)
    (tmp_path / "events.ndjson").write_text("\n".join(map(json.dumps, EVENTS)))
    (tmp_path / "sigma.yml").write_text(SIGMA)
    (tmp_path / "trail.ndjson").write_text(
        "\n".join(json.dumps({**TRAIL, "eventName": n}) for n in ("StopLogging", "ListUsers"))
    )
    return tmp_path


@pytest.fixture
def command(capfdbinary):
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return int(stop.value.code or 0), out.decode(), err.decode()

    return run


def test_a_decision_from_the_log_and_from_its_line(files, command) -> None:
    _, out, _ = command(
        "decide", "--rules", files / "p.rules", "--events", files / "events.ndjson", "--log", files / "log", "--json"
    )
    (files / "d.json").write_text(out.splitlines()[1])
    code, shown, _ = command(
        "explain", "--log", files / "log", "--event-id", "2", "--rules", files / "p.rules", "--json"
    )
    explained = json.loads(shown)
    assert (code, explained["action"]) == (0, "block")
    assert explained["because"].startswith("block rule `rule_")
    assert explained["rules"][0]["clause"]["values"] == [{"field": ":amount_in_usd:", "value": 150.0, "missing": False}]
    _, line, _ = command(
        "explain",
        "--decision",
        files / "d.json",
        "--event",
        files / "events.ndjson",
        "--rules",
        files / "p.rules",
        "--json",
    )
    assert json.loads(line) == explained
    code, text, _ = command("explain", "--log", files / "log", "--event-id", "2", "--rules", files / "p.rules")
    assert text.startswith("event 2: block, because block rule")
    assert "+ :amount_in_usd: > 100   [:amount_in_usd: is 150.0]" in text
    for arguments, wrong in (
        (("--log", files / "log", "--event-id", "77"), "explain.decision.missing"),
        (("--log", files / "nothing", "--event-id", "77"), "explain.log.missing"),
        (("--decision", files / "sigma.yml"), "documents.json"),
        (("--event", files / "events.ndjson"), "explain.request.incomplete"),
        (("--event", files / "events.ndjson", "--rules", files / "p.rules", "--line", "9"), "explain.event.missing"),
        (("--event", files / "events.ndjson", "--rules", files / "p.rules", "--rule-id", "x"), "explain.rule.unknown"),
    ):
        code, _, err = command("explain", *arguments)
        assert code == 2
        assert wrong in err


def test_a_payment_rule_on_an_event(files, command) -> None:
    _, out, _ = command(
        "explain", "--rules", files / "p.rules", "--event", files / "events.ndjson", "--line", "1", "--json"
    )
    shown = [json.loads(line) for line in out.splitlines()]
    assert [rule["result"] for rule in shown] == ["quiet", "quiet", "quiet"]
    assert [clause["result"] for clause in shown[1]["clause"]["children"]] == ["true", "false"]


def test_a_sigma_rule_that_fires_and_one_that_does_not(files, command) -> None:
    for line, result in (("1", "fired"), ("2", "quiet")):
        _, out, _ = command(
            "explain", "--sigma", files / "sigma.yml", "--event", files / "trail.ndjson", "--line", line, "--json"
        )
        shown = json.loads(out)
        assert (shown["title"], shown["outcome"], shown["result"]) == ("Logging stopped", "high", result)
        assert "IAMUser" in out
