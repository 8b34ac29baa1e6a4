"""Decisions over HTTP, open loop, against a real `vedette serve --supervised`; then with files stalled.

    python benchmarks/serve.py [--model DIR] [--rate 1000] [--seconds 10] [--runs 3] [--bare] [--highest] [--stalls]
                               [--stages]

Replays the test week with all features of the model, their reasons, 51 rules, and the record `written`. Requests are
sent at fixed times whatever came back, and a latency counts from the time at which its request was due (`load.py`, a
process of its own on the same machine). With --bare the same requests go in turn to a server that only computes as long
and keeps nothing (`bare.py`): how late that one is, the machine makes it. Without --model it trains that of
`benchmarks/fraud.py --train-days 7`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stages as stages_of
import week

PORT, BARE_PORT = 8850, 8851
LIMITS_MS = {"p99": 10.0, "p99.9": 50.0}
STALL_LIMIT_MS = 50.0
STALL_S = 3.0
RULES = 50
WARM_RATE, WARM_S = 200.0, 2.0
STALL_RATE = 50.0
FILES = ("log/event.db", "log/decision.db", "log/audit.db", "state.db", "money.db", "decisions/default/seen.db")
STEPS = (1_000, 1_250, 1_500, 1_750, 2_000, 2_500, 3_000)


class Requests:
    """Requests in order; none is sent to the service twice."""

    def __init__(self, rows: list[dict[str, Any]], secret: str) -> None:
        self._rows, self._secret, self._next = rows, secret, 0

    def take(self, rate: float, seconds: float) -> bytes:
        """The next requests, enough for so many seconds, as `load.py` reads them."""
        parts, count = [], round(rate * seconds)
        for row in self._rows[self._next : self._next + count]:
            request = stages_of.to_request(row, self._secret)
            parts.append(struct.pack(">I", len(request)) + request)
        self._next += count
        if len(parts) < count:
            raise SystemExit("the week has no more payments: ask for fewer seconds")
        return b"".join(parts)


def wanted(given: argparse.Namespace) -> int:
    """How many payments a measurement sends."""
    count = WARM_RATE * WARM_S + given.rate * given.seconds * given.runs
    count += sum(STEPS) * given.seconds / 2 if given.highest else 0
    count += len(FILES) * STALL_RATE * (STALL_S + 2.0) if given.stalls else 0
    return round(count)


def measure(requests: bytes, rate: float, port: int = PORT) -> dict[str, Any]:
    """One run of the load generator."""
    command = [sys.executable, str(Path(__file__).with_name("load.py")), str(port), "--rate", str(rate)]
    done = subprocess.run(command, input=requests, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def vedette(home: Path, *arguments: str) -> str:
    environ = {**os.environ, "VEDETTE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "vedette", *arguments], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


@contextlib.contextmanager
def serving(home: Path, model: Path, rules: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "VEDETTE_HOME": str(home)}
    parts = ["--model", str(model), "--rules", str(rules), "--port", str(PORT), "--supervised", *more]
    with listening("-m", "vedette", "serve", *parts, environ=environ) as server:
        yield server


@contextlib.contextmanager
def listening(*arguments: str, environ: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server of ours, from when it listens on."""
    server = subprocess.Popen([sys.executable, *arguments], env=environ, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        if not server.stdout.readline().startswith(b"listening"):
            raise SystemExit(f"the server did not start: {' '.join(arguments[:3])}")
        yield server
    finally:
        server.terminate()
        server.wait(60)


@contextlib.contextmanager
def computing() -> Iterator[int]:
    """The server that only computes: its process."""
    with listening(str(Path(__file__).with_name("bare.py")), str(BARE_PORT)) as server:
        yield server.pid


def children(pid: int) -> list[int]:
    """Processes that a process started, in order: the worker first."""
    return sorted(int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def used(pids: list[int]) -> float:
    """CPU seconds of processes."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def held_back(pids: list[int]) -> float:
    """Seconds in which threads of processes were ready to run and had no processor."""
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


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


def show(name: str, found: dict[str, Any], more: str = "") -> None:
    cells = "  ".join(f"{found[each]:8.2f}" for each in ("p50", "p99", "p99.9", "max"))
    notes = ", ".join(f"{code} {count}" for code, count in sorted(found["fallbacks"].items()))
    bad = {code: count for code, count in found["statuses"].items() if code != "200"}
    lost = found["sent"] - found["done"]
    told = f"{notes}{f'  answers {bad}' if bad else ''}{f'  lost {lost}' if lost else ''}"
    print(f"{name:<34} {found['sent']:>6} {cells}  {more}{told or 'none'}", flush=True)


def holds(found: dict[str, Any]) -> bool:
    """Whether every request was answered with 200, and in time."""
    return found["statuses"] == {"200": found["sent"]} and all(found[each] <= ms for each, ms in LIMITS_MS.items())


def costs(mine: list[int]) -> tuple[float, float, float]:
    """Seconds so far: the worker's processor time, that of the rest, and how long the worker had to wait for it."""
    return used(mine[:1]), used(mine[1:]), held_back(mine[:1])


def pulse() -> float:
    """Processor milliseconds of the same loop each time: how fast the machine runs just now."""
    best = float("inf")
    for _ in range(3):
        before, total = time.thread_time(), 0
        for number in range(200_000):
            total += number * number % 7
        best = min(best, time.thread_time() - before)
    return 1e3 * best


def run(requests: bytes, rate: float, mine: list[int], name: str, port: int) -> dict[str, Any]:
    """One run, shown with what it cost the processes that answer."""
    first, before = pulse(), costs(mine)
    found = measure(requests, rate, port)
    each = [1e6 * (after - was) / found["sent"] for after, was in zip(costs(mine), before, strict=True)]
    show(name, found, "{:4.0f} + {:4.0f} ({:5.0f})  {:4.0f} {:4.0f}  ".format(*each, first, pulse()))
    return found


def runs(given: argparse.Namespace, requests: Requests, server: int, bare: int) -> bool:
    """Several runs at one rate, each followed by one of the server that only computes, if there is one.

    Returns:
        Whether the median run holds the limits.
    """
    found, beside = [], []
    for number in range(1, given.runs + 1):
        sent, name = requests.take(given.rate, given.seconds), f"{given.rate:.0f} a second, run {number}"
        found.append(run(sent, given.rate, children(server), name, PORT))
        if bare:
            beside.append(run(sent, given.rate, [bare], "  a server that only computes", BARE_PORT))
    print(f"median {middle(found)}; load {os.getloadavg()[0]:.1f}")
    if beside:
        print(f"median of the server that only computes {middle(beside)}")
    return holds(sorted(found, key=lambda each: each["p99.9"])[len(found) // 2])


def middle(found: list[dict[str, Any]]) -> str:
    """The medians of what is limited."""
    told = {each: statistics.median(one[each] for one in found) for each in LIMITS_MS}
    return ", ".join(f"{name} {told[name]:.2f} ms ({most:.0f} asked)" for name, most in LIMITS_MS.items())


def highest(requests: Requests, seconds: float) -> None:
    """Goes up until p99.9 is too late."""
    best = 0
    for rate in STEPS:
        found = measure(requests.take(rate, seconds), rate)
        show(f"{rate} a second", found)
        if found["p99.9"] > LIMITS_MS["p99.9"] or found["statuses"] != {"200": found["sent"]}:
            break
        best = rate
    print(f"the highest of these rates with p99.9 within {LIMITS_MS['p99.9']:.0f} ms: {best} a second")


def stalls(requests: Requests, home: Path) -> bool:
    """Each file of the server locked by another process while decisions are asked for; whether one came late."""
    late = False
    for file in FILES:
        with locked(home / file, after=1.0):
            found = measure(requests.take(STALL_RATE, STALL_S + 2.0), STALL_RATE)
        show(f"{file} locked {STALL_S:.0f} s", found)
        late |= found["max"] > STALL_LIMIT_MS or set(found["statuses"]) != {"200"}
    print(f"with each file locked the slowest answer is {'LATER than' if late else 'within'} {STALL_LIMIT_MS:.0f} ms")
    return late


def main(given: argparse.Namespace) -> int:
    cache = Path(given.cache or tempfile.mkdtemp())
    cache.mkdir(parents=True, exist_ok=True)
    model = given.model or cache / "model"
    if not (model / "model.json").exists():
        week.train_shipped(model)
    count = wanted(given)
    replay = week.open_week(model, cache, rules=RULES, count=count)
    if len(replay.rows) < count:
        raise SystemExit(f"{count:,} payments are asked for, and the week has {len(replay.rows):,}: ask for less")
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        home, rules = Path(name) / "home", Path(name) / "rules.txt"
        rules.write_text("\n".join(week.some_rules(replay.model.features, RULES)) + "\n")
        secret = json.loads(vedette(home, "keys", "create", "--scope", "decisions:write", "--json"))["secret"]
        (home / "decisions" / "default").mkdir(parents=True, exist_ok=True)
        shutil.copy(replay.history, home / "decisions" / "default" / "backfill.npz")
        requests = Requests(replay.rows, secret)
        with serving(home, model, rules, *given.serve) as server:
            print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {len(replay.model.features)} features")
            head = "".join(f"{each:>10}" for each in ("p50 ms", "p99", "p99.9", "max"))
            print(
                f"{'open loop':<34} {'sent':>6}{head}  worker + rest CPU us (kept waiting)  pulse  answered by policy",
                flush=True,
            )
            measure(requests.take(WARM_RATE, WARM_S), WARM_RATE)
            with computing() if given.bare else contextlib.nullcontext(0) as bare:
                good = runs(given, requests, server.pid, bare)
            if given.highest:
                highest(requests, given.seconds / 2)
            late = stalls(requests, home) if given.stalls else False
        if given.stages:
            stages_of.table(replay, Path(name), stages_of.to_request)
    return int(late or not good)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--cache", help="keeps the trained model and the features between runs")
    parser.add_argument("--folder", type=Path, help="where the server's data lies; a real disk")
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bare", action="store_true", help="a server that only computes, in turn")
    parser.add_argument("--highest", action="store_true")
    parser.add_argument("--stalls", action="store_true")
    parser.add_argument("--stages", action="store_true", help="what each stage costs in CPU time")
    parser.add_argument("--serve", nargs="*", default=[], help="further options of `vedette serve`")
    sys.exit(main(parser.parse_args()))
