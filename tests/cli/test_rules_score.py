"""`vedette rules score` over alerts that people judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import FakeClock
from typer.testing import CliRunner

from vedette.act.grouping import AlertState, Verdict
from vedette.cli.main import build, verbs
from vedette.core.event import Entity
from vedette.core.settings import Settings
from vedette.core.signal import Level, Signal
from vedette.run.parts import Parts

TENANT = "default"


def signal(rule: str, number: int) -> Signal:
    return Signal(
        id=f"{rule}{number}",
        tenant=TENANT,
        rule_id=rule,
        rule_version="1",
        title=rule,
        level=Level.HIGH,
        event_id=str(number),
        event_time=number,
        source="cloudtrail",
        entities=(Entity("user", f"u{number}"),),
    )


def run(*words: str) -> Any:
    whole = ["rules", "score", *words]
    return CliRunner().invoke(build(whole, verbs()), whole)


def test_a_noisy_rule_and_a_good_one(tmp_path: Path, clock: FakeClock) -> None:
    home = tmp_path / "home"
    with Parts(Settings(home=home), clock=clock) as parts:
        triage = parts.triage
        parts.alerts.apply([(signal(rule, number), 1) for rule in ("noise", "good") for number in range(30)])
        verdicts = {"noise": Verdict.FALSE_POSITIVE, "good": Verdict.TRUE_POSITIVE}
        for alert in parts.alerts.find(TENANT, limit=100):
            if alert.entity and alert.entity.id != "u0":
                verdict = verdicts[alert.rule_id]
                triage.change(TENANT, [alert.id], operator="p", state=AlertState.RESOLVED, verdict=verdict)
    shown = json.loads(run("--home", str(home), "--json").stdout)
    rows = [(one["rule_id"], one["alerts"], one["open"], one["judged"], one["advice"]) for one in shown["rules"]]
    assert rows == [("noise", 30, 1, 29, "retire"), ("good", 30, 1, 29, "keep")]
    assert (shown["minutes_an_alert"], shown["measured_on"]) == (10.0, 0)
    (tmp_path / "r.yml").write_text(
        "title: Quiet\nid: q\nlogsource: {product: aws, service: cloudtrail}\n"
        "detection: {it: {eventName: x}, condition: it}\n"
    )
    text = run(str(tmp_path / "r.yml"), "--home", str(home)).stdout
    assert "Quiet" in text
    assert "an assumption" in text


def test_without_a_home() -> None:
    assert getattr(run("--home", "/nowhere/at/all").exception, "code", "") == "rules.home.missing"
