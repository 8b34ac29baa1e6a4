"""Backup of an installation in use: one moment of everything, whole after a restore, and nothing said twice."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import httpx
import psycopg
import pytest
from server_process import Server, make_key, vedette

from vedette.core import moment
from vedette.core.clock import SystemClock
from vedette.core.errors import DataError, DefinitionError, TransientError
from vedette.core.settings import Settings
from vedette.run import backup
from vedette.run.backup import restore_backup, take_backup, verify_backup


class Clients:
    """Post charges until they are stopped, and keep every answer with the time it came."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key
        self.stop = threading.Event()
        self.answers: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(2)]

    def work(self) -> None:
        with httpx.Client(base_url=self.url, timeout=300, headers={"authorization": f"Bearer {self.key}"}) as client:
            while not self.stop.is_set():
                body = {"amount_minor": 1999, "currency": "EUR", "source": "tok_1", "merchant": "m_1"}
                made = client.post("/v1/charges", json=body, headers={"idempotency-key": uuid.uuid4().hex})
                if made.status_code != 201:
                    self.failures.append(made.text)
                else:
                    self.answers.append((time.time_ns() // 1_000, made.json()["id"]))

    def more(self, count: int) -> None:
        """Waits for so many more answers."""
        wanted = len(self.answers) + count
        while len(self.answers) < wanted and not self.failures:
            time.sleep(0.02)
        assert not self.failures

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def charges_of(home: Path) -> set[str]:
    with closing(sqlite3.connect(home / "money.db")) as connection:
        return {row[0] for row in connection.execute("select id from charge")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Clients]]:
    """A home that was backed up while it served, its backup, and what its clients were told."""
    folder = tmp_path_factory.mktemp("backup")
    home = folder / "home"
    key = make_key(home, "charges:write")
    server = Server(home).start()
    clients = Clients(server.url, key)
    with clients:
        clients.more(40)
        vedette(home, "backup", "make", folder / "copy")
        clients.more(20)
    server.kill()
    yield home, folder / "copy", clients
    shutil.rmtree(folder)


def test_a_copy_of_one_moment(world: tuple[Path, Path, Clients], tmp_path: Path) -> None:
    _, copy, clients = world
    assert not clients.failures
    home = tmp_path / "home"
    told = json.loads(vedette(home, "backup", "restore", copy, "--home", home, "--json").stdout)
    assert {"money.db", "state.db", "log/audit.db"} <= set(told["databases"])
    taken = verify_backup(copy).taken
    there = charges_of(home)
    before = {charge for time, charge in clients.answers if time < taken - 20_000_000}
    acknowledged = {charge for time, charge in clients.answers if time < taken}
    later = {charge for time, charge in clients.answers if time > taken + 10_000_000}
    assert before <= acknowledged <= there
    assert not later & there
    assert len(there) < len(clients.answers)
    assert vedette(home, "ledger", "check").returncode == 0
    assert vedette(home, "audit", "verify").returncode == 0


def test_the_restored_copy_goes_on(world: tuple[Path, Path, Clients], tmp_path: Path) -> None:
    _, copy, _ = world
    home = tmp_path / "home"
    restore_backup(copy, home)
    before = charges_of(home)
    server = Server(home).start()
    key = make_key(home, "charges:write")
    with Clients(server.url, key) as clients:
        clients.more(5)
    assert server.stop() == 0
    assert not clients.failures
    assert charges_of(home) == before | {charge for _, charge in clients.answers}
    for check in (("ledger", "check"), ("audit", "verify")):
        assert vedette(home, *check).returncode == 0


class Merchant:
    """Takes webhooks, or refuses them for now."""

    def __init__(self) -> None:
        merchant = self
        self.status, self.seen = 503, []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                merchant.seen.append((merchant.status, self.headers["webhook-id"], body))
                self.send_response(merchant.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def wait(self, status: int, count: int) -> dict[str, bytes]:
        """What it was sent while it answered so."""
        end = time.monotonic() + 240
        while len(found := {name: body for said, name, body in self.seen if said == status}) < count:
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_a_webhook_that_waited_goes_out_under_its_old_id(tmp_path: Path) -> None:
    merchant = Merchant()
    home = tmp_path / "home"
    key = make_key(home, "charges:write", "webhooks:write")
    allowed = {"VEDETTE_EGRESS_ALLOW": "127.0.0.1"}
    server = Server(home, environ=allowed).start()
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.post(f"{server.url}/v1/webhooks", json={"url": merchant.url}, headers=headers).status_code == 201
    body = {"amount_minor": 1999, "currency": "EUR", "source": "tok_1", "merchant": "m_1"}
    for n in range(3):
        httpx.post(f"{server.url}/v1/charges", json=body, headers=headers | {"idempotency-key": f"k{n}"}, timeout=300)
    refused = merchant.wait(503, 3)
    take_backup(home, tmp_path / "copy", SystemClock())
    server.kill()
    restore_backup(tmp_path / "copy", tmp_path / "restored")
    merchant.status = 204
    server = Server(tmp_path / "restored", environ=allowed).start()
    delivered = merchant.wait(204, len(refused))
    assert server.stop() == 0
    merchant.close()
    assert delivered == refused


def test_a_backup_that_was_touched_is_refused(world: tuple[Path, Path, Clients], tmp_path: Path) -> None:
    _, source, _ = world
    copy = tmp_path / "copy"

    def code() -> str:
        with pytest.raises(DataError) as caught:
            restore_backup(copy, tmp_path / "home")
        assert not (tmp_path / "home").exists()
        return caught.value.code

    def again() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)

    again()
    raw = bytearray((copy / "money.db").read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / "money.db").write_bytes(raw)
    assert code() == "backup.file.changed"
    again()
    (copy / "state.db").unlink()
    assert code() == "backup.file.missing"
    again()
    (copy / "more").write_text("x")
    assert code() == "backup.file.unknown"
    again()
    (copy / "manifest.json").unlink()
    assert code() == "backup.manifest.missing"
    again()
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text().replace('"money.db"', '"../money.db"'))
    assert code() == "backup.manifest.invalid"
    again()
    (copy / "manifest.json").write_text("{")
    assert code() == "backup.manifest.invalid"


