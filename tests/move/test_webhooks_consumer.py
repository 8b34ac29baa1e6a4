"""Receiving: what each delivery is answered, once and only once, while secrets rotate."""

import asyncio
import json
import threading

import pytest

from vedette.core.db import open_database, sa
from vedette.core.errors import TransientError
from vedette.move.dedup import SqlDedup
from vedette.move.webhooks import WebhookMiddleware, sign, sign_each

KEYS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
WRONG = "whsec_//////////////////////////////////////////8="


class Shop:
    """A receiver whose effect is a row."""

    def __init__(self, db, clock, scheme="standard", **options):
        self.db, self.clock, self.scheme = db, clock, scheme
        self.secrets, self.told, self.fail = [KEYS[0]], [], None
        with db.begin() as connection:
            connection.execute(sa.text("create table if not exists effect (id text, body text)"))
        self.dedup = SqlDedup(db, clock, scope="shop")
        self.app = WebhookMiddleware(
            self.other,
            path="/hooks",
            scheme=scheme,
            secrets=lambda: self.secrets,
            dedup=self.dedup,
            handle=self.handle,
            clock=clock,
            refused=lambda _scope, code, id_: self.told.append((code.removeprefix("webhooks."), id_)),
            **options,
        )

    def handle(self, connection, found, body):
        row = {"id": found.message_id, "body": body.decode()}
        connection.execute(sa.text("insert into effect values (:id, :body)"), row)
        if self.fail:
            raise self.fail

    async def other(self, _scope, _receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def signed(self, id_, *, secret=None, age=0):
        body = json.dumps({"id": id_, "type": "charge.captured"}).encode()
        at = self.clock.now() // 1_000_000 - age
        return body, sign(body, secret=secret or self.secrets[0], timestamp=at, message_id=id_, scheme=self.scheme)

    def post(self, body, headers, path="/hooks", method="POST", chunks=2):
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        step = max(len(body) // chunks, 1)
        parts = [body[n : n + step] for n in range(0, len(body), step)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": n + 1 < len(parts)} for n, part in enumerate(parts)
        ]
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        asyncio.run(self.app({"type": "http", "path": path, "method": method, "headers": pairs}, receive, send))
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        text = sent[1]["body"]
        return sent[0]["status"], json.loads(text) if text else None, told

    def effects(self):
        with self.db.read() as connection:
            return sorted(connection.execute(sa.text("select id from effect")).scalars())


@pytest.fixture
def shop(db, clock):
    return Shop(db, clock)


@pytest.mark.parametrize("scheme", ["standard", "timestamped"])
def test_a_delivery_is_taken_once(db, clock, scheme):
    shop = Shop(db, clock, scheme)
    body, headers = shop.signed("evt_1")
    assert shop.post(body, headers)[:2] == (200, {"status": "taken"})
    assert shop.post(body, headers)[:2] == (200, {"status": "repeated"})
    clock.advance(60)
    assert shop.post(*shop.signed("evt_1"))[:2] == (200, {"status": "repeated"}), "a retry is signed anew"
    assert shop.effects() == ["evt_1"]
    assert shop.told == [("message.repeated", "evt_1")] * 2
    clock.advance(300)
    assert shop.post(body, headers)[0] == 401, "a replay after the tolerance"


def test_what_is_answered(shop):
    body, headers = shop.signed("evt_1")

    def status(body=body, **changed):
        return shop.post(body, {**headers, **{f"webhook-{name}": value for name, value in changed.items()}})[0]

    assert status(body + b" ") == 401
    assert status(timestamp="1700000001") == 401
    assert status(timestamp="soon") == 400
    assert status(id="a.b") == 400
    assert shop.post(body, {})[0] == 401
    assert shop.post(*shop.signed("evt_1", age=301))[0] == 401
    assert shop.post(*shop.signed("evt_1", age=-301))[0] == 401
    assert shop.post(body, headers, method="GET")[0] == 405
    assert shop.post(body, headers, path="/other")[0] == 204
    assert shop.post(b"x" * 1_100_000, headers)[0] == 413
    shop.secrets = ["short"]
    assert shop.post(body, headers)[0] == 500
    assert shop.effects() == []


def test_an_effect_that_fails_leaves_nothing(shop):
    shop.fail = TransientError("ledger.unavailable", "not now", retry_after=2.5)
    status, body, headers = shop.post(*shop.signed("evt_1"))
    assert (status, body["error"]["code"], headers["retry-after"]) == (503, "ledger.unavailable", "3")
    shop.fail = RuntimeError()
    with pytest.raises(RuntimeError):
        shop.post(*shop.signed("evt_1"))
    shop.fail = None
    assert shop.effects() == []
    assert shop.post(*shop.signed("evt_1"))[1] == {"status": "taken"}
    assert shop.effects() == ["evt_1"]


def test_no_secret_in_any_answer(shop):
    shop.secrets = [KEYS[0], "whsec_tooshort0"]
    _, body, _ = shop.post(*shop.signed("evt_1", secret=KEYS[0]))
    assert "tooshort" not in json.dumps(body)
    assert not any(key in repr(vars(shop.app)) for key in KEYS)


@pytest.mark.parametrize("order", ["receiver first", "sender first", "together"])
def test_rotation_loses_and_accepts_nothing_wrongly(shop, clock, order):
    """Deliveries without a pause; the two sides change their secrets at different times within the overlap."""
    old, new = KEYS
    sender, plan = [old], {}
    if order == "receiver first":
        plan = {20: lambda: shop.secrets.append(new), 40: lambda: sender.__setitem__(0, new)}
    elif order == "sender first":
        plan = {20: lambda: sender.append(new), 40: lambda: shop.secrets.__setitem__(slice(None), [new])}
        plan |= {50: lambda: sender.pop(0)}
    else:
        plan = {20: lambda: (sender.append(new), shop.secrets.append(new))}
        plan |= {40: lambda: (sender.pop(0), shop.secrets.pop(0))}
    plan.setdefault(60, lambda: shop.secrets.__setitem__(slice(None), [new]))
    for n in range(100):
        plan.get(n, lambda: None)()
        clock.advance(0.5)
        body = json.dumps({"id": f"evt_{n:03}"}).encode()
        at = {"timestamp": clock.now() // 1_000_000, "message_id": f"evt_{n:03}", "scheme": "standard"}
        assert shop.post(body, sign_each(body, secrets=sender, **at))[0] == 200, n
        assert shop.post(body, sign_each(body, secrets=[WRONG], **at))[0] == 401
        if n >= 60:
            assert shop.post(body, sign_each(body, secrets=[old], **at))[0] == 401, "the old secret verifies nothing"
    assert shop.effects() == [f"evt_{n:03}" for n in range(100)]


def test_the_same_delivery_from_many_sides_at_once(tmp_path, clock):
    shop = Shop(open_database(tmp_path / "money.db"), clock)
    delivery, found = shop.signed("evt_1"), []
    threads = [threading.Thread(target=lambda: found.append(shop.post(*delivery)[:2])) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _ in found} <= {200, 409}
    assert sum(body == {"status": "taken"} for _, body in found) == 1
    assert shop.effects() == ["evt_1"]
