"""Limits as they are served: counted in one process, in Redis for several, and what happens while Redis is away."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serve_world import ALL_SCOPES, World, charge, code_of, fresh
from server_process import PATIENCE_S, Server, make_key
from tests.conftest import FakeClock

from vedette.core.clock import SystemClock
from vedette.core.errors import TransientError
from vedette.core.settings import Settings, load_settings
from vedette.move.limits import Limits, Rate
from vedette.run.limits import AGAIN_S, SharedLimits, open_limits

BUCKETS = [("key:k", Rate(1, 60, 3))]


def passes(limits, count=20):
    return sum(limits.ask(BUCKETS).passed for _ in range(count))


def test_processes_share_what_redis_counts(redis_url):
    closing = []
    two = [open_limits(redis_url, SystemClock(), failed=pytest.fail, close=closing.append) for _ in range(2)]
    assert [passes(each) for each in two] == [3, 0]
    assert isinstance(open_limits("", SystemClock(), failed=pytest.fail, close=pytest.fail), Limits)
    for close in closing:
        close()


class Failing:
    """A Redis that does not answer."""

    asked = 0

    def ask(self, _buckets):
        self.asked += 1
        raise TransientError("core.redis.unavailable", "gone", retry_after=1.0)


def test_without_redis_each_process_counts_by_itself_and_asks_once_a_second():
    clock, told, shared = FakeClock(), [], Failing()
    limits = SharedLimits(shared, clock, told.append)
    assert passes(limits) == 3
    assert (shared.asked, told) == (1, ["core.redis.unavailable"])
    clock.advance(AGAIN_S)
    assert passes(limits) == 0
    assert shared.asked == 2


def test_settings_hide_the_address_of_redis():
    settings = load_settings(None, {"VEDETTE_LIMITS_URL": "redis://:hunter2@localhost/0"})
    assert "hunter2" not in repr(settings)
    assert "limits_url='<set>'" in repr(settings)
    assert "limits_url=''" in repr(Settings())


def test_a_caller_that_asks_too_often_is_told_when_to_come_again(tmp_path):
    world = World(tmp_path, VEDETTE_API_RATE="5")
    try:
        other = world.key(ALL_SCOPES)
        answers = [world.send("GET", "/v1/webhooks", world.full) for _ in range(14)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert code_of(refused[0]) == "limits.rate.exceeded"
        assert int(refused[0].headers["retry-after"]) >= 1
        assert answers[0].headers["ratelimit-policy"].startswith('"caller"')
        assert world.full not in str(answers[0].headers)
        assert world.send("GET", "/v1/webhooks", other).status_code == 200, "each caller has its own"
        assert world.send("GET", "/healthz").status_code == 200
        assert b"limits.rate.exceeded" in world.platform.meters.text()
    finally:
        world.close()


def test_two_served_processes_share_a_rate_and_go_on_without_redis(tmp_path, redis_server):
    url, redis = redis_server
    environ = {"VEDETTE_LIMITS_URL": url, "VEDETTE_API_RATE": "3"}
    home = tmp_path / "home"
    key = make_key(home, "webhooks:read")
    servers = [Server(home, environ=environ).start()]
    try:
        other = tmp_path / "other"
        key_there = make_key(other, "webhooks:read")
        servers.append(Server(other, environ=environ).start())

        def ask(server, secret, count):
            headers = {"authorization": f"Bearer {secret}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=PATIENCE_S) as client:
                return [client.get("/v1/webhooks").status_code for _ in range(count)]

        def ask_at_once(server, secret, count):
            with ThreadPoolExecutor(count) as pool:
                return [code for codes in pool.map(lambda _: ask(server, secret, 1), range(count)) for code in codes]

        # One key sent to two processes: the second, which does not know it, counts it all the same. On a busy machine
        # what was taken may have grown again before the second is asked.
        shared = (429 in ask_at_once(servers[0], key, 14) and 429 in ask(servers[1], key, 1) for _ in range(20))
        assert any(shared)
        os.kill(redis.pid, signal.SIGSTOP)
        try:
            assert set(ask(servers[1], key_there, 3)) == {200}
            assert any(429 in ask_at_once(servers[1], key_there, 14) for _ in range(20))
        finally:
            os.kill(redis.pid, signal.SIGCONT)
    finally:
        for server in servers:
            server.kill()


def test_a_refund_says_why_and_lists_learn_from_it(tmp_path):
    world = World(tmp_path)
    try:
        platform = world.platform
        metadata = {"email": "mule@example.com"}
        made = world.post("/v1/charges", world.full, charge(source="tok_mule", metadata=metadata), key=fresh()).json()
        path = f"/v1/charges/{made['id']}/refunds"
        assert code_of(world.post(path, world.full, {"reason": "spite"}, key=fresh())) == "refund.reason.unknown"
        plain = world.post(path, world.full, {"amount_minor": 5}, key=fresh()).json()
        assert "reason" not in plain
        told = world.post(path, world.full, {"reason": "fraudulent"}, key=fresh())
        assert told.json()["reason"] == "fraudulent", told.text
        while platform.telling.turn():
            pass
        platform.learning.step()
        held = platform.lists.held("acme", platform.clock.now())
        assert held["card_fingerprint_blocklist"].items == ("tok_mule",)
        changes = world.send("GET", "/v1/lists/changes", world.full).json()["data"]
        assert {each["operator"] for each in changes} == {"refunds"}
    finally:
        world.close()


def test_lists_change_over_http_and_rules_ask_with_them(tmp_path):
    world = World(tmp_path)
    try:
        added = world.post(
            "/v1/lists/card_fingerprint_blocklist/items",
            world.full,
            {"items": ["tok_bad", "tok_worse"], "item_type": "card_fingerprint", "reason": "police"},
        )
        assert added.status_code == 200, added.text
        world.platform.desk.relist()
        blocked = world.post("/v1/charges", world.full, charge(source="tok_bad"), key=fresh()).json()
        assert blocked["decision"]["action"] == "block"
        change = next(each for each in added.json()["data"] if each["item"] == "tok_bad")
        assert world.post(f"/v1/lists/changes/{change['seq']}/undo", world.full, {}).status_code == 200
        again = world.post(f"/v1/lists/changes/{change['seq']}/undo", world.full, {})
        assert code_of(again) == "payment.list.changed_since"
        world.platform.desk.relist()
        fine = world.post("/v1/charges", world.full, charge(source="tok_bad"), key=fresh()).json()
        assert fine["decision"]["action"] != "block"
        removed = world.post(
            "/v1/lists/card_fingerprint_blocklist/items/remove", world.full, {"items": ["tok_worse", "tok_none"]}
        )
        assert [each["item"] for each in removed.json()["data"]] == ["tok_worse"]
        held = world.send("GET", "/v1/lists/card_fingerprint_blocklist", world.full).json()
        assert held["items"] == []
        pan = world.post("/v1/lists/card_fingerprint_blocklist/items", world.full, {"items": ["4111111111111111"]})
        assert code_of(pan) == "request.pan_refused"
        assert code_of(world.send("GET", "/v1/lists/nope", world.full)) == "payment.list.unknown"
    finally:
        world.close()