def test_nothing_is_written_over(world: tuple[Path, Path, Clients], tmp_path: Path) -> None:
    home, copy, _ = world
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(DefinitionError) as caught:
        restore_backup(copy, tmp_path / "full")
    assert caught.value.code == "backup.target.exists"
    with pytest.raises(DefinitionError) as caught:
        take_backup(home, tmp_path / "full", SystemClock())
    assert caught.value.code == "backup.target.exists"
    with pytest.raises(DefinitionError) as caught:
        take_backup(tmp_path / "none", tmp_path / "new", SystemClock())
    assert caught.value.code == "backup.home.missing"


def test_shared_secrets_are_in_the_copy(tmp_path: Path) -> None:
    home, shared, fresh = tmp_path / "west", tmp_path / "both", tmp_path / "fresh"
    home.mkdir()
    kept = {"keys/idempotency": b"key", "secrets/hook": b"secret", "keys/deep/er": b"one more"}
    for name, content in {**kept, "notes.txt": b"not of the product"}.items():
        path = shared / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(DefinitionError) as caught:
        take_backup(home, tmp_path / "copy", SystemClock(), shared=tmp_path / "none")
    assert caught.value.code == "backup.shared.missing"
    take_backup(home, tmp_path / "copy", SystemClock(), shared=shared)
    shutil.rmtree(shared)
    restore_backup(tmp_path / "copy", fresh)
    restored = Settings(home=fresh, shared=fresh / "shared")
    assert (restored.own_secrets_folder / "idempotency").read_bytes() == b"key"
    assert (restored.secrets_folder / "hook").read_bytes() == b"secret"
    there = {
        path.relative_to(fresh / "shared").as_posix(): path for path in (fresh / "shared").rglob("*") if path.is_file()
    }
    assert {name: path.read_bytes() for name, path in there.items()} == kept
    assert {path.stat().st_mode & 0o777 for path in there.values()} == {0o600}
    # The restored home holds it by itself; another folder beside it would have no place in a copy.
    manifest = take_backup(fresh, tmp_path / "again", SystemClock(), shared=fresh / "shared")
    assert {entry.path for entry in manifest.files} == {f"shared/{name}" for name in kept}
    with pytest.raises(DefinitionError) as caught:
        take_backup(fresh, tmp_path / "third", SystemClock(), shared=tmp_path)
    assert caught.value.code == "backup.shared.collides"


def pair(folder: Path) -> list[sqlite3.Connection]:
    """Two databases that a writer keeps equal: first one commits, then the other."""
    opened = []
    for name in ("a.db", "b.db"):
        connection = sqlite3.connect(folder / name, isolation_level=None, check_same_thread=False, timeout=300)
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table t (n integer)")
        opened.append(connection)
    return opened


def counts(folder: Path) -> tuple[int, int]:
    found = []
    for name in ("a.db", "b.db"):
        with closing(sqlite3.connect(folder / name)) as connection:
            found.append(connection.execute("select count(*) from t").fetchone()[0])
    return found[0], found[1]


@contextmanager
def one_after_the_other(sources: list[moment.Source]) -> Iterator[None]:
    """The mistake that a copy without locks makes when it is slow."""
    with ExitStack() as stack:
        for source in sources:
            stack.callback(source.close)
            source.pin()
            time.sleep(0.01)
        yield


