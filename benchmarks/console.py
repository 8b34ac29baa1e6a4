"""How long pages of the console take with much stored: 1,000,000 events, 100,000 decisions, 20,000 alerts.

    python benchmarks/console.py [--size 1] [--asks 40] [--home DIR]

The installation is filled through the product's own ways in (pushes, charges, signals), then served by the real
command. Every page is asked `--asks` times by one browser session, each time for another object where it has one. The
peer of a page is the same server's `/healthz`, so that what the page costs stands apart from what the machine does.
With `--home` the filled installation is kept and used again.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.settings import load_settings
from vedette.core.signal import Level, Signal
from vedette.demo.world import World
from vedette.judge.decisions.parts import Policy
from vedette.judge.decisions.register import Filters
from vedette.move.charges import ChargeItem
from vedette.prove.access import Role
from vedette.run.payments.scoring import load_scoring
from vedette.run.platform import Platform

PORT = 8790
LIMIT_MS = 200.0
EVENTS, DECISIONS, ALERTS, RULES = 1_000_000, 100_000, 20_000, 60
BATCH = 5_000
CASES = 200
IDLE = 0.15
"""Share of a core below which the server is taken to have caught up."""


@dataclass(frozen=True)
class Known:
    """What the pages are asked for."""

    session: str
    alerts: list[str]
    cases: list[str]
    decisions: list[str]
    entities: list[str]


def fill(home: Path, size: float) -> Known:
    """Fills an installation, or takes one that is filled."""
    kept = home / "known.json"
    settings = load_settings(None, {"VEDETTE_HOME": str(home)})
    scoring = load_scoring(None, shipped("rules/payment/starter.yaml"), None, Policy.OPEN)
    with Platform(settings, clock=SystemClock(), scoring=scoring) as platform:
        if not kept.exists():
            begun = time.perf_counter()
            _events(platform, settings.tenant, size)
            platform.drain()
            _alerts(platform, settings.tenant, round(ALERTS * size))
            _cases(platform, settings.tenant)
            kept.write_text("{}")
            print(f"filled in {time.perf_counter() - begun:,.0f} s", flush=True)
        return _known(platform, settings.tenant)


def _events(platform: Platform, tenant: str, size: float) -> None:
    """Pushes the logs of days of the demo world and charges its payments, until there is enough of both."""
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    pushed = charged = 0
    for seed in itertools.count(1):
        world = World(seed=seed, day=yesterday, scale=min(1.0, size))
        for place, step in enumerate(world.steps()):
            if pushed < EVENTS * size:
                for source, records in step.logs.items():
                    platform.intake(tenant).push(source, f"{seed}-{place}", b"\n".join(records))
                    pushed += len(records)
            items = [ChargeItem(payment.id + f"-{seed}", payment.request) for payment in step.payments]
            items = items[: max(0, round(DECISIONS * size) - charged)]
            for start in range(0, len(items), BATCH):
                platform.charges.create_many(tenant, items[start : start + BATCH])
            charged += len(items)
            if pushed >= EVENTS * size and charged >= DECISIONS * size:
                return


def _alerts(platform: Platform, tenant: str, count: int) -> None:
    """Signals on decided events, as rules that read decisions and charges make them."""
    rng, levels = random.Random(5), list(Level)
    rows = platform.register.find(tenant, limit=count)
    signals = []
    for number in range(count):
        rule, row = rng.randrange(RULES), rows[number % len(rows)]
        signal = Signal(
            id=f"sig-{number}",
            tenant=tenant,
            rule_id=f"rule-{rule}",
            rule_version="v1",
            title=f"Something that rule {rule} looks for",
            level=levels[rule % 5],
            event_id=row.event_id,
            event_time=row.time,
            source=row.source,
            entities=row.entities,
            tags=(f"attack.t1{rule:03}",),
            why={"type": "charge", "merchant": row.merchant},
        )
        signals.append((signal, row.time))
    for start in range(0, count, BATCH):
        platform.alerts.apply(signals[start : start + BATCH])


def _cases(platform: Platform, tenant: str) -> None:
    for alert in platform.alerts.find(tenant, limit=CASES):
        platform.cases.open(tenant, alert.title, operator="per_bench", level=alert.level, alert_id=alert.id)


def _known(platform: Platform, tenant: str) -> Known:
    rows = platform.register.find(tenant, Filters(), limit=500)
    hubs = sorted({entity.key for row in rows for entity in row.entities})
    access = platform.access
    person = access.people.create(tenant, "Bench")
    for role in Role:
        access.people.grant(tenant, person.id, role, by="system")
    return Known(
        session=access.sessions.open(tenant, person.id, proven=True).secret.reveal(),
        alerts=[alert.id for alert in platform.alerts.find(tenant, limit=100)],
        cases=[case.id for case in platform.cases.find(tenant, limit=100)],
        decisions=[row.event_id for row in rows],
        entities=random.Random(3).sample(hubs, min(200, len(hubs))),
    )


def pages(known: Known) -> dict[str, list[str]]:
    """Name -> addresses."""

    def of(path: str, ids: list[str]) -> list[str]:
        return [path + quote(each, safe="") for each in ids]

    entities = [
        f"/entities/{quote(kind, safe='')}/{quote(name, safe='')}"
        for kind, _, name in (each.partition(":") for each in known.entities)
    ]
    return {
        "peer: /healthz": ["/healthz"],
        "overview": ["/"],
        "alerts": ["/alerts", "/alerts?level=critical", "/alerts?rule=rule-7&state=new", "/alerts?q=rule"],
        "alert": of("/alerts/", known.alerts),
        "cases": ["/cases", "/cases?state=new"],
        "case": of("/cases/", known.cases),
        "decisions": ["/decisions", "/decisions?action=block", "/decisions?amount=50000"],
        "decision": of("/decisions/", known.decisions),
        "entities": ["/entities"],
        "entity": entities,
        "rules": ["/rules", "/rules/payment"],
        "models": ["/models"],
        "pipelines": ["/pipelines"],
        "audit": ["/audit", "/audit?action=people."],
        "people": ["/people"],
        "keys": ["/keys"],
        "search": [f"/search?q={quote(each)}" for each in known.entities[:20]],
    }


@contextlib.contextmanager
def served(home: Path) -> Iterator[int]:
    """The real command over a home; gives its process id once it listens."""
    environ = {**os.environ, "VEDETTE_HOME": str(home)}
    rules = ["--rules", str(shipped("rules/payment/starter.yaml")), "--sigma", str(shipped("rules/sigma"))]
    command = [sys.executable, "-m", "vedette", "serve", "--port", str(PORT), *rules]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if "listening" in line:
                    break
            yield process.pid
        finally:
            process.terminate()


def ask(connection: http.client.HTTPConnection, path: str, session: str) -> float:
    """Milliseconds to the last byte; a page that is not there ends the run."""
    begun = time.perf_counter()
    connection.request("GET", path, headers={"cookie": f"vedette={session}"})
    answer = connection.getresponse()
    answer.read()
    if answer.status not in (200, 303):
        raise SystemExit(f"{path}: {answer.status}")
    return (time.perf_counter() - begun) * 1_000


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and resident megabytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages_held = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), pages_held * os.sysconf("SC_PAGE_SIZE") / 1e6


def settle(pid: int) -> None:
    """Waits until the server has caught up with what was filled in: rules look at it now for the first time."""
    busy, before = 1.0, used(pid)[0]
    while busy > IDLE:
        time.sleep(2.0)
        now = used(pid)[0]
        busy, before = (now - before) / 2.0, now


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--asks", type=int, default=40, help="requests a page")
    parser.add_argument("--home", type=Path, help="keep the installation here")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = chosen.home or Path(folder) / "home"
        home.mkdir(parents=True, exist_ok=True)
        known = fill(home, chosen.size)
        every: list[float] = []
        result: dict[str, Any] = {}
        with served(home) as pid:
            settle(pid)
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
            print(
                f"{'page':<18} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8} {'CPU ms':>8}   load {os.getloadavg()[0]:.1f}"
            )
            for name, paths in pages(known).items():
                before = used(pid)[0]
                chosen_paths = list(itertools.islice(itertools.cycle(paths), chosen.asks))
                ask(connection, chosen_paths[0], known.session)
                times = [ask(connection, path, known.session) for path in chosen_paths]
                cpu = (used(pid)[0] - before) / (len(times) + 1) * 1_000
                row = {"p50": quantile(times, 0.5), "p95": quantile(times, 0.95), "max": max(times), "cpu": cpu}
                result[name] = row
                if not name.startswith("peer"):
                    every += times
                mark = "" if row["p95"] < LIMIT_MS else "  above the limit"
                print(
                    f"{name:<18} {row['p50']:>8.1f} {row['p95']:>8.1f} {row['max']:>8.1f} {cpu:>8.1f}{mark}", flush=True
                )
            print(f"{'all pages':<18} {quantile(every, 0.5):>8.1f} {quantile(every, 0.95):>8.1f} {max(every):>8.1f}")
            print(f"server: {used(pid)[1]:,.0f} MB resident; limit {LIMIT_MS:.0f} ms at p95")
        if chosen.json:
            print(json.dumps(result))


if __name__ == "__main__":
    main()
