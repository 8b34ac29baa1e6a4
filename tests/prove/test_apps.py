"""Apps and connected accounts: no more than was given, for as long as it was given, and nothing secret kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import FakeClock

from vedette.core.db import Database, open_database
from vedette.core.errors import ConflictError, DefinitionError, NotFoundError, VedetteError
from vedette.core.ids import Ids
from vedette.prove.access import POLICY, Access, Kind, Level, Mode, Principal, Role, permit
from vedette.prove.access.access import MAX_CACHE_AGE
from vedette.prove.access.apps import MAX_TOKENS, TOKEN_S
from vedette.prove.access.connections import MAX_LIFETIME_S
from vedette.prove.access.policy import LENT, narrow
from vedette.prove.audit import AuditRecord, Outcome
from vedette.prove.dlp import scrub

DAY = 86_400.0
WRITE = {"charges": Level.WRITE, "payouts": Level.READ}


@pytest.fixture
def seen() -> list[AuditRecord]:
    return []


@pytest.fixture
def access(db: Database, clock, ids: Ids, seen: list[AuditRecord]) -> Access:
    made = Access(db, clock, ids, observe=seen.append)
    for tenant in ("shop", "market", "other"):
        made.create_tenant(tenant)
    return made


@pytest.fixture
def elsewhere(db: Database, clock, ids: Ids) -> Access:
    """Another process on the same database."""
    return Access(db, clock, ids)


@pytest.fixture
def lent(access: Access):
    return access.connections.give("shop", "market", scopes=WRITE, mode=Mode.TEST, expires_s=DAY, by="per_owner")


@pytest.fixture
def platform(access: Access) -> Principal:
    issued = access.issue_key("market", scopes=dict.fromkeys(LENT, Level.WRITE), mode=Mode.TEST)
    return access.authenticate(issued.secret)


def code(call) -> str:
    try:
        call()
    except VedetteError as error:
        return error.code
    return ""


def acts(access: Access, who: Principal, account: str = "shop") -> bool:
    return code(lambda: access.connections.act_for(who, account)) != "access.account.unknown"


# Connections


def test_a_platform_may_do_what_was_given_and_no_more(access: Access, lent, platform) -> None:
    acting = access.connections.act_for(platform, "shop")
    assert (acting.tenant, acting.platform, acting.id) == ("shop", "market", platform.id)
    assert acting.scopes == WRITE
    access.authorize(acting, "charges", "write", tenant="shop")
    for resource, verb in [("payouts", "write"), ("refunds", "read"), ("charges", "batch"), ("query", "read")]:
        assert code(lambda r=resource, v=verb: access.authorize(acting, r, v)) == "access.denied"
    # At home it is what it was.
    assert access.connections.act_for(platform, "market") is platform
    access.authorize(platform, "payouts", "write", tenant="market")


def test_a_key_has_no_more_in_an_account_than_its_own_scopes(access: Access, lent) -> None:
    reader = access.authenticate(access.issue_key("market", scopes={"charges": Level.READ}, mode=Mode.TEST).secret)
    acting = access.connections.act_for(reader, "shop")
    assert acting.scopes == {"charges": Level.READ}


def test_what_is_only_for_own_keys_is_denied_though_a_scope_says_so(access: Access) -> None:
    for name, need in POLICY.items():
        away = Principal("shop", "key_1", Kind.KEY, scopes={name[0]: Level.WRITE}, platform="market")
        app = Principal("shop", "app_1", Kind.APP, scopes={name[0]: Level.WRITE})
        own = Principal("shop", "key_1", Kind.KEY, scopes={name[0]: Level.WRITE})
        assert (permit(own, *name) == "") is need.key
        assert (permit(away, *name) == "") is (permit(app, *name) == "") is need.app
        assert need.key or not need.app


@pytest.mark.parametrize("account", ["other", "nobody", "", "SHOP", "shop\n", "x" * 10_000])
def test_an_account_that_gave_nothing_is_as_unknown_as_none(access: Access, lent, platform, account, seen) -> None:
    with pytest.raises(NotFoundError) as caught:
        access.connections.act_for(platform, account)
    assert caught.value.code == "access.account.unknown"
    assert (account or "no account") not in str(caught.value).replace("no account of that name", "")
    record = seen[-1]
    assert (record.tenant, record.outcome, record.action) == ("market", Outcome.DENIED, "connections.use")


def test_who_can_never_act_for_another(access: Access, lent) -> None:
    issue = access.issue_key
    live = access.authenticate(issue("market", scopes=WRITE, mode=Mode.LIVE).secret)
    bound = access.authenticate(issue("market", scopes=WRITE, mode=Mode.TEST, accounts=["m-1"]).secret)
    third = access.authenticate(issue("other", scopes=WRITE, mode=Mode.TEST).secret)
    person = access.people.create("market", "Ada")
    access.people.grant("market", person.id, Role.ADMIN, by="system")
    for who in (live, bound, third, access.people.principal("market", person.id)):
        assert not acts(access, who)
    away = access.connections.act_for(access.authenticate(issue("market", scopes=WRITE, mode=Mode.TEST).secret), "shop")
    access.connections.give("other", "shop", scopes=WRITE, mode=Mode.TEST, expires_s=DAY, by="per_1")
    assert not acts(access, away, "other"), "a connection is not passed on"


def test_it_ends_when_it_is_said_to_and_when_it_is_taken_back(access: Access, elsewhere, clock, lent, platform) -> None:
    assert acts(access, platform)
    assert acts(elsewhere, platform)
    taken = access.connections.revoke("shop", lent.id, by="per_owner")
    assert not acts(access, platform)
    assert acts(elsewhere, platform)  # within the stated bound
    clock.advance(MAX_CACHE_AGE)
    assert not acts(elsewhere, platform)
    clock.advance(5)
    assert access.connections.revoke("shop", lent.id, by="per_owner").revoked == taken.revoked
    access.connections.give("shop", "market", scopes=WRITE, mode=Mode.TEST, expires_s=60, by="per_owner")
    clock.advance(59.9)
    assert acts(access, platform)
    clock.advance(0.1)
    assert not acts(access, platform)


def test_one_given_again_takes_the_place_of_the_first(access: Access, lent, platform, clock) -> None:
    assert acts(access, platform)
    clock.advance(1)
    access.connections.give(
        "shop", "market", scopes={"refunds": Level.READ}, mode=Mode.TEST, expires_s=DAY, by="per_owner"
    )
    assert access.connections.act_for(platform, "shop").scopes == {"refunds": Level.READ}
    first, second = access.connections.given("shop")
    assert (first.revoked is not None, second.revoked) == (True, None)
    assert access.connections.held("market") == [first, second]
    assert access.connections.held("shop") == access.connections.given("market") == []


def test_merchants_bind_it(access: Access, platform) -> None:
    access.connections.give(
        "shop", "market", scopes=WRITE, mode=Mode.TEST, expires_s=DAY, merchants=["m-1"], by="per_owner"
    )
    acting = access.connections.act_for(platform, "shop")
    access.authorize(acting, "charges", "write", account="m-1")
    assert code(lambda: access.authorize(acting, "charges", "write", account="m-2")) == "access.denied"
    assert code(lambda: access.authorize(acting, "charges", "write")) == "access.denied"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"platform": "shop"}, "access.connection.self"),
        ({"expires_s": 0}, "access.connection.lifetime"),
        ({"expires_s": MAX_LIFETIME_S + 1}, "access.connection.lifetime"),
        ({"scopes": {}}, "access.scope.none"),
        ({"scopes": {"charges": Level.NONE}}, "access.scope.none"),
        ({"scopes": {"numbers": Level.READ}}, "access.scope.own_keys_only"),
        ({"scopes": {"charges": Level.READ, "query": Level.READ}}, "access.scope.own_keys_only"),
    ],
)
def test_what_cannot_be_given(access: Access, changed, expected) -> None:
    wanted = {"platform": "market", "scopes": WRITE, "mode": Mode.TEST, "expires_s": DAY, "by": "per_1"} | changed
    assert code(lambda: access.connections.give("shop", **wanted)) == expected
    assert access.connections.given("shop") == []


def test_another_accounts_connection_is_unknown(access: Access, lent) -> None:
    for tenant in ("market", "other"):
        with pytest.raises(NotFoundError):
            access.connections.revoke(tenant, lent.id, by="per_1")


def test_a_revocation_wins_over_a_read_in_flight(access: Access, lent, platform, monkeypatch) -> None:
    original = access.connections._db.read

    def racing():
        context = original()

        def leave(*error):
            done = context.__exit__(*error)
            monkeypatch.setattr(access.connections._db, "read", original)
            access.connections.revoke("shop", lent.id, by="per_owner")
            return done

        kind = type("Racing", (), {"__enter__": lambda _: context.__enter__(), "__exit__": lambda _, *e: leave(*e)})
        return kind()

    monkeypatch.setattr(access.connections._db, "read", racing)
    acts(access, platform)
    assert not acts(access, platform)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(LENT)), st.sampled_from(Level)),
    st.dictionaries(st.sampled_from(sorted(LENT)), st.sampled_from(Level)),
)
def test_narrow_never_gives_more_than_either(own, lent) -> None:
    both = narrow(own, lent)
    for name in LENT:
        assert both.get(name, Level.NONE) == min(own.get(name, Level.NONE), lent.get(name, Level.NONE))


# Apps


@pytest.fixture
def app(access: Access):
    return access.apps.create("market", "till", scopes=WRITE, mode=Mode.TEST, by="per_owner")


def test_a_token_is_its_app_for_an_hour(access: Access, app, clock) -> None:
    issued = access.apps.token(app.app.id, app.secret)
    assert issued.token.reveal().startswith("va_test_")
    who = access.authenticate(issued.token)
    assert (who.tenant, who.id, who.kind, who.mode, who.scopes) == ("market", app.app.id, Kind.APP, Mode.TEST, WRITE)
    access.authorize(who, "charges", "write", tenant="market")
    assert code(lambda: access.authorize(who, "payouts", "write")) == "access.denied"
    clock.advance(TOKEN_S - 0.001)
    access.authenticate(issued.token)
    clock.advance(0.001)
    assert code(lambda: access.authenticate(issued.token)) == "access.key.invalid"
    assert access.sweep() >= 1


def test_a_token_asks_for_less_and_never_for_more(access: Access, app) -> None:
    less = access.apps.token(app.app.id, app.secret, scopes="charges:read")
    assert access.authenticate(less.token).scopes == {"charges": Level.READ}
    for more in ("payouts:write", "refunds:read", "charges:read refunds:read"):
        assert code(lambda wanted=more: access.apps.token(app.app.id, app.secret, scopes=wanted)) == (
            "access.scope.beyond"
        )
    assert code(lambda: access.apps.token(app.app.id, app.secret, scopes="charge:read")) == "access.scope.invalid"


def test_nothing_secret_is_stored_or_shown(access: Access, app, db) -> None:
    issued = access.apps.token(app.app.id, app.secret)
    secrets = (app.secret.reveal(), issued.token.reveal())
    with db.read() as connection:
        rows = [
            connection.exec_driver_sql(f"select * from {table}").all()
            for table in ("access_apps", "access_app_secrets", "access_app_tokens")
        ]
    for secret in secrets:
        assert secret[8:] not in repr((rows, app, issued, access.apps.list("market")))
        assert secret[8:] not in scrub(f"sent {secret} here")


def test_secrets_roll_with_an_overlap(access: Access, app, clock) -> None:
    second = access.apps.roll("market", app.app.id, overlap=60, by="per_owner")
    for secret in (app.secret, second.secret):
        access.apps.token(app.app.id, secret)
    clock.advance(60)
    assert code(lambda: access.apps.token(app.app.id, app.secret)) == "access.app.invalid"
    held = access.apps.token(app.app.id, second.secret)
    third = access.apps.roll("market", app.app.id, by="per_owner")
    assert code(lambda: access.apps.token(app.app.id, second.secret)) == "access.app.invalid"
    access.authenticate(held.token)
    access.apps.token(app.app.id, third.secret)
    # A long overlap of before does not outlive a short one of now.
    fourth = access.apps.roll("market", app.app.id, overlap=1_000, by="per_owner")
    access.apps.roll("market", app.app.id, overlap=1, by="per_owner")
    clock.advance(1)
    for secret in (third.secret, fourth.secret):
        assert code(lambda one=secret: access.apps.token(app.app.id, one)) == "access.app.invalid"
    assert code(lambda: access.apps.roll("market", app.app.id, overlap=8 * DAY, by="x")) == "access.overlap.invalid"


def test_disabling_ends_every_token_at_once(access: Access, elsewhere, app, clock) -> None:
    issued = access.apps.token(app.app.id, app.secret)
    access.authenticate(issued.token)
    elsewhere.authenticate(issued.token)
    ended = access.apps.disable("market", app.app.id, by="per_owner")
    assert code(lambda: access.authenticate(issued.token)) == "access.key.invalid"
    clock.advance(MAX_CACHE_AGE)
    assert code(lambda: elsewhere.authenticate(issued.token)) == "access.key.invalid"
    assert code(lambda: access.apps.token(app.app.id, app.secret)) == "access.app.invalid"
    with pytest.raises(ConflictError):
        access.apps.roll("market", app.app.id, by="per_owner")
    assert access.apps.disable("market", app.app.id, by="per_owner").disabled == ended.disabled


@pytest.mark.parametrize("wrong", ["", "vs_", "vs_" + "A" * 43, "é", "\udcff", "x" * 100_000])
def test_what_does_not_prove_an_app(access: Access, app, wrong, seen) -> None:
    assert code(lambda: access.apps.token(app.app.id, wrong)) == "access.app.invalid"
    assert (seen[-1].tenant, seen[-1].outcome) == ("market", Outcome.DENIED)
    assert code(lambda: access.apps.token("app_none", app.secret)) == "access.app.invalid"
    assert (seen[-1].tenant, seen[-1].actor) == ("system", "unknown")
    assert code(lambda: access.authenticate(app.secret)) == "access.key.invalid", "a client secret is no token"


def test_an_app_acts_in_a_connected_account_while_it_is_one(access: Access, app, lent, clock) -> None:
    issued = access.apps.token(app.app.id, app.secret, account="shop")
    who = access.authenticate(issued.token)
    assert (who.tenant, who.platform, who.scopes) == ("shop", "market", WRITE)
    assert code(lambda: access.apps.token(app.app.id, app.secret, account="other")) == "access.account.unknown"
    assert not acts(access, who, "market"), "it is at home in one account only"
    access.connections.revoke("shop", lent.id, by="per_owner")
    assert code(lambda: access.authenticate(issued.token)) == "access.key.invalid"
    access.connections.give("shop", "market", scopes=WRITE, mode=Mode.TEST, expires_s=30, by="per_owner")
    assert access.authenticate(issued.token).tenant == "shop"
    clock.advance(30)
    assert code(lambda: access.authenticate(issued.token)) == "access.key.invalid"


def test_a_token_narrows_with_its_connection(access: Access, app, lent) -> None:
    issued = access.apps.token(app.app.id, app.secret, account="shop")
    access.authenticate(issued.token)
    access.connections.give(
        "shop", "market", scopes={"charges": Level.READ}, mode=Mode.TEST, expires_s=DAY, by="per_owner"
    )
    assert access.authenticate(issued.token).scopes == {"charges": Level.READ}


def test_tokens_are_bounded(access: Access, app, clock) -> None:
    first = access.apps.token(app.app.id, app.secret)
    for _ in range(MAX_TOKENS):
        clock.advance(0.001)
        last = access.apps.token(app.app.id, app.secret)
    assert code(lambda: access.authenticate(first.token)) == "access.key.invalid"
    access.authenticate(last.token)


def test_what_an_app_cannot_have(access: Access) -> None:
    for scopes, expected in [
        ({}, "access.scope.none"),
        ({"cards": Level.READ}, "access.scope.own_keys_only"),
        ({"credentials": Level.READ}, "access.scope.own_keys_only"),
    ]:
        with pytest.raises(DefinitionError) as caught:
            access.apps.create("market", "x", scopes=scopes, mode=Mode.TEST, by="per_1")
        assert caught.value.code == expected
    with pytest.raises(NotFoundError):
        access.apps.create("nobody", "x", scopes=WRITE, mode=Mode.TEST, by="per_1")


def test_another_tenants_app_is_unknown(access: Access, app) -> None:
    for call in (
        lambda: access.apps.roll("shop", app.app.id, by="x"),
        lambda: access.apps.disable("shop", app.app.id, by="x"),
    ):
        assert code(call) == "access.app.unknown"
    access.apps.token(app.app.id, app.secret)


def test_last_use_is_kept(access: Access, app, clock) -> None:
    access.authenticate(access.apps.token(app.app.id, app.secret).token)
    access.flush()
    assert access.apps.list("market")[0].last_used == clock.now()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.sampled_from(["give", "revoke", "wait", "roll", "disable"]), max_size=8))
def test_a_token_is_believed_exactly_as_long_as_the_model_says(tmp_path_factory, steps) -> None:
    """A brute-force model of one account, one app and one token in it."""
    clock = FakeClock()
    database = open_database(tmp_path_factory.mktemp("model") / "state.db")
    access = Access(database, clock, Ids(clock))
    for tenant in ("shop", "market"):
        access.create_tenant(tenant)
    app = access.apps.create("market", "till", scopes=WRITE, mode=Mode.TEST, by="x")

    def give():
        return access.connections.give("shop", "market", scopes=WRITE, mode=Mode.TEST, expires_s=1_000, by="x")

    hour = clock.now() + 3_600_000_000
    model = SimpleNamespace(ends=clock.now() + 1_000_000_000, alive=True, held=give())
    token = access.apps.token(app.app.id, app.secret, account="shop").token
    for step in steps:
        if step == "give":
            model.held, model.ends = give(), clock.now() + 1_000_000_000
        elif step == "revoke":
            access.connections.revoke("shop", model.held.id, by="x")
            model.ends = 0
        elif step == "wait":
            clock.advance(700)
        elif step == "roll" and model.alive:
            access.apps.roll("market", app.app.id, by="x")
        elif step == "disable":
            access.apps.disable("market", app.app.id, by="x")
            model.alive = False
        believed = not code(lambda: access.authenticate(token))
        assert believed is (model.alive and clock.now() < min(model.ends, hour)), steps
    database.close()
