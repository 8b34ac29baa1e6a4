"""Logging in: one answer for every refusal, guesses that wait, one-time passwords that are used once."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.db import Database, open_database
from vedette.core.errors import DataError, DeniedError, TransientError
from vedette.core.ids import Ids
from vedette.prove.access import Access, Person, Role
from vedette.prove.access import passwords as passwords_module
from vedette.prove.access import throttle as throttle_module
from vedette.prove.access.logins import ONE_TIME_S
from vedette.prove.access.passwords import Passwords, check_password
from vedette.prove.access.throttle import FORGET_S, PERSON, origin_counter
from vedette.prove.audit import AuditRecord

GOOD = "seven grey herons stood 7 deep"
HERE = "198.51.100.7"


@pytest.fixture
def seen() -> list[AuditRecord]:
    return []


@pytest.fixture
def access(db: Database, clock, ids: Ids, seen: list[AuditRecord]) -> Access:
    made = Access(db, clock, ids, observe=seen.append, sealing=lambda: b"k" * 32)
    made.create_tenant("acme")
    made.create_tenant("other")
    return made


@pytest.fixture
def ada(access: Access) -> Person:
    person = access.people.create("acme", "Ada Byron")
    return access.people.grant("acme", person.id, Role.RISK, by="system")


def with_password(access: Access, person: Person, password: str = GOOD) -> str:
    """Login name of a person who has set a password of their own."""
    issued = access.logins.issue(person.tenant, person.id, by="system")
    first = access.logins.log_in(issued.login, issued.password.reveal())
    access.logins.change(access.sessions.find(first.secret.reveal()), "", password)
    return issued.login


def code_of(call, *args, **more) -> str:
    try:
        call(*args, **more)
    except (DeniedError, TransientError, DataError) as error:
        return error.code
    return ""


def test_a_one_time_password_lets_in_once_and_only_to_set_another(access: Access, ada: Person, clock, seen) -> None:
    issued = access.logins.issue("acme", ada.id, by="system")
    assert issued.login == "ada.byron"
    assert issued.password.reveal() not in repr(issued)
    first = access.logins.log_in(" ADA.Byron ", issued.password.reveal(), origin=HERE)
    live = access.sessions.find(first.secret.reveal())
    assert (live.must_change, live.complete) == (True, False)
    assert code_of(access.logins.log_in, issued.login, issued.password.reveal()) == "access.login.refused"
    later = access.logins.change(live, "", GOOD)
    assert access.sessions.find(first.secret.reveal()) is None
    assert access.sessions.find(later.secret.reveal()).complete
    assert access.sessions.find(access.logins.log_in("ada.byron", GOOD).secret.reveal()).complete
    actions = [(record.action, str(record.outcome)) for record in seen if record.action != "people.grant"]
    assert ("passwords.issue", "success") in actions
    assert ("passwords.change", "success") in actions
    assert ("sessions.open", "denied") in actions
    told = repr(seen)
    assert GOOD not in told
    assert issued.password.reveal() not in told


def test_a_one_time_password_expires(access: Access, ada: Person, clock) -> None:
    issued = access.logins.issue("acme", ada.id, by="system")
    clock.advance(ONE_TIME_S)
    assert code_of(access.logins.log_in, issued.login, issued.password.reveal()) == "access.login.refused"


def test_issuing_one_ends_the_old_password_and_every_session(access: Access, ada: Person) -> None:
    login = with_password(access, ada)
    opened = access.logins.log_in(login, GOOD)
    again = access.logins.issue("acme", ada.id, by="system")
    assert again.login == login
    assert access.sessions.find(opened.secret.reveal()) is None
    assert code_of(access.logins.log_in, login, GOOD) == "access.login.refused"


def test_nobody_resets_their_own_and_a_disabled_person_gets_none(access: Access, ada: Person) -> None:
    assert code_of(access.logins.issue, "acme", ada.id, by=ada.id) == "access.password.self"
    login = with_password(access, ada)
    access.people.disable("acme", ada.id, by="system")
    assert code_of(access.logins.issue, "acme", ada.id, by="system") == "access.person.invalid"
    assert code_of(access.logins.log_in, login, GOOD) == "access.login.refused"


def test_names_are_of_the_installation_and_differ(access: Access, ada: Person) -> None:
    logins = set()
    for tenant, name in (("acme", "Ada Byron"), ("other", "ada byron"), ("acme", "Åda Byron"), ("acme", "東京")):
        person = access.people.create(tenant, name)
        logins.add(access.logins.issue(tenant, person.id, by="system").login)
    assert logins == {"ada.byron", "ada.byron2", "ada.byron3", "person"}
    assert {state.login for state in access.logins.states("other").values()} == {"ada.byron2"}


def test_every_refusal_is_the_same_and_verifies_a_password(access: Access, ada: Person, monkeypatch, clock) -> None:
    login = with_password(access, ada)
    other = access.people.create("acme", "Gone")
    gone = with_password(access, other)
    access.people.disable("acme", other.id, by="system")
    verified = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda self, kept, sent: verified.append(sent) or verify(self, kept, sent)
    )
    told = set()
    for name, password in ((login, "wrong"), ("nobody", GOOD), (gone, GOOD), ("", ""), (login, "x" * 5_000)):
        clock.advance(FORGET_S)
        with pytest.raises(DeniedError) as refused:
            access.logins.log_in(name, password, origin=HERE)
        told.add(str(refused.value))
    assert len(told) == 1
    assert len(verified) == 5


def test_the_verification_of_unknown_names_would_be_missed(access: Access, monkeypatch) -> None:
    """Planted: unknown names are refused without any work; the count of verifications tells."""
    verified = []
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, kept, sent: verified.append(sent))
    monkeypatch.setattr(Passwords, "fits", lambda self, kept, password: kept is not None)
    assert code_of(access.logins.log_in, "nobody", GOOD) == "access.login.refused"
    assert verified == []


def test_failures_wait_longer_and_longer(access: Access, ada: Person, clock) -> None:
    login = with_password(access, ada)
    waits = []
    while len(waits) < 12:
        with pytest.raises((DeniedError, TransientError)) as stopped:
            access.logins.log_in(login, "wrong", origin=f"10.0.0.{len(waits)}")
        if stopped.value.code == "access.login.throttled":
            waits.append(stopped.value.retry_after)
            clock.advance(stopped.value.retry_after)
    assert waits == [1, 2, 4, 8, 16, 32, 1800, 1800, 1800, 1800, 1800, 1800]
    assert access.sessions.find(access.logins.log_in(login, GOOD).secret.reveal())
    assert code_of(access.logins.log_in, login, "wrong") == "access.login.refused", "a right one forgives"


def test_while_it_waits_even_the_right_password_is_not_looked_at(access: Access, ada: Person, clock, db, ids) -> None:
    login = with_password(access, ada)
    for _ in range(4):
        assert code_of(access.logins.log_in, login, "wrong") == "access.login.refused"
    assert code_of(access.logins.log_in, login, GOOD) == "access.login.throttled"
    restarted = Access(db, clock, ids)
    assert code_of(restarted.logins.log_in, login, GOOD) == "access.login.throttled"
    clock.advance(PERSON.wait(4))
    assert code_of(restarted.logins.log_in, login, GOOD) == ""


def test_unknown_names_wait_like_known_ones(access: Access) -> None:
    codes = [code_of(access.logins.log_in, "nobody", "wrong", origin=f"10.0.0.{n}") for n in range(6)]
    assert codes == ["access.login.refused"] * 4 + ["access.login.throttled"] * 2


def test_one_origin_that_tries_many_names_waits(access: Access, ada: Person) -> None:
    login = with_password(access, ada)
    codes = [code_of(access.logins.log_in, f"name{n}", "wrong", origin=HERE) for n in range(25)]
    assert codes[:21] == ["access.login.refused"] * 21
    assert set(codes[21:]) == {"access.login.throttled"}
    assert code_of(access.logins.log_in, login, GOOD, origin=HERE) == "access.login.throttled"
    assert code_of(access.logins.log_in, login, GOOD, origin="203.0.113.9") == ""


def test_an_ipv6_network_is_one_origin() -> None:
    assert origin_counter("2001:db8::1") == origin_counter("2001:db8::ffff:1")
    assert origin_counter("2001:db8::1") != origin_counter("2001:db8:0:1::1")
    assert origin_counter("::ffff:10.0.0.1") == origin_counter("10.0.0.1")
    assert origin_counter("not an address \ud800") != origin_counter("10.0.0.1")


def test_origins_are_bounded_and_people_are_kept(access: Access, ada: Person, monkeypatch, clock, db) -> None:
    monkeypatch.setattr(throttle_module, "MAX_ORIGINS", 3)
    login = with_password(access, ada)
    assert code_of(access.logins.log_in, login, "wrong", origin="10.1.0.1") == "access.login.refused"
    for n in range(8):
        clock.advance(1)
        code_of(access.logins.log_in, f"name{n}", "wrong", origin=f"10.0.0.{n}")
    with db.read() as connection:
        subjects = set(connection.exec_driver_sql("select subject from access_throttles").scalars())
    assert {each for each in subjects if each.startswith("origin:")} == {f"origin:10.0.0.{n}" for n in (5, 6, 7)}
    assert f"person:{ada.id}" in subjects
    clock.advance(FORGET_S + 1)
    assert access.sweep() == len(subjects)


def test_right_logins_cost_their_origin_nothing(access: Access, ada: Person, db) -> None:
    login = with_password(access, ada)
    code_of(access.logins.log_in, "nobody", "wrong", origin=HERE)
    for _ in range(3):
        access.logins.log_in(login, GOOD, origin=HERE)
    with db.read() as connection:
        rows = connection.exec_driver_sql("select subject, failures from access_throttles").all()
    counts = {row.subject: row.failures for row in rows}
    assert counts[f"origin:{HERE}"] == 1, "the wrong one still counts"
    assert f"person:{ada.id}" not in counts


def test_unknown_names_share_few_counts(access: Access, monkeypatch, db) -> None:
    monkeypatch.setattr(throttle_module, "NAMES", 2)
    for n in range(8):
        code_of(access.logins.log_in, f"name{n}", "wrong", origin=f"10.0.0.{n}")
    with db.read() as connection:
        subjects = connection.exec_driver_sql("select subject from access_throttles").scalars().all()
    assert 1 <= len([each for each in subjects if each.startswith("name:")]) <= 2


def test_guesses_at_the_same_moment_are_counted_one_by_one(db: Database, clock) -> None:
    """The check and the count are one transaction: of 16 guesses sent together no more are looked at than may be."""
    access = Access(db, clock, Ids(clock))
    access.create_tenant("acme")
    person = access.people.create("acme", "Ada")
    login = with_password(access, person)
    codes: list[str] = []

    def guess(number: int) -> None:
        codes.append(code_of(access.logins.log_in, login, f"wrong {number}", origin=f"10.0.0.{number}"))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    looked_at = codes.count("access.login.refused") + codes.count("access.login.busy")
    assert 1 <= looked_at <= 4
    assert len(codes) == 16
    assert set(codes) <= {
        "access.login.refused",
        "access.login.throttled",
        "access.login.busy",
        "core.db.unavailable",
    }


def test_the_race_would_be_found(access: Access, ada: Person, monkeypatch) -> None:
    """Planted: counting after looking. Then nothing stops guesses that are already on their way."""
    login = with_password(access, ada)
    monkeypatch.setattr(access.logins._throttle, "take", lambda *_counters: None)
    codes = [code_of(access.logins.log_in, login, f"wrong {n}") for n in range(12)]
    assert codes.count("access.login.refused") == 12


def test_a_password_kept_with_other_parameters_is_hashed_again(access: Access, ada: Person, monkeypatch, db) -> None:
    monkeypatch.setattr(passwords_module, "PASSES", 1)
    weak = Access(db, access._clock, access._ids)
    login = with_password(weak, ada)

    def kept() -> str:
        with db.read() as connection:
            return connection.exec_driver_sql("select hash from access_passwords").scalar()

    assert ",t=1," in kept()
    access.logins.log_in(login, GOOD)
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in kept()
    access.logins.log_in(login, GOOD)


def test_the_last_four_passwords_do_not_come_back(access: Access, ada: Person) -> None:
    login = with_password(access, ada)

    def change(current: str, wanted: str) -> str:
        live = access.sessions.find(access.logins.log_in(login, current).secret.reveal())
        return code_of(access.logins.change, live, current, wanted)

    words = [GOOD, *(f"{GOOD} {n}" for n in range(4))]
    for before, after in pairwise(words):
        assert change(before, before) == "access.password.earlier"
        assert change(before, after) == ""
    assert change(words[4], words[1]) == "access.password.earlier"
    assert change(words[4], GOOD) == ""


def test_changing_needs_the_password_until_now_and_ends_the_other_sessions(access: Access, ada: Person) -> None:
    login = with_password(access, ada)
    mine, other = (access.logins.log_in(login, GOOD).secret.reveal() for _ in range(2))
    live = access.sessions.find(mine)
    assert code_of(access.logins.change, live, "wrong", "another 1 of these") == "access.login.refused"
    assert access.sessions.find(other)
    access.logins.change(live, GOOD, "another 1 of these")
    assert access.sessions.find(mine) is None
    assert access.sessions.find(other) is None


@pytest.mark.parametrize(
    "weak",
    [
        "",
        "short 1",
        "onlyletterslong",
        "123456789012",
        "aaaaaaaaaaa1",
        "ada.byron 12345",
        "my vedette 1 pass",
        "x1" * 200,
        "tab\t 1 within it",
    ],
)
def test_weak_passwords(weak: str) -> None:
    with pytest.raises(DataError, match=r"access\.password\.weak"):
        check_password(weak, "ada.byron", "Ada", "Byron")


def test_strong_passwords() -> None:
    for strong in (GOOD, "Ægir 9 rows north", "東京タワーは333メートルです", "x" * 7 + "12345"):
        check_password(strong, "ada.byron", "Ada", "Byron")


@given(st.text(max_size=80))
@settings(max_examples=25, deadline=None)
def test_any_text_is_a_password_or_refused_and_fits_itself_only(text: str) -> None:
    keeper = Passwords()
    kept = keeper.hash(text)
    assert keeper.fits(kept, text)
    assert not keeper.fits(kept, text + "x")
    assert not keeper.fits(None, text)


def test_hashing_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(passwords_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(passwords_module, "AT_ONCE", 1)
    keeper = Passwords()
    with keeper._turn(), pytest.raises(TransientError, match=r"access\.login\.busy"):
        keeper.hash(GOOD)
    assert keeper.hash(GOOD)


def test_nothing_secret_is_kept(access: Access, ada: Person, db: Database) -> None:
    issued = access.logins.issue("acme", ada.id, by="system")
    opened = access.logins.log_in(issued.login, issued.password.reveal())
    with db.read() as connection:
        rows = [
            repr(connection.exec_driver_sql(f"select * from access_{table}").all())
            for table in ("passwords", "sessions", "throttles")
        ]
    for row in rows:
        assert issued.password.reveal() not in row
        assert opened.secret.reveal() not in row


def test_who_can_log_in_is_known(access: Access, ada: Person) -> None:
    assert access.logins.nobody()
    access.logins.issue("acme", ada.id, by="system")
    assert not access.logins.nobody()
    assert access.logins.states("acme")[ada.id].one_time
    with_password(access, ada)
    assert not access.logins.states("acme")[ada.id].one_time
    access.people.disable("acme", ada.id, by="system")
    assert access.logins.nobody()


def test_a_home_of_the_version_before_gets_its_tables(tmp_path, clock, ids) -> None:
    from vedette.prove.access.tables import MIGRATIONS

    database = open_database(tmp_path / "state.db")
    database.migrate("access", MIGRATIONS[:2])
    access = Access(database, clock, ids)
    access.create_tenant("acme")
    person = access.people.create("acme", "Ada")
    assert with_password(access, person) == "ada"
    database.close()
