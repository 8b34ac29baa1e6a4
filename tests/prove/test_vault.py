"""The vault: tokens that say nothing, cards that open in one place only, keys that can be changed and destroyed."""

from __future__ import annotations

import base64
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hsm import empty_token
from tests.conftest import FakeClock

from vedette.core.db import Database, open_database, sa
from vedette.core.errors import ConflictError, VedetteError
from vedette.core.ids import Ids
from vedette.prove.audit import AuditRecord
from vedette.prove.custody.provider import KeyProvider
from vedette.prove.custody.sealed import SealedFile
from vedette.prove.dlp import find_pans, is_luhn
from vedette.prove.secrets import Secret
from vedette.prove.vault.cards import Purpose
from vedette.prove.vault.tables import cards
from vedette.prove.vault.vault import GRACE_S, TICKET_S, Vault

PHRASE = Secret("a phrase of the vault")
CHARGE = (Purpose.CHARGE, Purpose.REFUND)
NUMBER = "4000056655665556"


def new_number(rng: random.Random) -> str:
    """A number that passes the check of its last digit."""
    body = "4" + "".join(str(rng.randrange(10)) for _ in range(14))
    return next(body + str(last) for last in range(10) if is_luhn(body + str(last)))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(VedetteError) as caught:
        call()
    assert NUMBER not in str(caught.value)
    return caught.value.code


class World:
    """A vault with its records."""

    def __init__(self, db: Database, provider: KeyProvider, clock: FakeClock, ids: Ids) -> None:
        self.db, self.provider, self.clock = db, provider, clock
        self.records: list[AuditRecord] = []
        self.vault = Vault(db, provider, clock, ids, self.records.append)

    def store(self, number: str = NUMBER, tenant: str = "acme", merchant: str = "m-1") -> str:
        made = self.vault.store(tenant, Secret(number), 12, 2030, merchant=merchant, purposes=CHARGE, by="key_1")
        return made.token

    def take(self, token: str, tenant: str = "acme", **changes: object) -> str:
        wanted = {"merchant": "m-1", "purpose": Purpose.CHARGE, "reason": "charge ch_1", "by": "key_1"} | changes
        return self.vault.detokenise(tenant, token, **wanted).number


@pytest.fixture
def world(db: Database, tmp_path: Path, clock: FakeClock, ids: Ids) -> World:
    return World(db, SealedFile(tmp_path / "keys" / "vault.json", PHRASE, clock), clock, ids)


def test_a_token_says_nothing(world: World) -> None:
    vault = world.vault
    first, second = (
        vault.store("acme", Secret(text), 1, 2031, merchant="m-1", purposes=CHARGE, by="key_1")
        for text in (NUMBER, "4000 0566-5566 5556")
    )
    other = vault.store("shop", Secret(NUMBER), 1, 2031, merchant="m-1", purposes=CHARGE, by="key_1")
    assert first.token != second.token
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert (first.brand, first.last4) == ("visa", "5556")
    assert not find_pans(msgspec.json.encode([first, second, other]))
    assert world.take(first.token) == world.take(second.token) == NUMBER
    assert vault.look("acme", first.token) == first


def test_what_is_no_card_is_refused_without_repeating_it(world: World) -> None:
    for text in ("4000056655665557", "1234", "", "4" * 30, "4000056655665556x", "٤٠٠٠٠٥٦٦٥٥٦٦٥٥٥٦"):
        call = lambda text=text: world.store(text)  # noqa: E731
        assert code(call) == "vault.number.invalid"
    for month, year in ((0, 2030), (13, 2030), (1, 30)):
        store = lambda m=month, y=year: world.vault.store(  # noqa: E731
            "acme", Secret(NUMBER), m, y, merchant="m", purposes=CHARGE, by="k"
        )
        assert code(store) == "vault.expiry.invalid"
    nobody = lambda: world.vault.store("acme", Secret(NUMBER), 1, 2030, merchant="m", purposes=(), by="k")  # noqa: E731
    assert code(nobody) == "vault.purpose.none"
    assert code(lambda: world.store(merchant="")) == "vault.merchant.invalid"


def test_one_way_out_and_every_try_is_recorded(world: World) -> None:
    token = world.store()
    refusals = {
        "vault.token.merchant": {"merchant": "m-2"},
        "vault.token.purpose": {"purpose": Purpose.PAYOUT},
        "vault.token.unknown": {"tenant": "shop"},
        "vault.reason.missing": {"reason": " "},
    }
    for expected, changes in refusals.items():
        assert code(lambda changes=changes: world.take(token, **changes)) == expected
    assert code(lambda: world.take(NUMBER)) == "vault.token.unknown"
    assert world.take(token) == NUMBER
    told = [record for record in world.records if record.action == "cards.detokenise"]
    assert [record.code for record in told] == [*refusals, "vault.token.unknown", ""]
    assert told[-1].detail == {"merchant": "m-1", "purpose": "charge", "reason": "charge ch_1"}
    assert NUMBER.encode() not in msgspec.json.encode(world.records)


