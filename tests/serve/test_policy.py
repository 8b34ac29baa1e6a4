"""Who may use which route: every route by every kind of principal, against the policy table and nothing else."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
from fastapi import APIRouter, FastAPI
from serve_world import (
    ALL_SCOPES,
    LENT_SCOPES,
    MERCHANT,
    OTHER,
    READ_SCOPES,
    STRANGER,
    TENANT,
    card,
    charge,
    code_of,
    fresh,
)

from vedette.core.errors import DefinitionError
from vedette.prove.access import POLICY, Mode, Role
from vedette.prove.access.policy import Level
from vedette.serve.addresses import of_api
from vedette.serve.policy import allow, policies, require_policies
from vedette.serve.routes import ROUTERS

TABLE = {}
for _router in ROUTERS:
    TABLE.update(policies(_router.routes))
SPECIMENS = {
    "charge_id",
    "payout_id",
    "dispute_id",
    "merchant",
    "event_id",
    "key_id",
    "person_id",
    "alert_id",
    "case_id",
    "task_id",
    "hypothesis_id",
    "run_id",
    "token_id",
    "app_id",
    "connection_id",
    "id",
    "endpoint_id",
    "message_id",
}


def test_every_route_has_a_policy_that_the_table_knows(world):
    table = {route: policy for route, policy in policies(world.api.routes).items() if of_api(route[1])}
    table = {route: policy for route, policy in table.items() if route[1] != "/openapi.json"}
    assert table == TABLE
    assert len(table) >= 35
    for route, policy in table.items():
        assert policy is not None, route
        assert policy.open or (policy.resource, policy.verb) in POLICY, route


def test_a_route_without_a_policy_keeps_the_application_from_starting(world, monkeypatch):
    planted = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    planted.get("/v1/open-by-omission")(lambda: None)
    with pytest.raises(DefinitionError, match="GET /v1/open-by-omission") as refused:
        require_policies(planted)
    assert refused.value.code == "serve.policy.missing"


def test_every_way_to_plant_a_route_is_found(world):
    async def asgi(scope, receive, send):
        pass

    router = APIRouter()
    router.get("/v1/planted")(lambda: None)
    for plant in (
        lambda app: app.add_route("/v1/planted", lambda request: None, methods=["GET"]),
        lambda app: app.mount("/v1/planted", asgi),
        lambda app: app.add_api_websocket_route("/v1/planted", asgi),
        lambda app: app.include_router(router),
    ):
        planted = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        plant(planted)
        with pytest.raises(DefinitionError, match="/v1/planted"):
            require_policies(planted)


def test_a_policy_that_the_table_does_not_know_is_refused():
    with pytest.raises(DefinitionError) as refused:
        allow("charges", "fly")
    assert refused.value.code == "serve.policy.unknown"


# The matrix


@dataclass(frozen=True)
class Caller:
    """A kind of caller, and what the policy table says it may do."""

    secret: str
    scopes: dict | None = None
    role: Role | None = None
    owns: bool = True
    """False for one who may use the route and must not find the object."""
    bound: bool = False
    account: str = ""
    """Which account it says it acts for."""
    connected: bool = True
    """False for one that the named account let do nothing."""
    lent: bool = False
    """An app, or a platform in an account of somebody else."""

    def allowed(self, policy):
        if policy.open:
            return True
        need = POLICY[policy.resource, policy.verb]
        if self.role:
            return self.role in need.roles
        wanted = Level.READ if policy.verb == "read" else Level.WRITE
        return (need.app if self.lent else need.key) and (self.scopes or {}).get(policy.resource, Level.NONE) >= wanted


@pytest.fixture(scope="module")
def callers(world):
    revoked = world.issue(ALL_SCOPES)
    world.platform.access.revoke_key(TENANT, revoked.key.id)
    nothing = {"indicators": Level.READ}
    found = {
        "no key": Caller(""),
        "no bearer": Caller(" "),
        "bad key": Caller("vk_test_" + "A" * 43),
        "not a key": Caller("hunter2"),
        "revoked key": Caller(revoked.secret.reveal()),
        "key without the scope": Caller(world.key(nothing), scopes=nothing),
        "key that reads": Caller(world.key(READ_SCOPES), scopes=READ_SCOPES),
        "key that writes": Caller(world.key(ALL_SCOPES), scopes=ALL_SCOPES),
        "key of the merchant": Caller(world.key(ALL_SCOPES, accounts=[MERCHANT]), scopes=ALL_SCOPES, bound=True),
        "key of another merchant": Caller(
            world.key(ALL_SCOPES, accounts=[STRANGER]), scopes=ALL_SCOPES, bound=True, owns=False
        ),
        "another tenant's key": Caller(world.key(ALL_SCOPES, OTHER), scopes=ALL_SCOPES, owns=False),
    }
    found |= platforms(world) | apps(world)
    for role in Role:
        found[f"person: {role}"] = Caller(world.person(role)[1], role=role)
        found[f"another tenant's {role}"] = Caller(world.person(role, OTHER)[1], role=role, owns=False)
    return found


def platforms(world):
    """Keys of another tenant that name this one as the account they act for."""
    world.connect(LENT_SCOPES)
    full = world.key(ALL_SCOPES, OTHER)
    revoked = world.connect(LENT_SCOPES, platform="past")
    expired = world.connect(LENT_SCOPES, platform="bazaar", expires_s=0.000_001)
    access = world.platform.access
    for name in ("past", "bazaar", "booth", "stand"):
        access.create_tenant(name)
    access.connections.revoke(TENANT, revoked.id, by="per_owner")
    assert not expired.holds(world.platform.clock.now())
    reads = dict.fromkeys(LENT_SCOPES, Level.READ)
    world.connect(reads, platform="booth")
    world.connect(LENT_SCOPES, platform="stand", merchants=[MERCHANT])
    of = {"account": TENANT, "lent": True}
    live = access.issue_key(OTHER, scopes=ALL_SCOPES, mode=Mode.LIVE).secret.reveal()
    bound = world.key(ALL_SCOPES, OTHER, accounts=[MERCHANT])
    return {
        "platform with a connection": Caller(full, scopes=LENT_SCOPES, **of),
        "platform's key that reads": Caller(world.key(READ_SCOPES, OTHER), scopes=reads, **of),
        "platform with a connection to read": Caller(world.key(ALL_SCOPES, "booth"), scopes=reads, **of),
        "platform for a merchant": Caller(world.key(ALL_SCOPES, "stand"), scopes=LENT_SCOPES, bound=True, **of),
        "platform whose connection was revoked": Caller(world.key(ALL_SCOPES, "past"), connected=False, **of),
        "platform whose connection has expired": Caller(world.key(ALL_SCOPES, "bazaar"), connected=False, **of),
        "platform in the other mode": Caller(live, connected=False, **of),
        "platform's key of a merchant": Caller(bound, connected=False, **of),
        "key for an account that nobody has": Caller(world.full, connected=False, account="nobody", lent=True),
        "key for an account that gave nothing": Caller(world.full, connected=False, account=OTHER, lent=True),
        "key for its own account": Caller(world.full, scopes=ALL_SCOPES, account=TENANT),
        "person for another account": Caller(world.person("admin", OTHER)[1], connected=False, **of),
    }


def apps(world):
    """Tokens of apps: at home, in an account, and without a right to it."""
    reads = dict.fromkeys(LENT_SCOPES, Level.READ)
    doomed = world.platform.access.apps.create(TENANT, "gone", scopes=LENT_SCOPES, mode=Mode.TEST, by="system")
    gone = world.platform.access.apps.token(doomed.app.id, doomed.secret).token.reveal()
    world.platform.access.apps.disable(TENANT, doomed.app.id, by="system")
    return {
        "app": Caller(world.app_token(LENT_SCOPES), scopes=LENT_SCOPES, lent=True),
        "app that reads": Caller(world.app_token(reads), scopes=reads, lent=True),
        "app of a platform": Caller(world.app_token(LENT_SCOPES, OTHER, TENANT), scopes=LENT_SCOPES, lent=True),
        "another tenant's app": Caller(world.app_token(LENT_SCOPES, OTHER), scopes=LENT_SCOPES, lent=True, owns=False),
        "disabled app": Caller(gone),
        "client secret": Caller(doomed.secret.reveal()),
    }


UNPROVEN = ("disabled app", "client secret", "no key", "no bearer", "bad key", "not a key", "revoked key")


def names_an_object(path, ids, method):
    """Whether a request names something that exists in one tenant only."""
    in_body = ids.get(("body", method, path), {})
    everybodys = (
        path.replace("{merchant}", "").replace("/{alias}/items", "").replace("{role}", "").replace("{actor}", "")
    )
    return "{" in everybodys or not {
        "alert_id",
        "alerts",
        "charge",
    }.isdisjoint(in_body)


SIGNED = {("POST", "/v1/playbooks/hooks/{tenant}/{playbook}")}
"""Routes that a signature over the body opens, and no credential."""
LISTS = {("GET", "/v1/decisions")}
"""Lists that hold what is the caller's: another merchant's is an empty one, not a refusal."""


def verdict(name, caller, route, policy, ids):
    """What the policy table says of a request: a set of statuses, or None for any that is no refusal."""
    method, path = route
    if policy.open:
        return {403} if route in SIGNED else {200}
    if name in UNPROVEN:
        return {401}
    if not caller.connected:
        return {404}
    if not caller.allowed(policy) or (caller.bound and not policy.by_account):
        return {403}
    if not caller.owns and (
        names_an_object(path, ids, method) or (caller.bound and policy.by_account and route not in LISTS)
    ):
        return {404}
    return None


@pytest.mark.parametrize(("method", "path"), sorted(TABLE), ids=str)
def test_every_caller_on_every_route_gets_what_the_policy_says(world, objects, callers, method, path):
    described = {(m, p): operation for m, p, operation in world.routes()}
    policy = TABLE[method, path]
    ids = objects.of(method)
    wrong = []
    for name, caller in callers.items():
        answer = world.ask(method, path, described[method, path], caller.secret, ids, account=caller.account)
        expected = verdict(name, caller, (method, path), policy, ids)
        refused = answer.status_code in {401, 403, 404} or answer.status_code >= 500 or answer.status_code == 400
        if refused if expected is None else answer.status_code not in expected:
            wrong.append((name, answer.status_code, code_of(answer), f"expected {expected or 'an answer'}"))
        if not caller.connected and not policy.open and code_of(answer) != "access.account.unknown":
            wrong.append((name, answer.status_code, code_of(answer), "tells more than that it is unknown"))
        if not caller.owns or not caller.connected:
            text = answer.text
            sent = str(ids.get(("body", method, path), ""))
            others = {
                held[name] for held in (ids, objects.of("GET")) for name in SPECIMENS - {"merchant"} if name in held
            }
            leaked = [each for each in others if each in text and each not in sent]
            if answer.status_code < 400 and leaked:
                wrong.append((name, answer.status_code, f"tells of {leaked}"))
    assert not wrong, wrong


KINDS = ("key", "app", "platform")


@pytest.fixture(scope="module")
def holders(world):
    """Secret and account of a key, an app and a platform's key that hold these scopes, made once for each."""
    made = {}

    def holder(kind, scopes):
        name = (kind, tuple(sorted(scopes.items())))
        if name not in made:
            if kind == "app":
                made[name] = (world.app_token(scopes), "")
            elif kind == "platform":
                tenant = f"p{len(made)}"
                world.platform.access.create_tenant(tenant)
                world.connect(scopes, platform=tenant)
                made[name] = (world.key(ALL_SCOPES, tenant), TENANT)
            else:
                made[name] = (world.key(scopes), "")
        return made[name]

    return holder


