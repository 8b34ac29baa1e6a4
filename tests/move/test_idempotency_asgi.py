"""The middleware and the decorator: one effect and one answer for each key, whoever dies, sleeps or asks again."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from idempotent_app import POINTS, SECRET, ask, call, made, patiently

from vedette.core.clock import SystemClock
from vedette.core.db import sa
from vedette.core.errors import DataError, TransientError
from vedette.move.idempotency import Idempotency, IdempotencyMiddleware, idempotent
from vedette.move.ledger.check import check

CHILD = Path(__file__).parent / "idempotent_app.py"
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def keys(db, clock):
    return Idempotency(db, clock, SECRET)


@pytest.fixture
def world(keys, clock):
    return made(keys, clock)


def test_one_effect_and_the_same_bytes(world):
    shop, app = world
    first = call(app, {"amount": 5})
    again = call(app, {"amount": 5})
    assert (first[0], first[2]) == (again[0], again[2])
    assert "idempotent-replayed" not in first[1]
    assert again[1] == {**first[1], "idempotent-replayed": "true"}
    assert shop.count() == (1, 1, 1)


def test_another_body_method_path_or_tenant(world):
    shop, app = world
    first = call(app, {"amount": 5})
    for changed in ({"body": {"amount": 6}}, {"path": "/refunds"}):
        status, _, body = call(app, changed.pop("body", {"amount": 5}), **changed)
        assert (status, json.loads(body)["error"]["code"]) == (422, "idempotency.mismatch")
    other = call(app, {"amount": 5}, tenant="other")
    assert other[0] == 201
    assert other[2] != first[2]
    assert shop.count() == (2, 2, 2)


@pytest.mark.parametrize(("key", "code"), [(None, "key_missing"), ("", "key.invalid"), ("k" * 256, "key.invalid")])
def test_bad_keys_are_refused_and_nothing_is_stored(world, key, code):
    shop, app = world
    status, _, body = call(app, {"amount": 5}, key=key)
    assert (status, json.loads(body)["error"]["code"]) == (400, f"idempotency.{code}")
    status, _, body = call(app, {"amount": 5}, headers=[(b"idempotency-key", b"second")])
    assert (status, json.loads(body)["error"]["code"]) == (400, "idempotency.key_missing")
    assert shop.count() == (0, 0, 0)


def test_without_a_key_where_none_is_required(keys, clock):
    shop, _ = made(keys, clock)
    app = IdempotencyMiddleware(shop, keys, required=False)
    with pytest.raises(KeyError):  # our application needs an attempt: it was reached
        call(app, {"amount": 5}, key=None)
    with pytest.raises(KeyError):
        call(app, {"amount": 5}, method="PUT")


@pytest.mark.parametrize(("status", "calls"), [(400, 1), (402, 1), (500, 1), (429, 2), (503, 2), (409, 2)])
def test_what_a_retry_may_better_is_not_stored(world, status, calls):
    shop, app = world
    first, second = (call(app, {"status": status}) for _ in range(2))
    assert (first[0], second[0], shop.calls) == (status, status, calls)
    assert (first[2] == second[2]) == (calls == 1)


def test_a_request_in_flight_is_a_conflict(keys, clock):
    inside, go = threading.Event(), threading.Event()

    def step(name):
        if name == "begun":
            inside.set()
            assert go.wait(300)

    shop, app = made(keys, clock, step=step)
    got = []
    first = threading.Thread(target=lambda: got.append(call(app, {"amount": 5})))
    first.start()
    assert inside.wait(300)
    status, headers, body = call(app, {"amount": 5})
    assert (status, headers["retry-after"]) == (409, "1")
    assert json.loads(body)["error"]["code"] == "idempotency.key_in_use"
    go.set()
    first.join()
    assert call(app, {"amount": 5})[2] == got[0][2]
    assert shop.count() == (1, 1, 1)


def test_what_the_application_raises_frees_the_key(world):
    shop, app = world
    shop.step = lambda name: 1 / 0 if name == "moved.unsaved" else None
    with pytest.raises(ZeroDivisionError):
        call(app, {"amount": 5})
    assert shop.count() == (0, 1, 1)
    shop.step = lambda _name: None
    assert call(app, {"amount": 5})[0] == 201
    assert shop.count() == (1, 1, 1), "went on from the recovery point: the processor was not asked again"


def test_bodies_are_bounded(world):
    _, app = world
    status, _, body = asyncio.run(ask(app, b"x" * (1024 * 1024 + 1)))
    assert (status, json.loads(body)["error"]["code"]) == (413, "idempotency.body.too_large")


def test_a_late_holder_answers_with_what_is_stored(keys, clock):
    """The first attempt is overtaken between its effect and its answer."""
    shop, app = made(keys, clock)
    other = []

    def step(name):
        if name == "moved" and not other:
            clock.advance(31)
            other.append(None)
            other.append(threading.Thread(target=lambda: other.append(call(app, {"amount": 5}))))
            other[1].start()
            other[1].join()

    shop.step = step
    late = call(app, {"amount": 5})
    assert late[2] == other[2][2]
    assert shop.count() == (1, 1, 1)


# The decorator


def test_ten_lines_alone(opened, tmp_path):
    keys, _, _ = opened(f"sqlite:///{tmp_path}/keys.db")

    @idempotent(keys, "refund")
    def refund(connection, claim, order, amount):
        connection.execute(sa.text("create table if not exists refunds (id text)"))
        connection.execute(sa.text("insert into refunds values (:id)"), {"id": claim.resource})
        return {"id": claim.resource, "order": order, "amount": amount}

    first = refund(order="o-1", amount=500, key="k-1")
    assert refund(order="o-1", amount=500, key="k-1") == first
    with pytest.raises(DataError, match="mismatch"):
        refund(order="o-1", amount=501, key="k-1")
    assert refund(order="o-1", amount=500, key="k-1", tenant="b") != first
    with keys.db.read() as connection:
        assert connection.exec_driver_sql("select count(*) from refunds").scalar() == 2


def test_a_failure_leaves_nothing(keys):
    asked = []

    @idempotent(keys, "pay")
    def pay(_connection, _claim):
        asked.append(1)
        if len(asked) == 1:
            raise TransientError("bank.away", "the bank does not answer")
        return "paid"

    with pytest.raises(TransientError):
        pay(key="k")
    assert pay(key="k") == pay(key="k") == "paid"
    assert len(asked) == 2


# Real processes


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    """A database of our own, by address."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/keys.db"
        return
    base = request.getfixturevalue("postgres_url")
    schema = f"keys_{abs(hash(request.node.nodeid)) % 10**12}"
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"create schema {schema}")
        yield f"{base}?options=-csearch_path%3D{schema}"
        connection.execute(f"drop schema {schema} cascade")