def test_no_number_without_its_record(world: World) -> None:
    token = world.store()

    def full(_: AuditRecord) -> None:
        raise OSError(28, "no space left on device")

    mute = Vault(world.db, world.provider, world.clock, Ids(world.clock), full)
    with pytest.raises(OSError, match="no space"):
        mute.detokenise("acme", token, merchant="m-1", purpose=Purpose.CHARGE, reason="x", by="k")


def test_a_row_opens_in_its_own_place_only(world: World) -> None:
    mine, theirs = world.store(), world.store(tenant="shop", number="5555555555554444")
    beside = world.store("4242424242424242")
    columns = ("sealed", "sealed_key", "version")

    def copy(source: str, target: str, names: tuple[str, ...]) -> None:
        with world.db.begin() as connection:
            row = connection.execute(sa.select(cards).where(cards.c.token == source)).one()
            values = {name: getattr(row, name) for name in names}
            connection.execute(cards.update().where(cards.c.token == target).values(**values))

    with world.db.read() as connection:
        saved = {row.token: row for row in connection.execute(sa.select(cards))}
    for target, tenant in ((beside, "acme"), (theirs, "shop")):
        for names in (columns, ("sealed",), ("sealed_key",)):
            copy(mine, target, names)
            assert code(lambda t=target, n=tenant: world.take(t, n)) == "custody.sealed.invalid"
            with world.db.begin() as connection:
                values = {name: getattr(saved[target], name) for name in columns}
                connection.execute(cards.update().where(cards.c.token == target).values(**values))
            assert world.take(target, tenant)
    with world.db.begin() as connection:
        connection.execute(cards.update().where(cards.c.token == mine).values(tenant="shop"))
    assert code(lambda: world.take(mine, "shop")) == "custody.sealed.invalid"


def test_a_ticket_stores_one_card(world: World) -> None:
    vault = world.vault
    ticket = vault.issue_ticket("acme", merchant="m-1", purposes=CHARGE, origin="https://shop.example", by="key_1")
    assert vault.origin_of(ticket.secret) == "https://shop.example"
    first = vault.store_by_ticket(ticket.secret, Secret(NUMBER), 12, 2030)
    assert vault.store_by_ticket(ticket.secret, Secret(NUMBER), 12, 2030) == first
    other = Secret("5555555555554444")
    assert code(lambda: vault.store_by_ticket(ticket.secret, other, 12, 2030)) == "vault.ticket.used"
    assert code(lambda: vault.store_by_ticket(Secret("vt_no"), other, 12, 2030)) == "vault.ticket.invalid"
    world.clock.advance(TICKET_S)
    assert code(lambda: vault.store_by_ticket(ticket.secret, Secret(NUMBER), 12, 2030)) == "vault.ticket.invalid"
    assert world.take(first.token) == NUMBER
    assert "vt_" not in repr(ticket)


def test_two_browsers_with_one_ticket(world: World) -> None:
    ticket = world.vault.issue_ticket("acme", merchant="m-1", purposes=CHARGE, by="key_1")
    numbers = [NUMBER, "5555555555554444"] * 4
    stored: list[str] = []
    refused: list[str] = []

    def send(number: str) -> None:
        try:
            stored.append(world.vault.store_by_ticket(ticket.secret, Secret(number), 12, 2030).token)
        except ConflictError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=send, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(stored)) == 1
    assert (len(stored), refused) == (4, ["vault.ticket.used"] * 4)
    with world.db.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(cards)).scalar_one() == 1


def test_an_erased_card_is_gone(world: World) -> None:
    token, kept = world.store(), world.store("4242424242424242")
    with world.db.read() as connection:
        row = connection.execute(sa.select(cards).where(cards.c.token == token)).one()
    gone = world.vault.erase("acme", token, by="key_1")
    assert world.vault.erase("acme", token, by="key_1") == gone
    assert code(lambda: world.take(token)) == "vault.token.erased"
    assert world.take(kept) == "4242424242424242"
    if world.db.is_sqlite:
        path = Path(str(world.db.engine.url.database))
        raw = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
        assert row.sealed_key not in raw
        assert row.sealed not in raw