@pytest.mark.parametrize(("method", "path"), sorted(TABLE), ids=str)
def test_every_route_asks_for_its_own_resource_and_level(world, objects, holders, method, path):
    """Route x resource x kind of key: nothing but the scope of its own resource opens a route, and it does."""
    policy = TABLE[method, path]
    if policy.open:
        return
    operation = next(each for m, p, each in world.routes() if (m, p) == (method, path))
    ids, need, wrong = objects.of(method), POLICY[policy.resource, policy.verb], []
    for kind in KINDS:
        reach = ALL_SCOPES if kind == "key" else LENT_SCOPES
        rest = {name: level for name, level in reach.items() if name != policy.resource}
        for scopes in (rest, {policy.resource: Level.READ}, {policy.resource: Level.WRITE}):
            if not scopes.keys() <= reach.keys():
                continue
            open_to = need.key if kind == "key" else need.app
            enough = scopes.get(policy.resource, Level.NONE) >= (Level.READ if policy.verb == "read" else Level.WRITE)
            secret, account = holders(kind, scopes)
            answer = world.ask(method, path, operation, secret, ids, account=account)
            refused = answer.status_code in {401, 403}
            if refused is (open_to and enough):
                wrong.append((kind, scopes if len(scopes) == 1 else "all others", answer.status_code, code_of(answer)))
    assert not wrong, wrong


