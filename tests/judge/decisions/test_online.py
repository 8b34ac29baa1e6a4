"""Decisions over features in Redis: those of one process, and what happens when Redis hangs, dies, forgets or lies."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
import redis
from processes import free_port
from tests.conftest import FakeClock
from tests.judge.decisions.parts import transactions

from vedette.core.log import SqliteLog
from vedette.core.redis import Redis
from vedette.judge.decisions import opening
from vedette.judge.decisions.opening import open_books
from vedette.judge.decisions.recorder import DECISIONS, EVENTS, Wanted
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.sense.features.definition import load_features, shipped

CLOCK = FakeClock(1_600_000_000_000_000)
SHARE_S, IN_TIME_S = 1.5, 60.0
"""Roomy, since a busy machine is not what is looked at here; a server that is silent is silent for longer."""
EVENTS_COUNT = 60


@pytest.fixture(scope="module")
def features():
    return load_features(shipped("card_transactions"))


@pytest.fixture
def opened(tmp_path, features, redis_url, monkeypatch):
    monkeypatch.setattr(opening, "FETCH_S", SHARE_S)
    held = []

    def again(name="books", url=redis_url):
        rules = [parse_rule("block if :amount_in_usd: > 300", attributes=with_features(features.names))]
        held.append(
            open_books(
                tmp_path / name,
                features=features,
                model=None,
                rules=PaymentRules(rules),
                clock=CLOCK,
                redis=Redis(url, timeout_s=SHARE_S) if url else None,
            )
        )
        return held[-1]

    yield again
    for books in held:
        books.close()


def until(holds, seconds=240.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def decide(books, events):
    """Decisions, each as quick as if nothing was wrong."""
    found = []
    for event in events:
        started = time.monotonic()
        found.append(books.recorder.decide(event))
        assert time.monotonic() - started < IN_TIME_S
    return found


def plain(decisions):
    return [(one.action, one.features, one.fallback) for one in decisions]


def test_the_decisions_are_those_of_one_process(opened):
    events = transactions(EVENTS_COUNT)
    wanted = plain(decide(opened("alone", ""), events))
    books = opened()
    assert plain(decide(books, events[:30])) == wanted[:30]
    together = books.recorder.decide_many([Wanted(event) for event in events[30:45]])
    assert plain(together) == wanted[30:45]
    books.close()
    # Another start goes on where Redis and the log stand.
    assert plain(decide(opened(), events[45:])) == wanted[45:]


def test_a_log_that_is_ahead_of_redis_is_taken_up_at_the_start(opened, redis_url):
    events = transactions(EVENTS_COUNT)
    wanted = plain(decide(opened("alone", ""), events))
    books = opened()
    decide(books, events[:40])
    books.close()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert plain(decide(opened(), events[40:])) == wanted[40:]


FAULTS = ("hung", "killed", "emptied", "lies")


@pytest.mark.kill
@pytest.mark.parametrize("fault", FAULTS)
def test_redis_fails_and_comes_back(opened, fault, tmp_path):
    (folder := tmp_path / "redis").mkdir()
    other = free_port()
    command = ["redis-server", "--port", str(other), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    url = f"redis://127.0.0.1:{other}/0"

    def start():
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(url)
        until(lambda: _answers(client))
        return server, client

    server, client = start()
    try:
        events = transactions(EVENTS_COUNT)
        wanted = plain(decide(opened("alone", ""), events))
        books = opened(url=url)
        assert plain(decide(books, events[:20])) == wanted[:20]
        until(lambda: books.online._applied == 20)
        if fault == "hung":
            os.kill(server.pid, signal.SIGSTOP)
        elif fault == "killed":
            server.kill()
            server.wait()
        elif fault == "emptied":
            client.flushall()
            until(lambda: books.online.outages)
        else:
            for key in client.scan_iter("*:e[0-9]:*"):
                client.set(key, b"rubbish")
        during = decide(books, events[20:40])
        marked = [one for one in during if one.fallback == "fallback.features"]
        assert marked or fault == "emptied", "nobody was told"
        assert all(one.features == {} for one in marked)
        until(lambda: books.online.outages)
        if fault == "hung":
            os.kill(server.pid, signal.SIGCONT)
        elif fault == "killed":
            server, client = start()
        until(lambda: not books.online._behind and books.online.passed == 40)
        # Whatever happened meanwhile: from here on the features are those of one process, to the bit.
        assert plain(decide(books, events[40:])) == wanted[40:]
        log = SqliteLog(tmp_path / "books" / "log", CLOCK)
        assert (log.end(EVENTS, 0), log.end(DECISIONS, 0)) == (EVENTS_COUNT, EVENTS_COUNT), "a decision is lost"
        log.close()
        books.close()
    finally:
        server.kill()
        server.wait()


def _answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False
