"""Who may use which route: every route by every kind of principal, against the policy table and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fastapi import APIRouter, FastAPI
from serve_world import ALL_SCOPES, MERCHANT, OTHER, READ_SCOPES, STRANGER, TENANT, code_of

from vedette.core.errors import DefinitionError
from vedette.prove.access import POLICY, Role
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
    "run_id",
    "token_id",
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

    def allowed(self, policy):
        if policy.open:
            return True
        need = POLICY[policy.resource, policy.verb]
        if self.role:
            return self.role in need.roles
        wanted = Level.READ if policy.verb == "read" else Level.WRITE
        return need.key and (self.scopes or {}).get(policy.resource, Level.NONE) >= wanted


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
    for role in Role:
        found[f"person: {role}"] = Caller(world.person(role)[1], role=role)
        found[f"another tenant's {role}"] = Caller(world.person(role, OTHER)[1], role=role, owns=False)
    return found


UNPROVEN = ("no key", "no bearer", "bad key", "not a key", "revoked key")


def names_an_object(path, ids, method):
    """Whether a request names something that exists in one tenant only."""
    in_body = ids.get(("body", method, path), {})
    return "{" in path.replace("{merchant}", "").replace("{role}", "") or not {
        "alert_id",
        "alerts",
        "charge",
    }.isdisjoint(in_body)


LISTS = {("GET", "/v1/decisions")}
"""Lists that hold what is the caller's: another merchant's is an empty one, not a refusal."""


def verdict(name, caller, route, policy, ids):
    """What the policy table says of a request: a set of statuses, or None for any that is no refusal."""
    method, path = route
    if policy.open:
        return {200}
    if name in UNPROVEN:
        return {401}
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
    ids = objects.make()
    wrong = []
    for name, caller in callers.items():
        answer = world.ask(method, path, described[method, path], caller.secret, ids)
        expected = verdict(name, caller, (method, path), policy, ids)
        refused = answer.status_code in {401, 403, 404} or answer.status_code >= 500 or answer.status_code == 400
        if refused if expected is None else answer.status_code not in expected:
            wrong.append((name, answer.status_code, code_of(answer), f"expected {expected or 'an answer'}"))
        if not caller.owns:
            text = answer.text
            sent = str(ids.get(("body", method, path), ""))
            others = {ids[name] for name in SPECIMENS - {"merchant"}}
            leaked = [each for each in others if each in text and each not in sent]
            if answer.status_code < 400 and leaked:
                wrong.append((name, answer.status_code, f"tells of {leaked}"))
    assert not wrong, wrong


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
