"""Nothing that is read by one tenant holds anything of another: lists, searches, graphs, exports, warm caches.

The matrix is made from the route table. Our own people ask everything first, so that whatever is kept is warm; then
somebody with every role and key of another tenant asks the same, with our ids in every path and parameter.
"""

from __future__ import annotations

import pytest
from forged import SAFE, Attack, Field, console_routes, honest, other_chief
from serve_world import ALL_SCOPES, MERCHANT, OTHER, PLACEHOLDER, Objects, charge, fresh

from vedette.act.cases import Cases
from vedette.serve import console


@pytest.fixture(scope="module")
def real(world):
    made = Field(world, console.ROUTERS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def ids(world):
    """Ids of things of ours, some with a name that nobody else has."""
    made = Objects(world).make()
    world.post("/v1/charges", world.full, charge(5_000, source="tok_ours_alone"), key=fresh())
    world.platform.drain()
    return {name: str(value) for name, value in made.items() if isinstance(name, str)}


@pytest.fixture(scope="module")
def ours(ids):
    """What only we have."""
    return {value for name, value in ids.items() if name.endswith("_id") or name == "id"} | {"tok_ours_alone"}


def wanted(ids):
    """Values for a parameter: nothing, an id of each kind, an entity, a word."""
    return [
        *sorted({ids["alert_id"], ids["case_id"], ids["charge_id"], ids["id"]}),
        f"customer:{ids['id']}",
        "tok_ours",
    ]


def of_api(world, ids):
    """(path, parameters) of every look that the API has."""
    for method, path, operation in world.routes():
        if method not in SAFE:
            continue
        filled = path.format_map({**ids, "merchant": MERCHANT})
        yield path, filled, {}
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                for value in wanted(ids):
                    yield path, filled, {parameter["name"]: value}


def leaks(text, ours, asked):
    """What the answer tells beyond what was asked for."""
    return {mark for mark in ours if mark in text and not any(mark in each for each in asked)}


def api_leaks(world, ids, ours):
    stranger, found, answered = world.key(ALL_SCOPES, OTHER), [], 0
    for path, filled, params in of_api(world, ids):
        told = world.send("GET", filled, world.full, params=params)
        answer = world.send("GET", filled, stranger, params=params)
        answered += told.is_success
        left = leaks(answer.text, ours, [filled, *params.values()]) if answer.is_success else set()
        found += [f"{path} {params}: {left}"] if left else []
    assert answered > 30
    return found


def test_the_api(world, ids, ours):
    assert api_leaks(world, ids, ours) == []


def test_a_query(world, ids, ours):
    stranger, seen = world.key(ALL_SCOPES, OTHER), 0
    for table in ("product", "cloudtrail", "quarantine"):
        body = {"sql": f"select * from {table}"}
        mine = world.post("/v1/query", world.full, body)
        answer = world.post("/v1/query", stranger, body)
        seen += any(mark in mine.text for mark in ours)
        assert not leaks(answer.text, ours, []), (table, answer.text[:300])
    assert seen


def parameters(route):
    """Names of the parameters that a page takes in its address."""
    for router in console.ROUTERS:
        for each in router.routes:
            if each.path == route.path and route.method in each.methods:
                return [field.alias for field in each.dependant.query_params]
    return []


def test_the_console(world, real, ids, ours):
    secret, found, answered = other_chief(real), [], 0
    for route in console_routes(real.api):
        if route.method not in SAFE or route.policy.open:
            continue
        asked = {ids[name] for name in PLACEHOLDER.findall(route.path) if name in ids}
        taken = parameters(route)
        for query in [None, *({name: value} for name in taken for value in wanted(ids))]:
            mine = real.ask(route, Attack("ours", 0, secret=honest(real, route).secret, query=query), ids)
            answer = real.ask(route, Attack("theirs", 0, secret=secret, query=query), ids)
            answered += mine.status_code == 200
            known = [*asked, *(query or {}).values()]
            left = leaks(answer.text, ours, known) if answer.status_code == 200 else set()
            found += [f"{route.path} {query}: {left}"] if left else []
    assert found == []
    assert answered > 60


def test_a_list_that_forgot_the_tenant_is_found(world, ids, ours, monkeypatch):
    page = Cases.page
    monkeypatch.setattr(Cases, "page", lambda self, _tenant, *args, **more: page(self, "acme", *args, **more))
    assert any("/v1/cases" in each for each in api_leaks(world, ids, ours))
