"""API keys, people and the policy: denied by default, revoked at the next call, and nothing secret shown."""

from __future__ import annotations

import pickle
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.db import Database
from vedette.core.errors import ConflictError, DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access import POLICY, Access, Kind, Level, Mode, Need, Principal, Role, permit
from vedette.prove.access.access import MAX_CACHE_AGE
from vedette.prove.access.policy import RESOURCES, format_scopes, parse_scopes
from vedette.prove.audit import AuditRecord, Outcome, to_log

WRITE = {"charges": Level.WRITE, "decisions": Level.READ}


@pytest.fixture
def seen() -> list[AuditRecord]:
    return []


@pytest.fixture
def access(db: Database, clock, ids: Ids, seen: list[AuditRecord]) -> Access:
    made = Access(db, clock, ids, observe=seen.append)
    made.create_tenant("acme")
    made.create_tenant("other")
    return made


def denied(access: Access, secret: object) -> bool:
    try:
        access.authenticate(secret)
    except DeniedError as error:
        return error.code == "access.key.invalid"
    return False


def test_key_is_proven_and_bound(access: Access) -> None:
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.TEST, name="shop", accounts=["m-1"])
    assert issued.secret.reveal().startswith("vk_test_")
    principal = access.authenticate(issued.secret)
    assert (principal.tenant, principal.id, principal.kind, principal.mode) == (
        "acme",
        issued.key.id,
        Kind.KEY,
        Mode.TEST,
    )
    access.authorize(principal, "charges", "write", tenant="acme", account="m-1", mode=Mode.TEST)
    access.authorize(principal, "charges", "read", account="m-1")
    for resource, verb, more in [
        ("charges", "write", {"account": "m-2"}),
        ("charges", "write", {}),
        ("charges", "write", {"account": "m-1", "tenant": "other"}),
        ("charges", "write", {"account": "m-1", "mode": Mode.LIVE}),
        ("decisions", "write", {"account": "m-1"}),
        ("payouts", "read", {"account": "m-1"}),
        ("payouts", "approve", {"account": "m-1"}),
        ("keys", "write", {"account": "m-1"}),
        ("nonsense", "read", {"account": "m-1"}),
    ]:
        with pytest.raises(DeniedError) as caught:
            access.authorize(principal, resource, verb, **more)
        assert caught.value.code == "access.denied"
        with pytest.raises(NotFoundError):
            access.authorize(principal, resource, verb, hide=True, **more)


def test_only_the_hash_is_stored(access: Access, db: Database) -> None:
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE)
    secret = issued.secret.reveal()
    with db.read() as connection:
        rows = connection.exec_driver_sql("select * from access_keys").all()
    assert secret not in repr(rows)
    assert secret[8:] not in repr(rows)
    for shown in (repr(issued), str(issued), f"{issued.secret}", f"{issued.secret!r:>50}", repr(access.keys("acme"))):
        assert secret not in shown
    with pytest.raises(TypeError):
        pickle.dumps(issued.secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(issued.secret)


@pytest.mark.parametrize(
    "wrong", ["", "vk_live_", "vk_test_" + "a" * 43, "x" * 51, "vk_live_" + "é" * 43, "vk_live_" + "a" * 10**6]
)
def test_unknown_secrets_are_refused(access: Access, wrong: str, seen: list[AuditRecord]) -> None:
    assert denied(access, wrong)
    assert seen[-1].outcome is Outcome.DENIED
    assert seen[-1].actor == seen[-1].actor_kind == "unknown"


def test_revocation_is_at_once_here_and_bounded_elsewhere(access: Access, db: Database, clock, ids: Ids) -> None:
    elsewhere = Access(db, clock, ids)
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE)
    access.authenticate(issued.secret)
    elsewhere.authenticate(issued.secret)
    first = access.revoke_key("acme", issued.key.id).revoked
    assert denied(access, issued.secret)
    elsewhere.authenticate(issued.secret)  # within the stated bound
    clock.advance(MAX_CACHE_AGE)
    assert denied(elsewhere, issued.secret)
    assert access.revoke_key("acme", issued.key.id).revoked == first
    assert denied(access, issued.secret)


