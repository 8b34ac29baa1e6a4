"""Charges a second: one by one and in batches, in one process and over HTTP, deciding with a real model.

    python benchmarks/charges.py [--charges 10000] [--singles 300] [--clients 16]
    python benchmarks/charges.py --minutes 10 [--workers 1 2] [--postgres postgresql://user@127.0.0.1/bench]

A model and its features are trained on the demo world's history; what is charged are payments of its day. Every charge
is decided, held, captured and kept, and its answer waits for the disk. The peer of a batch is the same charges one by
one, in the same run. Answers are compared: what a batch says of a key is what a single request then says.

With --minutes it sends single charges at a steady rate for so long instead: see `steady.py`. Ends with 1 unless p99 is
under 100 ms, at most 0.01 % fail and the ledger is clean. What an earlier run left in the database is dropped.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import steady
from shop import cpu_of, payments, prepare, vedette
from vedette.core.clock import SystemClock
from vedette.core.settings import load_settings
from vedette.judge.decisions.parts import Policy
from vedette.judge.decisions.service import settle
from vedette.move.charges import ChargeItem
from vedette.run.payments.scoring import load_scoring
from vedette.run.platform import Platform

PORT = 8870
BATCH = 5_000


def show(title: str, count: int, wall: float, cpu: float, note: str = "") -> None:
    print(f"{title:<44} {count:>7,} {count / wall:>9,.0f} {cpu / count * 1e6:>9,.0f}  {note}", flush=True)


@contextlib.contextmanager
def measured(title: str, count: int, pid: int = 0) -> Iterator[None]:
    wall, used = time.perf_counter(), cpu_of(pid)
    yield
    show(title, count, time.perf_counter() - wall, cpu_of(pid) - used)


def in_process(folder: Path, model: Path, rules: Path, requests: list[dict[str, Any]], singles: int) -> None:
    settings = load_settings(None, {"VEDETTE_HOME": str(folder / "inside")})
    scoring = load_scoring(model, rules, None, Policy.OPEN)
    names = scoring.model.feature_set.names if scoring.model else ()
    print(f"model of {len(names)} features, {len(scoring.rules.rules)} rules; {os.cpu_count()} processors")
    print(f"{'':<44} {'charges':>7} {'a second':>9} {'CPU us':>9}")
    with Platform(settings, clock=SystemClock(), scoring=scoring) as platform:
        tenant = settings.tenant
        service = platform.desk.service(tenant)
        settle()
        warm = [ChargeItem(f"warm-{n}", request) for n, request in enumerate(requests[:1_000])]
        platform.charges.create_many(tenant, warm)
        with measured("in one process, one by one", singles):
            for n, request in enumerate(requests[:singles]):
                platform.charges.create(tenant, f"single-{n}", request)
        items = [ChargeItem(f"many-{n}", request) for n, request in enumerate(requests)]
        outcomes = []
        with measured(f"in one process, batches of {BATCH:,}", len(items)):
            for start in range(0, len(items), BATCH):
                outcomes += platform.charges.create_many(tenant, items[start : start + BATCH])
        for n in range(0, len(items), 997):
            if platform.charges.create(tenant, f"many-{n}", requests[n]).body != outcomes[n].body:  # type: ignore[union-attr]
                raise SystemExit(f"the answer to many-{n} differs")
        if service.fallbacks:
            print(f"answers by policy: {service.fallbacks}")


def post(connection: http.client.HTTPConnection, path: str, secret: str, body: bytes, **headers: str) -> bytes:
    sent = {"authorization": f"Bearer {secret}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request("POST", path, body, sent)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status not in (200, 201):
        raise SystemExit(f"{answer.status} {content[:300]!r}")
    return content


def over_http(folder: Path, parts: list[str], requests: list[dict[str, Any]], singles: int, clients: int) -> None:
    home = folder / "served"
    made = json.loads(vedette(home, "keys", "create", "--scope", "charges:write", "--json"))
    secret = made["secret"]
    command = [sys.executable, "-m", "vedette", "serve", "--port", str(PORT), *parts]
    with subprocess.Popen(
        command, env={**os.environ, "VEDETTE_HOME": str(home)}, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()

            def charge(connection: http.client.HTTPConnection, key: str, request: dict[str, Any]) -> None:
                body = json.dumps(request).encode()
                post(connection, "/v1/charges", secret, body, content_type="application/json", idempotency_key=key)

            connection = http.client.HTTPConnection("127.0.0.1", PORT)
            for n in range(20):
                charge(connection, f"warm-{n}", requests[n])
            with measured("over HTTP, one after the other", singles, server.pid):
                for n in range(singles):
                    charge(connection, f"single-{n}", requests[n])

            def client(number: int) -> None:
                mine = http.client.HTTPConnection("127.0.0.1", PORT)
                for n in range(number, 2 * singles, clients):
                    charge(mine, f"beside-{n}", requests[n])

            # Below the rate of one key, 100 a second after the first 200: else what is measured is the limit.
            time.sleep(3)
            with (
                measured(f"over HTTP, {clients} clients", 2 * singles, server.pid),
                ThreadPoolExecutor(clients) as pool,
            ):
                list(pool.map(client, range(clients)))
            lines = [json.dumps({"key": f"many-{n}", "charge": one}).encode() for n, one in enumerate(requests)]
            with measured(f"over HTTP, batches of {BATCH:,}", len(lines), server.pid):
                for start in range(0, len(lines), BATCH):
                    body = b"\n".join(lines[start : start + BATCH])
                    post(connection, "/v1/charges/batch", secret, body, content_type="application/x-ndjson")
        finally:
            server.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charges", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=150)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--minutes", type=float, help="single charges at a steady rate for so long")
    parser.add_argument("--rate", type=float, help="of them all; 300 a second on SQLite, 250 on PostgreSQL")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="a run for each number")
    parser.add_argument("--postgres", default="", help="URL of a database for these runs")
    given = parser.parse_args()
    if given.minutes:
        return int(not steady.run(60 * given.minutes, given.postgres, given.workers, given.rate))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests = payments(given.charges)
        model, rules = prepare(folder)
        in_process(folder, model, rules, requests, given.singles)
        over_http(folder, ["--model", str(model), "--rules", str(rules)], requests, given.singles, given.clients)
    return 0


if __name__ == "__main__":
    sys.exit(main())
