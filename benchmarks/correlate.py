"""Correlations on the stream: events per CPU second with and without them, and memory for each group.

    python benchmarks/correlate.py [--events N] [--groups N]

N events (default 60,000; some minutes in all) of sign-ins, cloud calls, product events and decisions go through the
detecting stages from a log on disk to signals on disk, once with the shipped rules on single events alone and once with
the shipped correlations as well. Two in a hundred sign-ins fail. Then one correlation is given a moment for each of
many group keys: bounded by its default, and by a bound that is never reached, to see what a group costs.
"""

from __future__ import annotations

import argparse
import heapq
import random
import resource
import tempfile
import time
import tracemalloc
from pathlib import Path

import msgspec

from vedette.core.clock import MICROS, SystemClock, to_iso
from vedette.core.content import shipped
from vedette.core.db import open_database
from vedette.core.decision import Action, Decision
from vedette.core.log import SqliteLog
from vedette.judge.correlation.definition import Condition, Kind, Measure
from vedette.judge.correlation.moments import Moment
from vedette.judge.correlation.window import Limits, Window
from vedette.judge.shipments import Shipments
from vedette.judge.sigma.card import Cards
from vedette.judge.sigma.load import RuleSet
from vedette.run.metrics import Meters
from vedette.run.pipeline.detecting import detecting
from vedette.run.pipeline.detection import Detection, load_detection
from vedette.run.pipeline.rollout import Rollout
from vedette.run.pipeline.stream import advance
from vedette.sense.sources import load_sources

START = 1_772_000_000 * MICROS
PIECE = 5_000


