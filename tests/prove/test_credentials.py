"""Credentials of services: by identity, sealed, rotated under load, laggards named before the cut."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.conftest import FakeClock

from vedette.core.db import Database, open_database, sa
from vedette.core.errors import VedetteError
from vedette.core.ids import Ids
from vedette.prove.audit import AuditRecord
from vedette.prove.custody.credentials import LEASE_S, Credentials
from vedette.prove.custody.sealed import SealedFile
from vedette.prove.secrets import Secret

PHRASE = Secret("a phrase of the credentials")
OLD, NEW = Secret("swordfish-one"), Secret("swordfish-two")


def code(call: Callable[[], object]) -> str:
    with pytest.raises(VedetteError) as caught:
        call()
    assert "swordfish" not in str(caught.value)
    return caught.value.code


@pytest.fixture
def records() -> list[AuditRecord]:
    return []


@pytest.fixture
def credentials(db: Database, tmp_path: Path, clock: FakeClock, ids: Ids, records: list[AuditRecord]) -> Credentials:
    return Credentials(db, SealedFile(tmp_path / "keys.json", PHRASE, clock), clock, ids, records.append)


def test_by_identity_and_recorded(credentials: Credentials, records: list[AuditRecord], clock: FakeClock) -> None:
    credentials.put("ledger.db", OLD, consumers=["key_api"], by="per_ann")
    leased = credentials.fetch("ledger.db", "key_api", origin="10.0.0.7")
    assert leased.value == OLD
    assert leased.until == clock.now() + LEASE_S * 1_000_000
    for name, identity in (("ledger.db", "key_other"), ("ledger.other", "key_api"), ("NOT A NAME", "key_api")):
        assert code(lambda n=name, i=identity: credentials.fetch(n, i)) == "credentials.denied"
    credentials.withdraw("ledger.db", "key_api", by="per_ann")
    assert code(lambda: credentials.fetch("ledger.db", "key_api")) == "credentials.denied"
    told = [(record.action, record.outcome) for record in records]
    denied = ("credentials.fetch", "denied")
    assert told == [
        ("credentials.put", "success"),
        ("credentials.fetch", "success"),
        *[denied] * 3,
        ("credentials.withdraw", "success"),
        denied,
    ]
    shown = f"{leased!r}{msgspec.json.encode(records)!r}"
    assert "swordfish" not in shown


def test_sealed_at_rest_and_bound_to_name_and_version(credentials: Credentials, db: Database) -> None:
    credentials.put("a", OLD, consumers=["k"], by="x")
    credentials.put("b", NEW, consumers=["k"], by="x")
    with db.begin() as connection:
        rows = dict(connection.execute(sa.text("select name, sealed from credential_versions")).fetchall())
        assert b"swordfish" not in rows["a"]
        connection.execute(sa.text("update credential_versions set sealed = :s where name = 'a'"), {"s": rows["b"]})
    assert code(lambda: credentials.fetch("a", "k")) == "custody.sealed.invalid"
    if db.is_sqlite:
        path = Path(str(db.engine.url.database))
        assert not any(b"swordfish" in file.read_bytes() for file in path.parent.rglob("*") if file.is_file())


def test_a_rotation_has_a_grace_and_an_end(credentials: Credentials, clock: FakeClock) -> None:
    credentials.put("a", OLD, consumers=["api", "worker", "idle"], by="x")
    for identity in ("api", "worker"):
        credentials.fetch("a", identity)
    assert credentials.rotate("a", NEW, grace_s=LEASE_S, by="x") == 2
    assert credentials.rotate("a", NEW, grace_s=LEASE_S, by="x") == 2
    assert credentials.accepts("a", OLD)
    assert credentials.accepts("a", NEW)
    assert not credentials.accepts("a", Secret("guess"))
    assert credentials.fetch("a", "api").value == NEW
    assert credentials.status("a").behind == ("worker",)
    clock.advance(LEASE_S)
    assert not credentials.accepts("a", OLD)
    with pytest.raises(VedetteError, match="worker") as caught:
        credentials.cut("a", by="x")
    assert caught.value.code == "credentials.consumers.behind"
    credentials.fetch("a", "worker")
    assert credentials.cut("a", by="x") == [1]
    assert credentials.cut("a", by="x") == []
    assert credentials.status("a").older_ends is None
    assert credentials.accepts("a", NEW)


def test_a_cut_can_be_forced(credentials: Credentials, clock: FakeClock) -> None:
    credentials.put("a", OLD, consumers=["api"], by="x")
    credentials.fetch("a", "api")
    credentials.rotate("a", NEW, grace_s=LEASE_S, by="x")
    assert credentials.cut("a", force=True, by="x") == []
    clock.advance(LEASE_S)
    assert credentials.cut("a", force=True, by="x") == [1]


def test_what_makes_no_sense(credentials: Credentials) -> None:
    credentials.put("a", OLD, by="x")
    assert code(lambda: credentials.put("a", NEW, by="x")) == "credentials.name.taken"
    assert code(lambda: credentials.put("A b", NEW, by="x")) == "credentials.name.invalid"
    assert code(lambda: credentials.put("b", Secret(""), by="x")) == "credentials.value.size"
    assert code(lambda: credentials.rotate("b", NEW, grace_s=LEASE_S, by="x")) == "credentials.name.unknown"
    assert code(lambda: credentials.rotate("a", NEW, grace_s=60, by="x")) == "credentials.grace.short"
    assert code(lambda: credentials.allow("b", "k", by="x")) == "credentials.name.unknown"
    assert code(lambda: credentials.accepts("b", NEW)) == "credentials.name.unknown"


@pytest.mark.parametrize("planted", [False, True])
def test_no_request_fails_while_it_rotates(credentials: Credentials, clock: FakeClock, planted: bool) -> None:
    """A server that checks and clients that fetch, while versions change: nobody is refused. Without a grace some are."""
    credentials.put("a", Secret("value-1"), consumers=["c0", "c1", "c2"], by="x")
    stop = threading.Event()
    refused: list[str] = []
    asked = [0, 0, 0]

    def client(n: int) -> None:
        while not stop.is_set():
            leased = credentials.fetch("a", f"c{n}")
            paused.wait(0.002)
            asked[n] += 1
            if not credentials.accepts("a", leased.value):
                refused.append(f"c{n} version {leased.version}")

    paused = threading.Event()
    threads = [threading.Thread(target=client, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    # Who is refused had to be between fetching and asking just then: that takes as many turns as it takes.
    for version in range(2, 500 if planted else 9):
        before = list(asked)
        credentials.rotate("a", Secret(f"value-{version}"), grace_s=LEASE_S, by="x")
        if planted:
            clock.advance(LEASE_S)
        while any(now <= was for now, was in zip(asked, before, strict=True)) and not refused:
            paused.wait(0.001)
        if refused:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert bool(refused) == planted


CHILD = """
import sys
from pathlib import Path
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.ids import Ids
from vedette.prove.custody.credentials import Credentials
from vedette.prove.custody.sealed import SealedFile
from vedette.prove.secrets import Secret
home, clock = Path(sys.argv[1]), SystemClock()
held = Credentials(open_database(home / "c.db"), SealedFile(home / "k.json", Secret(sys.argv[2]), clock), clock, Ids(clock))
print("ready", flush=True)
n = int(sys.argv[3])
while True:
    held.rotate("a", Secret(f"value-{n}"), grace_s=3600, by="child")
    print(n, flush=True)
    n += 1
"""


def test_a_rotation_killed_at_any_moment_is_repeated(tmp_path: Path, clock: FakeClock, ids: Ids, rng) -> None:
    provider = SealedFile(tmp_path / "k.json", PHRASE, clock)
    held = Credentials(open_database(tmp_path / "c.db"), provider, clock, ids)
    held.put("a", Secret("value-0"), consumers=["c"], by="x")
    n = 1
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), PHRASE.reveal(), str(n)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        told = [int(child.stdout.readline()) for _ in range(rng.randrange(1, 4))]
        child.kill()
        child.communicate()
        n = told[-1]
        # What was told is there; the one in hand is there as a whole or not at all, and is made again.
        newest = held.fetch("a", "c")
        assert newest.value.reveal() in {f"value-{later}" for later in range(n, n + 200)}
        assert held.accepts("a", Secret(f"value-{n}"))
        n = int(newest.value.reveal().removeprefix("value-"))
        assert held.rotate("a", newest.value, grace_s=LEASE_S, by="x") == newest.version
