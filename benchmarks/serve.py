"""Decisions over HTTP, open loop, against a real `vedette serve`; then with each part stalled that can stall.

Requests are sent at fixed times whatever came back, and an answer's latency counts from the time at which its request
was due: a server that falls behind cannot hide it. The client is a process of its own. The model is trained here on
generated payments.

    python benchmarks/serve.py [--rate 200] [--seconds 20] [--runs 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PORT = 8780
LIMIT_MS, STALL_LIMIT_MS = 20.0, 50.0
CONNECTIONS = 64
STALL_S = 3.0
RULES = """\
block if :amount_in_usd: > 400 and :risk_score: >= 50
challenge if :amount_in_usd: > 250
review if :risk_score: >= 65
"""
FILES = ("log/event.db", "log/decision.db", "log/audit.db", "state.db", "money.db", "decisions/default/seen.db")


# The client


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head[9:12]), await self.reader.readexactly(length)


def requests(secret: str, count: int, first: int) -> list[bytes]:
    rng = random.Random(first)
    made = []
    for number in range(count):
        event = {
            "TRANSACTION_ID": first + number,
            "TX_DATETIME": f"2026-04-09 {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}",
            "CUSTOMER_ID": rng.randrange(500),
            "TERMINAL_ID": rng.randrange(900),
            "TX_AMOUNT": round(rng.lognormvariate(3.5, 1), 2),
        }
        body = json.dumps({"event": event}).encode()
        head = (
            f"POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def load(port: int, secret: str, rate: float, seconds: float, first: int) -> dict[str, Any]:
    """Sends at fixed times; latency from the time a request was due."""
    wanted = requests(secret, round(rate * seconds), first)
    idle = [Connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    for connection in idle:
        connection.reader, connection.writer = await asyncio.open_connection("127.0.0.1", port)
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    fallbacks: Counter[str] = Counter()

    async def one(due: float, request: bytes) -> None:
        connection = idle.pop() if idle else Connection("127.0.0.1", port)
        status, body = await connection.ask(request)
        latencies.append(time.perf_counter() - due)
        idle.append(connection)
        statuses[str(status)] += 1
        answer = json.loads(body)
        if status == 200 and answer["fallback"]:
            fallbacks[answer["fallback"]] += 1

    start = time.perf_counter() + 0.05
    tasks = []
    for number, request in enumerate(wanted):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(due, request)))
    await asyncio.gather(*tasks)
    latencies.sort()

    def at(share: float) -> float:
        return 1e3 * latencies[min(len(latencies) - 1, int(share * len(latencies)))]

    shares = {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": 1e3 * latencies[-1]}
    return {**shares, "sent": len(wanted), "statuses": statuses, "fallbacks": fallbacks}


def run_client(port: int, secret: str, rate: float, seconds: float, first: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--client", str(port), "--rate", str(rate), "--seconds", str(seconds)]
    done = subprocess.run([*command, "--first", str(first)], input=secret, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# The server


def vedette(home: Path, *arguments: str) -> str:
    environ = {**os.environ, "VEDETTE_HOME": str(home)}
    command = [sys.executable, "-m", "vedette", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def prepare(folder: Path) -> tuple[Path, str]:
    from vedette.demo.transactions import write_transactions

    write_transactions(folder / "cards.csv", seed=1, days=38, start=datetime(2026, 3, 2, tzinfo=UTC))
    (folder / "rules.txt").write_text(RULES)
    home = folder / "home"
    span = ["--train-start", "2026-03-18", "--train-days", "7", "--delay-days", "7"]
    events = ["--source", "card_transactions", "--events", str(folder / "cards.csv")]
    vedette(home, "model", "train", *events, *span, "--out", str(folder / "model"))
    scopes = [word for scope in ("decisions:write", "events:write", "query:read") for word in ("--scope", scope)]
    return home, json.loads(vedette(home, "keys", "create", *scopes, "--json"))["secret"]


@contextlib.contextmanager
def serving(folder: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "VEDETTE_HOME": str(home)}
    parts = ["--model", str(folder / "model"), "--rules", str(folder / "rules.txt")]
    command = [sys.executable, "-m", "vedette", "serve", "--port", str(PORT), *parts]
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        if not server.stdout.readline().startswith(b"listening"):
            raise SystemExit("the server did not start")
        yield server
    finally:
        server.terminate()
        server.wait(60)


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and resident megabytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def locked(path: Path, after: float) -> Iterator[None]:
    """Another process's lock on a file of the server, from `after` seconds from now on for `STALL_S`."""

    def hold() -> None:
        time.sleep(after)
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        connection.execute("begin exclusive")
        time.sleep(STALL_S)
        connection.execute("rollback")
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    yield
    holder.join()


