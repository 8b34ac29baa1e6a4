"""Refusals over HTTP that tell of misuse become events of the log, once, with who asked."""

import pytest
from serve_world import ALL_SCOPES, OTHER, STRANGER, World, charge, fresh

from vedette.run.pipeline.storing import TOPIC, to_event


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def told(world):
    platform = world.platform
    platform._tell_misuse()
    while platform.telling.turn():
        pass
    log = platform.log
    records = [each for part in range(log.partitions(TOPIC)) for each in log.read(TOPIC, part, 0, 10_000)]
    return [
        event.data for event in map(to_event, records) if event.data.get("type", "").endswith((".refused", ".exceeded"))
    ]


def test_what_is_refused_is_told(world):
    key = fresh()
    assert world.post("/v1/charges", world.full, charge(), key=key).status_code == 201
    for amount in (5, 6):
        assert world.post("/v1/charges", world.full, charge(amount), key=key).status_code == 422
    made = world.post("/v1/charges", world.full, charge(), key=fresh()).json()
    theirs = world.key(ALL_SCOPES, accounts=[STRANGER])
    for _ in range(3):
        assert world.send("GET", f"/v1/charges/{made['id']}", theirs).status_code == 404
    headers = {"vedette-account": OTHER}
    for _ in range(2):
        assert world.send("GET", f"/v1/charges/{made['id']}", world.full, headers=headers).status_code == 404
    events = {(each["type"], each["reason"]): each["count"] for each in told(world)}
    assert events == {
        ("idempotency.refused", "idempotency.mismatch"): 2,
        ("tenant.refused", "access.not_found"): 3,
        ("tenant.refused", "access.account.unknown"): 2,
    }
    assert len(told(world)) == 3, "each once"
