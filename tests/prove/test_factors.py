"""The second factor: codes of RFC 6238, each taken once, and recovery codes, each taken once."""

from __future__ import annotations

import random
import threading
from base64 import b32decode
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from vedette.core.clock import SystemClock
from vedette.core.db import Database
from vedette.core.errors import ConflictError, DefinitionError, DeniedError, NotFoundError, TransientError
from vedette.core.ids import Ids
from vedette.prove.access import Access, Person, Role
from vedette.prove.access.factors import CODES, PENDING_S, Factors
from vedette.prove.audit import AuditRecord

RFC_KEY = b"12345678901234567890"
RFC_CODES = {59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037"}
"""RFC 6238 appendix B, SHA-1, the last six of eight digits."""


@pytest.fixture
def seen() -> list[AuditRecord]:
    return []


@pytest.fixture
def access(db: Database, clock, ids: Ids, seen: list[AuditRecord]) -> Access:
    made = Access(db, clock, ids, observe=seen.append, sealing=lambda: b"k" * 32)
    made.create_tenant("acme")
    return made


@pytest.fixture
def ada(access: Access) -> Person:
    person = access.people.create("acme", "Ada")
    return access.people.grant("acme", person.id, Role.RISK, by="system")


def code_at(key: str, clock, shift: int = 0) -> str:
    now = clock.now() // 1_000_000 + 30 * shift
    return TOTP(b32decode(key), 6, SHA1(), 30).generate(now).decode()


def enrolled(access: Access, person: Person, clock) -> tuple[str, list[str]]:
    """Key of a confirmed authenticator, and the recovery codes."""
    pending = access.factors.enrol("acme", person.id, "ada")
    key = pending.key.reveal()
    codes = access.factors.confirm("acme", person.id, code_at(key, clock))
    clock.advance(30)
    return key, [code.reveal() for code in codes]


def refused(call, *args) -> str:
    try:
        call(*args)
    except (DeniedError, TransientError) as error:
        return error.code
    return ""


@pytest.mark.parametrize(("second", "code"), RFC_CODES.items())
def test_codes_of_the_rfc(access: Access, ada: Person, clock, monkeypatch, second, code) -> None:  # noqa: PLR0917
    monkeypatch.setattr(Factors, "_open", lambda self, person, sealed: RFC_KEY)
    clock.micros = 1
    access.factors.enrol("acme", ada.id, "ada")
    clock.micros = second * 1_000_000
    monkeypatch.setattr("vedette.prove.access.factors.PENDING_S", 1e12)
    assert len(access.factors.confirm("acme", ada.id, code)) == CODES


def test_setting_up(access: Access, ada: Person, clock, seen) -> None:
    pending = access.factors.enrol("acme", ada.id, "ada")
    again = access.factors.enrol("acme", ada.id, "ada")
    assert again.key == pending.key, "a reload shows the same picture"
    uri = urlsplit(pending.uri.reveal())
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/Vedette:ada")
    assert parse_qs(uri.query)["secret"] == [pending.key.reveal()]
    assert access.factors.state("acme", ada.id).pending
    assert not access.factors.state("acme", ada.id).any
    assert refused(access.factors.confirm, "acme", ada.id, "000000") == "access.code.refused"
    codes = access.factors.confirm("acme", ada.id, code_at(pending.key.reveal(), clock))
    state = access.factors.state("acme", ada.id)
    assert (state.authenticator, state.pending, state.codes) == (True, False, CODES)
    assert len({code.reveal() for code in codes}) == CODES
    with pytest.raises(ConflictError):
        access.factors.confirm("acme", ada.id, "000000")
    assert [record.action for record in seen if record.action.startswith("factors")] == [
        "factors.enrol",
        "factors.confirm",
        "factors.confirm",
    ]


def test_what_nobody_confirms_is_offered_for_half_an_hour(access: Access, ada: Person, clock) -> None:
    first = access.factors.enrol("acme", ada.id, "ada")
    clock.advance(PENDING_S)
    with pytest.raises(ConflictError):
        access.factors.confirm("acme", ada.id, code_at(first.key.reveal(), clock))
    assert access.factors.enrol("acme", ada.id, "ada").key != first.key


def test_a_code_is_taken_once_and_never_an_older_one(access: Access, ada: Person, clock) -> None:
    key, _ = enrolled(access, ada, clock)
    now, before = code_at(key, clock), code_at(key, clock, -1)
    access.factors.prove("acme", ada.id, now)
    assert refused(access.factors.prove, "acme", ada.id, now) == "access.code.refused"
    assert refused(access.factors.prove, "acme", ada.id, before) == "access.code.refused"
    clock.advance(30)
    access.factors.prove("acme", ada.id, f" {code_at(key, clock)[:3]} {code_at(key, clock)[3:]} ")


def test_the_code_of_the_enrolment_is_used_up_too(access: Access, ada: Person, clock) -> None:
    pending = access.factors.enrol("acme", ada.id, "ada")
    code = code_at(pending.key.reveal(), clock)
    access.factors.confirm("acme", ada.id, code)
    assert refused(access.factors.prove, "acme", ada.id, code) == "access.code.refused"


@pytest.mark.parametrize(("shift", "fits"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_off_by_one_step(access: Access, ada: Person, clock, shift: int, fits: bool) -> None:
    key, _ = enrolled(access, ada, clock)
    clock.advance(300)
    assert (refused(access.factors.prove, "acme", ada.id, code_at(key, clock, shift)) == "") is fits


def test_guesses_wait(access: Access, ada: Person, clock) -> None:
    key, codes = enrolled(access, ada, clock)
    for _ in range(4):
        assert refused(access.factors.prove, "acme", ada.id, "000000") == "access.code.refused"
    assert refused(access.factors.prove, "acme", ada.id, code_at(key, clock)) == "access.login.throttled"
    assert refused(access.factors.prove, "acme", ada.id, codes[0]) == "access.login.throttled"
    clock.advance(1)
    assert refused(access.factors.prove, "acme", ada.id, code_at(key, clock)) == ""


def test_recovery_codes_are_used_once_and_of_one_person(access: Access, ada: Person, clock, db: Database, seen) -> None:
    _, codes = enrolled(access, ada, clock)
    bob = access.people.create("acme", "Bob")
    assert refused(access.factors.prove, "acme", bob.id, codes[0]) == "access.code.refused"
    access.factors.prove("acme", ada.id, codes[0].upper().replace("-", " "))
    assert refused(access.factors.prove, "acme", ada.id, codes[0]) == "access.code.refused"
    assert access.factors.state("acme", ada.id).codes == CODES - 1
    fresh = access.factors.issue_codes("acme", ada.id, by=ada.id)
    assert refused(access.factors.prove, "acme", ada.id, codes[1]) == "access.code.refused"
    access.factors.prove("acme", ada.id, fresh[0].reveal())
    with db.read() as connection:
        rows = repr(connection.exec_driver_sql("select * from access_codes").all())
    for code in (*codes, *(each.reveal() for each in fresh)):
        assert code not in rows + repr(seen) + repr(fresh)
        assert code.replace("-", "") not in rows
    assert {"codes.use", "codes.issue", "factors.confirm"} <= {record.action for record in seen}


def test_nobody_gets_codes_in_somebody_elses_name(access: Access, ada: Person) -> None:
    bob = access.people.create("acme", "Bob")
    with pytest.raises(DeniedError) as error:
        access.factors.issue_codes("acme", ada.id, by=bob.id)
    assert error.value.code == "access.codes.other"
    access.people.disable("acme", ada.id, by="system")
    with pytest.raises(DeniedError):
        access.factors.issue_codes("acme", ada.id, by="system")
    with pytest.raises(NotFoundError):
        access.factors.issue_codes("acme", "per_none", by="system")


def test_an_authenticator_stays_in_force_until_the_next_one_is(access: Access, ada: Person, clock) -> None:
    key, _ = enrolled(access, ada, clock)
    new = access.factors.enrol("acme", ada.id, "ada")
    access.factors.prove("acme", ada.id, code_at(key, clock))
    clock.advance(30)
    access.factors.confirm("acme", ada.id, code_at(new.key.reveal(), clock))
    clock.advance(30)
    assert refused(access.factors.prove, "acme", ada.id, code_at(key, clock)) == "access.code.refused"
    access.factors.prove("acme", ada.id, code_at(new.key.reveal(), clock))


def test_a_session_of_who_has_an_authenticator_waits_for_it(access: Access, ada: Person, clock) -> None:
    before = access.sessions.open("acme", ada.id)
    assert access.sessions.find(before.secret.reveal()).complete
    enrolled(access, ada, clock)
    live = access.sessions.find(before.secret.reveal())
    assert (live.has_factor, live.complete, live.fresh) == (True, False, False)
    assert access.sessions.find(access.sessions.open("acme", ada.id, proven=True).secret.reveal()).complete


def test_keys_are_sealed_for_one_person(access: Access, ada: Person, clock, db: Database, ids) -> None:
    key, _ = enrolled(access, ada, clock)
    with db.begin() as connection:
        sealed = connection.exec_driver_sql("select sealed from access_factors").scalar()
        assert b32decode(key) not in bytes(sealed)
    bob = access.people.create("acme", "Bob")
    with pytest.raises(DefinitionError):
        access.factors._open(bob.id, bytes(sealed))
    moved = Access(db, clock, ids, sealing=lambda: b"x" * 32)
    with pytest.raises(DefinitionError) as error:
        moved.factors.prove("acme", ada.id, code_at(key, clock))
    assert error.value.code == "access.factor.sealing"
    with pytest.raises(DefinitionError):
        Access(db, clock, ids).factors.enrol("acme", bob.id, "bob")


def test_one_code_sent_many_times_at_once_is_taken_once(db: Database) -> None:
    clock = SystemClock()
    access = Access(db, clock, Ids(clock), sealing=lambda: b"k" * 32)
    access.create_tenant("acme")
    person = access.people.create("acme", "Ada")
    codes = access.factors.issue_codes("acme", person.id, by="system")
    taken = []

    def use() -> None:
        taken.append(refused(access.factors.prove, "acme", person.id, codes[0].reveal()))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count("") == 1


def test_random_guesses_never_fit(access: Access, ada: Person, clock, rng: random.Random) -> None:
    key, _ = enrolled(access, ada, clock)
    right = {code_at(key, clock, shift) for shift in (-1, 0, 1)}
    for _ in range(200):
        guess = f"{rng.randrange(10**6):06}"
        clock.advance(3_600 * 24 + 1)
        right = {code_at(key, clock, shift) for shift in (-1, 0, 1)}
        assert (refused(access.factors.prove, "acme", ada.id, guess) == "") is (guess in right)


@pytest.mark.parametrize("junk", ["", " ", "12345", "1234567", "١٢٣٤٥٦", "a" * 10_000, "\ud800", "1e5123"])
def test_junk_is_refused(access: Access, ada: Person, clock, junk: str) -> None:
    enrolled(access, ada, clock)
    assert refused(access.factors.prove, "acme", ada.id, junk) == "access.code.refused"