def test_revocation_wins_over_a_read_in_flight(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that saw the key alive must not cache it after the revocation."""
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE)
    read, revoked = threading.Event(), threading.Event()
    original = access._db.read

    def slow_read():
        context = original()

        class Wrapped:
            def __enter__(self):
                return context.__enter__()

            def __exit__(self, *error):
                done = context.__exit__(*error)
                if threading.current_thread() is worker:
                    read.set()
                    assert revoked.wait(300)
                return done

        return Wrapped()

    monkeypatch.setattr(access._db, "read", slow_read)
    worker = threading.Thread(target=lambda: access.authenticate(issued.secret))
    worker.start()
    assert read.wait(300)
    access.revoke_key("acme", issued.key.id)
    revoked.set()
    worker.join()
    assert denied(access, issued.secret)


def test_expiry_is_exact_even_when_cached(access: Access, clock) -> None:
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE, expires=clock.now() + 500_000)
    access.authenticate(issued.secret)
    clock.advance(0.499999)
    access.authenticate(issued.secret)
    clock.advance(0.000001)
    assert denied(access, issued.secret)


def test_roll_overlaps_then_ends_the_old_key(access: Access, clock) -> None:
    old = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE, name="shop", accounts=["m-1"])
    new = access.roll_key("acme", old.key.id, overlap=60)
    assert new.secret != old.secret
    assert (new.key.scopes, new.key.mode, new.key.accounts, new.key.rolled_from) == (
        WRITE,
        Mode.LIVE,
        {"m-1"},
        old.key.id,
    )
    clock.advance(59)
    access.authenticate(old.secret)
    access.authenticate(new.secret)
    clock.advance(1)
    assert denied(access, old.secret)
    access.authenticate(new.secret)
    with pytest.raises(ConflictError):
        access.roll_key("acme", old.key.id)
    with pytest.raises(DefinitionError):
        access.roll_key("acme", new.key.id, overlap=-1)
    last = access.roll_key("acme", new.key.id)
    assert denied(access, new.secret)
    access.authenticate(last.secret)


def test_tenants_do_not_see_each_other(access: Access) -> None:
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE)
    person = access.people.create("acme", "Ada")
    assert access.keys("other") == []
    assert access.people.list("other") == []
    for call in (
        lambda: access.revoke_key("other", issued.key.id),
        lambda: access.roll_key("other", issued.key.id),
        lambda: access.key("other", issued.key.id),
        lambda: access.people.get("other", person.id),
        lambda: access.people.grant("other", person.id, Role.ADMIN, by="system"),
        lambda: access.issue_key("nobody", scopes=WRITE, mode=Mode.TEST),
    ):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(DeniedError):
        access.people.principal("other", person.id)
    access.authenticate(issued.secret)


def test_last_used_is_written_by_flush(access: Access, clock) -> None:
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE)
    assert access.key("acme", issued.key.id).last_used is None
    access.authenticate(issued.secret)
    access.flush()
    assert access.key("acme", issued.key.id).last_used == clock.now()


def test_people_have_what_their_roles_give(access: Access) -> None:
    ada = access.people.create("acme", "Ada")
    with pytest.raises(DeniedError):
        access.authorize(access.people.principal("acme", ada.id), "alerts", "read")
    access.people.grant("acme", ada.id, Role.ANALYST, by="system")
    access.people.grant("acme", ada.id, Role.ANALYST, by="system")
    principal = access.people.principal("acme", ada.id)
    access.authorize(principal, "alerts", "write", tenant="acme")
    with pytest.raises(DeniedError):
        access.authorize(principal, "payouts", "freeze", tenant="acme")
    access.people.withdraw("acme", ada.id, Role.ANALYST, by="system")
    with pytest.raises(DeniedError):
        access.authorize(access.people.principal("acme", ada.id), "alerts", "write")
    with pytest.raises(DeniedError):
        access.people.grant("acme", ada.id, Role.ADMIN, by=ada.id)
    access.people.disable("acme", ada.id, by="system")
    with pytest.raises(DeniedError):
        access.people.principal("acme", ada.id)


def test_every_decision_and_change_is_observed(access: Access, seen: list[AuditRecord]) -> None:
    issued = access.issue_key("acme", scopes=WRITE, mode=Mode.LIVE, by="per_1")
    principal = access.authenticate(issued.secret)
    access.authorize(principal, "charges", "write", target="ch_1", origin="192.0.2.1")
    with pytest.raises(DeniedError):
        access.authorize(principal, "payouts", "write")
    access.revoke_key("acme", issued.key.id, by="per_1")
    access.revoke_key("acme", issued.key.id, by="per_1")
    got = [(r.actor_kind, r.action, r.outcome.value, r.code) for r in seen[2:]]
    assert got == [
        ("person", "keys.issue", "success", ""),
        ("key", "charges.write", "success", ""),
        ("key", "payouts.write", "denied", "access.scope"),
        ("person", "keys.revoke", "success", ""),
    ]
    assert (seen[3].target, seen[3].origin, seen[3].actor) == ("ch_1", "192.0.2.1", issued.key.id)
    assert issued.secret.reveal() not in repr(seen)


def test_audit_record_is_scrubbed_on_its_way_to_the_log() -> None:
    written: list[tuple[str, str, bytes]] = []

    class Sink:
        def append(self, topic, key, values):
            written.extend((topic, key, value) for value in values)
            return 0

    card = "4242 4242 4242 4242"
    to_log(Sink())(
        AuditRecord(
            id="aud_1",
            tenant="acme",
            time=1,
            actor=f"x{card}",
            actor_kind="unknown",
            action="keys.authenticate",
            target="a" * 250 + card,
            origin=card,
            detail={card: "vk_live_" + "a" * 43},
        )
    )
    topic, key, value = written[0]
    assert (topic, key) == ("audit", "acme")
    assert b"4242" not in value
    assert b"aaaa" * 10 in value
    assert b"vk_live_aaa" not in value
    assert msgspec.json.decode(value, type=AuditRecord).id == "aud_1"


# The policy as a table


@given(
    st.sampled_from(sorted(RESOURCES | {"nonsense"})),
    st.sampled_from(["read", "write", "approve", "run", "freeze", "revoke", "delete"]),
    st.sets(st.sampled_from(list(Role))),
    st.dictionaries(st.sampled_from(sorted(RESOURCES)), st.sampled_from(list(Level))),
    st.booleans(),
)
def test_policy_against_a_plain_model(resource, verb, roles, scopes, is_key) -> None:
    principal = Principal(
        "t",
        "p",
        Kind.KEY if is_key else Kind.PERSON,
        roles=frozenset(roles),
        scopes=scopes,
        mode=Mode.LIVE if is_key else None,
    )
    need = POLICY.get((resource, verb))
    if need is None:
        expected = False
    elif is_key:
        expected = need.key and scopes.get(resource, 0) >= (1 if verb == "read" else 2)
    else:
        expected = any(role in need.roles for role in roles)
    assert (permit(principal, resource, verb) == "") is expected


def test_no_key_approves_and_admin_moves_no_money() -> None:
    full = dict.fromkeys(RESOURCES, Level.WRITE)
    key = Principal("t", "k", Kind.KEY, scopes=full, mode=Mode.LIVE)
    admin = Principal("t", "a", Kind.PERSON, roles=frozenset({Role.ADMIN}))
    for resource, verb in POLICY:
        if verb in {"approve", "freeze"} or resource in {"keys", "people", "settings"}:
            assert permit(key, resource, verb)
        if resource in {"charges", "refunds", "payouts", "ledger"}:
            assert permit(admin, resource, verb)


def test_a_policy_that_allows_by_default_would_be_caught() -> None:
    class Open(dict):
        def get(self, key, default=None):
            return Need(key=True, roles=frozenset(Role))

    key = Principal("t", "k", Kind.KEY, scopes={"nonsense": Level.WRITE})
    assert permit(key, "nonsense", "write") == "policy"
    assert permit(key, "nonsense", "write", policy=Open()) == ""


def test_scopes_are_read_and_written() -> None:
    for text in ("", "charges:write", "charges:write,decisions:read,events:none"):
        assert format_scopes(parse_scopes(text)) == text
    for wrong in ("charge:write", "charges", "charges:rw", "keys:write", "settings:read", ":"):
        with pytest.raises(DefinitionError) as caught:
            parse_scopes(wrong)
        assert caught.value.code in {"access.scope.invalid", "access.scope.people_only"}
    with pytest.raises(DefinitionError, match="charges"):
        parse_scopes("charge:write")


def test_tenant_ids(access: Access) -> None:
    for wrong in ("", "system", "A", "a b", "../x", "a" * 64):
        with pytest.raises(DefinitionError):
            access.create_tenant(wrong)
    access.create_tenant("acme")
    assert access.tenants() == ["acme", "other"]


def test_every_resource_and_verb_has_somebody() -> None:
    for (resource, verb), need in POLICY.items():
        assert need.key or need.roles, (resource, verb)
    assert all((resource, "read") in POLICY for resource in RESOURCES)


def test_keys_that_were_taken_into_memory_are_known_without_a_look_at_the_database(db, clock, ids, access):
    used, unused, gone = [access.issue_key("acme", scopes=WRITE, mode=Mode.TEST, name=name) for name in ("a", "b", "c")]
    access.authenticate(used.secret)
    access.flush()
    access.revoke_key("acme", gone.key.id)
    again = Access(db, clock, ids)
    assert again.recall(used.secret.reveal()) is None
    assert again.warm(1) == 1
    assert again.recall(used.secret.reveal()) == access.authenticate(used.secret)
    assert again.recall(unused.secret.reveal()) is None
    assert again.warm() == 2
    assert again.recall(unused.secret.reveal()).id == unused.key.id
    assert again.recall(gone.secret.reveal()) is None