@pytest.mark.parametrize("planted", [False, True])
def test_databases_are_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: bool) -> None:
    """What is in the second database was in the first before: true of a moment, and not of two copies in turn."""
    home = tmp_path / "home"
    home.mkdir()
    first, second = pair(home)
    if planted:
        monkeypatch.setattr(backup, "one_moment", one_after_the_other)
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            for connection in (first, second):
                connection.execute("insert into t values (?)", (n,))
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    wrong = 0
    try:
        for n in range(12):
            time.sleep(0.01)
            take_backup(home, tmp_path / f"copy{n}", SystemClock())
            a, b = counts(tmp_path / f"copy{n}")
            wrong += not 0 <= a - b <= 1
    finally:
        stop.set()
        writer.join()
        first.close()
        second.close()
    assert bool(wrong) == planted


def test_a_writer_that_never_lets_go_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    first, second = pair(home)
    monkeypatch.setattr(moment, "LOCK_S", 0.3)
    first.execute("begin immediate")
    with pytest.raises(TransientError) as caught:
        take_backup(home, tmp_path / "copy", SystemClock())
    assert caught.value.code == "backup.database.busy"
    with pytest.raises(DataError) as refused:
        verify_backup(tmp_path / "copy")
    assert refused.value.code == "backup.manifest.missing"
    # It holds nothing itself: the other database can be written at once.
    second.execute("insert into t values (1)")
    first.close()
    second.close()


def empty(server: str) -> str:
    """A database of its own on the test's server."""
    name = f"backup_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return server.rpartition("/")[0] + f"/{name}"


@pytest.mark.postgres
def test_postgres_is_in_the_copy(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, copy, restored = tmp_path / "home", tmp_path / "copy", tmp_path / "restored"
    monkeypatch.setenv("VEDETTE_DATABASE_URL", empty(postgres_url))
    key = make_key(home, "charges:write")
    server = Server(home).start()
    with Clients(server.url, key) as clients:
        clients.more(20)
        vedette(home, "backup", "make", copy)
        clients.more(20)
    server.kill()
    assert not clients.failures
    taken = verify_backup(copy).taken
    monkeypatch.setenv("VEDETTE_DATABASE_URL", "")
    refused = vedette(home, "backup", "restore", copy, "--home", restored, check=False)
    assert (
        "backup.database.unnamed"
        in refused.stderr + vedette(home, "backup", "restore", copy, "--home", restored, "--json", check=False).stderr
    )
    assert not restored.exists()
    monkeypatch.setenv("VEDETTE_DATABASE_URL", empty(postgres_url))
    vedette(home, "backup", "restore", copy, "--home", restored)
    for check in (("ledger", "check"), ("audit", "verify")):
        assert vedette(restored, *check).returncode == 0
    server = Server(restored).start()
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}) as client:
        there = {charge: client.get(f"/v1/charges/{charge}").status_code == 200 for _, charge in clients.answers}
    assert server.stop() == 0
    assert all(there[charge] for time, charge in clients.answers if time < taken)
    assert not any(there[charge] for time, charge in clients.answers if time > taken + 10_000_000)
    assert not all(there.values())
    with pytest.raises(DefinitionError) as caught:
        restore_backup(copy, tmp_path / "other", database_url=os.environ["VEDETTE_DATABASE_URL"])
    assert caught.value.code == "backup.target.exists"


@pytest.mark.postgres
@pytest.mark.parametrize("planted", [False, True])
def test_postgres_is_of_the_same_moment(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    home, url = tmp_path / "home", empty(postgres_url)
    home.mkdir()
    (first, second), stop, wrong = pair(home), threading.Event(), 0
    if planted:
        monkeypatch.setattr(backup, "one_moment", one_after_the_other)
    held = psycopg.connect(url, autocommit=True)
    held.execute("create table t (n integer)")

    def write() -> None:
        while not stop.is_set():
            first.execute("insert into t values (0)")
            held.execute("insert into t values (0)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(4):
            time.sleep(0.01)
            take_backup(home, tmp_path / f"copy{n}", SystemClock(), database_url=url)
            fresh = empty(postgres_url)
            restore_backup(tmp_path / f"copy{n}", tmp_path / f"home{n}", database_url=fresh)
            with psycopg.connect(fresh) as connection:
                row = connection.execute("select count(*) from t").fetchone()
            wrong += row is None or not 0 <= counts(tmp_path / f"home{n}")[0] - row[0] <= 1
    finally:
        stop.set()
        writer.join()
        for connection in (first, second, held):
            connection.close()
    assert bool(wrong) == planted