def test_a_header_that_is_ignored_would_be_found(world, callers, monkeypatch):
    """Planted: a platform's key acts at home although it names an account that let it do nothing."""
    caller = callers["platform in the other mode"]
    headers = {"vedette-account": TENANT}
    assert world.send("GET", "/v1/decisions", caller.secret, headers=headers).status_code == 404
    monkeypatch.setattr(world.platform.access.connections, "act_for", lambda principal, _account, **_more: principal)
    assert world.send("GET", "/v1/decisions", caller.secret, headers=headers).status_code == 200


def test_an_account_is_named_once(world):
    for headers in ([("vedette-account", TENANT)] * 2, [("vedette-account", TENANT), ("Vedette-Account", OTHER)]):
        sent = [*headers, ("authorization", f"Bearer {world.full}")]
        answer = world.wait(world.client.request("GET", "/v1/decisions", headers=sent))
        assert (answer.status_code, code_of(answer)) == (400, "request.account.repeated")


def test_a_decision_for_an_account_is_the_accounts(world):
    """The short way to a decision knows no accounts: it hands such a request on."""
    world.connect(LENT_SCOPES)
    secret = world.key(ALL_SCOPES, OTHER)
    body = {"event": card(987_001)}
    made = world.post("/v1/decisions", secret, body, headers={"vedette-account": TENANT})
    assert made.status_code == 200, made.text
    assert world.send("GET", "/v1/decisions/987001", world.full).status_code == 200
    assert world.send("GET", "/v1/decisions/987001", secret).status_code == 404
    assert world.post("/v1/decisions", secret, body, headers={"vedette-account": "nobody"}).status_code == 404


