"""Three days of CloudTrail records with failures in bursts, and rules over them, for the tests of jobs."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

from vedette.act.alerts import Alerts
from vedette.core.clock import SystemClock
from vedette.core.log import SqliteLog
from vedette.core.settings import load_settings
from vedette.run.files import Files
from vedette.run.jobs.running import Jobs
from vedette.run.parts import Parts
from vedette.run.pipeline.detection import load_detection
from vedette.run.platform import Platform
from vedette.sense.history import Span
from vedette.sense.store import Store

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = 3_600_000_000
FIRST = int(START.timestamp()) * 1_000_000
SPAN = Span(FIRST + 6 * HOUR, FIRST + 54 * HOUR)
"""Begins and ends in the middle of days, with events on both sides."""

RULES = """
title: Trail stopped
id: 10000000-0000-0000-0000-000000000001
name: stopped
level: high
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventName: StopLogging}, condition: s}
---
title: Call refused
id: 10000000-0000-0000-0000-000000000002
name: refused
logsource: {product: aws, service: cloudtrail}
detection: {s: {errorCode|contains: denied}, filter: {resources.type: queue}, condition: s and not filter}
---
title: Many refusals
id: 10000000-0000-0000-0000-000000000003
name: many
correlation:
  type: event_count
  rules: [refused]
  group-by: [userIdentity.userName]
  timespan: 30m
  condition: {gte: 4}
---
title: Just three refusals
id: 10000000-0000-0000-0000-000000000004
correlation:
  type: event_count
  rules: [refused]
  group-by: [userIdentity.userName]
  timespan: 1h
  condition: {eq: 3}
---
title: Stopped after many refusals
id: 10000000-0000-0000-0000-000000000005
correlation:
  type: temporal_ordered
  rules: [many, stopped]
  group-by: [userIdentity.userName]
  timespan: 2h
  generate: true
"""
FIRING = {f"10000000-0000-0000-0000-00000000000{n}" for n in (1, 3, 4, 5)}
"""All but the one that only correlations read."""


def records(seed=7):
    rng = random.Random(seed)
    made = []
    for minute in range(0, 72 * 60, 2):
        user = rng.choice(["ada", "bob", "cyn", "dan"])
        burst = (minute // 120) % 5 == "ada bob cyn dan".split().index(user)
        name = "StopLogging" if rng.random() < (0.05 if burst else 0.002) else "GetObject"
        error = {"errorCode": "AccessDenied"} if rng.random() < (0.8 if burst else 0.02) else {}
        kinds = rng.choice([[], [{"type": "queue"}, {"type": "bucket"}], [{"type": "bucket"}]])
        time = START + timedelta(minutes=minute, seconds=rng.randrange(120))
        made.append((time, name, user, error, kinds))
    made.sort(key=lambda one: one[0] + timedelta(seconds=rng.randrange(400)))
    for number, (time, name, user, error, kinds) in enumerate(made):
        yield {
            "eventVersion": "1.08",
            "eventID": f"e{number}",
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": "s3.amazonaws.com",
            "eventName": name,
            "userIdentity": {"userName": user},
            **error,
            "resources": kinds,
        }


def write(folder):
    """Writes the rules and the records; gives both paths."""
    (folder / "rules").mkdir()
    (folder / "rules" / "all.yml").write_text(RULES)
    path = folder / "trail.ndjson"
    path.write_text("".join(json.dumps(record) + "\n" for record in records()))
    return folder / "rules", path


def settings_of(home):
    return load_settings(None, {"VEDETTE_HOME": str(home)})


def stream(home, rules, path):
    """What the pipeline makes of the records."""
    platform = Platform(settings_of(home), clock=SystemClock(), detection=load_detection([rules]))
    try:
        files = Files(platform, "default", [path])
        files.look(growing=False)
        files.settle()
    finally:
        platform.close()


def run(home, rules, span=SPAN, clock=None, **options):
    """Runs the job `detect`; gives it and whether there was anything to do."""
    again = options.pop("again", False)
    workers = options.pop("workers", 1)
    with Parts(settings_of(home), clock=clock or SystemClock()) as parts:
        jobs = Jobs(parts, Store(home / "store"), workers=workers)
        spec, detection = jobs.spec([str(rules)], span, tenant="default", **options)
        return jobs.run(spec, detection, again=again)


def found(home, span=SPAN):
    """Signal id -> rule, of a span, and how often each alert counted."""
    with SqliteLog(home / "log", SystemClock()) as log:
        told = [json.loads(record.value) for record in log.read("signal", 0, 0, 100_000)]
    signals = {one["id"]: one["rule_id"] for one in told if span.start <= one["event_time"] < span.end}
    return signals, len(told)


def alerts(home):
    """Alert id -> signals it counted."""
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        held: Alerts = parts.alerts
        return {one.id: one.signal_count for one in held.find("default", limit=1_000)}
