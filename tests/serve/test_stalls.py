"""Each part that can stall, stalled: the answer still comes, marked, and nothing waits on the event loop."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest
from serve_world import ALL_SCOPES, card, code_of

from vedette.core.errors import PermanentError

# Twice the deadline: what is told apart here is 50 ms from a stall of seconds, on a machine that does other things too.
IN_TIME_S = 0.25
STALL_S = 3.0


@contextmanager
def locked(path):
    """Another connection's lock on a file, as another process would hold it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("begin exclusive")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


def timed(call):
    started = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - started


@pytest.mark.parametrize("topic", ["event", "decision"])
def test_a_locked_log(world, topic):
    number = 500_000 + len(topic)
    assert world.post("/v1/decisions", world.full, {"event": card(number)}).status_code == 200
    with locked(world.platform.settings.log_folder / f"{topic}.db"):
        answer, seconds = timed(lambda: world.post("/v1/decisions", world.full, {"event": card(number + 100)}))
    assert answer.status_code == 200
    assert answer.json()["fallback"] == "fallback.log"
    assert seconds < IN_TIME_S
    # What the caller got is what the record says once the log goes on.
    time.sleep(0.5)
    assert world.send("GET", f"/v1/decisions/{number + 100}", world.full).json()["fallback"] == "fallback.log"


@pytest.mark.parametrize("part", ["features", "model"])
def test_a_part_that_hangs(world, monkeypatch, part):
    recorder = world.platform.desk._open["acme", ""][0].recorder
    decide, go_on = recorder.decider.decide, threading.Event()

    def hang(event, risks):
        recorder.decider.stage = part
        go_on.wait(STALL_S)
        return decide(event, risks)

    monkeypatch.setattr(recorder.decider, "decide", hang)
    answer, seconds = timed(lambda: world.post("/v1/decisions", world.full, {"event": card(510_000 + len(part))}))
    go_on.set()
    assert answer.json()["fallback"] == f"fallback.{part}"
    assert seconds < IN_TIME_S


def test_a_database_of_keys_that_hangs(world, monkeypatch):
    """Known callers go on, unknown ones are told to come again, and neither waits for the other."""
    access = world.platform.access
    stranger = world.key(ALL_SCOPES)
    assert world.post("/v1/decisions", world.full, {"event": card(520_001)}).status_code == 200
    go_on = threading.Event()
    authenticate = access.authenticate

    def hang(secret, origin=""):
        go_on.wait(STALL_S)
        return authenticate(secret, origin=origin)

    monkeypatch.setattr(access, "authenticate", hang)
    monkeypatch.setattr(access, "_max_age", 0.0)
    try:
        for number in range(3):
            event = {"event": card(520_002 + number)}
            answer, seconds = timed(lambda event=event: world.post("/v1/decisions", world.full, event))
            assert answer.status_code == 200, answer.text
            assert seconds < IN_TIME_S
        answer, seconds = timed(lambda: world.post("/v1/decisions", stranger, {"event": card(520_009)}))
        assert (answer.status_code, code_of(answer)) == (503, "access.stalled")
        assert answer.headers["retry-after"] == "1"
        assert seconds < IN_TIME_S
    finally:
        go_on.set()


def test_a_database_of_keys_that_is_damaged(world, monkeypatch):
    """Known callers go on for a while, and nobody is told that a key is wrong when nobody can tell."""
    access, stranger = world.platform.access, world.key(ALL_SCOPES)
    assert world.post("/v1/decisions", world.full, {"event": card(521_001)}).status_code == 200

    def damaged(secret, origin=""):
        raise PermanentError("core.db.damaged", "the database file is damaged")

    monkeypatch.setattr(access, "authenticate", damaged)
    monkeypatch.setattr(access, "_max_age", 0.0)
    answer, seconds = timed(lambda: world.post("/v1/decisions", world.full, {"event": card(521_002)}))
    assert (answer.status_code, seconds < IN_TIME_S) == (200, True), answer.text
    answer, seconds = timed(lambda: world.post("/v1/decisions", stranger, {"event": card(521_003)}))
    assert (answer.status_code, code_of(answer), seconds < IN_TIME_S) == (503, "access.stalled", True)


def test_a_locked_audit_log_holds_no_refusal_up_and_no_other_caller(world):
    bare = world.key({})
    assert world.post("/v1/decisions", bare, {"event": card(1)}).status_code == 403
    with locked(world.platform.settings.log_folder / "audit.db"):
        refused, seconds = timed(lambda: world.post("/v1/decisions", bare, {"event": card(1)}))
        assert (refused.status_code, code_of(refused)) == (403, "access.denied")
        assert seconds < IN_TIME_S
        answer, seconds = timed(lambda: world.post("/v1/decisions", world.full, {"event": card(530_001)}))
        assert answer.status_code == 200
        assert answer.json()["fallback"] is None
        assert seconds < IN_TIME_S
