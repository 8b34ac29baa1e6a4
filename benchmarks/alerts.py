"""Alerts under load: a storm that hides one attack, the rate of ingest, and the queue over a million stored alerts.

    python benchmarks/alerts.py                    # all, with 1,000,000 stored alerts
    python benchmarks/alerts.py --stored 100000    # a smaller store
    python benchmarks/alerts.py --home FOLDER      # keep the store, and use it again

The storm: 10,000 alerts in an hour, from three broken rules that fire on thousands of hosts and forty rules that fire
now and then, and an attack of four alerts on one key: two of rules of its own, two of rules that storm. What is printed
is how many groups people see, the rank of the attack among them and in the plain queue, time and memory. The same hour
with nothing but the attack taken out must have no group of that key: the check can fail.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from vedette.act.alerts import Alerts
from vedette.act.grouping import AlertState
from vedette.act.merging import Merging
from vedette.act.queue import AlertFilter
from vedette.core.clock import DAY, MICROS, SystemClock
from vedette.core.db import open_database
from vedette.core.event import Entity
from vedette.core.ids import Ids
from vedette.core.settings import Settings
from vedette.core.signal import Level, Signal
from vedette.prove.access import Role
from vedette.prove.audit import Audit
from vedette.run.platform import Platform
from vedette.serve.app import build_app

TENANT = "acme"
STORM, ATTACKED = 10_000, "key_7f3a"
BATCH = 500
HOST = "http://127.0.0.1:8700"
LEVELS = list(Level)


class Fixed:
    """A clock that stands."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        """Always the same."""
        return self._now

    def monotonic(self) -> float:
        """The same, in seconds."""
        return self._now / MICROS


def signal(name: str, rule: str, level: Level, at: int, *entities: Entity, tags: tuple[str, ...] = ()) -> Signal:
    return Signal(
        id=f"s-{name}",
        tenant=TENANT,
        rule_id=rule,
        rule_version="v1",
        title=f"What {rule} looks for",
        level=level,
        event_id=f"e-{name}",
        event_time=at,
        source="cloudtrail",
        entities=entities,
        tags=tags,
        why={"eventName": "GetSecretValue"},
    )


def storm(start: int, rng: random.Random, *, attack: bool = True) -> list[Signal]:
    """An hour of alerts, one signal each, in the order of their time."""
    found: list[Signal] = []
    pairs: set[tuple[int, int]] = set()
    for number in range(2 * STORM):
        if len(found) == STORM - 4 * attack:
            break
        at = start + rng.randrange(3_600 * MICROS)
        if rng.random() < 0.8:
            rule, level, host = f"broken_{number % 3}", LEVELS[2 + number % 3], Entity("host", f"h{number}")
            found.append(signal(str(number), rule, level, at, host))
        else:
            rule, name = rng.randrange(40), number % 1_900
            if (rule, name) in pairs:
                continue  # it would join the alert that is there
            pairs.add((rule, name))
            who = Entity("user", f"u{name}")
            found.append(signal(str(number), f"usual_{rule}", LEVELS[rule % 4], at, who, tags=("attack.t1078",)))
    if attack:
        key, course = Entity("key", ATTACKED), start + 1_800 * MICROS
        steps = [
            ("usual_6", Level.MEDIUM, "attack.t1078"),
            ("secret_read_from_new_place", Level.HIGH, "attack.t1552"),
            ("usual_11", Level.HIGH, "attack.t1078"),
            ("cards_tested_by_key", Level.HIGH, "attack.t1657"),
        ]
        for number, (rule, level, tag) in enumerate(steps):
            at = course + number * 300 * MICROS
            found.append(signal(f"attack-{number}", rule, level, at, key, tags=(tag,)))
    return sorted(found, key=lambda one: (one.event_time, one.id))


def measure_storm() -> None:
    start = 1_750_000_000 * MICROS // (3_600 * MICROS) * 3_600 * MICROS
    clock = Fixed(start + 3_700 * MICROS)
    for attack in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            database = open_database(Path(folder) / "state.db")
            alerts = Alerts(database)
            merging = Merging(database, clock, Ids(clock), Audit(lambda *_: None, clock, Ids(clock)))
            signals = storm(start, random.Random(5), attack=attack)
            before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            for place in range(0, len(signals), BATCH):
                alerts.apply([(one, one.event_time) for one in signals[place : place + BATCH]])
            taken = time.process_time() - cpu
            cpu = time.process_time()
            groups = merging.groups(TENANT, limit=500)
            grouped = time.process_time() - cpu
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            ranks = [place for place, group in enumerate(groups, 1) if group.about == f"key:{ATTACKED}"]
            queue = alerts.page(TENANT, AlertFilter(state=(AlertState.NEW,)), limit=1_000, now=clock.now()).alerts
            plain = [place for place, alert in enumerate(queue, 1) if alert.entity and alert.entity.id == ATTACKED]
            print(f"storm {'with' if attack else 'without'} the attack: {alerts.count(TENANT)} alerts in an hour")
            print(f"  groups {len(groups)}, rank of the attack {ranks}, its ranks in the plain queue {plain}")
            print(
                f"  ingest {taken:.2f} CPU s, grouping {grouped * 1e3:.0f} ms CPU, peak memory +{memory / 1024:.0f} MB"
            )
            assert ranks == ([1] if attack else [])
            database.close()


def history(number: int, now: int, rng: random.Random, stored: int) -> Signal:
    """One alert of the last year; 300 rules, 5,000 users."""
    rule = rng.randrange(300)
    at = now - (stored - number) * (365 * DAY // stored)
    user = Entity("user", f"u{rng.randrange(5_000)}")
    address = Entity("ip", f"10.{rng.randrange(8)}.{rng.randrange(256)}.{rng.randrange(256)}")
    return signal(
        str(number), f"rule_{rule}", LEVELS[rule % 5], at, user, address, tags=(f"attack.t{1000 + rule % 40}",)
    )


def fill(home: Path, stored: int) -> None:
    """Alerts as consumers write them; nine of ten of the old ones resolved."""
    database = open_database(home / "state.db")
    alerts, rng, now = Alerts(database), random.Random(9), SystemClock().now()
    held = alerts.count(TENANT)
    if held >= stored * 0.99:
        database.close()
        return
    cpu, wall = time.process_time(), time.perf_counter()
    for place in range(0, stored, BATCH):
        made = [history(number, now, rng, stored) for number in range(place, min(stored, place + BATCH))]
        alerts.apply([(one, one.event_time) for one in made])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(
        f"ingest: {stored / wall:,.0f} alerts/s ({stored / cpu:,.0f} a CPU second), each of its own, synced in {BATCH}s"
    )
    old = now - 14 * DAY
    with database.begin() as connection:
        connection.exec_driver_sql(
            "update alert set state = 'resolved', body = json_set(body, '$.state', 'resolved') "
            f"where created_time < {old} and substr(id, 4, 1) <> '0'"
        )
        connection.exec_driver_sql("analyze")
    database.close()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def ask(app: httpx.ASGITransport, cookie: str, paths: list[str], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {path: [] for path in paths}
    headers = {"cookie": f"vedette={cookie}", "accept": "text/html"}
    async with httpx.AsyncClient(transport=app, base_url=HOST) as client:
        for turn in range(rounds + 1):
            for path in paths:
                start = time.perf_counter()
                answer = await client.get(path, headers=headers)
                assert answer.status_code == 200, (path, answer.status_code)
                if turn:
                    found[path].append((time.perf_counter() - start) * 1e3)
    return found


def measure_queue(home: Path, stored: int, rounds: int) -> None:
    fill(home, stored)
    platform = Platform(Settings(home=home, tenant=TENANT), clock=SystemClock())
    person = platform.access.people.create(TENANT, "Ana")
    for role in (Role.ANALYST, Role.RESPONDER):
        platform.access.people.grant(TENANT, person.id, role, by="system")
    cookie = platform.access.sessions.open(TENANT, person.id, proven=True).secret.reveal()
    transport = httpx.ASGITransport(build_app(platform))
    paths = [
        "/alerts",
        "/alerts?state=new&state=in_progress&level=critical&sort=risk",
        "/alerts?state=new&rule=rule_17&sort=newest",
        "/alerts?state=resolved&sort=risk",
        "/alerts?assignee=nobody&state=new&sort=risk",
        "/alerts?entity=user:u17&sort=risk",
        "/alerts?view=all&sort=newest",
        "/alerts/groups",
    ]
    print(f"queue page over {platform.alerts.count(TENANT):,} stored alerts, whole answers of the application, ms:")
    found = asyncio.run(ask(transport, cookie, paths, rounds))
    for path, times in found.items():
        print(f"  p50 {statistics.median(times):6.1f}  p95 {percentile(times, 0.95):6.1f}  {path}")
    whole = [each for path, times in found.items() if path != "/alerts/groups" for each in times]
    print(f"  all views of the queue together: p95 {percentile(whole, 0.95):.1f} ms")
    platform.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--only", choices=["storm", "queue"])
    args = parser.parse_args()
    if args.only != "queue":
        measure_storm()
    if args.only != "storm":
        with tempfile.TemporaryDirectory() as folder:
            home = args.home or Path(folder)
            home.mkdir(parents=True, exist_ok=True)
            measure_queue(home, args.stored, args.rounds)


if __name__ == "__main__":
    main()