def test_an_app_gets_its_token_as_oauth_says(world):
    apps = world.platform.access.apps
    made = apps.create(TENANT, "till", scopes={"charges": Level.WRITE}, mode=Mode.TEST, by="system")
    secret = made.secret.reveal()
    media = {"content-type": "application/x-www-form-urlencoded"}

    def ask(body, **headers):
        return world.send("POST", "/v1/oauth/token", content=body, headers=media | headers)

    basic = base64.b64encode(f"{made.app.id}:{secret}".encode()).decode()
    asked = ask("grant_type=client_credentials&scope=charges:read", authorization=f"Basic {basic}")
    assert asked.status_code == 200, asked.text
    assert asked.headers["cache-control"] == "no-store"
    told = asked.json()
    assert (told["token_type"], told["expires_in"], told["scope"]) == ("Bearer", 3_600, "charges:read")
    assert world.send("GET", "/v1/charges/ch_none", told["access_token"]).status_code == 404
    refused = world.post("/v1/charges", told["access_token"], charge(), key=fresh())
    assert (refused.status_code, code_of(refused)) == (403, "access.denied")
    wrong = base64.b64encode(f"{made.app.id}:vs_{'A' * 43}".encode()).decode()
    for body, headers, code in [
        ("grant_type=client_credentials", {"authorization": f"Basic {wrong}"}, "access.app.invalid"),
        ("grant_type=client_credentials", {"authorization": "Basic !!!"}, "access.app.invalid"),
        (
            "grant_type=client_credentials",
            {"authorization": "Basic \xe9\xe9\xe9=".encode("latin-1")},
            "access.app.invalid",
        ),
        ("grant_type=client_credentials", {}, "access.app.invalid"),
        ("grant_type=password", {"authorization": f"Basic {basic}"}, "access.grant.unsupported"),
        (
            f"grant_type=client_credentials&client_secret={secret}",
            {"authorization": f"Basic {basic}"},
            ("access.app.twice"),
        ),
        ("grant_type=client_credentials&grant_type=client_credentials", {}, "http.body.form"),
        ("&".join(f"a{n}=1" for n in range(20)), {}, "http.body.form"),
        ("grant_type=client_credentials&account=nobody", {"authorization": f"Basic {basic}"}, "access.account.unknown"),
        (
            "grant_type=client_credentials&scope=payouts:write",
            {"authorization": f"Basic {basic}"},
            ("access.scope.beyond"),
        ),
    ]:
        assert code_of(ask(body, **headers)) == code, body