def test_a_shredded_tenant_is_unreadable_in_every_copy(world: World, tmp_path: Path) -> None:
    token, other = world.store(), world.store(tenant="shop")
    copy = tmp_path / "copy.db"
    if world.db.is_sqlite:
        with sqlite3.connect(copy) as to, sqlite3.connect(str(world.db.engine.url.database)) as source:
            source.backup(to)
    assert world.vault.shred("acme", by="key_1") == 1
    assert world.vault.shred("acme", by="key_1") == 1
    assert code(lambda: world.take(token)) == "custody.key.unknown"
    assert code(world.store) == "vault.tenant.shredded"
    assert world.take(other, "shop") == NUMBER
    assert world.vault.tenants() == ["shop"]
    if world.db.is_sqlite:
        restored = Vault(open_database(copy), world.provider, world.clock, Ids(world.clock))
        take = lambda: restored.detokenise(  # noqa: E731
            "acme", token, merchant="m-1", purpose=Purpose.CHARGE, reason="x", by="k"
        )
        assert code(take) == "custody.key.unknown"


def test_a_rotation_under_load(world: World, rng: random.Random) -> None:
    numbers = {world.store(number): number for number in (new_number(rng) for _ in range(60))}
    with world.db.read() as connection:
        before = {row.token: row.sealed for row in connection.execute(sa.select(cards))}
    failures: list[BaseException] = []
    stop = threading.Event()
    made: dict[str, str] = {}

    def load(seed: int) -> None:
        own = random.Random(seed)
        try:
            while not stop.is_set():
                token = own.choice(list(numbers))
                assert world.take(token) == numbers[token]
                if len(made) < 40:
                    number = new_number(own)
                    made[world.store(number)] = number
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=load, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    assert world.vault.rotate("acme", by="key_1") == 2
    assert code(lambda: world.vault.retire("acme", by="key_1")) == "vault.key.needed"
    while world.vault.rewrap("acme", limit=17):
        pass
    world.clock.advance(GRACE_S)
    assert world.vault.retire("acme", by="key_1") == ["vault:acme:1"]
    time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(world.take(token) == number for token, number in (numbers | made).items())
    with world.db.read() as connection:
        after = {row.token: row for row in connection.execute(sa.select(cards))}
    assert all(after[token].sealed == sealed for token, sealed in before.items())
    assert {row.version for row in after.values()} == {2}


def test_keys_in_a_token(db: Database, clock: FakeClock, ids: Ids) -> None:
    token = empty_token(clock)
    world = World(db, token, clock, ids)
    stored = world.store()
    world.vault.rotate("acme", by="key_1")
    assert world.vault.rewrap("acme") == 1
    clock.advance(GRACE_S)
    world.vault.retire("acme", by="key_1")
    assert world.take(stored) == NUMBER
    assert [info.label for info in token.list_keys()] == ["fingerprint:acme", "vault:acme:2"]
    token.close()


CHILD = """
import sys
from pathlib import Path
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.ids import Ids
from vedette.prove.custody.sealed import SealedFile
from vedette.prove.secrets import Secret
from vedette.prove.vault.vault import Vault

class Later(SystemClock):
    def now(self): return super().now() + 3_600_000_000

home = Path(sys.argv[1])
clock = Later()
vault = Vault(open_database(home / "vault.db"), SealedFile(home / "keys.json", Secret(sys.argv[2]), clock), clock, Ids(clock))
print("ready", flush=True)
while True:
    version = vault.rotate("acme", by="child")
    while vault.rewrap("acme", limit=3):
        pass
    clock.now = lambda was=clock.now: was() + 120_000_000
    vault.retire("acme", by="child")
    print(version, flush=True)
"""


def test_a_rotation_killed_at_any_moment(tmp_path: Path, clock: FakeClock, ids: Ids, rng: random.Random) -> None:
    provider = SealedFile(tmp_path / "keys.json", PHRASE, clock)
    world = World(open_database(tmp_path / "vault.db"), provider, clock, ids)
    numbers = {world.store(number): number for number in (new_number(rng) for _ in range(12))}
    versions = set()
    for _ in range(8):
        command = [sys.executable, "-c", CHILD, str(tmp_path), PHRASE.reveal()]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.15))
        child.kill()
        child.communicate()
        assert all(world.take(token) == number for token, number in numbers.items())
        with world.db.read() as connection:
            versions |= set(connection.execute(sa.select(cards.c.version)).scalars())
    assert len(versions) > 1, "nobody rotated"
    while world.vault.rewrap("acme"):
        pass
    clock.micros = 2 * time.time_ns() // 1_000
    world.vault.retire("acme", by="key_1")
    assert len([info for info in provider.list_keys() if info.label.startswith("vault:")]) == 1
    assert all(world.take(token) == number for token, number in numbers.items())


def test_no_number_in_the_raw_files(tmp_path: Path, clock: FakeClock, ids: Ids, rng: random.Random) -> None:
    world = World(open_database(tmp_path / "vault.db"), SealedFile(tmp_path / "k.json", PHRASE, clock), clock, ids)
    numbers = [new_number(rng) for _ in range(100)]
    for number in numbers:
        world.store(number)
    raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for number in numbers:
        for shape in (number.encode(), base64.b64encode(number.encode())[:20], number[:12].encode()):
            assert shape not in raw
