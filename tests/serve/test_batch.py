"""A batch of charges over HTTP: each line is answered with the bytes that the single route gives."""

from __future__ import annotations

import json

import pytest
from serve_world import ALL_SCOPES, MERCHANT, TENANT, card, charge, code_of, fresh

from vedette.act.actions import ActionCall
from vedette.core.clock import DAY, to_iso

PATH = "/v1/charges/batch"
NDJSON = {"content-type": "application/x-ndjson"}


def send(world, lines, secret=None):
    body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return world.send("POST", PATH, secret or world.full, content=body, headers=NDJSON)


def answers(reply):
    assert reply.status_code == 200, reply.text
    return [json.loads(line) for line in reply.content.splitlines()]


def raw_body(line):
    """The bytes of `body` as they stand in the line."""
    return line.split(b'"body":', 1)[1].rpartition(b',"replayed"')[0]


def test_a_line_has_the_bytes_of_the_single_answer(world):
    keys = [fresh() for _ in range(4)]
    wanted = [charge(), charge(50_000, currency="USD"), charge(30_000, currency="USD"), charge(currency="ZZZ")]
    reply = send(world, [{"key": key, "charge": one} for key, one in zip(keys, wanted, strict=True)])
    made = answers(reply)
    assert [line["key"] for line in made] == keys
    assert [line["status"] for line in made] == [201, 201, 201, 400]
    assert [line["body"].get("status") for line in made] == ["captured", "blocked", "challenged", None]
    for key, one, line in zip(keys, wanted, reply.content.splitlines(), strict=True):
        single = world.post("/v1/charges", world.full, one, key=key)
        assert single.content == raw_body(line)
    assert [line["replayed"] for line in answers(send(world, [{"key": keys[0], "charge": wanted[0]}]))] == [True]


def test_a_single_charge_first_and_its_line_later(world):
    key = fresh()
    single = world.post("/v1/charges", world.full, charge(), key=key)
    (line,) = send(world, [{"key": key, "charge": charge()}]).content.splitlines()
    assert raw_body(line) == single.content
    (other,) = answers(send(world, [{"key": key, "charge": charge(1)}]))
    assert (other["status"], other["body"]["error"]["code"]) == (422, "idempotency.mismatch")


def test_a_bad_line_stops_no_other(world):
    good = fresh()
    lines = [
        b"{",
        b"[]",
        {"charge": charge()},
        {"key": good, "charge": charge()},
        {"key": fresh(), "charge": charge(), "tip": 1},
        {"key": fresh(), "charge": {}},
        {"key": "4111111111111111", "charge": charge()},
        {"key": fresh(), "charge": charge(source="tok_4111111111111111")},
        {"key": "", "charge": charge()},
        {"key": fresh(), "charge": charge(), "time": True},
        {"key": fresh(), "charge": charge(), "time": "tomorrow"},
    ]
    reply = send(world, lines)
    assert b"4111111111111111" not in reply.content
    made = answers(reply)
    assert [line["status"] for line in made] == [400, 400, 400, 201, 400, 400, 400, 400, 400, 400, 400]
    assert made[3]["key"] == good
    assert [line["body"]["error"]["code"] for line in (made[6], made[7])] == ["request.pan_refused"] * 2


def test_the_time_is_of_the_last_day(world):
    now = world.platform.clock.now()
    times = [now - 3_600_000_000, to_iso(now - 60_000_000), now + 60_000_000, now - DAY - 1_000_000]
    made = answers(send(world, [{"key": fresh(), "charge": charge(), "time": time} for time in times]))
    assert [line["status"] for line in made] == [201, 201, 400, 400]
    assert made[2]["body"]["error"]["code"] == "charge.time.out_of_range"
    decided = world.platform.desk.find(TENANT, made[0]["body"]["decision"]["event_id"])
    assert decided.time == times[0]
    assert decided.event["time"] == to_iso(times[0])


def test_a_batch_is_bounded(world):
    reply = send(world, [b"{}"] * 5_001)
    assert (reply.status_code, code_of(reply)) == (400, "charge.batch.too_large")
    assert send(world, []).content == b""


@pytest.mark.parametrize("scopes", [{"charges": 1}, {}])
def test_a_batch_needs_its_permission(world, scopes):
    narrow = world.key({name: type(ALL_SCOPES[name])(level) for name, level in scopes.items()})
    assert send(world, [{"key": fresh(), "charge": charge()}], narrow).status_code == 403
    bound = world.key(ALL_SCOPES, accounts=[MERCHANT])
    assert send(world, [{"key": fresh(), "charge": charge()}], bound).status_code == 403


def test_a_line_may_name_the_key_that_asked(world):
    shop = world.issue(ALL_SCOPES, accounts=[MERCHANT])
    reader = world.issue({"charges": type(ALL_SCOPES["charges"])(1)})
    gone = world.issue(ALL_SCOPES)
    world.platform.access.revoke_key(TENANT, gone.key.id)
    names = [shop.key.id, shop.key.id, reader.key.id, gone.key.id, "key_none", ""]
    wanted = [charge(), charge(merchant="m_other"), charge(), charge(), charge(), charge()]
    lines = [{"key": fresh(), "charge": c, "api_key": k} for k, c in zip(names, wanted, strict=True)]
    made = answers(send(world, lines))
    assert [line["status"] for line in made] == [201, 403, 403, 401, 401, 201]
    decided = world.platform.desk.find(TENANT, made[0]["body"]["decision"]["event_id"])
    assert decided.event["key"] == shop.key.id
    assert made[3]["body"]["error"]["code"] == made[4]["body"]["error"]["code"] == "access.key.invalid"


def test_a_key_that_a_playbook_revokes_is_refused_at_the_very_next_request(world):
    stolen = world.issue(ALL_SCOPES)
    secret = stolen.secret.reveal()
    requests = {
        "hot": lambda: world.post("/v1/decisions", secret, {"event": card(900_000_001)}),
        "single": lambda: world.post("/v1/charges", secret, charge(), key=fresh()),
        "batch": lambda: send(world, [{"key": fresh(), "charge": charge()}], secret),
        "read": lambda: world.send("GET", "/v1/payouts/po_1", secret),
        "refund": lambda: world.post("/v1/charges/ch_1/refunds", secret, {}, key=fresh()),
    }
    assert {name: ask().status_code for name, ask in requests.items()} == {
        "hot": 200,
        "single": 201,
        "batch": 200,
        "read": 404,
        "refund": 404,
    }
    call = ActionCall(
        tenant=TENANT, run_id="run", step="revoke", key="run:1", operator="run", arguments={"key_id": stolen.key.id}
    )
    world.platform.actions.perform("revoke_key", call)
    assert {name: ask().status_code for name, ask in requests.items()} == dict.fromkeys(requests, 401)
    (line,) = answers(send(world, [{"key": fresh(), "charge": charge(), "api_key": stolen.key.id}]))
    assert line["status"] == 401
