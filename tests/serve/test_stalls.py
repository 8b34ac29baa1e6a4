"""Each part that can stall, stalled: the answer still comes, marked, and nothing waits on the event loop."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest
from serve_world import ALL_SCOPES, World, card, code_of, wait_for

from vedette.core import db
from vedette.core.errors import PermanentError

STALL_S = 120.0
"""How long a part hangs when nobody lets it go: who had waited for it would not be answered by then."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(db, "BUSY_MS", round(STALL_S * 1_000))
        made = World(tmp_path_factory.mktemp("home"), patience=1)
        yield made
        made.close()


@contextmanager
def locked(path):
    """Another connection's lock on a file, as another process would hold it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=300)
    connection.execute("begin exclusive")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


def in_time(call):
    """What it gives, long before a part that hangs would go on."""
    started = time.monotonic()
    answer = call()
    assert time.monotonic() - started < STALL_S / 2
    return answer


def decided(world, secret, numbers, mark):
    """The first answer with that mark, or without one: a busy machine may miss a deadline by itself, and is asked again."""
    for number in numbers:
        answer = in_time(lambda number=number: world.post("/v1/decisions", secret, {"event": card(number)}))
        if answer.status_code == 200 and answer.json()["fallback"] == mark:
            return answer.json()
    raise AssertionError(answer.text)


def known(world, secret, number):
    """Asks until the caller is known: its first question may be told to come again."""
    event = {"event": card(number)}
    return wait_for(lambda: world.post("/v1/decisions", secret, event), lambda answer: answer.status_code != 503)


@pytest.mark.parametrize("topic", ["event", "decision"])
def test_a_locked_log(world, topic):
    number = 500_000 + len(topic)
    assert known(world, world.full, number).status_code == 200
    with locked(world.platform.settings.log_folder / f"{topic}.db"):
        name = decided(world, world.full, range(number + 100, number + 200, 10), "fallback.log")["event_id"]
    # What the caller got is what the record says once the log goes on.
    wait_for(
        lambda: world.send("GET", f"/v1/decisions/{name}", world.full),
        lambda answer: answer.status_code == 200 and answer.json()["fallback"] == "fallback.log",
    )


@pytest.mark.parametrize("part", ["features", "model"])
def test_a_part_that_hangs(world, monkeypatch, part):
    recorder = world.platform.desk._open["acme", ""][0].recorder
    decide, go_on = recorder.decider.decide, threading.Event()
    number = 510_000 + len(part)
    assert known(world, world.full, number).status_code == 200

    def hang(event, risks):
        recorder.decider.stage = part
        go_on.wait(STALL_S)
        return decide(event, risks)

    monkeypatch.setattr(recorder.decider, "decide", hang)
    try:
        decided(world, world.full, range(number + 10, number + 110, 10), f"fallback.{part}")
    finally:
        go_on.set()


def test_a_database_of_keys_that_hangs(world, monkeypatch):
    """Known callers go on, unknown ones are told to come again, and neither waits for the other."""
    access = world.platform.access
    stranger = world.key(ALL_SCOPES)
    assert known(world, world.full, 520_001).status_code == 200
    go_on = threading.Event()
    authenticate = access.authenticate

    def hang(secret, origin="", max_age=None):
        go_on.wait(STALL_S)
        return authenticate(secret, origin=origin)

    monkeypatch.setattr(access, "authenticate", hang)
    monkeypatch.setattr(access, "max_age", 0.0)
    try:
        for number in range(3):
            answer = in_time(lambda n=number: world.post("/v1/decisions", world.full, {"event": card(520_002 + n)}))
            assert answer.status_code == 200, answer.text
        answer = in_time(lambda: world.post("/v1/decisions", stranger, {"event": card(520_009)}))
        assert (answer.status_code, code_of(answer)) == (503, "access.stalled")
        assert answer.headers["retry-after"] == "1"
    finally:
        go_on.set()


def test_a_database_of_keys_that_is_damaged(world, monkeypatch):
    """Known callers go on for a while, and nobody is told that a key is wrong when nobody can tell."""
    access, stranger = world.platform.access, world.key(ALL_SCOPES)
    assert known(world, world.full, 521_001).status_code == 200

    def damaged(secret, origin="", max_age=None):
        raise PermanentError("core.db.damaged", "the database file is damaged")

    monkeypatch.setattr(access, "authenticate", damaged)
    monkeypatch.setattr(access, "max_age", 0.0)
    answer = world.post("/v1/decisions", world.full, {"event": card(521_002)})
    assert answer.status_code == 200, answer.text
    answer = world.post("/v1/decisions", stranger, {"event": card(521_003)})
    assert (answer.status_code, code_of(answer)) == (503, "access.stalled")


def test_a_locked_audit_log_holds_no_refusal_up_and_no_other_caller(world):
    bare = world.key({})
    assert known(world, bare, 1).status_code == 403
    assert known(world, world.full, 530_000).status_code == 200
    with locked(world.platform.settings.log_folder / "audit.db"):
        refused = in_time(lambda: world.post("/v1/decisions", bare, {"event": card(1)}))
        assert (refused.status_code, code_of(refused)) == (403, "access.denied")
        decided(world, world.full, range(530_001, 530_021), None)
