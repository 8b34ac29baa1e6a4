"""The middleware in front of an application: statuses, headers, what is held, what happens without a store."""

import asyncio
import json
import re

import pytest

from vedette.core.redis import Redis
from vedette.move.limits import LimitMiddleware, Limits, Rate, RedisLimits, Shedder, Slots

POLICY = re.compile(r'"[a-z]+";q=\d+;w=\d+(, "[a-z]+";q=\d+;w=\d+)*')
STATE = re.compile(r'"[a-z]+";r=\d+;t=\d+(, "[a-z]+";r=\d+;t=\d+)*')


async def hello(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"hello"})


def ask(app, path="/", **scope):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "http", "path": path, "headers": [], **scope}, None, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:])


def buckets(_scope):
    return [("key:k1", Rate(1, 60, 2)), ("account:acme", Rate(10, 1, 20))]


def test_ten_lines_limit_an_application(clock):
    told = []
    app = LimitMiddleware(hello, limiter=Limits(clock), buckets=buckets, refused=lambda _scope, code: told.append(code))
    status, headers, body = ask(app)
    assert (status, body, headers["x-own"]) == (200, b"hello", "1")
    assert headers["ratelimit-policy"] == '"key";q=2;w=120, "account";q=20;w=2'
    assert headers["ratelimit"] == '"key";r=1;t=60, "account";r=19;t=1'
    ask(app)
    status, headers, body = ask(app)
    assert (status, headers["retry-after"]) == (429, "60")
    assert POLICY.fullmatch(headers["ratelimit-policy"])
    assert STATE.fullmatch(headers["ratelimit"])
    assert json.loads(body)["error"]["code"] == "limits.rate.exceeded"
    assert told == ["limits.rate.exceeded"]
    clock.advance(59.999)
    assert ask(app)[:1] == (429,)
    clock.advance(0.001)
    assert ask(app)[0] == 200, "who waits as told gets in"


def test_slots_and_load_are_held_while_a_request_runs(clock):
    slots, seen = Slots(clock), []

    async def inner(scope, receive, send):
        if scope["path"] == "/outer":
            seen.append(await asyncio.to_thread(ask, app, "/inner"))
        await hello(scope, receive, send)

    app = LimitMiddleware(inner, limiter=Limits(clock), buckets=lambda _: [], slots=slots, places=lambda _: [("k", 1)])
    assert ask(app, "/outer")[0] == 200
    (refused,) = seen
    assert (refused[0], refused[1]["retry-after"]) == (429, "1")
    assert json.loads(refused[2])["error"]["code"] == "limits.concurrency.exceeded"
    assert not slots._held

    shedder = Shedder(Slots(clock), 1, reserved=0.5)
    critical = lambda scope: scope["path"] == "/pay"  # noqa: E731
    app = LimitMiddleware(hello, limiter=Limits(clock), buckets=lambda _: [], shedder=shedder, critical=critical)
    assert (ask(app, "/report")[0], ask(app, "/pay")[0]) == (503, 200)


def test_a_slot_is_given_back_when_the_application_fails(clock):
    slots = Slots(clock)

    async def broken(*_):
        raise RuntimeError

    app = LimitMiddleware(broken, limiter=Limits(clock), buckets=buckets, slots=slots, places=lambda _: [("k", 1)])
    with pytest.raises(RuntimeError):
        ask(app)
    assert not slots._held


@pytest.mark.parametrize(("open_", "status"), [(True, 200), (False, 503)])
def test_without_its_store_it_opens_or_closes_as_told(open_, status):
    limits = RedisLimits(Redis("redis://127.0.0.1:1/0"))
    app = LimitMiddleware(hello, limiter=limits, buckets=buckets, fail_open=open_)
    assert ask(app)[0] == status


def test_a_refusal_elsewhere_takes_no_token(clock):
    slots, limits = Slots(clock), Limits(clock)
    held = slots.acquire([("k", 1)])
    app = LimitMiddleware(hello, limiter=limits, buckets=buckets, slots=slots, places=lambda _: [("k", 1)])
    assert [ask(app)[0] for _ in range(5)] == [429] * 5
    slots.release(held)
    assert [ask(app)[0] for _ in range(2)] == [200] * 2
