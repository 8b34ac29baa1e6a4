"""A trace over HTTP holds what its reader may see."""

from __future__ import annotations

import pytest
from serve_world import READ_SCOPES, charge, fresh

from vedette.prove.access.policy import Level


@pytest.fixture
def made(world):
    return world.post("/v1/charges", world.full, charge(3_000), key=fresh()).json()


def test_who_may_read_everything_sees_everything(world, made):
    found = world.send("GET", f"/v1/traces/{made['id']}", world.key(READ_SCOPES)).json()
    assert found["trace_id"] == made["decision"]["event_id"]
    assert {"request", "decision", "transfer"} <= {hop["kind"] for hop in found["hops"]}


def test_who_may_not_read_money_sees_none(world, made):
    found = world.send("GET", f"/v1/traces/{made['id']}", world.key({"decisions": Level.READ})).json()
    assert {hop["kind"] for hop in found["hops"]} == {"decision"}