def child(url, verb, *, die_at="", lease_s=30.0, argument=""):
    return subprocess.Popen(
        [sys.executable, str(CHILD), url, verb, die_at, str(lease_s), argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
    )


@pytest.fixture
def opened():
    """Opens keys by address with a shop and its application; closed at the end."""
    closing = []

    def open_(url, lease_s=30.0):
        keys = Idempotency.open(url, secret=SECRET, lease_s=lease_s)
        closing.append(keys.db.close)
        return keys, *made(keys, SystemClock())

    yield open_
    for close in closing:
        close()


@pytest.mark.kill
def test_64_clients_of_4_processes_on_one_key(opened, url):
    _, shop, _ = opened(url)
    processes = [child(url, "clients", argument="16") for _ in range(4)]
    lines = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        lines += [line.split() for line in out.splitlines()]
    assert len(lines) == 64
    assert {(status, kind, digest) for status, kind, _, digest in lines} == {(*lines[0][:2], lines[0][3])}
    assert sum(replayed == "false" for _, _, replayed, _ in lines) == 1
    assert shop.count() == (1, 1, 1)


@pytest.mark.kill
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_fault_point(opened, url, point):
    keys, shop, app = opened(url, lease_s=0.4)
    process = child(url, "once", die_at=point, lease_s=0.4)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    with keys.db.read() as connection:
        (named,) = connection.exec_driver_sql("select point from idempotency").scalars()
    assert named == {"begun": "", "processor.called": "", "moved.unsaved": "processed"}.get(point, "moved")
    status, _, body = patiently(app, {"amount": 5})
    assert (status, shop.count()[:2]) == (201, (1, 1))
    assert patiently(app, {"amount": 5})[2] == body
    assert check(keys.db).found == 0


@pytest.mark.kill
@pytest.mark.parametrize("point", ["begun", "moved", "answered"])
def test_a_partition_longer_than_the_lease(opened, url, point):
    """The holder sleeps (SIGSTOP) past its lease, another takes over; when it wakes, its writes are refused."""
    keys, shop, app = opened(url, lease_s=0.3)
    process = child(url, "stop", die_at=point, lease_s=0.3)
    assert process.stdout.readline() == "stopping\n"
    time.sleep(0.4)
    status, _, body = patiently(app, {"amount": 5})
    assert status == 201
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    late = out.split()
    assert late[0] in ("409", "201"), "refused, or told what is stored"
    assert late[0] == "409" or bytes.fromhex(late[2]) == body
    assert shop.count()[:2] == (1, 1)
    assert patiently(app, {"amount": 5})[2] == body
    assert check(keys.db).found == 0


@pytest.mark.kill
def test_without_the_fence_a_late_holder_pays_twice(opened, tmp_path, monkeypatch):
    """The check above would see it: a step that does not look at its fence makes a second effect."""
    monkeypatch.setattr("vedette.move.idempotency.store.rows.change", lambda _connection, _claim, _values: True)
    _, shop, app = opened(f"sqlite:///{tmp_path}/keys.db", lease_s=0.0)
    moved = []

    def charge(attempt, wanted):
        if not moved:
            moved.append(None)
            with ThreadPoolExecutor(1) as other:
                other.submit(call, app, {"amount": 5}).result()
        with attempt.step("moved") as connection:
            connection.exec_driver_sql("insert into processor values (?, 1)", (str(len(moved)),))
            moved.append(None)
        return wanted

    shop.charge = charge
    call(app, {"amount": 5})
    assert shop.count()[1] == 2


def dropped(app, rng, body, key):
    """A proxy that loses three of ten answers after they were committed; the client asks again under the same key."""
    while True:
        answer = call(app, body, key=key)
        if answer[0] != 409 and rng.random() >= 0.3:
            return answer


def charges(opened, url, count, threads=8):
    keys, shop, app = opened(url)
    told = {}

    def act(thread):
        rng = random.Random(thread)
        for n in range(thread, count, threads):
            told[n] = json.loads(dropped(app, rng, {"amount": 1 + n % 7}, f"key-{n}")[2])

    running = [threading.Thread(target=act, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert len({made["id"] for made in told.values()}) == count
    assert shop.count() == (count, count, count)
    (account,) = shop.ledger.lookup_accounts([1])
    assert account.debits_posted == sum(1 + n % 7 for n in range(count))
    assert check(keys.db).found == 0


def test_answers_lost_after_the_commit(opened, url):
    charges(opened, url, 120)


@pytest.mark.soak
def test_10_000_charges_with_three_of_ten_answers_lost(opened, url):
    charges(opened, url, 10_000)
