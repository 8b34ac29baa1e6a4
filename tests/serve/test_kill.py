"""SIGKILL of a real `vedette serve` at random moments: after the restart every request has happened exactly once."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import threading
import time
from collections import Counter

import httpx
import msgspec
import pytest
from server_process import PATIENCE_S, Server, make_key, vedette

from vedette.core.clock import SystemClock
from vedette.core.decision import Decision
from vedette.core.log import SqliteLog

CLIENTS = 4
LEASE_S = 31
"""A claim whose holder was killed is free again after 30 s."""
RULES = "block if :amount_in_usd: > 400\n"

pytestmark = pytest.mark.kill


class Clients:
    """Post charges, each until its answer is final; every key is asked for again after its answer came."""

    def __init__(self, url, secret, total, rng):
        self.url, self.secret = url, secret
        self.total = total
        self.keys = list(range(total))
        self.rng = rng
        self.lock = threading.Lock()
        self.answers = {}
        self.retries = Counter()
        self.wrong = []
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(CLIENTS)]

    def work(self):
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
            while True:
                with self.lock:
                    if not self.keys:
                        return
                    number = self.keys.pop(0)
                if not self.attempt(client, number):
                    with self.lock:
                        # Behind the fresh ones: a claim of a killed process is leased for a while.
                        self.keys.append(number)
                    time.sleep(0.02)

    def attempt(self, client, number):
        body = {"amount_minor": 100 + number, "currency": "EUR", "source": "tok_1", "merchant": f"m_{number % 5}"}
        headers = {"authorization": f"Bearer {self.secret}", "idempotency-key": f"k-{number}"}
        try:
            answer = client.post("/v1/charges", json=body, headers=headers)
        except httpx.TransportError:
            self.retries["no answer"] += 1
            return False
        if answer.status_code in {409, 429, 503}:
            self.retries[answer.json()["error"]["code"]] += 1
            return False
        with self.lock:
            if answer.status_code != 201 or self.answers.setdefault(number, answer.content) != answer.content:
                self.wrong.append((number, answer.status_code, answer.text))
        return True

    def again(self):
        """Every key once more: the answers that clients have must be the answers that are kept."""
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
            for number in range(self.total):
                while not self.attempt(client, number):
                    time.sleep(0.1)


def killed_run(home, *, charges, kills, seed):
    rng = random.Random(seed)
    home.mkdir()
    rules = home.with_suffix(".rules")
    rules.write_text(RULES)
    secret = make_key(home, "charges:write", "ledger:read", "decisions:write")
    server = Server(home, "--rules", rules).start()
    clients = Clients(server.url, secret, charges, rng)
    try:
        for thread in clients.threads:
            thread.start()
        for number in range(kills):
            wanted = charges * (number + 1) // (kills + 2)
            while len(clients.answers) < wanted and any(thread.is_alive() for thread in clients.threads):
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
            server.kill()
            server.start()
        for thread in clients.threads:
            thread.join(LEASE_S * 10)
        assert not any(thread.is_alive() for thread in clients.threads), clients.retries
        clients.again()
        balance = server.ask("GET", "/v1/ledger/trial-balance", secret).json()["data"]
    finally:
        code = server.stop() if server.process.poll() is None else None
    return clients, balance, code, server


def check_books(home, clients, balance):
    """What must hold whatever died when."""
    assert not clients.wrong, clients.wrong
    assert sorted(clients.answers) == list(range(clients.total))
    assert len(balance) == 1
    assert (balance[0]["pending"], balance[0]["posted"]) == ("0", "0")
    money = sqlite3.connect(home / "money.db")
    charges = money.execute("select status, count(*) from charge group by status").fetchall()
    assert charges == [("captured", clients.total)], charges
    ids = {json.loads(body)["id"] for body in clients.answers.values()}
    assert ids == {row[0] for row in money.execute("select id from charge")}
    assert money.execute("select count(*) from ledger_transfer").fetchone() == (2 * clients.total,)
    assert money.execute("select count(distinct hold_id), count(distinct capture_id) from charge").fetchone() == (
        clients.total,
        clients.total,
    )
    money.close()
    with SqliteLog(home / "log", SystemClock()) as log:
        decided = [msgspec.json.decode(r.value, type=Decision) for r in log.read("decision", 0, 0, 1_000_000)]
        events = [json.loads(r.value)["id"] for r in log.read("event", 0, 0, 1_000_000)]
    by_event = Counter(decision.event_id for decision in decided)
    # An answer by policy is amended: the same event again, the last record is what was given.
    amended = {decision.event_id for decision in decided if decision.fallback}
    assert {event for event, count in by_event.items() if count > 1} <= amended
    assert Counter(events).most_common(1)[0][1] == 1, "an event stands in the log twice"
    assert set(by_event) == set(events)
    told = {json.loads(body)["decision"]["event_id"] for body in clients.answers.values()}
    assert told <= set(by_event)
    assert len(told) == clients.total
    found = json.loads(vedette(home, "ledger", "check", "--json").stdout)
    assert found["ok"] is True
    assert vedette(home, "audit", "verify", "--json").returncode == 0


def test_a_server_killed_while_clients_pay(tmp_path):
    home = tmp_path / "home"
    clients, balance, code, server = killed_run(home, charges=120, kills=3, seed=11)
    assert clients.retries["no answer"], "no request was in hand when the server was killed"
    check_books(home, clients, balance)
    assert code == 0
    assert "Traceback" not in server.errors.read_text()
    # Planted: a charge that happened twice, as a client without a key would make it.
    money = sqlite3.connect(home / "money.db")
    columns = ", ".join(row[1] for row in money.execute("pragma table_info(charge)") if row[1] != "id")
    money.execute(f"insert into charge (id, {columns}) select 'ch_twice', {columns} from charge limit 1")
    money.commit()
    money.close()
    with pytest.raises(AssertionError, match="captured"):
        check_books(home, clients, balance)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_closes_what_it_has_and_says_nothing(tmp_path, sent):
    home = tmp_path / "home"
    home.mkdir()
    secret = make_key(home, "decisions:write", "query:read")
    server = Server(home).start()
    event = {"TRANSACTION_ID": 1, "TX_DATETIME": "2026-03-02 10:00:00", "CUSTOMER_ID": 7, "TERMINAL_ID": 9}
    decided = server.ask("POST", "/v1/decisions", secret, json={"event": event | {"TX_AMOUNT": 5}})
    asked = server.ask("POST", "/v1/query", secret, json={"sql": "select 1 as one"})
    assert (decided.status_code, asked.status_code) == (200, 200), decided.text + asked.text
    assert server.stop(sent) == 0
    told = server.errors.read_text()
    assert told.startswith("Nobody can log in"), "what a new home is told at the start, and nothing at the end"
    assert len(told.splitlines()) == 4
    seen = sqlite3.connect(home / "decisions" / "default" / "seen.db")
    assert seen.execute("select count(*) from seen").fetchone() == (1,), "what was decided was written when it closed"
    seen.close()


@pytest.mark.soak
def test_a_server_killed_many_times(tmp_path):
    home = tmp_path / "home"
    clients, balance, _, _ = killed_run(home, charges=3_000, kills=25, seed=time.time_ns())
    check_books(home, clients, balance)
