"""Must a payment wait? Worker, model, rules, database and registry killed, hung and damaged: real processes throughout."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from serve_world import card
from server_process import Server, make_key, vedette

from vedette.client import Client, Policy
from vedette.core.clock import SystemClock
from vedette.core.log import SqliteLog
from vedette.core.redis import Redis
from vedette.judge.models import learners
from vedette.judge.models.calibration import Calibration
from vedette.judge.models.model import store_model
from vedette.judge.models.trees import flatten
from vedette.run.pipeline.faults import RULE
from vedette.run.supervision import usage
from vedette.sense.features.definition import parse_features

# Each server is two processes that load everything, and is replaced several times: too much for every run.
pytestmark = pytest.mark.soak

IN_TIME_S, HUNG_S = 0.25, 1.0
"""Twice the deadlines and more: a busy machine is not what is looked at here."""
RULES = "block if :amount_in_usd: > 400\n"


def worker_of(server):
    """The process that answers; 0 while there is none."""
    return child_of(server, b"--inherit\0follow", b"vedette.serve.door", without=True)


def child_of(server, *words, without=False):
    """The supervisor's child with one of these words in its command, or with none of them; 0 while there is none."""
    pid = server.process.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {one: Path(f"/proc/{one}/cmdline").read_bytes() for one in found}
    return next((int(one) for one, command in commands.items() if any(w in command for w in words) != without), 0)


@pytest.fixture
def served(tmp_path):
    home, rules = tmp_path / "home", tmp_path / "rules.txt"
    rules.write_text(RULES)
    secret = make_key(home, "decisions:write")
    server = Server(home, "--rules", rules, "--supervised", environ={"VEDETTE_PATIENCE": "1"})
    server.start()
    yield server, secret, rules
    assert server.stop() == 0