def post(path: str, secret: str, body: bytes, kind: str) -> None:
    headers = {"authorization": f"Bearer {secret}", "content-type": kind}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body, headers)
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


@contextlib.contextmanager
def busy(path: str, secret: str, body: bytes, kind: str) -> Iterator[None]:
    """Somebody asks another route again and again, one request at a time."""
    stop = threading.Event()

    def ask() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            post(path.format(number), secret, body, kind)

    asking = threading.Thread(target=ask)
    asking.start()
    yield
    stop.set()
    asking.join()


def show(name: str, found: dict[str, Any]) -> None:
    cells = "  ".join(f"{found[each]:8.2f}" for each in ("p50", "p99", "p99.9", "max"))
    notes = ", ".join(f"{code} {count}" for code, count in sorted(found["fallbacks"].items()))
    bad = {code: count for code, count in found["statuses"].items() if code != "200"}
    print(f"{name:<34} {found['sent']:>6} {cells}  {notes}{f'  answers {bad}' if bad else ''}", flush=True)


def main(rate: float, seconds: float, runs: int, *, stalls: bool) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home, secret = prepare(folder)
        first = 1_000_000
        failed = False
        with serving(folder, home) as server:
            run_client(PORT, secret, rate, 3.0, first)
            print(
                f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {rate:.0f} requests a second, open loop"
            )
            print(f"{'':<34} {'sent':>6} {'p50 ms':>8}  {'p99 ms':>8}  {'p99.9':>8}  {'max':>8}  answered by policy")
            before, _ = used(server.pid)
            p99s = []
            for number in range(runs):
                first += 1_000_000
                found = run_client(PORT, secret, rate, seconds, first)
                show(f"run {number + 1}, load {os.getloadavg()[0]:.1f}", found)
                p99s.append(found["p99"])
                failed |= set(found["statuses"]) != {"200"}
            cpu, memory = used(server.pid)
            median = statistics.median(p99s)
            print(
                f"median p99 {median:.2f} ms (limit {LIMIT_MS:.0f}); server {cpu - before:.1f} CPU s in"
                f" {runs * seconds:.0f} s, {memory:.0f} MB"
            )
            failed |= median > LIMIT_MS
            if stalls:
                failed |= measure_stalls(home, secret, first)
                measure_neighbours(secret, rate, first)
    return int(failed)


def measure_stalls(home: Path, secret: str, first: int) -> bool:
    """Each file of the server locked by another process while decisions are asked for."""
    late = False
    for number, file in enumerate(FILES):
        with locked(home / file, after=1.0):
            found = run_client(PORT, secret, 50.0, STALL_S + 2.0, first + (number + 1) * 1_000_000)
        show(f"{file} locked {STALL_S:.0f} s", found)
        late |= found["max"] > STALL_LIMIT_MS or set(found["statuses"]) != {"200"}
    print(f"with each file locked the slowest answer is {'LATER than' if late else 'within'} {STALL_LIMIT_MS:.0f} ms")
    return late


def measure_neighbours(secret: str, rate: float, first: int) -> None:
    """Other routes of the same process kept busy."""
    line = json.dumps({"time": "2026-04-09T10:00:00Z", "eventName": "x", "eventTime": "2026-04-09T10:00:00Z"})
    push = (line + "\n").encode() * 20_000
    slow = b'{"sql": "select count(*) from range(300000000) t(i) where i % 7 = 3"}'
    works = {
        "slow queries": ("/v1/query", slow, "application/json"),
        "pushes of 20,000 events": (
            "/v1/events?source=cloudtrail&batch=b{}",
            push,
            "application/x-ndjson",
        ),
    }
    for number, (title, (path, body, kind)) in enumerate(works.items()):
        with busy(path, secret, body, kind):
            found = run_client(PORT, secret, rate, 10.0, first + (number + 20) * 1_000_000)
        show(title, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-stalls", action="store_true")
    parser.add_argument("--client", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    if given.client:
        work = load(given.client, sys.stdin.read().strip(), given.rate, given.seconds, given.first)
        print(json.dumps(asyncio.run(work)))
    else:
        sys.exit(main(given.rate, given.seconds, given.runs, stalls=not given.no_stalls))
