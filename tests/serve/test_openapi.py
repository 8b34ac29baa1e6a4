"""The description of the API: complete, sound, and true: every example in it passes."""

from __future__ import annotations

import re

import pytest
from serve_world import code_of

from vedette.serve.policy import policies
from vedette.serve.routes import ROUTERS

TABLE = {}
for _router in ROUTERS:
    TABLE.update(policies(_router.routes))
NAME = re.compile(r"[A-Za-z0-9._-]+")


@pytest.fixture(scope="module")
def described(world):
    answer = world.send("GET", "/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def walk(value, place="#"):
    """Every object in the document with its place."""
    if isinstance(value, dict):
        yield place, value
        for key, each in value.items():
            yield from walk(each, f"{place}/{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from walk(each, f"{place}/{number}")


def test_the_document_is_sound(described):
    assert re.fullmatch(r"3\.1\.\d+", described["openapi"])
    assert described["info"]["title"] == "Vedette"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", described["info"]["version"])
    for place, value in walk(described):
        if "$ref" in value:
            target = described
            for part in value["$ref"].removeprefix("#/").split("/"):
                assert part in target, f"{place}: {value['$ref']} leads nowhere"
                target = target[part]
    for path, item in described["paths"].items():
        assert path.startswith("/")
        for method, operation in item.items():
            assert method in {"get", "put", "post", "delete", "patch"}
            declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path)), path
            assert all(re.fullmatch(r"[1-5](\d\d|XX)", status) for status in operation["responses"])
            assert all(response["description"] for response in operation["responses"].values())


def test_every_operation_is_described(described, world):
    listed = {(method.upper(), path) for path, item in described["paths"].items() for method in item}
    assert listed == set(TABLE)
    names = [operation["operationId"] for item in described["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    for path, item in described["paths"].items():
        for method, operation in item.items():
            place = f"{method} {path}"
            assert operation["summary"], place
            assert operation["description"].strip().endswith("."), place
            assert operation["tags"], place
            for each in operation.get("parameters", []):
                assert NAME.fullmatch(each["name"]), place
            assert "4XX" in operation["responses"], place
            assert "422" not in operation["responses"], place


def test_every_route_tells_how_to_authenticate(described):
    schemes = described["components"]["securitySchemes"]
    assert [(each["type"], each["scheme"]) for each in schemes.values()] == [("http", "bearer")]
    for path, item in described["paths"].items():
        for method, operation in item.items():
            assert bool(operation.get("security")) is not TABLE[method.upper(), path].open, (method, path)


def test_bodies_have_a_schema_and_an_example(described):
    bodies = 0
    for path, item in described["paths"].items():
        for method, operation in item.items():
            if "requestBody" in operation:
                ((_, media),) = operation["requestBody"]["content"].items()
                assert media["schema"]["type"] in {"object", "string"}, path
                assert media["example"], path
                if media["schema"]["type"] == "object":
                    fields = media["schema"]["properties"].keys()
                    assert set(media["example"]) <= fields, (method, path)
                    assert set(media["schema"].get("required", [])) <= set(media["example"]), (method, path)
                bodies += 1
    assert bodies >= 15


def test_every_example_passes(world, objects):
    for method, path, operation in world.routes():
        ids = objects.of(method)
        if "/hooks/" in path:
            continue  # its sender signs it: tests/serve/test_hooks.py
        if path.endswith("/return"):
            paid = world.send("POST", f"/v1/payouts/{ids['payout_id']}/pay", world.full, key=f"pay-{ids['payout_id']}")
            assert paid.status_code == 200, paid.text
        if path.endswith("/settle"):
            decided = world.post(
                path.replace("{dispute_id}", ids["dispute_id"]).replace("/settle", "/outcome"),
                world.full,
                {"outcome": "won"},
                key=f"won-{ids['dispute_id']}",
            )
            assert decided.status_code == 200, decided.text
        if path.endswith("/rerun"):
            assert world.post(f"/v1/playbooks/runs/{ids['run_id']}/cancel", world.full).status_code == 200
        if "/{review_id}/" in path:
            claimed = world.post("/v1/reviews/claims", world.chief, {"review": ids["review_id"]})
            assert claimed.json()["review"]["fence"] == 1, claimed.text
        if path.endswith("/take-back"):
            said = {"fence": 1, "fraud": True}
            assert (
                world.post(
                    path.replace("{review_id}", ids["review_id"]).replace("take-back", "verdict"), world.chief, said
                ).status_code
                == 200
            )
        # Ids in the examples' bodies are somebody's: only those are put in place of the example's own.
        answer = world.ask(method, path, operation, world.able(TABLE[method, path]), ids)
        assert answer.status_code < 300, (method, path, answer.text, code_of(answer))
        documented = next(status for status in operation["responses"] if status.isdigit())
        assert answer.status_code == int(documented), (method, path)
