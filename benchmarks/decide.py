"""Latency of one decision in one process, replaying the test week, beside Feast's feature fetch.

    python benchmarks/decide.py [--cache DIR] [--decisions N] [--only NAME]

Two rows: the model of `benchmarks/fraud.py --train-days 7`, all its features and 51 rules; and 60 features, 300
trees of 31 leaves, 101 rules. Columns: the answer without the model's reasons, with them for every decision, then with
the record `written` (two commits: event and decision) and `synced` (two fsyncs). Closed loop, one decision at a time,
over features as the weeks before leave them. A repeat and a rebuild are checked, so a fast wrong answer fails.

Redis rows: the same engine with its state in Redis, by one process and by two at once, each with half of the payments.
Feast rows: `get_online_features` of the same 60 values alone, on SQLite and on Redis, in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import week
from vedette.core.clock import SystemClock
from vedette.core.event import Event
from vedette.core.log import Durability
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.opening import BACKFILL, open_books
from vedette.judge.decisions.parts import Reasoning
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.decisions.service import settle
from vedette.sense.sources import load_sources

ROWS: dict[str, tuple[Callable[[Path], object], int]] = {
    "the 7-day model": (week.train_shipped, 50),
    "60 features": (week.train_sixty, 100),
}
REDIS_PORT = 8855
HEAD = f"{'microseconds':<42}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'CPU':>9}"


def show(name: str, took: Any, cpu: float) -> None:
    row = np.percentile(took, [50, 90, 99, 99.9])
    print(f"{name:<42}" + "".join(f"{value:9.1f}" for value in row) + f"{1e6 * cpu / len(took):9.1f}", flush=True)


def timed(call: Callable[[Any], object], todo: Sequence[Any]) -> tuple[Any, float]:
    """Microseconds of each call, and CPU seconds of all."""
    took = np.empty(len(todo))
    before = time.process_time()
    for place, one in enumerate(todo):
        at = time.perf_counter_ns()
        call(one)
        took[place] = time.perf_counter_ns() - at
    return took / 1e3, time.process_time() - before


def to_events(rows: Sequence[dict[str, Any]]) -> list[Event]:
    source = load_sources()["card_transactions"]
    return [to_event(row, source, tenant="default", ingest_time=SystemClock().now()) for row in rows]


@contextmanager
def opened(replay: week.Week, folder: Path, durability: Durability) -> Iterator[Any]:
    home = folder / durability.value
    home.mkdir(parents=True)
    shutil.copy(replay.history, home / BACKFILL)
    parts: dict[str, Any] = {"features": replay.model.feature_set, "model": replay.model, "rules": replay.rules}
    books = open_books(home, clock=SystemClock(), durability=durability, **parts)
    yield books
    books.close()


def one_row(name: str, replay: week.Week, folder: Path, count: int) -> None:
    """All columns of one model."""
    todo = to_events(replay.rows[: 4 * count])
    trees = replay.model.trees
    print(
        f"\n{name}: {len(replay.model.features)} features, {len(trees.roots)} trees of"
        f" {len(trees.leaf) / len(trees.roots):.0f} leaves, {len(replay.rules.rules)} rules\n{HEAD}"
    )
    with opened(replay, folder, Durability.WRITTEN) as books:
        decider = books.recorder.decider
        settle()
        for event in todo[:500]:
            decider.decide(event)
        reasons = []
        for title, reasoning in (("answer, no reasons", Reasoning.NEVER), ("answer, reasons always", Reasoning.ALWAYS)):
            decider.reasoning = reasoning
            took, cpu = timed(decider.decide, todo[:count])
            reasons.append(np.percentile(took, [50, 99]))
            show(title, took, cpu)
        print(f"{'reasons add':<42}{reasons[1][0] - reasons[0][0]:9.1f}{'':9}{reasons[1][1] - reasons[0][1]:9.1f}")
        decider.reasoning = Reasoning.NEVER
        show("no reasons, record written", *timed(books.recorder.decide, todo[:count]))
        decider.reasoning = Reasoning.ALWAYS
        show("reasons, record written", *timed(books.recorder.decide, todo[count : 2 * count]))
        last = books.recorder.find(todo[count].id)
        assert last is not None
        assert books.recorder.decide(todo[count]) == last
        assert rebuild(last, model=replay.model, rules=replay.rules) == last
    with opened(replay, folder, Durability.SYNCED) as books:
        show("reasons, record synced", *timed(books.recorder.decide, todo[: max(50, count // 20)]))


# Redis


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    command = ["redis-server", "--port", str(REDIS_PORT), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        yield f"redis://127.0.0.1:{REDIS_PORT}/0"
    finally:
        server.terminate()
        server.wait()


def through_redis(model: Path, cache: Path, url: str, *, share: int, of: int, count: int) -> list[float]:
    """One worker: decisions with features in Redis, of every `of`-th payment."""
    from vedette.core.redis import Redis
    from vedette.judge.decisions.decider import Decider
    from vedette.sense.features.shared import SharedEngine

    replay = week.open_week(model, cache, rules=100, count=count * of)
    engine = SharedEngine(replay.model.feature_set, Redis(url, timeout_s=0.5), writer=str(share))
    decider = Decider(features=engine, model=replay.model, rules=replay.rules, clock=SystemClock())
    engine.warm()
    replay.model.warm()
    decider.warm()
    events = to_events(replay.rows[share::of])

    def decide(event: Event) -> None:
        decider.decide(event)
        engine.apply(event)

    settle()
    took, _ = timed(decide, events)
    found: list[float] = took[len(took) // 5 :].tolist()
    return found


def redis_rows(model: Path, cache: Path, folder: Path, count: int) -> None:
    print(f"\n60 features in Redis, reasons always, fetch and update\n{HEAD}")
    for workers in (1, 2):
        with redis_server(folder) as url:
            command = [sys.executable, __file__, "--worker", url, "--model", str(model), "--cache", str(cache)]
            more = [
                ["--share", str(share), "--of", str(workers), "--decisions", str(count)] for share in range(workers)
            ]
            running = [subprocess.Popen([*command, *each], stdout=subprocess.PIPE) for each in more]
            took = np.array([value for each in running for value in json.loads(each.communicate()[0])])
        row = np.percentile(took, [50, 90, 99, 99.9])
        print(
            f"{f'{workers} worker' + 's' * (workers > 1):<42}" + "".join(f"{value:9.1f}" for value in row), flush=True
        )


# Feast


def feast_rows(folder: Path, count: int) -> None:
    print(f"\nFeast, get_online_features of 60 values, nothing else\n{HEAD}")
    # Feast pins what other peers need in other versions, so it has an environment of its own.
    python = os.environ.get("VEDETTE_FEAST", "")
    if not python:
        print("not here: VEDETTE_FEAST names a Python with `feast[redis]`")
        return
    with redis_server(folder) as url:
        for kind in ("sqlite", "redis"):
            place = folder / f"feast-{kind}"
            place.mkdir()
            script = str(Path(__file__).with_name("feast_peer.py"))
            command = [python, script, str(place), kind, str(count), url.removeprefix("redis://").partition("/")[0]]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{kind}: {done.stderr.strip().splitlines()[-1][:150]}")
                continue
            row = np.percentile(json.loads(done.stdout.strip().splitlines()[-1]), [50, 90, 99, 99.9])
            print(f"{kind:<42}" + "".join(f"{value:9.1f}" for value in row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", help="keeps models and features between runs")
    parser.add_argument("--folder", type=Path, help="where the log lies; a real disk, or the answer means little")
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--only", choices=["ours", "redis", "feast"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--of", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    cache = Path(given.cache or tempfile.mkdtemp())
    cache.mkdir(parents=True, exist_ok=True)
    if given.worker:
        found = through_redis(given.model, cache, given.worker, share=given.share, of=given.of, count=given.decisions)
        print(json.dumps(found))
        return
    models = {}
    for name, (trained, _) in ROWS.items():
        models[name] = cache / ("sixty" if name.startswith("60") else "model")
        if not (models[name] / "model.json").exists():
            trained(models[name])
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place)
        for name, (_, rules) in ROWS.items():
            if given.only in {None, "ours"}:
                replay = week.open_week(models[name], cache, rules=rules, count=4 * given.decisions)
                one_row(name, replay, folder / name.replace(" ", "-"), given.decisions)
        if given.only in {None, "redis"}:
            redis_rows(models["60 features"], cache, folder, given.decisions // 2)
        if given.only in {None, "feast"}:
            feast_rows(folder, 500)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
