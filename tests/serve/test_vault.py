"""The vault as it is served: a real process, its routes, its walls, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from vault_world import CARD, NUMBER, PAGE, Served

from vedette.serve.vault_app import check_static


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    vault = Served(tmp_path_factory.mktemp("vault"), PAGE)
    yield vault
    if vault.process.poll() is None:
        vault.stop()


@pytest.fixture(scope="module")
def full(served: Served) -> str:
    return served.key("cards:write", "numbers:read")


def out(token: str, **changes: str) -> dict[str, str]:
    return {"token": token, "merchant": "m-1", "purpose": "charge", "reason": "ch_1"} | changes


def test_in_and_out(served: Served, full: str) -> None:
    made = served.call("POST", "/v1/cards", full, json=CARD)
    assert made.status_code == 201
    assert NUMBER not in made.text
    token = made.json()["token"]
    assert served.call("GET", f"/v1/cards/{token}", full).json() == made.json()
    taken = served.call("POST", "/v1/detokenise", full, json=out(token))
    assert taken.json() == {"number": NUMBER, "exp_month": 12, "exp_year": 2030}
    assert taken.headers["cache-control"] == "no-store"
    assert served.call("DELETE", f"/v1/cards/{token}", full).json()["erased"] is not None
    assert served.call("POST", "/v1/detokenise", full, json=out(token)).status_code == 403


def test_scopes_and_merchants(served: Served, full: str) -> None:
    token = served.call("POST", "/v1/cards", full, json=CARD).json()["token"]
    writer, reader = served.key("cards:write"), served.key("cards:read")
    bound = served.key("cards:write", "numbers:read", account="m-2")
    for key, method, path, body, status in (
        ("", "POST", "/v1/cards", CARD, 401),
        ("vk_test_" + "x" * 43, "POST", "/v1/cards", CARD, 401),
        ("vt_unknown", "POST", "/v1/cards", CARD, 403),
        (reader, "POST", "/v1/cards", CARD, 403),
        (writer, "POST", "/v1/detokenise", out(token), 403),
        (reader, "GET", f"/v1/cards/{token}", None, 200),
        (bound, "GET", f"/v1/cards/{token}", None, 403),
        (bound, "DELETE", f"/v1/cards/{token}", None, 403),
        (bound, "POST", "/v1/cards", CARD, 403),
        (bound, "POST", "/v1/detokenise", out(token), 403),
        (bound, "POST", "/v1/detokenise", out(token, merchant="m-2"), 403),
        (bound, "POST", "/v1/cards", CARD | {"merchant": "m-2"}, 201),
        (full, "POST", "/v1/detokenise", out(token, purpose="payout"), 403),
        (full, "POST", "/v1/detokenise", out(token, reason=""), 400),
        (full, "POST", "/v1/detokenise", out("tok_none"), 404),
        (full, "GET", "/v1/cards/tok_none", None, 404),
        (full, "GET", "/v1/nothing", None, 404),
    ):
        got = served.call(method, path, key, **({"json": body} if body else {}))
        assert got.status_code == status, (method, path, got.text)
        assert NUMBER not in got.text


def test_bad_bodies_are_refused_and_not_repeated(served: Served, full: str) -> None:
    for body in (
        CARD | {"number": NUMBER[:-1] + "7"},
        CARD | {"cvc": "123"},
        CARD | {"merchant": NUMBER},
        CARD | {"number": 4000056655665556},
        CARD | {"number": [NUMBER]},
        CARD | {NUMBER: "x"},
        CARD | {"purposes": ["steal"]},
        [NUMBER],
        NUMBER,
    ):
        got = served.call("POST", "/v1/cards", full, json=body)
        assert got.status_code == 400, got.text
        assert NUMBER not in got.text
        assert NUMBER[:12] not in got.text
    for raw in (b"{", b"\xff", b'{"number": "' + NUMBER.encode(), b"x" * 9_000):
        got = served.call("POST", "/v1/cards", full, content=raw)
        assert got.status_code in {400, 413}
        assert NUMBER not in got.text


def test_a_ticket_is_for_one_card_from_one_page(served: Served, full: str) -> None:
    wanted = {"merchant": "m-1", "purposes": ["charge"], "page": PAGE}
    ticket = served.call("POST", "/v1/tickets", full, json=wanted).json()["ticket"]
    card = {"number": NUMBER, "exp_month": 1, "exp_year": 2031}
    assert served.call("POST", "/v1/cards", ticket, json=card).status_code == 403
    assert served.call("POST", "/v1/cards", ticket, json=card | {"page": "https://evil.example"}).status_code == 403
    made = served.call("POST", "/v1/cards", ticket, json=card | {"page": PAGE})
    assert made.status_code == 201
    again = served.call("POST", "/v1/cards", ticket, json=card | {"page": PAGE})
    assert again.json() == made.json()
    for path, body in (("/v1/detokenise", out(made.json()["token"])), ("/v1/tickets", wanted)):
        assert served.call("POST", path, ticket, json=body).status_code == 401


def test_a_service_fetches_its_own_credential(served: Served) -> None:
    made = served.verb("keys", "create", "--scope", "credentials:read", "--json", "--home", str(served.home))
    mine, other = json.loads(made), served.key("credentials:read")
    where = ("--home", str(served.home))
    served.verb("vault", "credential", "put", "ledger.db", "--for", mine["id"], *where, said="swordfish\n")
    wanted = {"name": "ledger.db"}
    got = served.call("POST", "/v1/credentials/fetch", mine["secret"], json=wanted)
    assert got.json() | {"until": 0} == {"name": "ledger.db", "version": 1, "until": 0, "value": "swordfish"}
    assert served.call("POST", "/v1/credentials/fetch", other, json=wanted).status_code == 403
    assert served.call("POST", "/v1/credentials/fetch", served.key("cards:write"), json=wanted).status_code == 403
    served.verb("vault", "credential", "rotate", "ledger.db", *where, said="trout\n")
    told = json.loads(served.verb("vault", "credential", "status", "ledger.db", "--json", *where))
    assert told["behind"] == [mine["id"]]
    assert served.call("POST", "/v1/credentials/fetch", mine["secret"], json=wanted).json()["value"] == "trout"
    assert "none" in served.verb("vault", "credential", "cut", "ledger.db", *where)


def test_the_form_may_be_shown_by_named_pages_only(served: Served) -> None:
    frame = served.call("GET", "/frame")
    policy = frame.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert f"frame-ancestors {PAGE}" in policy
    assert frame.headers["referrer-policy"] == "no-referrer"
    manifest = served.call("GET", "/integrity.json").json()
    assert manifest == check_static()
    assert set(manifest) == {"card.js", "frame.html", "frame.js", "frame.css"}


def test_a_changed_script_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    from vedette.core.errors import PermanentError
    from vedette.serve import vault_app

    read = vault_app._read_static
    monkeypatch.setattr(vault_app, "_read_static", lambda name: read(name) + (b" " if name == "frame.js" else b""))
    with pytest.raises(PermanentError, match=r"frame\.js"):
        check_static()


def test_nobody_attaches_and_nothing_is_dumped(served: Served) -> None:
    limits = Path(f"/proc/{served.process.pid}/limits").read_text()
    assert any(line.split()[4:6] == ["0", "0"] for line in limits.splitlines() if line.startswith("Max core file"))
    # Not dumpable: the kernel gives the process's files to root.
    assert Path(f"/proc/{served.process.pid}/mem").stat().st_uid == 0
