"""`vedette explain --home`: a decision that a served platform recorded."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.conftest import FakeClock

from vedette.cli.main import main
from vedette.core.settings import load_settings
from vedette.judge.decisions.parts import Policy
from vedette.run.payments.scoring import load_scoring
from vedette.run.platform import Platform

PAYMENT = {
    "TRANSACTION_ID": 7,
    "TX_DATETIME": "2018-04-01T00:00:00",
    "CUSTOMER_ID": 1,
    "TERMINAL_ID": 9,
    "TX_AMOUNT": 150.0,
}


def test_a_decision_of_a_platform(tmp_path, capsys):
    rules = tmp_path / "p.rules"
    rules.write_text("block if :amount_in_usd: > 100\n")
    settings = load_settings(None, {"VEDETTE_HOME": str(tmp_path / "home")})
    platform = Platform(settings, clock=FakeClock(), scoring=load_scoring(None, rules, None, Policy.OPEN))
    platform.desk.service("default")
    event = platform.desk.take("default", PAYMENT)
    decided = asyncio.run(platform.desk.decide(event))
    platform.close()
    with pytest.raises(SystemExit) as stop:
        main(["explain", "--home", str(tmp_path / "home"), "--event-id", "7", "--rules", str(rules), "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (shown["event_id"], shown["action"], decided.action) == ("7", "block", "block")
    assert not stop.value.code
    assert shown["rules"][0]["result"] == "fired"
