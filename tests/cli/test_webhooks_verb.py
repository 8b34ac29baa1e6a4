"""The verb `webhooks`: endpoints with a secret shown once, deliveries, dead letters, and sending them again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vedette.cli.main import main
from vedette.core.clock import SystemClock
from vedette.core.settings import Settings
from vedette.run.platform import Platform


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["webhooks", *arguments, "--home", str(tmp_path)])
        return int(stop.value.code or 0), capsys.readouterr().out

    return call


def test_an_endpoint_from_its_secret_to_its_dead_letters(run, tmp_path: Path) -> None:
    made = json.loads(run("add", "https://shop.example/hook", "--json")[1])
    assert made["secret"].startswith("whsec_")
    rotated = json.loads(run("rotate", made["id"], "--overlap", "1h", "--json")[1])
    assert rotated["secret"] != made["secret"]
    with Platform(Settings(home=tmp_path), clock=SystemClock()) as platform:
        assert platform.signing.of("default", made["id"]) == [rotated["secret"], made["secret"]]
        with platform.money.begin() as connection:
            platform.outbox.emit(connection, "default", "test.event", {"id": "one"})
        (held,) = platform.dispatcher.lease(10)
        assert platform.dispatcher.settle(replace(held, attempts=99), 500)
    (dead,) = json.loads(run("dead", "--json")[1])
    assert (dead["endpoint"], dead["status"]) == (made["id"], "dead")
    assert "dead" in run("dead")[1]
    code, out = run("replay", dead["event_id"], made["id"])
    assert (code, "waiting" in out) == (0, True)
    assert [each["status"] for each in json.loads(run("deliveries", "--json")[1])] == ["waiting"]
    for verb, enabled in (("disable", False), ("disable", False), ("enable", True)):
        assert json.loads(run(verb, made["id"], "--json")[1])["enabled"] is enabled
    assert [each["id"] for each in json.loads(run("list", "--json")[1])] == [made["id"]]
    assert made["secret"] not in run("list")[1]
    for wrong in (
        ("rotate", "we_none"),
        ("disable", "we_none"),
        ("replay", "evt_none", made["id"]),
        ("add", "https://x.example", "--scheme", "rot13"),
        ("rotate", made["id"], "--overlap", "9d"),
    ):
        assert run(*wrong)[0] == 2, wrong
