"""CPU microseconds of each stage of one decision over HTTP, in one process, as `serve.py` replays them.

    python benchmarks/stages.py --cache DIR

The first part is done in the event loop's thread, the second in the writer's. Two more threads sync the files of events
and decisions; what they cost is in the figures of commits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

import week
from vedette.core.clock import SystemClock
from vedette.core.documents import load_json
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.lines import to_json
from vedette.judge.decisions.opening import BACKFILL, open_books
from vedette.judge.decisions.recorder import Wanted
from vedette.judge.decisions.service import settle
from vedette.sense.sources import load_sources
from vedette.serve.door.plain import read_request
from vedette.serve.errors import Reply
from vedette.serve.lane import write_reply

COUNT = 2_000
GROUPS = (1, 2, 4, 8, 16)


def stage(name: str, call: Callable[[Any], Any], todo: Sequence[Any], *, shown: bool = True) -> list[Any]:
    """What a stage gives for each, with its cost printed."""
    before = time.process_time()
    found = [call(one) for one in todo]
    if shown:
        print(f"  {name:<44}{1e6 * (time.process_time() - before) / len(todo):8.1f}", flush=True)
    return found


def table(replay: week.Week, folder: Path, request: Callable[[dict[str, Any]], bytes]) -> None:
    """Prints the stages.

    Args:
        replay: Model, rules and payments.
        folder: Where decisions are recorded.
        request: A payment as the bytes of its request.
    """
    source, clock = load_sources()["card_transactions"], SystemClock()
    home = folder / "stages"
    home.mkdir()
    shutil.copy(replay.history, home / BACKFILL)
    parts: dict[str, Any] = {"features": replay.model.feature_set, "model": replay.model, "rules": replay.rules}
    books = open_books(home, clock=clock, **parts)
    decider = books.recorder.decider
    settle()
    raws = [request(row) for row in replay.rows[:COUNT]]
    print("CPU microseconds of a decision, by stage\n the event loop's thread:")
    stage("", read_request, raws, shown=False)
    asked = stage("read the request", read_request, raws)
    read = stage("decode JSON", lambda one: load_json(one.call.body, max_bytes=1 << 20, max_depth=32), asked)

    def take(one: Any) -> Any:
        return to_event(one["event"], source, tenant="default", ingest_time=clock.now())

    events = stage("check and take the event", take, read)
    decided = stage("", decider.decide, events, shown=False)
    bodies = stage("encode the answer", to_json, decided)
    stage("write the answer", lambda body: write_reply(Reply(200, body), close=False), bodies)
    print(" the writer's thread:")
    stage("look the event up", lambda event: books.recorder.find(event.id), events)
    assert decider.features is not None
    vectors = stage("fetch features", decider.features.fetch, events)
    assessed = stage("score", decider.assess, vectors)
    stage("reasons", decider.contributions, assessed)
    stage("all of the answer, alone", decider.decide, events)
    stage("update features", decider.features.apply, events)
    stage("encode the record", msgspec.json.Encoder().encode, decided)
    print(" the writer's thread as it is, events that were not seen before, commits and syncs included:")
    rows = iter(replay.rows[COUNT:])
    for size in GROUPS:
        fresh = [Wanted(take({"event": next(rows)}), checked=True) for _ in range(COUNT)]
        groups = [fresh[at : at + size] for at in range(0, COUNT, size)]
        before = time.process_time()
        for group in groups:
            books.recorder.decide_many(group)
        print(f"  {f'decide and record, {size} at a time':<44}{1e6 * (time.process_time() - before) / COUNT:8.1f}")
    books.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    cache = parser.parse_args().cache
    replay = week.open_week(cache / "model", cache, rules=50, count=COUNT * (1 + len(GROUPS)))
    with tempfile.TemporaryDirectory() as folder:
        table(replay, Path(folder), to_request)


def to_request(row: dict[str, Any], secret: str = "vk_test_" + "a" * 43) -> bytes:
    """A payment's request."""
    body = json.dumps({"event": row}).encode()
    head = (
        f"POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    return head + body


if __name__ == "__main__":
    main()
