"""The whole API under generated requests: what fits the description and what does not, with ids that exist and not."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from serve_world import ALL_SCOPES, World, fresh

from vedette.serve.app import build_api
from vedette.serve.policy import policies
from vedette.serve.routes import ROUTERS
from vedette.serve.shapes import NDJSON

# The library draws from `random` in places; its own seed is Hypothesis's.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
ROUTES = sorted(route for router in ROUTERS for route in policies(router.routes))
FINE = {408, 429, 503}
"""What a caller may be told to try again."""


@schemathesis.serializer(NDJSON)
def _lines(_context, value):
    """A body of lines is a text for the library."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def schema(world):
    return schemathesis.openapi.from_dict(build_api(world.platform).openapi())


@pytest.fixture(scope="module")
def ids(objects):
    return {name: str(value) for name, value in objects.make().items() if isinstance(name, str)}


@pytest.fixture(scope="module")
def callers(world):
    return [world.key(ALL_SCOPES), world.chief]


def path_of(operation, case, ids, data):
    """The path with generated values, or with ids of things that are there."""
    given_ = case.path_parameters or {}
    if not given_ or data.draw(st.booleans(), label="real ids"):
        return operation.path.format_map({name: ids.get(name, "x") for name in given_})
    return case.formatted_path


def send(world: World, operation, case, path, secret):
    body = None if isinstance(case.body, type(schemathesis.core.NOT_SET)) else case.body
    drawn = {name.lower(): value for name, value in (case.headers or {}).items() if isinstance(value, str)}
    # Who asks is always somebody who may: `test_policy` asks as everybody else.
    drawn.pop("authorization", None)
    headers = {"idempotency-key": fresh()}
    headers |= {name: value for name, value in drawn.items() if value.isascii() and value.isprintable()}
    known = {"params": case.query or None, "headers": headers}
    if isinstance(body, bytes):
        known["content"] = body
    elif case.media_type == NDJSON:
        known["content"] = body if isinstance(body, str) else json.dumps(body)
    elif body is not None:
        known["json_body"] = body
    if case.media_type:
        headers.setdefault("content-type", case.media_type)
    return world.send(operation.method.upper(), path, secret, **known)


def fuzz(world, operation, ids, callers, count):
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if operation.body or operation.query else [])]
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, data=st.data())
    def attempt(case, data):
        answer = send(world, operation, case, path_of(operation, case, ids, data), data.draw(st.sampled_from(callers)))
        assert answer.status_code < 500 or answer.status_code in FINE, answer.text
        if answer.status_code >= 400:
            assert answer.json()["error"]["code"], answer.text

    attempt()


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_no_request_is_answered_with_a_fault(world, schema, ids, callers, route):
    fuzz(world, schema[route[1]][route[0]], ids, callers, 8)


@pytest.mark.soak
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_many_requests(world, schema, ids, callers, route):
    fuzz(world, schema[route[1]][route[0]], ids, callers, 1_000)


def test_a_planted_fault_is_found(world, schema, ids, callers, monkeypatch):
    def fall(_self, _tenant):
        raise ZeroDivisionError

    monkeypatch.setattr(type(world.platform.ledger), "trial_balance", fall)
    with pytest.raises(AssertionError):
        fuzz(world, schema["/v1/ledger/trial-balance"]["get"], ids, callers, 8)
