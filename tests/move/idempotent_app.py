"""A small application behind the middleware, and a way to ask it; also a program for child processes.

Usage: idempotent_app.py TARGET VERB DIE_AT LEASE_S ARGUMENT
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from vedette.core.clock import SystemClock
from vedette.core.db import sa
from vedette.core.errors import ConflictError
from vedette.move.idempotency import Idempotency, IdempotencyMiddleware
from vedette.move.ledger import Account, Ledger, Ledgers, Transfer

SECRET = b"sixteen bytes or more"
POINTS = ("begun", "processor.called", "moved.unsaved", "moved", "answered")
"""Every fault point of a request, in order."""


class Shop:
    """Charges through a processor outside and a ledger inside, with recovery points.

    Args:
        keys: Idempotency keys; the ledger is in the same database.
        step: Told each of `POINTS` as it is reached.
    """

    def __init__(self, keys, clock, step=lambda _name: None):
        self.keys, self.step = keys, step
        self.ledgers = Ledgers(keys.db, clock)
        self.ledger = Ledger(self.ledgers, "t")
        self.ledger.create_accounts([Account(1, ledger=1, code=1), Account(2, ledger=1, code=1)])
        with keys.db.begin() as connection:
            connection.exec_driver_sql("create table if not exists processor (id text primary key, calls integer)")
        self.calls = 0

    def process(self, resource):
        """The processor outside: idempotent by the id we send, as they are; counts how often it was asked."""
        with self.keys.db.begin() as connection:
            connection.execute(
                sa.text(
                    "insert into processor (id, calls) values (:id, 1)"
                    " on conflict (id) do update set calls = processor.calls + 1"
                ),
                {"id": resource},
            )

    def charge(self, attempt, wanted):
        self.step("begun")
        if not attempt.point:
            self.process(attempt.resource)
            with attempt.step("processed"):
                self.step("processor.called")
        if attempt.point == "processed":
            with attempt.step("moved") as connection:
                move = Transfer(int(attempt.resource, 16), 1, 2, wanted["amount"], ledger=1, code=1)
                assert self.ledgers.create_transfers("t", [move], within=connection) == ["created"]
                self.step("moved.unsaved")
        self.step("moved")
        return {"id": attempt.resource, "amount": wanted["amount"]}

    async def __call__(self, scope, receive, send):
        body = (await receive())["body"]
        self.calls += 1
        wanted = json.loads(body)
        status = wanted.get("status", 201)
        made = self.charge(scope["idempotency"], wanted) if status == 201 else {"status": status, "n": self.calls}
        headers = [(b"content-type", b"application/json"), (b"x-made-by", str(os.getpid()).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(made).encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"\n"})
        self.step("answered")

    def count(self):
        """(transfers, processor's ids, processor's calls)"""
        with self.keys.db.read() as connection:
            moved = connection.exec_driver_sql("select count(*) from ledger_transfer").scalar_one()
            ids, calls = connection.exec_driver_sql("select count(*), coalesce(sum(calls), 0) from processor").one()
        return moved, ids, calls


async def ask(app, body, *, key="k", path="/charges", method="POST", tenant="", headers=()):
    """(status, headers, body) of one request."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    got = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        got.append(message)

    given = [] if key is None else [(b"Idempotency-Key", key.encode("latin-1"))]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [*given, *headers]}
    await app({**scope, "tenant": tenant}, receive, send)
    found = {name.decode(): value.decode() for name, value in got[0]["headers"]}
    return got[0]["status"], found, b"".join(message.get("body", b"") for message in got[1:])


def call(app, body, **more):
    return asyncio.run(ask(app, json.dumps(body).encode(), **more))


def patiently(app, body, **more):
    """Asks until the answer is final."""
    while True:
        answer = call(app, body, **more)
        if answer[0] != 409:
            return answer
        time.sleep(0.01)


def made(keys, clock, **options):
    shop = Shop(keys, clock, **options)
    return shop, IdempotencyMiddleware(shop, keys, tenant_of=lambda scope: scope.get("tenant", ""))


def clients(app, count):
    """So many threads, one key; a line for each answer."""
    barrier = threading.Barrier(count)

    def act():
        barrier.wait()
        status, headers, body = patiently(app, {"amount": 5})
        replayed = headers.get("idempotent-replayed", "false")
        print(status, headers["content-type"], replayed, hashlib.sha256(body).hexdigest(), flush=True)

    threads = [threading.Thread(target=act) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    target, verb, die_at, lease_s, argument = sys.argv[1:6]
    keys = Idempotency.open(target, secret=SECRET, lease_s=float(lease_s))

    def step(name):
        if name != die_at:
            return
        if verb == "stop":
            print("stopping", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP if verb == "stop" else signal.SIGKILL)

    _, app = made(keys, SystemClock(), step=step)
    if verb == "clients":
        clients(app, int(argument))
        return
    try:
        status, headers, body = call(app, {"amount": 5})
        print(status, headers.get("idempotent-replayed", "false"), body.hex())
    except ConflictError as error:
        print(error.code)


if __name__ == "__main__":
    main()
