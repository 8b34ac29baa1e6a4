"""Decisions over HTTP are those of `vedette decide`: the same events, the same fields, the same values."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from serve_world import World

from vedette.demo.transactions import write_transactions
from vedette.judge.decisions.parts import Policy
from vedette.run.payments.scoring import load_scoring

EVENTS = 300
RULES = "block if :amount_in_usd: > 150 and :risk_score: >= 20\nchallenge if :amount_in_usd: > 120\nreview if :risk_score: >= 60\n"


def vedette(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "vedette", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model trained on small data of its own, rules, and the newest events."""
    folder = tmp_path_factory.mktemp("scoring")
    write_transactions(folder / "cards.csv", seed=5, days=24, start=datetime(2026, 3, 2, tzinfo=UTC))
    (folder / "rules.txt").write_text(RULES)
    vedette(
        "model",
        "train",
        "--source",
        "card_transactions",
        "--events",
        folder / "cards.csv",
        "--train-start",
        "2026-03-09",
        "--train-days",
        "7",
        "--delay-days",
        "7",
        "--out",
        folder / "model",
    )
    with (folder / "cards.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (folder / "newest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows[-EVENTS:]])
    return folder


@pytest.fixture
def scored(folder, tmp_path_factory):
    scoring = load_scoring(folder / "model", folder / "rules.txt", None, Policy.OPEN)
    made = World(tmp_path_factory.mktemp("home"), scoring)
    yield made
    made.close()


def test_the_same_events_get_the_same_decisions(scored, folder):
    wanted = [
        json.loads(line)
        for line in vedette(
            "decide",
            "--model",
            folder / "model",
            "--rules",
            folder / "rules.txt",
            "--events",
            folder / "newest.csv",
            "--no-labels",
            "--json",
        ).splitlines()
    ]
    assert len(wanted) == EVENTS
    with (folder / "newest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = {"TX_AMOUNT": float, "TRANSACTION_ID": int, "CUSTOMER_ID": int, "TERMINAL_ID": int}
    for row, expected in zip(rows, wanted, strict=True):
        event = {name: told.get(name, str)(value) for name, value in row.items()}
        answer = scored.post("/v1/decisions", scored.full, {"event": event})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert list(found) == list(expected)
        found.pop("seq"), expected.pop("seq")
        assert found == expected
    assert len({decision["action"] for decision in wanted}) >= 2
    assert len({decision["score"] for decision in wanted}) > 10
    assert not any(decision["fallback"] for decision in wanted)


def test_what_was_decided_can_be_read_again(scored):
    event = {
        "TRANSACTION_ID": 9_000_001,
        "TX_DATETIME": "2026-04-20 10:00:00",
        "CUSTOMER_ID": 7,
        "TERMINAL_ID": 9,
        "TX_AMOUNT": 12.5,
    }
    made = scored.post("/v1/decisions", scored.full, {"event": event})
    read = scored.send("GET", "/v1/decisions/9000001", scored.full)
    assert read.content == made.content


def test_the_route_behind_the_hot_one_answers_the_same(scored):
    """The description's route is never reached in front of it, but it may not say anything else."""
    import httpx

    event = {
        "TRANSACTION_ID": 9_000_002,
        "TX_DATETIME": "2026-04-20 10:00:00",
        "CUSTOMER_ID": 7,
        "TERMINAL_ID": 9,
        "TX_AMOUNT": 260,
    }
    hot = scored.post("/v1/decisions", scored.full, {"event": event})

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(scored.api), base_url="http://api") as client:
            headers = {"authorization": f"Bearer {scored.full}"}
            return await client.post("/v1/decisions", headers=headers, json={"event": event})

    cold = scored.wait(ask())
    assert (cold.status_code, cold.content) == (hot.status_code, hot.content)


def test_a_charge_in_dollars_is_scored_and_one_in_euros_is_decided_by_rules(scored):
    wanted = {"amount_minor": 30_000, "source": "tok_1", "merchant": "m_9", "metadata": {}}
    dollars = scored.post("/v1/charges", scored.full, {**wanted, "currency": "USD"}, key="usd").json()
    euros = scored.post("/v1/charges", scored.full, {**wanted, "currency": "EUR"}, key="eur").json()
    assert dollars["decision"]["risk_score"] is not None
    assert dollars["status"] in {"blocked", "challenged"}
    assert dollars["ledger"] is None
    assert euros["decision"]["risk_score"] is None
    assert euros["status"] == "captured"
    assert euros["ledger"]["capture"]
