"""`vedette trace` on the home of an installation."""

from __future__ import annotations

import json

import pytest

from vedette.cli.main import main
from vedette.core.clock import SystemClock
from vedette.core.settings import load_settings
from vedette.run.platform import Platform


@pytest.fixture
def made(tmp_path):
    """A charge in a home, as the API answered it."""
    settings = load_settings(None, {"VEDETTE_HOME": str(tmp_path / "home"), "VEDETTE_PATIENCE": "1000"})
    wanted = {"amount_minor": 1999, "currency": "USD", "source": "tok_1", "merchant": "m_1", "metadata": {}}
    with Platform(settings, clock=SystemClock()) as platform:
        platform.desk.service("default")
        return platform.charges.create("default", "k1", wanted, api_key="key_1").json()


def run(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(["trace", *map(str, words)])
    out = capsys.readouterr()
    return stopped.value.code, out.out, out.err


def test_a_charge_as_json_and_as_a_table(made, tmp_path, capsys):
    code, out, _ = run(capsys, made["id"], "--home", tmp_path / "home", "--json")
    found = json.loads(out)
    assert (code, found["trace_id"]) == (0, made["decision"]["event_id"])
    code, out, _ = run(capsys, made["ledger"]["hold"], "--home", tmp_path / "home")
    assert code == 0
    for hop in found["hops"]:
        assert hop["kind"] in out
    assert "asked by key_1" in " ".join(out.split())


def test_what_is_not_there_is_refused_with_its_code(made, tmp_path, capsys):
    assert run(capsys, "ch_none", "--home", tmp_path / "home")[0] == 2
    assert "trace.id.unknown" in run(capsys, "ch_none", "--home", tmp_path / "home")[2]
    assert "trace.home.missing" in run(capsys, made["id"], "--home", tmp_path / "nowhere")[2]