def until(holds, seconds=90.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def signals(home):
    with SqliteLog(home / "log", SystemClock()) as log:
        records = log.read("signal", 0, 0, 1_000)
    return [json.loads(record.value)["rule_id"].removeprefix(RULE) for record in records]


class Payer(threading.Thread):
    """Asks for one decision after the other, and keeps what it was told."""

    def __init__(self, url, secret, first):
        super().__init__(daemon=True)
        self.client = Client(url, secret, policy=Policy.REVIEW)
        self.number, self.told, self.slowest, self.go_on = first, {}, 0.0, True

    def run(self):
        while self.go_on:
            self.number += 1
            started = time.monotonic()
            self.told[self.number] = self.client.decide(card(self.number))
            self.slowest = max(self.slowest, time.monotonic() - started)
            time.sleep(0.005)

    def end(self):
        self.go_on = False
        self.join(20)
        self.client.close()


def assert_kept(server, secret, payer):
    """What was acknowledged is there, as it was told."""
    with Client(server.url, secret) as client:
        for number, answer in payer.told.items():
            if answer.decision is not None and answer.decision["fallback"] is None:
                again = client.decide(card(number))
                assert (again.action, again.decision["seq"]) == (answer.action, answer.decision["seq"])


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs(served, fault):
    server, secret, _ = served
    payer = Payer(server.url, secret, 100_000)
    payer.start()
    for _ in range(2):
        until(lambda: any(answer.decision for answer in list(payer.told.values())[-3:]))
        worker = worker_of(server)
        struck = time.monotonic()
        os.kill(worker, fault)
        until(lambda worker=worker: usage(worker)[0] in {"X", "Z"}, 10)
        assert time.monotonic() - struck < HUNG_S + IN_TIME_S
        until(lambda worker=worker: worker_of(server) not in {0, worker})
        count = len(payer.told)
        until(lambda count=count: any(answer.decision for answer in list(payer.told.values())[count:]))
    payer.end()
    assert payer.slowest < HUNG_S + IN_TIME_S
    by_policy = [answer for answer in payer.told.values() if answer.decision is None]
    assert {(answer.action, answer.fallback) for answer in by_policy} <= {("review", "fallback.service")}
    assert payer.client.counts["fallbacks"].get("fallback.service", 0) == len(by_policy)
    assert_kept(server, secret, payer)
    assert f"worker.{'ended' if fault == signal.SIGKILL else 'hung'}" in signals(server.home)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_door_that_dies_or_hangs(served, fault):
    server, secret, _ = served
    payer = Payer(server.url, secret, 200_000)
    payer.start()
    for _ in range(2):
        until(lambda: any(answer.decision for answer in list(payer.told.values())[-3:]))
        door, worker = child_of(server, b"vedette.serve.door"), worker_of(server)
        os.kill(door, fault)
        until(lambda door=door: child_of(server, b"vedette.serve.door") not in {0, door}, 10)
        count = len(payer.told)
        until(lambda count=count: any(answer.decision for answer in list(payer.told.values())[count:]), 10)
        assert worker_of(server) == worker  # which did not even notice
    payer.end()
    assert payer.slowest < HUNG_S + IN_TIME_S
    assert_kept(server, secret, payer)
    assert f"door.{'ended' if fault == signal.SIGKILL else 'hung'}" in signals(server.home)


def asked(server, secret, number, **changes):
    started = time.monotonic()
    with Client(server.url, secret, attempt_s=5.0, deadline_s=5.0) as client:
        answer = client.decide(card(number, **changes))
    return answer, time.monotonic() - started


def hold(path, seconds):
    """Another process's lock on a file, from now on."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("begin exclusive")
    threading.Timer(seconds, lambda: (connection.execute("rollback"), connection.close())).start()


def test_a_database_that_hangs_or_is_damaged(served):
    server, secret, _ = served
    asked(server, secret, 1)
    for number, name in enumerate(("log/event.db", "log/decision.db", "state.db", "money.db"), 2):
        hold(server.home / name, 1.5)
        answer, seconds = asked(server, secret, number)
        assert seconds < IN_TIME_S
        assert (answer.fallback == "fallback.log") is name.startswith("log/")
        time.sleep(1.7)
    until(lambda: any(name.startswith("fallback.log") for name in signals(server.home)), 20)
    # The database of keys damaged: who was known before is answered for a while.
    state = server.home / "state.db"
    state.write_bytes(b"rubbish" * 4_096)
    Path(f"{state}-wal").unlink(missing_ok=True)
    for number in range(9, 30):
        answer, seconds = asked(server, secret, number)
        assert (answer.action, answer.attempts, seconds < IN_TIME_S) == ("allow", 1, True)
        time.sleep(0.1)


FEATURES = """
source: card_transactions
event_id: TRANSACTION_ID
event_time: TX_DATETIME
lateness: 1h
fields: {amount: {path: TX_AMOUNT, decimals: 2}}
views:
  - view: customer
    entity: customer
    key: CUSTOMER_ID
    features:
      - {name: customer_count, aggregation: count, windows: [1d, 7d], include_current: true}
      - {name: customer_sum, aggregation: sum, field: amount, windows: [1d, 7d], include_current: true}
"""


@pytest.fixture
def parts(tmp_path, redis_server):
    """A server whose model is a process of its own, and whose features are in Redis; a merchant that wants a block."""
    features = parse_features(FEATURES)
    x = np.random.default_rng(1).normal(size=(800, len(features.names)))
    booster = lightgbm.train(learners.PARAMETERS, lightgbm.Dataset(x, label=(x[:, 0] > 0.5).astype(int)), 5)
    learners.round_leaves(booster)
    trees = flatten(booster.dump_model())
    store_model(tmp_path / "model", trees=trees, calibration=Calibration(), features=features, label_delay=0, card={})
    (tmp_path / "policies.yaml").write_text("m_careful: closed\n")
    home, (url, redis) = tmp_path / "home", redis_server
    secret = make_key(home, "decisions:write")
    options = ("--model", tmp_path / "model", "--model-apart", "--policies", tmp_path / "policies.yaml", "--supervised")
    server = Server(home, *options, environ={"VEDETTE_REDIS_URL": url, "VEDETTE_PATIENCE": "1"}).start()
    yield server, secret, redis
    redis.send_signal(signal.SIGCONT)
    assert server.stop() == 0


def model_of(server):
    """The process that answers for the model."""
    worker = worker_of(server)
    for one in Path(f"/proc/{worker}/task").glob("*/children"):
        for child in one.read_text().split():
            if b"decisions.remote" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return 0


def sound(server, secret, numbers):
    """Whether a fresh payment gets the answer of all parts."""
    answer, seconds = asked(server, secret, next(numbers))
    assert seconds < IN_TIME_S
    return answer.fallback is None and answer.decision["score"] is not None


def struck(server, secret, numbers, part, count=8):
    """Payments after a part was struck: answered in time, by policy where marked, the merchant's own where it has one."""
    marked = 0
    for place in range(count):
        careful = {"merchant": "m_careful"} if place % 2 else {}
        answer, seconds = asked(server, secret, next(numbers), **careful)
        assert seconds < IN_TIME_S
        if answer.fallback:
            assert (answer.fallback, answer.action) == (f"fallback.{part}", "block" if careful else "allow")
            marked += 1
    assert marked, "nobody was told"
    until(lambda: f"fallback.{part}" in signals(server.home), 20)
    until(lambda: sound(server, secret, numbers), 30)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_model_of_its_own_process_that_dies_or_hangs(parts, fault):
    server, secret, _ = parts
    numbers = itertools.count(1)
    until(lambda: sound(server, secret, numbers))
    child = model_of(server)
    os.kill(child, fault)
    struck(server, secret, numbers, "model")
    assert model_of(server) not in {0, child}


@pytest.mark.parametrize("fault", ["hung", "lies"])
def test_redis_that_hangs_or_lies(parts, fault):
    server, secret, redis = parts
    numbers = itertools.count(1)
    until(lambda: sound(server, secret, numbers))
    if fault == "hung":
        redis.send_signal(signal.SIGSTOP)
        threading.Timer(1.5, redis.send_signal, [signal.SIGCONT]).start()
    else:
        with Redis(server.environ["VEDETTE_REDIS_URL"]).client as client:
            for key in client.scan_iter("vedette:*:e[0-9]:*"):
                client.set(key, b"rubbish")
    struck(server, secret, numbers, "features")


def test_rules_and_lists_that_are_damaged_while_the_worker_is_replaced(served):
    server, secret, rules = served
    assert asked(server, secret, 1, TX_AMOUNT=500.0)[0].action == "block"
    worker = worker_of(server)
    rules.write_bytes(b"\xff\x00 rubbish")
    os.kill(worker, signal.SIGKILL)
    until(lambda: worker_of(server) not in {0, worker})

    def blocks():
        with Client(server.url, secret) as client:
            return client.decide(card(int(time.time() * 1e3), TX_AMOUNT=500.0)).action == "block"

    until(blocks)
    assert any(name.startswith("registry.") for name in signals(server.home))
    # A person who starts a server is told instead.
    done = vedette(server.home.with_name("other"), "serve", "--rules", rules, check=False)
    assert done.returncode != 0
