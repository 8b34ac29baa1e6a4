"""The verbs `audit`, `keys` and `people`: exit codes, JSON, and a secret that is shown once."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from vedette.cli.main import main
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.ids import Ids
from vedette.prove.access import Access


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--home", str(tmp_path)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def test_key_is_created_listed_rolled_and_revoked(run, tmp_path: Path) -> None:
    code, out, _ = run(
        "keys", "create", "--scope", "charges:write", "--live", "--account", "m-1", "--expires", "90d", "--json"
    )
    made = json.loads(out)
    assert code == 0
    assert made["secret"].startswith("vk_live_")
    code, out, _ = run("keys", "list", "--json")
    assert [key["state"] for key in json.loads(out)] == ["active"]
    assert "secret" not in json.loads(out)[0]
    code, out, _ = run("keys", "roll", made["id"], "--overlap", "1h", "--json")
    assert json.loads(out)["rolled_from"] == made["id"]
    for _ in range(2):
        assert run("keys", "revoke", made["id"])[:2] == (0, f"{made['id']} revoked\n")
    code, out, _ = run("keys", "list")
    assert made["id"] in out
    assert "revoked" in out
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert made["secret"].encode() not in stored


def test_a_person_gets_a_role_and_a_token(run, tmp_path: Path) -> None:
    code, out, _ = run("people", "create", "Ada [bold]\x1b[2J", "--account", "m-1", "--json")
    ada = json.loads(out)
    assert (code, ada["state"], ada["roles"], ada["accounts"]) == (0, "active", [], ["m-1"])
    for _ in range(2):
        assert json.loads(run("people", "grant", ada["id"], "risk", "--json")[1])["roles"] == ["risk"]
    code, out, err = run("people", "token", ada["id"], "--expires", "30m")
    secret = out.split()[-1]
    assert (code, secret[:3], len(secret)) == (0, "vp_", 46)
    assert "once" in err
    made = json.loads(run("people", "token", ada["id"], "--json")[1])
    assert made.keys() == {"id", "tenant", "person", "expires", "secret"}
    clock = SystemClock()
    database = open_database(tmp_path / "state.db")
    access = Access(database, clock, Ids(clock))
    assert access.authenticate(made["secret"]).roles == {"risk"}
    for _ in range(2):
        assert run("people", "revoke", made["id"])[:2] == (0, f"{made['id']} revoked\n")
    code, out, _ = run("people", "tokens", ada["id"], "--json")
    assert [one["state"] for one in json.loads(out)] == ["active", "revoked"]
    assert made["id"] in run("people", "tokens", ada["id"])[1]
    assert access.authenticate(secret).id == ada["id"]
    database.close()
    assert "roles     -" in run("people", "withdraw", ada["id"], "risk")[1]
    assert "disabled" in run("people", "disable", ada["id"])[1]
    code, out, _ = run("people", "list")
    assert ada["id"] in out
    assert "[bold]" in out
    assert "\x1b" not in out
    assert json.loads(run("people", "list", "--json")[1])[0]["state"] == "disabled"
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in stored
    assert made["secret"].encode() not in stored


@pytest.mark.parametrize("verb", ["create", "grant", "withdraw", "disable", "list", "token", "tokens", "revoke"])
def test_every_verb_of_people_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["people", verb, "--help"])
    assert f"vedette people {verb}" in capsys.readouterr().out.split("Example")[1]


def test_looking_at_the_evidence_makes_no_topic(run, tmp_path: Path) -> None:
    run("people", "create", "Ada")
    files = {path.name for path in (tmp_path / "log").iterdir()}
    assert run("audit", "checkpoint")[0] == run("audit", "verify")[0] == 0
    assert {path.name for path in (tmp_path / "log").iterdir()} == files
    assert not (tmp_path / "log" / "action.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("keys", "create", "--scope", "charge:write"), "access.scope.invalid"),
        (("keys", "create", "--scope", "charges:write", "--expires", "soon"), "keys.duration.invalid"),
        (("keys", "create", "--scope", "charges:write", "--tenant", "No"), "access.tenant.invalid"),
        (("keys", "revoke", "key_none"), "access.key.unknown"),
        (("keys", "roll", "key_none", "--overlap", "8d"), "access.overlap.invalid"),
        (("people", "grant", "per_none", "risk"), "access.person.unknown"),
        (("people", "token", "per_none"), "access.person.unknown"),
        (("people", "token", "per_none", "--expires", "8d"), "access.token.lifetime"),
        (("people", "revoke", "tok_none"), "access.token.unknown"),
        (("people", "create", "Ada", "--tenant", "No"), "access.tenant.invalid"),
        (("audit", "verify"), "audit.home.empty"),
        (("audit", "verify", "--anchor", "/none"), "audit.anchor.missing"),
    ],
)
def test_refusals_are_coded(run, arguments: tuple[str, ...], code: str) -> None:
    status, _, err = run(*arguments)
    assert status == 2
    assert code in err


def test_verify_says_what_it_knows(run, tmp_path: Path) -> None:
    run("keys", "create", "--scope", "charges:write")
    code, out, _ = run("audit", "verify")
    assert (code, out) == (
        0,
        "ok: 0 records, 0 contents compared, 0 erased\nno anchor: a rewrite of the whole database cannot be found out\n",
    )


def test_damage_is_exit_code_1_and_placed(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.prove.evidence.collect.SETTLED", 0)
    for i in range(5):
        run("keys", "create", "--scope", "charges:write", "--name", f"n{i}")
    monkeypatch.setattr("vedette.core.clock.SystemClock.now", lambda self: 4_000_000_000_000_000)
    code, out, _ = run("audit", "checkpoint", "--json")
    assert (code, json.loads(out)["taken"], json.loads(out)["size"]) == (0, 6, 6)
    code, out, _ = run("audit", "verify", "--json")
    report = json.loads(out)
    assert (code, report["state"], report["anchored"], report["contents"]) == (0, "ok", 6, 6)
    assert run("audit", "bundle", "--out", str(tmp_path / "b"), "--verifier", str(tmp_path / "v.py"))[0] == 0
    assert (tmp_path / "v.py").read_text().startswith('"""Verifies an evidence bundle')
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("update evidence_records set tenant = 'evil' where seq = 2")
    connection.close()
    code, out, _ = run("audit", "verify", "--json")
    assert code == 1
    assert [(f["damage"], f["first"], f["id"]) for f in json.loads(out)["findings"]] == [("edit", 2, "audit/0/2")]
    code, out, _ = run("audit", "verify")
    assert code == 1
    assert "  edit at 2: audit/0/2" in out
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("drop table evidence_records")
    connection.close()
    code, out, _ = run("audit", "verify", "--json")
    assert code == 1
    assert [(f["damage"], f["first"], f["last"]) for f in json.loads(out)["findings"]] == [("truncation", 0, 5)]


