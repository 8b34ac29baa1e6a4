"""After cards went through the vault and were charged with, no number stands anywhere outside of it.

Real processes: the vault, the product, both crashed with a folder for core dumps. The search is shown to find a number
wherever one could be, packed or plain.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from card_search import Search
from server_process import PATIENCE_S, Server, make_key, vedette
from vault_world import CARD, PAGE, Served, new_number

SCOPES = "charges:write refunds:write decisions:write labels:write events:write query:read alerts:write cases:write \
webhooks:write lists:write payouts:write disputes:write metrics:read indicators:write"
BATCH = 500
NUMBER = "5402056655665558"


def forms(number: str) -> list[str]:
    """How a number gets into a wrong field."""
    return [
        number,
        " ".join(number[n : n + 4] for n in range(0, 16, 4)),
        "-".join(number[n : n + 4] for n in range(0, 16, 4)),
        f"pay with {number} please",
    ]


def misplaced(number: str, n: int) -> list[tuple[str, str, dict]]:
    """Requests with a number where none belongs: method, path, and what httpx sends."""
    text = forms(number)[n % 4]
    charge = {"amount_minor": 500, "currency": "EUR", "source": "tok_1", "merchant": "m-1", "metadata": {}}
    event = {"TRANSACTION_ID": n, "TX_DATETIME": "2026-03-02 10:00:00", "CUSTOMER_ID": 7, "TERMINAL_ID": 9}
    line = json.dumps(event | {"TX_AMOUNT": 5, "note": text})
    named = quote(text, safe="")
    ndjson = {"content-type": "application/x-ndjson"}
    return [
        ("POST", "/v1/charges", {"json": charge | {"source": text}}),
        ("POST", "/v1/charges", {"json": charge | {"metadata": {"memo": text}}}),
        ("POST", "/v1/charges", {"json": charge | {"metadata": {text: "x"}}}),
        ("POST", "/v1/charges", {"json": charge | {"merchant": text}}),
        ("POST", "/v1/charges", {"json": charge, "headers": {"idempotency-key": text}}),
        ("POST", "/v1/charges", {"content": b'{"source": "' + text.encode() + b'"'}),
        ("POST", "/v1/charges/batch", {"content": json.dumps({"key": text, "charge": charge}), "headers": ndjson}),
        (
            "POST",
            "/v1/charges/batch",
            {"content": json.dumps({"key": f"b{n}", "charge": charge | {"source": text}}), "headers": ndjson},
        ),
        ("GET", f"/v1/charges/{named}", {}),
        ("POST", f"/v1/charges/{named}/refunds", {"json": {}}),
        ("POST", "/v1/decisions", {"json": {"event": event | {"TX_AMOUNT": 5, "card": text}}}),
        ("POST", "/v1/decisions", {"json": {"event": event | {"TX_AMOUNT": 5}, "source": text}}),
        ("POST", "/v1/decisions/batch", {"json": {"events": [event | {"CUSTOMER_ID": text, "TX_AMOUNT": 5}]}}),
        ("GET", f"/v1/decisions/{named}", {}),
        ("POST", "/v1/labels", {"json": {"event_id": text, "fraud": True}}),
        ("POST", "/v1/labels", {"json": {"event_id": "e-1", "fraud": True, "kind": text}}),
        ("POST", f"/v1/decisions/{named}/dispute", {"json": {"fraud": True}}),
        (
            "POST",
            "/v1/events",
            {"content": line, "params": {"source": "card_transactions", "batch": f"m{n}"}, "headers": ndjson},
        ),
        (
            "POST",
            "/v1/events",
            {"content": "{" + line, "params": {"source": "card_transactions", "batch": f"n{n}"}, "headers": ndjson},
        ),
        (
            "POST",
            "/v1/events",
            {"content": line, "params": {"source": "card_transactions", "batch": text}, "headers": ndjson},
        ),
        ("POST", "/v1/events", {"content": line, "params": {"source": text, "batch": "x"}, "headers": ndjson}),
        ("POST", "/v1/query", {"json": {"sql": f"select '{text}'"}}),
        ("POST", "/v1/cases", {"json": {"title": text}}),
        ("POST", "/v1/webhooks", {"json": {"url": f"https://shop.example/{number}"}}),
        ("POST", "/v1/payouts", {"json": {"amount_minor": 5, "currency": "EUR", "merchant": text}}),
        ("GET", f"/v1/entities/card/{named}", {}),
        ("GET", "/v1/alerts", {"params": {"entity": f"card:{text}", "after": text}}),
        ("GET", f"/{named}", {"params": {"card": text}}),
        ("GET", "/v1/webhooks", {"headers": {"user-agent": text, "x-card": text, "vedette-account": text}}),
        ("GET", "/v1/webhooks", {"headers": {"authorization": f"Bearer {text}"}}),
        ("POST", "/v1/oauth/token", {"data": {"grant_type": "client_credentials", "client_id": text, "scope": text}}),
    ]


def dumping(folder: Path) -> tuple[str, ...]:
    """What runs a program so that its core dump, of any size, would be written into a folder."""
    return ("sh", "-c", f"ulimit -c unlimited; cd '{folder}'; exec \"$@\"", "sh")


class Scene:
    """A vault and a product, each a process with its own folder, and a folder that catches dumps."""

    def __init__(self, folder: Path) -> None:
        self.home, self.dumps, self.backup = folder / "home", folder / "dumps", folder / "backup"
        for each in (self.home, self.dumps, folder / "vault"):
            each.mkdir()
        self.vault = Served(folder / "vault", PAGE, before=dumping(self.dumps))
        self.vault_key = self.vault.key("cards:write", "numbers:read")
        key = make_key(self.home, *SCOPES.split())
        environ = {"PYTHONFAULTHANDLER": "1"}
        self.server = Server(self.home, environ=environ, before=dumping(self.dumps)).start()
        self.client = httpx.Client(
            base_url=self.server.url, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE_S
        )
        self.said: list[str] = []

    def store(self, numbers: list[str]) -> list[str]:
        """Tokens of the numbers."""
        headers = {"authorization": f"Bearer {self.vault_key}"}
        with httpx.Client(base_url=self.vault.url, headers=headers, timeout=PATIENCE_S) as client:
            made = [client.post("/v1/cards", json=CARD | {"number": number}) for number in numbers]
            assert {each.status_code for each in made} == {201}
            tokens = [each.json()["token"] for each in made]
            for number, token in list(zip(numbers, tokens, strict=True))[::7]:
                asked = {"token": token, "merchant": "m-1", "purpose": "charge", "reason": "ch_1"}
                assert client.post("/v1/detokenise", json=asked).json()["number"] == number
                client.post("/v1/cards", json=CARD | {"number": number + "0"})
                client.post("/v1/detokenise", json=asked | {"token": number})
                client.get(f"/v1/cards/{number}")
        return tokens

    def charge(self, tokens: list[str]) -> None:
        """One charge a token: a few alone, the rest in batches."""
        alone = tokens[:40]
        for n, token in enumerate(alone):
            made = self.client.post("/v1/charges", json=wanted(token), headers={"idempotency-key": f"s{n}"})
            assert made.status_code == 201, made.text
        for start in range(len(alone), len(tokens), BATCH):
            lines = [
                json.dumps({"key": f"b-{start + n}", "charge": wanted(token)})
                for n, token in enumerate(tokens[start : start + BATCH])
            ]
            media = {"content-type": "application/x-ndjson"}
            made = self.client.post("/v1/charges/batch", content="\n".join(lines), headers=media)
            assert made.status_code == 200, made.text
            assert {json.loads(line)["status"] for line in made.text.splitlines()} == {201}

    def misplace(self, numbers: list[str]) -> list[tuple[str, str]]:
        """Sends numbers where none belongs; gives what was answered as if it were well."""
        taken = []
        for n, number in enumerate(numbers):
            for method, path, sent in misplaced(number, n):
                headers = {"content-type": "application/json", "idempotency-key": f"m{n}"} | sent.pop("headers", {})
                if "data" in sent:
                    headers["content-type"] = "application/x-www-form-urlencoded"
                answer = self.client.request(method, path, headers=headers, **sent)
                self.said.append(f"{answer.headers} {answer.text}")
                assert answer.status_code < 500, (method, path, answer.text)
                if answer.status_code < 300:
                    taken.append((method, path))
        return taken

    def settle(self) -> None:
        """Until everything that follows the log has followed it."""
        deadline = time.monotonic() + 240
        while any(self.client.get("/v1/readiness").json()["lag_records"].values()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(6)  # events are gathered for up to five seconds before they are stored


def wanted(token: str) -> dict:
    return {"amount_minor": 1999, "currency": "EUR", "source": token, "merchant": "m-1", "metadata": {"order": "o-1"}}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.client.close()
    for process in (made.server.process, made.vault.process):
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.soak)])
def test_no_number_stands_outside_the_vault(scene: Scene, tmp_path: Path, count: int) -> None:
    rng = random.Random(8)
    numbers = [new_number(rng) for _ in range(count)]
    stray = [new_number(rng) for _ in range(max(count // 100, 8))]
    tokens = scene.store(numbers)
    scene.charge(tokens)
    taken = scene.misplace(stray)
    # What is taken is taken with its numbers struck out; everything else is refused.
    assert {path for _, path in taken} <= {"/v1/events", "/v1/charges/batch", "/v1/alerts"}
    scene.settle()
    vedette(scene.home, "backup", "make", scene.backup)
    scene.server.stop(signal.SIGSEGV)
    scene.vault.stop(signal.SIGSEGV)
    # What a crash left is taken up again, and nothing comes to light by that.
    scene.server.start()
    scene.server.stop()
    for verb in (("alerts", "--json"), ("audit", "verify"), ("jobs", "list")):
        scene.said.append(vedette(scene.home, *verb, check=False).stdout)
    search = Search([*numbers, *stray])
    said = "\n".join(scene.said).encode() + scene.vault.said
    assert not search.found(said), "an answer or the output of a process tells a number"
    assert search.leaks(tmp_path) == []
    assert not list(scene.dumps.iterdir()), "a process left a dump"
    assert search.read > 1_000_000
    held = sum(1 for path in tmp_path.rglob("*") if path.is_file())
    assert held > 40, "databases, logs, stores, keys and the backup of them"


def test_a_dump_would_be_caught_and_searched(tmp_path: Path) -> None:
    """Planted: a program that does not forbid its core. The folder gets it, and the search finds the number in it."""
    program = f"import os; held = '{NUMBER[:8]}' + '{NUMBER[8:]}'; os.abort()"
    command = [*dumping(tmp_path), sys.executable, "-S", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == -signal.SIGABRT
    if not list(tmp_path.iterdir()):
        pytest.skip("this machine writes no core dumps into folders")
    assert Search([NUMBER]).leaks(tmp_path)


def test_a_leak_is_found_wherever_it_is(tmp_path: Path) -> None:
    """Planted: a number in each kind of file and form that the product has."""
    search = Search([NUMBER, "5555555555554444"])
    spaced = " ".join(NUMBER[n : n + 4] for n in range(0, 16, 4))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("inner.json", json.dumps({"card": spaced}))
    arrays = io.BytesIO()
    np.savez_compressed(arrays, note=np.frombuffer(NUMBER.encode(), np.uint8))
    planted = {
        "plain.log": f"charged {NUMBER} twice".encode(),
        "spaced.log": f"charged {spaced}".encode(),
        "dashed.log": spaced.replace(" ", "-").encode(),
        "each.log": " ".join(NUMBER).encode(),
        "odd.log": f"{NUMBER[:6]} {NUMBER[6:10]}.{NUMBER[10:]}".encode(),
        "url.log": quote(spaced).encode(),
        "percent.log": "".join(f"%{ord(digit):02X}" for digit in NUMBER).encode(),
        "escapes.json": "".join(f"\\u{ord(digit):04x}" for digit in NUMBER).encode(),
        "hex.txt": NUMBER.encode().hex().encode(),
        "wide.txt": NUMBER.encode("utf-16-le"),
        "cut.txt": NUMBER[:14].encode(),
        "packed.gz": gzip.compress(NUMBER.encode()),
        "packed.zlib": zlib.compress(f"x{NUMBER}".encode()),
        "archive.zip": archive.getvalue(),
        "twice.gz": gzip.compress(archive.getvalue()),
        "model.npz": arrays.getvalue(),
        **{f"base64-{n}.txt": base64.b64encode(b"a" * n + NUMBER.encode() + b"b" * n) for n in range(4)},
        **{f"base64-spaced-{n}.txt": base64.b64encode(b"a" * n + spaced.encode() + b"b") for n in range(3)},
    }
    for name, raw in planted.items():
        (tmp_path / name).write_bytes(raw)
    pq.write_table(pa.table({"note": ["a", NUMBER] * 500}), tmp_path / "events.parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "spilled.db") as connection:
        connection.execute("create table kept (body blob)")
        # Cut by the edge of a page, and so on no page whole.
        connection.executemany(
            "insert into kept values (?)",
            [(b"." * fill + NUMBER.encode() + b"." * 9_000,) for fill in range(4_050, 4_100)],
        )
    connection.close()
    (tmp_path / f"{NUMBER}.txt").write_bytes(b"")
    found = {Path(place.partition("!")[0].partition(":")[0]).name for place in search.leaks(tmp_path)}
    assert found == {path.name for path in tmp_path.iterdir()}
    assert not search.found(b"5402 0566 card tok_5558 1748503543012 0.5402056655665 99")
