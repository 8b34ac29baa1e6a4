"""Personal tokens: what a person may do now, for a bounded time, and nothing secret shown or kept."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.clock import SystemClock
from vedette.core.db import Database, open_database
from vedette.core.errors import DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access import Access, IssuedToken, Kind, Level, Mode, Person, Role
from vedette.prove.access import access as access_module
from vedette.prove.access.access import MAX_CACHE_AGE
from vedette.prove.access.tables import MIGRATIONS
from vedette.prove.access.tokens import DEFAULT_LIFETIME_S, MAX_LIFETIME_S
from vedette.prove.audit import AuditRecord
from vedette.prove.dlp import scrub


@pytest.fixture
def seen() -> list[AuditRecord]:
    return []


@pytest.fixture
def access(db: Database, clock, ids: Ids, seen: list[AuditRecord]) -> Access:
    made = Access(db, clock, ids, observe=seen.append)
    made.create_tenant("acme")
    made.create_tenant("other")
    return made


@pytest.fixture
def ada(access: Access) -> Person:
    person = access.people.create("acme", "Ada", accounts=["m-1"])
    return access.people.grant("acme", person.id, Role.RISK, by="system")


@pytest.fixture
def issued(access: Access, ada: Person) -> IssuedToken:
    return access.issue_token("acme", ada.id, by=ada.id)


def roles(access: Access, issued: IssuedToken) -> frozenset[Role] | None:
    """The roles that the token gives, None when it is refused."""
    try:
        return access.authenticate(issued.secret).roles
    except DeniedError:
        return None


def test_a_token_is_the_person(access: Access, ada: Person, issued: IssuedToken, clock) -> None:
    principal = access.authenticate(issued.secret.reveal())
    assert principal == access.people.principal("acme", ada.id)
    assert (principal.kind, principal.mode, principal.roles) == (Kind.PERSON, None, {Role.RISK})
    assert issued.expires == clock.now() + DEFAULT_LIFETIME_S * 1_000_000
    access.authorize(principal, "payouts", "freeze", account="m-1")
    with pytest.raises(DeniedError):
        access.authorize(principal, "payouts", "freeze", account="m-2")
    with pytest.raises(DeniedError):
        access.authorize(principal, "keys", "write", account="m-1")


def test_only_the_hash_is_stored(db: Database, issued: IssuedToken, seen: list[AuditRecord], access: Access) -> None:
    secret = issued.secret.reveal()
    assert secret.startswith("vp_")
    assert len(secret) == 46
    with db.read() as connection:
        rows = connection.exec_driver_sql("select * from access_tokens").all()
    assert len(rows) == 1
    for shown in (repr(rows), repr(issued), repr(seen), repr(access.tokens("acme", seen[-1].detail["person"]))):
        assert secret[3:] not in shown
    assert scrub(f"Authorization: Bearer {secret}, again {secret[:20]}") == (
        "Authorization: Bearer vp_[masked], again vp_[masked]"
    )


def test_what_is_taken_away_is_gone_at_the_next_call(access: Access, ada: Person, issued: IssuedToken) -> None:
    assert roles(access, issued) == {Role.RISK}
    access.people.grant("acme", ada.id, Role.ANALYST, by="system")
    assert roles(access, issued) == {Role.RISK, Role.ANALYST}
    access.people.withdraw("acme", ada.id, Role.RISK, by="system")
    assert roles(access, issued) == {Role.ANALYST}
    access.people.disable("acme", ada.id, by="system")
    assert roles(access, issued) is None
    with pytest.raises(DeniedError):
        access.issue_token("acme", ada.id, by=ada.id)


@pytest.mark.parametrize("how", ["withdraw", "disable", "revoke"])
def test_another_process_believes_no_longer_than_stated(
    how: str, access: Access, issued: IssuedToken, db: Database, clock
) -> None:
    elsewhere = Access(db, clock, Ids(clock))
    (ada,) = access.people.list("acme")
    assert roles(elsewhere, issued) == {Role.RISK}
    after = {"withdraw": frozenset(), "disable": None, "revoke": None}[how]
    if how == "withdraw":
        access.people.withdraw("acme", ada.id, Role.RISK, by="system")
    elif how == "disable":
        access.people.disable("acme", ada.id, by="system")
    else:
        access.revoke_token("acme", issued.id)
    assert roles(access, issued) == after
    assert roles(elsewhere, issued) == {Role.RISK}
    clock.advance(MAX_CACHE_AGE)
    assert roles(elsewhere, issued) == after


def test_a_withdrawal_wins_over_a_read_in_flight(access: Access, ada: Person, issued: IssuedToken, monkeypatch) -> None:
    """A reader that saw the role must not cache it after the withdrawal."""
    read, withdrawn = threading.Event(), threading.Event()
    right = access_module.read_token

    def slow(*arguments):
        found = right(*arguments)
        if threading.current_thread() is worker:
            read.set()
            assert withdrawn.wait(300)
        return found

    monkeypatch.setattr(access_module, "read_token", slow)
    worker = threading.Thread(target=lambda: access.authenticate(issued.secret))
    worker.start()
    assert read.wait(300)
    access.people.withdraw("acme", ada.id, Role.RISK, by="system")
    withdrawn.set()
    worker.join()
    assert roles(access, issued) == frozenset()


def test_revocation_is_for_good_and_of_one_token(access: Access, ada: Person, issued: IssuedToken, clock) -> None:
    other = access.issue_token("acme", ada.id, by="system")
    assert roles(access, issued) == {Role.RISK}
    first = access.revoke_token("acme", issued.id).revoked
    assert roles(access, issued) is None
    clock.advance(1)
    assert access.revoke_token("acme", issued.id).revoked == first
    assert roles(access, issued) is None
    assert roles(access, other) == {Role.RISK}
    for tenant, token_id in (("other", other.id), ("acme", "tok_none"), ("acme", ada.id)):
        with pytest.raises(NotFoundError):
            access.revoke_token(tenant, token_id)
    clock.advance(MAX_CACHE_AGE)
    assert roles(access, other) == {Role.RISK}


def test_expiry_is_exact_even_when_cached(access: Access, ada: Person, clock) -> None:
    issued = access.issue_token("acme", ada.id, expires_s=0.5, by="system")
    clock.advance(0.499999)
    assert roles(access, issued) == {Role.RISK}
    clock.advance(0.000001)
    assert roles(access, issued) is None


@pytest.mark.parametrize("lasts", [0, -1, MAX_LIFETIME_S + 1, float("inf"), float("nan")])
def test_a_lifetime_is_bounded(access: Access, ada: Person, lasts: float) -> None:
    with pytest.raises(DefinitionError) as refused:
        access.issue_token("acme", ada.id, expires_s=lasts, by="system")
    assert refused.value.code == "access.token.lifetime"
    assert access.tokens("acme", ada.id) == []


def test_nobody_gets_a_token_in_somebody_elses_name(access: Access, ada: Person) -> None:
    """Else an admin, who may make people and give them roles, would have every role."""
    admin = access.people.create("acme", "Root")
    key = access.issue_key("acme", scopes={"charges": Level.READ}, mode=Mode.TEST).key
    for other in (admin.id, key.id):
        with pytest.raises(DeniedError) as refused:
            access.issue_token("acme", ada.id, by=other)
        assert refused.value.code == "access.token.other"
    for tenant, person in (("other", ada.id), ("acme", "per_none"), ("nobody", ada.id)):
        with pytest.raises(NotFoundError):
            access.issue_token(tenant, person, by="system")
        with pytest.raises(NotFoundError):
            access.tokens(tenant, person)


def test_tokens_are_listed_and_their_use_is_noted(access: Access, ada: Person, issued: IssuedToken, clock) -> None:
    clock.advance(1)
    later = access.issue_token("acme", ada.id, expires_s=60, by="system")
    access.authenticate(later.secret)
    access.revoke_token("acme", later.id)
    first, second = access.tokens("acme", ada.id)
    assert (first.id, first.issued_by, first.last_used, first.revoked) == (issued.id, ada.id, None, None)
    assert (second.id, second.issued_by, second.last_used, second.revoked) == (
        later.id,
        "system",
        clock.now(),
        clock.now(),
    )


def test_every_change_is_observed_once(access: Access, ada: Person, seen: list[AuditRecord]) -> None:
    del seen[:]
    issued = access.issue_token("acme", ada.id, by=ada.id)
    for _ in range(2):
        access.revoke_token("acme", issued.id, by="per_9")
        access.people.grant("acme", ada.id, Role.RISK, by="per_9")
        access.people.withdraw("acme", ada.id, Role.MODEL, by="per_9")
        access.people.disable("acme", ada.id, by="per_9")
    assert [(r.action, r.actor, r.actor_kind, r.target) for r in seen] == [
        ("tokens.issue", ada.id, "person", issued.id),
        ("tokens.revoke", "per_9", "person", issued.id),
        ("people.disable", "per_9", "person", ada.id),
    ]
    assert {r.detail.get("person", ada.id) for r in seen} == {ada.id}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Access:
    clock = SystemClock()
    return Access(open_database(tmp_path_factory.mktemp("empty") / "state.db"), clock, Ids(clock))


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=60))
def test_no_text_is_a_token_by_chance(empty: Access, text: str) -> None:
    for wrong in (text, f"vp_{text}", f"vk_live_{text}", "vp_" + text[:43].ljust(43, "a")):
        with pytest.raises(DeniedError):
            empty.authenticate(wrong)


def test_a_database_of_the_first_step_is_brought_up(db: Database, clock, ids: Ids) -> None:
    db.migrate("access", MIGRATIONS[:1])
    with db.begin() as connection:
        connection.exec_driver_sql("insert into access_tenants values ('acme', 'acme', 1)")
        connection.exec_driver_sql("insert into access_people values ('per_1', 'acme', 'Ada', '', 1, null)")
    access = Access(db, clock, ids)
    assert access.authenticate(access.issue_token("acme", "per_1", by="system").secret).id == "per_1"
    assert Access(db, clock, ids).tokens("acme", "per_1")[0].person == "per_1"