def test_a_person_gets_a_one_time_password_and_codes(run):
    ada = json.loads(run("people", "create", "Ada Byron", "--json")[1])
    code, out, err = run("people", "password", ada["id"])
    assert code == 0
    assert "login     ada.byron" in out
    assert "shown this once" in err
    made = json.loads(run("people", "password", ada["id"], "--json")[1])
    assert made["login"] == "ada.byron"
    assert len(made["password"]) == 24
    assert made["password"] not in out
    code, out, err = run("people", "codes", ada["id"])
    assert (code, len(out.split()), "stored nowhere" in err) == (0, 10, True)
    assert len(json.loads(run("people", "codes", ada["id"], "--json")[1])["codes"]) == 10
    assert "access.person.unknown" in run("people", "password", "per_none")[2]
    assert "access.person.unknown" in run("people", "codes", "per_none")[2]
    run("people", "disable", ada["id"])
    assert "access.person.invalid" in run("people", "password", ada["id"])[2]


def test_an_app_is_made_rolled_and_disabled(run, tmp_path: Path) -> None:
    made = json.loads(run("apps", "create", "till", "--scope", "charges:write", "--live", "--json")[1])
    assert made["client_secret"].startswith("vs_")
    rolled = json.loads(run("apps", "roll", made["id"], "--overlap", "1h", "--json")[1])
    assert rolled["client_secret"] != made["client_secret"]
    for _ in range(2):
        assert run("apps", "disable", made["id"])[:2] == (0, f"{made['id']} disabled\n")
    listed = json.loads(run("apps", "list", "--json")[1])
    assert [(app["state"], app["mode"], "client_secret" in app) for app in listed] == [("disabled", "live", False)]
    assert made["id"] in run("apps", "list")[1]
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (made["client_secret"], rolled["client_secret"]):
        assert secret.encode() not in stored
    assert run("apps", "roll", made["id"])[0] == run("apps", "create", "x", "--scope", "keys:read")[0] == 2


def test_a_connection_is_given_listed_and_taken_back(run) -> None:
    code, out, _ = run("connections", "give", "market", "--scope", "charges:write", "--merchant", "m-1", "--json")
    made = json.loads(out)
    assert (code, made["state"], made["merchants"], made["mode"]) == (0, "active", ["m-1"], "test")
    held = json.loads(run("connections", "list", "--held", "--tenant", "market", "--json")[1])
    assert [each["account"] for each in held] == ["default"]
    assert made["id"] in run("connections", "list")[1]
    for _ in range(2):
        assert json.loads(run("connections", "revoke", made["id"], "--json")[1])["state"] == "revoked"
    assert run("connections", "give", "market", "--scope", "charges:write", "--expires", "400d")[0] == 2
    assert run("connections", "revoke", made["id"], "--tenant", "market")[0] == 2
