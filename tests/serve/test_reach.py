"""What a compromised key could reach and did reach, what breaks when it is ended, and who may ask."""

from __future__ import annotations

import json

import pytest
from serve_world import MERCHANT, OTHER, TENANT, World, charge, fresh

from vedette.cli.main import main
from vedette.prove.access import Kind, Level, Mode, Principal, Role
from vedette.run.investigation.reaching import Route, may
from vedette.serve.policy import policies
from vedette.serve.routes.entities import routes_in


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("reach"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def responder(world):
    return world.person("responder")[1]


def reach(world, who, kind, name, status=200):
    answer = world.send("GET", f"/v1/entities/{kind}/{name}/reach", who)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_key_that_pays_and_tries_more(world, responder):
    wide = {"charges": Level.WRITE, "refunds": Level.READ}
    lost, spare, narrow = world.issue(wide), world.issue(wide), world.issue({"charges": Level.READ})
    secret = lost.secret.reveal()
    for _ in range(3):
        assert world.post("/v1/charges", secret, charge(), key=fresh()).status_code == 201
    assert world.send("GET", "/v1/ledger/accounts", secret).status_code in {403, 404}
    assert world.send("GET", "/v1/alerts", secret).status_code == 403
    world.platform.drain()
    found = reach(world, responder, "key", lost.key.id)

    could = found["could"]
    assert (could["state"], could["holds"], could["merchants"]) == ("active", ["charges:write", "refunds:read"], [])
    paths = {(method, path) for method, path, *_ in could["routes"]}
    assert {("POST", "/v1/charges"), ("GET", "/v1/charges/{charge_id}")} <= paths
    assert not any("alerts" in path or "payouts" in path for _, path in paths)
    did = found["did"]
    actions = {each["name"]: (each["count"], each["refused"]) for each in did["actions"]}
    assert actions["charges.write"] == (3, 0)
    assert actions["alerts.read"] == (1, 1)
    assert (did["since"], did["requests"]) == (0, sum(count for count, _ in actions.values()))
    (paid,) = did["payments"]
    assert (paid["merchant"], paid["payments"]) == (MERCHANT, 3)
    assert did["events"] >= 3
    assert found["unused"] == ["charges.batch", "charges.read", "refunds.read"]
    breaks = {each["what"]: each["count"] for each in found["breaks"]}
    assert breaks == {"charges.write": 3, f"payments of {MERCHANT}": 3}
    assert spare.key.id in found["instead"]
    assert narrow.key.id not in found["instead"]
    assert lost.key.id not in found["instead"]
    assert found["ends"]["route"] == f"DELETE /v1/keys/{lost.key.id}"
    assert "compromised_api_key" in found["ends"]["playbooks"]
    # What was foretold happens.
    method, path = found["ends"]["route"].split()
    assert world.send(method, path, responder).status_code == 200
    assert world.post("/v1/charges", secret, charge(), key=fresh()).status_code == 401
    assert reach(world, responder, "key", lost.key.id)["could"]["state"] == "revoked"


def test_an_app_a_person_and_a_bound_key(world, responder):
    apps = world.platform.access.apps
    app = apps.create(TENANT, "shop", scopes={"charges": Level.READ}, mode=Mode.TEST, by="system")
    token = apps.token(app.app.id, app.secret).token.reveal()
    assert world.send("GET", "/v1/charges", token).status_code in {200, 404, 405}
    person, _ = world.person("analyst")
    of_app, of_person = reach(world, responder, "app", app.app.id), reach(world, responder, "user", person)
    assert (of_app["could"]["kind"], of_app["could"]["holds"]) == ("app", ["charges:read"])
    assert of_person["could"]["holds"] == ["analyst"]
    assert ["GET", "/v1/alerts", "alerts", "read", False] in of_person["could"]["routes"]
    bound = reach(world, responder, "key", world.issue({"charges": Level.WRITE}, accounts=["m_7"]).key.id)
    assert bound["could"]["merchants"] == ["m_7"]
    assert all(by_account for *_, by_account in bound["could"]["routes"])


def test_a_key_of_a_cloud_is_known_by_what_it_did(world, responder):
    lines = [
        {"eventTime": "2026-01-01T00:00:00Z", "eventVersion": "1", "eventSource": "s3", "eventID": f"e{n}",
         "eventName": name, "sourceIPAddress": "203.0.113.9", "userIdentity": {"accessKeyId": "AKIA1"},
         "recipientAccountId": "111122223333", **({"errorCode": "AccessDenied"} if refused else {})}
        for n, (name, refused) in enumerate([("GetObject", 0), ("GetObject", 0), ("CreateUser", 1)])
    ]  # fmt: skip
    body = "\n".join(map(json.dumps, lines)).encode()
    sent = {"source": "cloudtrail", "batch": fresh()}
    assert world.send("POST", "/v1/events", world.full, content=body, params=sent).is_success
    world.platform.drain()
    found = reach(world, responder, "key", "AKIA1")
    assert found["could"] is None
    called = {each["name"]: (each["count"], each["refused"]) for each in found["did"]["operations"]}
    assert called == {"cloudtrail GetObject": (2, 0), "cloudtrail CreateUser": (1, 1)}
    assert {"ip:203.0.113.9", "account:111122223333"} <= {each["name"] for each in found["did"]["near"]}
    assert found["ends"]["route"] == ""
    assert found["ends"]["playbooks"]


def test_nobody_else_is_told(world, responder):
    mine = world.issue({"charges": Level.READ}).key.id
    assert (
        reach(world, world.person("responder", OTHER)[1], "key", mine, 404)["error"]["code"]
        == "entities.entity.unknown"
    )
    for who in (world.full, world.person("analyst")[1], world.person("merchant", accounts=["m_7"])[1]):
        reach(world, who, "key", mine, 403)
    reach(world, responder, "key", "nothing", 404)


def test_what_it_could_is_what_requests_are_answered(world):
    """The list of routes against the door itself: asked with the key, a route that is not listed is refused."""
    issued = world.issue({"charges": Level.READ, "cases": Level.WRITE, "query": Level.READ})
    principal = Principal(TENANT, issued.key.id, Kind.KEY, scopes=issued.key.scopes, mode=issued.key.mode)
    routes = routes_in(policies(world.api.routes))
    assert len(routes) > 150
    gets = [route for route in routes if route.method == "GET" and "{" not in route.path]
    for route in gets:
        refused = world.send("GET", route.path, issued.secret.reveal()).status_code == 403
        assert refused is not may(principal, route), route
    # A list that forgets the scope is seen.
    assert any(may(principal, route) is False for route in gets)
    assert not may(principal, Route("GET", "/x", "charges", "freeze"))


def page(world, roles, path):
    person = world.platform.access.people.create(TENANT, "Ada Byron")
    for role in roles:
        world.platform.access.people.grant(TENANT, person.id, role, by="system")
    secret = world.platform.access.sessions.open(TENANT, person.id, proven=True).secret.reveal()
    return world.send("GET", path, headers={"cookie": f"vedette={secret}", "accept": "text/html"})


def test_its_page_shows_it_before_it_is_used_and_offers_to_end_it(world):
    key = world.issue({"charges": Level.READ}).key.id
    fragment = f"/console/data/reach?entity=key:{key}"
    assert "/console/data/reach?entity=key" in page(world, Role, f"/entities/key/{key}").text
    shown = page(world, Role, fragment).text
    assert "GET /v1/charges" in shown
    assert f"/keys/{key}/revoke" in shown
    assert "/console/data/reach" not in page(world, [Role.ANALYST], f"/entities/key/{key}").text
    assert page(world, [Role.ANALYST], fragment).status_code == 403
    assert page(world, Role, "/entities/key/unknown").status_code == 404


def vedette(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_command_line_says_the_same(world, responder, capsys):
    key = world.issue({"charges": Level.WRITE}).key.id
    where = ("--tenant", TENANT, "--home", str(world.platform.settings.home))
    assert json.loads(vedette(capsys, "reach", key, "--json", *where)) == reach(world, responder, "key", key)
    text = vedette(capsys, "reach", f"key:{key}", *where)
    assert f"DELETE /v1/keys/{key}" in text
    assert "charges:write" in text