def test_a_bound_key_sees_its_own_objects_and_no_others(world, objects):
    ids = objects.make()
    theirs = world.key(ALL_SCOPES, accounts=[STRANGER])
    mine = world.key(ALL_SCOPES, accounts=[MERCHANT])
    for path in (f"/v1/charges/{ids['charge_id']}", f"/v1/payouts/{ids['payout_id']}"):
        found, hidden, absent = (
            world.send("GET", path, mine),
            world.send("GET", path, theirs),
            world.send("GET", path[:-4] + "0000", theirs),
        )
        assert (found.status_code, hidden.status_code, absent.status_code) == (200, 404, 404)
        assert MERCHANT not in hidden.text


def test_what_a_bound_key_is_told_of_a_hidden_object_is_what_it_is_told_of_none(world, objects):
    ids = objects.make()
    theirs = world.key(ALL_SCOPES, accounts=[STRANGER])
    for kind in ("charge", "payout"):
        path = f"/v1/{kind}s/"
        hidden = world.send("GET", path + ids[f"{kind}_id"], theirs)
        absent = world.send("GET", path + ids[f"{kind}_id"][:-4] + "zzzz", theirs)
        assert code_of(hidden) == code_of(absent)


def test_authentication_comes_before_anything_else_is_looked_at(world):
    for method, path, _ in world.routes():
        if not TABLE[method, path].open and method in {"POST", "PATCH"}:
            answer = world.send(method, path, "vk_test_" + "A" * 43, content=b"{{{", headers={"content-type": "x/y"})
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_is_refused_from_the_next_request_on(world):
    issued = world.issue(ALL_SCOPES)
    secret = issued.secret.reveal()
    assert world.post("/v1/decisions", secret, {"event": {}}).status_code == 400
    world.platform.access.revoke_key(TENANT, issued.key.id)
    assert world.post("/v1/decisions", secret, {"event": {}}).status_code == 401


def test_the_matrix_would_find_a_check_that_is_gone(world, callers, monkeypatch):
    """Planted: the policy's answer is ignored; a key without the scope is then answered."""
    bare = callers["key without the scope"]
    assert world.send("GET", "/v1/alerts", bare.secret).status_code == 403
    monkeypatch.setattr(world.platform.access, "authorize", lambda *_args, **_more: None)
    assert world.send("GET", "/v1/alerts", bare.secret).status_code == 200
