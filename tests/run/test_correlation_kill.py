"""Correlations on the stream: a process killed at every step, twice, leaves the signals that an unkilled one leaves."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from correlation_child import STEPS

from vedette.core.clock import MICROS, SystemClock, to_iso
from vedette.core.decision import Action, Decision
from vedette.core.log import SqliteLog
from vedette.sense.sources import load_sources

pytestmark = pytest.mark.kill

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
START = 1_772_000_000 * MICROS
MINUTE = 60 * MICROS
RULES = """
title: A few sign-ins of one person, not many
id: 31111111-1111-4111-8111-111111111111
level: low
correlation:
  {type: event_count, rules: [sign_in_succeeded], group-by: [actor.alternateId], timespan: 10m, condition: {gte: 2, lte: 5}}
---
title: Payments are dear on average
id: 41111111-1111-4111-8111-111111111111
level: low
correlation:
  {type: value_avg, rules: [payment_decided], group-by: [merchant], timespan: 10m, condition: {gt: 20000, field: amount_minor}}
---
title: Address that a person never used
id: 51111111-1111-4111-8111-111111111111
name: new_address
level: medium
correlation:
  {type: first_seen, rules: [sign_in_failed], group-by: [actor.alternateId], timespan: 2h, learn: 4m, condition: {field: client.ipAddress}}
---
title: New addresses of a person within an hour, a chain that waits for what waits
id: 61111111-1111-4111-8111-111111111111
level: low
correlation:
  {type: event_count, rules: [new_address], group-by: [actor.alternateId], timespan: 1h, generate: true, condition: {gte: 1, lte: 3}}
---
title: Signs about a person or an address add up
id: 71111111-1111-4111-8111-111111111111
level: high
correlation: {type: risk, group-by: [user, ip], timespan: 1h, condition: {gte: 60}}
"""


def sign_in(number, time, user, address, result="FAILURE"):
    return ("identity", time, {
        "uuid": f"i{number}", "published": to_iso(time), "eventType": "user.session.start", "actor": {"alternateId": user},
        "client": {"ipAddress": address, "userAgent": {"rawUserAgent": "B/1"}}, "outcome": {"result": result},
    })  # fmt: skip


def secret(number, time, name):
    return ("cloudtrail", time, {
        "eventID": f"c{number}", "eventTime": to_iso(time), "eventVersion": "1", "eventName": "GetSecretValue",
        "eventSource": "secretsmanager.amazonaws.com", "sourceIPAddress": "198.51.100.9",
        "requestParameters": {"secretId": name},
    })  # fmt: skip


def decided(number, time, card, key, *, action=Action.BLOCK, amount=100):
    data = {"source": card, "key": key, "merchant": f"mer_{key}", "amount_minor": amount, "currency": "EUR"}
    return Decision(
        event_id=f"d{number}", tenant="acme", action=action, score=0.9, risk_score=90, time=time, event=data, source="product"
    )  # fmt: skip


def write_log(home):
    """Two hours of honest noise, sprays, a stolen key and dear payments, a little out of order, some records twice."""
    rng = random.Random(11)
    events, decisions = [], []
    for number in range(300):
        time = START + rng.randrange(120) * MINUTE + rng.randrange(MINUTE)
        result = "FAILURE" if number % 9 == 0 else "SUCCESS"
        events.append(sign_in(number, time, f"u{number % 80}@x", f"198.51.100.{number % 60}", result))
    for attack, at in enumerate((20, 70)):
        for number in range(30):
            time = START + at * MINUTE + number * 8 * MICROS
            events.append(sign_in(f"s{attack}-{number}", time, f"v{number}@x", f"203.0.113.{attack}"))
        events.append(sign_in(f"ok{attack}", START + (at + 6) * MINUTE, "v3@x", f"203.0.113.{attack}", "SUCCESS"))
    for number in range(3):
        events.append(secret(number, START + (10 + 30 * number) * MINUTE, f"key_{number}"))
        for card in range(8):
            time = START + (30 + 30 * number) * MINUTE + card * 20 * MICROS
            decisions.append(decided(f"{number}-{card}", time, f"tok_{card}", f"key_{number}"))
    for number in range(300):
        time = START + rng.randrange(120) * MINUTE
        amount = 60_000 if number % 100 < 4 else 900
        decisions.append(
            decided(f"n{number}", time, f"own{number}", f"shop{number % 7}", action=Action.ALLOW, amount=amount)
        )
    sources = load_sources()
    made = [
        sources[name].to_event(data, tenant="acme", stream="t", offset=0, ingest_time=time)
        for name, time, data in events
    ]
    made += rng.sample(made, 40)
    made.sort(key=lambda event: event.event_time + rng.randrange(4 * MINUTE))
    decisions += rng.sample(decisions, 20)
    decisions.sort(key=lambda decision: decision.time + rng.randrange(4 * MINUTE))
    with SqliteLog(home / "log", SystemClock()) as log:
        log.append("event", "acme", [msgspec.json.encode(event) for event in made])
        log.append("decision", "acme", [msgspec.json.encode(decision) for decision in decisions])


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("correlation")
    (folder / "more.yml").write_text(RULES)
    write_log(folder / "home")
    return folder


def child(fresh, home, step="none", nth=0, **more):
    command = [sys.executable, str(HERE / "correlation_child.py"), str(home), str(fresh / "more.yml"), step, str(nth)]
    environment = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "HOME": str(fresh), **more}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def outcome(home):
    """Signals by id, and how far the stages are behind."""
    with SqliteLog(home / "log", SystemClock()) as log:
        found = [json.loads(record.value) for record in log.read("signal", 0, 0, 100_000)]
        lags = [log.end(topic, 0) - log.committed("detect", topic, 0) for topic in ("event", "decision")]
    assert lags == [0, 0]
    return {each["id"]: (each["rule_id"], json.dumps(each["entities"])) for each in found}


@pytest.fixture(scope="module")
def wanted(fresh, tmp_path_factory):
    home = tmp_path_factory.mktemp("whole") / "home"
    shutil.copytree(fresh / "home", home)
    done = child(fresh, home)
    assert done.returncode == 0, done.stderr
    found = outcome(home)
    fired = {rule for rule, _ in found.values()}
    assert {f"{number}1111111-1111-4111-8111-111111111111" for number in (3, 4, 5, 6, 7)} < fired
    assert len(fired) >= 5, "chains and both topics too"
    return found


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(step, fresh, wanted, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(fresh / "home", home)
    died = sum(child(fresh, home, step, nth).returncode == -signal.SIGKILL for nth in (1, 2, 5, 3))
    assert died >= 3, f"{step} is hardly reached"
    done = child(fresh, home)
    assert done.returncode == 0, done.stderr
    assert outcome(home) == wanted


@pytest.mark.parametrize(
    ("mistake", "step"),
    [("no_journal", "place.after"), ("journal_first", "journal.after"), ("place_first", "signal.before")],
)
def test_a_planted_mistake_is_noticed(mistake, step, fresh, wanted, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(fresh / "home", home)
    died = [child(fresh, home, step, nth, PLANT=mistake).returncode for nth in (3, 1, 2)]
    assert -signal.SIGKILL in died
    assert child(fresh, home, PLANT=mistake).returncode == 0
    assert outcome(home) != wanted