def record(rng: random.Random, number: int, at: int) -> tuple[str, dict[str, object]]:
    """A source and a record of it."""
    moment = to_iso(at)
    ip = f"198.51.{rng.randrange(100)}.{rng.randrange(250)}"
    match rng.randrange(4):
        case 0:
            result = "FAILURE" if rng.random() < 0.02 else "SUCCESS"
            return "identity", {
                "uuid": f"i{number}",
                "published": moment,
                "eventType": "user.session.start",
                "actor": {"alternateId": f"u{rng.randrange(3_000)}@x.example"},
                "client": {"ipAddress": ip, "userAgent": {"rawUserAgent": f"Browser/{rng.randrange(20)}"}},
                "outcome": {"result": result},
            }
        case 1:
            return "cloudtrail", {
                "eventID": f"c{number}",
                "eventTime": moment,
                "eventVersion": "1.09",
                "eventSource": "s3.amazonaws.com",
                "eventName": "GetObject",
                "awsRegion": "eu-west-1",
                "sourceIPAddress": "10.20.0.9",
                "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/api/api-1"},
            }
        case 2:
            kind = rng.choice(["api_key.used", "login.succeeded", "customer.viewed", "login.failed"])
            return "product", {
                "id": f"p{number}",
                "type": kind,
                "time": moment,
                "merchant": f"mer_{rng.randrange(2_000)}",
                "customer": f"cus_{rng.randrange(90_000)}",
                "user": f"s{rng.randrange(150)}@x.example",
                "ticket": "T-1",
                "ip": ip,
                "user_agent": "shop-server/2.4",
            }
    return "osquery", {
        "name": "processes",
        "hostIdentifier": f"lt-{rng.randrange(200)}",
        "unixTime": str(at // MICROS),
        "action": "added",
        "columns": {"name": "zsh", "path": "/bin/zsh", "pid": "1"},
    }


def write_log(folder: Path, count: int) -> None:
    """Events a fifth of a second apart, and a decision for every fourth."""
    rng, sources = random.Random(7), load_sources()
    with SqliteLog(folder, SystemClock()) as log:
        for begin in range(0, count, PIECE):
            events, decisions = [], []
            for number in range(begin, min(count, begin + PIECE)):
                at = START + number * MICROS // 5
                name, data = record(rng, number, at)
                made = sources[name].to_event(data, tenant="t", stream="b", offset=0, ingest_time=at)
                events.append(msgspec.json.encode(made))
                if number % 4 == 0:
                    decisions.append(msgspec.json.encode(decision(rng, number, at)))
            log.append("event", "t", events)
            log.append("decision", "t", decisions)


def decision(rng: random.Random, number: int, at: int) -> Decision:
    """One of a hundred is blocked."""
    data = {
        "source": f"tok_{rng.randrange(100_000)}",
        "merchant": f"mer_{rng.randrange(2_000)}",
        "key": f"key_{rng.randrange(2_000)}",
        "device": f"dev_{rng.randrange(90_000)}",
        "ip": f"198.51.{rng.randrange(100)}.{rng.randrange(250)}",
        "amount_minor": rng.randrange(100, 20_000),
        "currency": "EUR",
    }
    action = Action.BLOCK if rng.random() < 0.01 else Action.ALLOW
    return Decision(
        event_id=f"d{number}",
        tenant="t",
        action=action,
        score=0.1,
        risk_score=10,
        time=at,
        event=data,
        source="product",
    )


def run(folder: Path, detection: Detection) -> tuple[float, int]:
    """CPU seconds of the stages, and signals."""
    with SqliteLog(folder / "log", SystemClock()) as log, tempfile.TemporaryDirectory() as place:
        for topic in ("event", "decision"):
            log.commit("detect", topic, 0, 0)
        before = log.end("signal", 0)
        state = open_database(Path(place) / "state.db")
        clock = SystemClock()
        rollout = Rollout(detection, Shipments(state, clock), clock, detection.sources, Cards())
        stages = detecting(log, rollout, Meters(), state)
        begin = time.process_time()
        while sum(advance(log, stages, Meters()).values()):
            pass
        spent = time.process_time() - begin
        state.close()
        return spent, log.end("signal", 0) - before


def memory(groups: int, bound: int) -> tuple[int, int, float]:
    """Groups held, bytes a group, microseconds a moment."""
    window = Window(Measure(Kind.VALUE_COUNT, 3_600 * MICROS, Condition(gte=10), 1), Limits(groups=bound))
    tracemalloc.start()
    begin = time.process_time()
    for number in range(groups):
        window.add(
            (f"203.0.{number >> 8}.{number & 255}",), Moment(number, f"event-{number}", 0, f"user-{number % 99}")
        )
    spent = time.process_time() - begin
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return window.groups, held // window.groups, spent / groups * MICROS


def hidden(groups: int) -> tuple[int, int, int, int]:
    """Sprays found, of 20 among keys that come once; groups held, groups forgotten early, megabytes more.

    A quarter of the keys comes in each timespan, far more than are held. A spray makes 12 guesses, one a minute.
    """
    rng, span = random.Random(3), 3_600 * MICROS
    starts = [rng.randrange(3 * span) for _ in range(20)]
    sprays = [(at + n * 60 * MICROS, f"spray-{attack}", f"u{n}") for attack, at in enumerate(starts) for n in range(12)]
    noise = ((n * 4 * span // groups, f"198.51.{n}", f"user-{n % 99}") for n in range(groups))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    window, found = Window(Measure(Kind.VALUE_COUNT, span, Condition(gte=10), 1)), set()
    for number, (at, key, value) in enumerate(heapq.merge(noise, sorted(sprays))):
        found |= {one.group for one in window.add((key,), Moment(at, f"event-{number}", 0, value))}
        if number % 2_000 == 0:
            window.advance(at, at)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return len(found), window.groups, window.counts["evicted"], more // 1024


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--groups", type=int, default=1_000_000)
    options = parser.parse_args()
    whole = load_detection([shipped("rules/sigma")])
    used = {part.id for one in whole.rules.correlations for part in one.parts}
    alone = RuleSet(tuple(rule for rule in whole.rules.rules if rule.id not in used))
    same = RuleSet(whole.rules.rules)
    with tempfile.TemporaryDirectory() as place:
        write_log(Path(place) / "log", options.events)
        records = options.events * 5 // 4
        print(f"{'':40} {'records':>9} {'CPU s':>7} {'records/CPU s':>14} {'signals':>8}")
        for name, rules in (
            ("rules on single events", alone),
            ("and the rules correlations rest on", same),
            ("and correlations", whole.rules),
        ):
            spent, signals = min(run(Path(place), Detection(rules)) for _ in range(2))
            print(f"{name:40} {records:9,} {spent:7.2f} {records / spent:14,.0f} {signals:8,}")
    print(f"\n{'distinct groups':>16} {'bound':>11} {'held':>9} {'bytes/group':>12} {'us/moment (traced)':>19}")
    for groups, bound in ((options.groups, Limits().groups), (100_000, 1_000_000)):
        held, size, each = memory(groups, bound)
        print(f"{groups:16,} {bound:11,} {held:9,} {size:12,} {each:19.1f}")
    sprays, held, gone, more = hidden(options.groups)
    print(
        f"{options.groups:,} keys seen once: {sprays} of 20 sprays among them found, {held:,} groups held, "
        f"{gone:,} counted as forgotten early, {more} MB more"
    )
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
