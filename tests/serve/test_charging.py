"""Single charges over HTTP: made together where they come together, the same answers whichever way they take."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from serve_world import ALL_SCOPES, MERCHANT, OTHER, READ_SCOPES, charge, code_of, fresh

from vedette.core.errors import DataError, TransientError
from vedette.serve import line as line_module
from vedette.serve.charging import HotCharging
from vedette.serve.line import Line


@pytest.fixture
def ways(world):
    """A caller that is known and takes the short way, and one that is bound to its merchant and takes the long one."""
    short, long = world.full, world.key(ALL_SCOPES, accounts=[MERCHANT])
    for secret in (short, long):
        assert world.post("/v1/charges", secret, charge(), key=fresh()).status_code == 201
    return short, long


def ask(world, secret, **changes):
    asked = {"key": fresh(), "content": b"", "headers": {"content-type": "application/json"}} | changes
    return world.send("POST", "/v1/charges", secret, **asked)


@pytest.mark.parametrize(
    "changes",
    [
        {"content": b"{"},
        {"content": b"[1]"},
        {"content": b"{}", "key": None},
        {"content": b"{}", "key": ""},
        {"content": b"{}", "key": "k" * 300},
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
        {"content": b'{"amount_minor": 1, "amount_minor": 2}'},
        {"content": b'{"merchant": "m_9", "source": "4111111111111111"}'},
        {"content": b"x" * 1_100_000},
        {"content": b'{"merchant": "m_9"}'},
    ],
)
def test_both_ways_refuse_alike(world, ways, monkeypatch, changes):
    with monkeypatch.context() as patch:
        patch.setattr(world.platform.charges, "create", None)  # what the long way asks
        short = ask(world, ways[0], **changes)
    monkeypatch.setattr(HotCharging, "takes", lambda *_: False)
    long = ask(world, ways[0], **changes)
    assert (short.status_code, short.content) == (long.status_code, long.content)
    assert short.headers["content-type"] == long.headers["content-type"]


def test_the_short_way_charges_once_and_says_so_again(world, ways, monkeypatch):
    monkeypatch.setattr(world.platform.charges, "create", None)
    key = fresh()
    first, again = (world.post("/v1/charges", ways[0], charge(), key=key) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert code_of(world.post("/v1/charges", ways[0], charge(7), key=key)) == "idempotency.mismatch"


def test_who_may_not_is_refused_and_recorded(world):
    reader, stranger = world.key(READ_SCOPES), world.key(ALL_SCOPES, accounts=["m_stranger"])
    for _ in range(2):
        assert world.post("/v1/charges", reader, charge(), key=fresh()).status_code == 403
        assert world.post("/v1/charges", stranger, charge(), key=fresh()).status_code == 404
    issued = world.issue(ALL_SCOPES)
    secret = issued.secret.reveal()
    assert world.post("/v1/charges", secret, charge(), key=fresh()).status_code == 201
    world.platform.access.revoke_key(issued.key.tenant, issued.key.id)
    assert world.post("/v1/charges", secret, charge(), key=fresh()).status_code == 401


def test_an_old_memory_of_a_key_is_looked_up_again(world, ways, monkeypatch):
    access, looked = world.platform.access, []
    monkeypatch.setattr(access, "max_age", 0.0)
    inner = access.authenticate
    monkeypatch.setattr(access, "authenticate", lambda *a, **n: looked.append(1) or inner(*a, **n))
    monkeypatch.setattr(world.platform.charges, "create", None)
    assert world.post("/v1/charges", ways[0], charge(), key=fresh()).status_code == 201
    assert looked == [1]


def test_a_charge_for_another_account_is_made_there(world, ways):
    platform = world.key(ALL_SCOPES, OTHER)
    world.post("/v1/charges", platform, charge(), key=fresh())
    world.connect({"charges": ALL_SCOPES["charges"]})
    made = world.post("/v1/charges", platform, charge(), key=fresh(), headers={"vedette-account": "acme"})
    assert made.status_code == 201
    assert world.platform.charges.get("acme", made.json()["id"]).merchant == MERCHANT


def test_every_charge_leaves_its_audit_record(world, ways):
    log = world.platform.log
    before = sum(log.end("audit", part) for part in range(log.partitions("audit")))
    for _ in range(3):
        world.post("/v1/charges", ways[0], charge(), key=fresh())
    assert sum(log.end("audit", part) for part in range(log.partitions("audit"))) == before + 3


def test_charges_that_come_together_are_made_together(world, ways, monkeypatch):
    sizes, inner, begun, arrived = [], world.platform.charges.create_each, threading.Event(), threading.Event()

    def watched(asked):
        sizes.append(len(asked))
        begun.set()
        if len(sizes) == 1:
            assert arrived.wait(300)
        return inner(asked)

    monkeypatch.setattr(world.platform.charges, "create_each", watched)
    monkeypatch.setattr(line_module, "PATIENCE_S", 60.0)

    async def all_of_them():
        headers = {"authorization": f"Bearer {ways[0]}", "content-type": "application/json"}
        asked = [
            world.client.post("/v1/charges", json=charge(100 + n), headers=headers | {"idempotency-key": fresh()})
            for n in range(9)
        ]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.to_thread(begun.wait, 20)
        await asyncio.sleep(0.3)
        arrived.set()
        return [await task for task in tasks]

    answers = world.wait(all_of_them())
    assert sorted(each.json()["amount_minor"] for each in answers) == list(range(100, 109))
    assert sum(sizes) == 9
    assert len(sizes) <= 3


# The line itself


def run(*works):
    async def gathered():
        return await asyncio.gather(*works, return_exceptions=True)

    return asyncio.run(gathered())


def test_answers_find_their_callers_and_errors_too():
    def work(asked):
        return [DataError("test.odd", "odd") if each % 2 else each * 10 for each in asked]

    line = Line(work, "test")
    found = run(*map(line.do, range(20)))
    assert found[::2] == [each * 10 for each in range(0, 20, 2)]
    assert all(isinstance(each, DataError) for each in found[1::2])


def test_what_nobody_foresaw_belongs_to_one():
    def work(asked):
        if 3 in asked:
            raise RuntimeError("three")
        return asked

    line = Line(work, "test")
    found = run(*map(line.do, range(8)))
    assert isinstance(found.pop(3), RuntimeError)
    assert found == [0, 1, 2, 4, 5, 6, 7]
    assert run(line.do(9)) == [9]


def test_one_that_hangs_holds_up_nobody(monkeypatch):
    monkeypatch.setattr(line_module, "PATIENCE_S", 0.01)
    go_on = threading.Event()

    def work(asked):
        return [go_on.wait(300) if each == "slow" else each for each in asked]

    line = Line(work, "test")

    async def both():
        slow = asyncio.create_task(line.do("slow"))
        await asyncio.sleep(0)
        assert await asyncio.wait_for(line.do("quick"), 10) == "quick"
        go_on.set()
        return await slow

    assert asyncio.run(both()) is True


def test_too_many_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(line_module, "MAX_WAITING", 2)
    at_work, go_on = threading.Event(), threading.Event()

    def work(asked):
        at_work.set()
        return [go_on.wait(300)] * len(asked)

    line = Line(work, "test")

    async def many():
        begun = [asyncio.create_task(line.do(1))]
        await asyncio.to_thread(at_work.wait, 20)
        begun += [asyncio.create_task(line.do(n)) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TransientError) as shed:
            await line.do(9)
        go_on.set()
        return shed.value.code, await asyncio.gather(*begun)

    assert asyncio.run(many()) == ("limits.load.shed", [True] * 3)


def test_loops_of_several_threads_share_a_line():
    line = Line(lambda asked: asked, "test")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda start: run(*map(line.do, range(start, start + 50))), range(0, 400, 50)))
    assert [each for some in found for each in some] == list(range(400))
