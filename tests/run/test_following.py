"""What nobody waits for, beside the server: the server leaves it out, and the other process does it once."""

from __future__ import annotations

import json
import time

from vedette.core.clock import SystemClock
from vedette.core.errors import DataError
from vedette.core.log import SqliteLog
from vedette.core.settings import Settings
from vedette.run import following as module
from vedette.run.following import following
from vedette.run.metrics import Meters
from vedette.run.pipeline.stream import LOOK_S, Stage, Turns
from vedette.run.platform import Platform

FOLLOWING = {
    "telling",
    "stream",
    "reviews",
    "store",
    "index",
    "intel",
    "tidy",
    "quality",
    "joining",
    "evidence",
    "checkpoint",
}
TENANT = "default"


def lines(count: int) -> bytes:
    record = {"eventTime": "2026-01-01T00:00:00Z", "eventVersion": "1", "eventSource": "s3", "eventName": "GetObject"}
    return b"\n".join(json.dumps(record | {"eventID": f"e{number}"}).encode() for number in range(count))


def lag(platform: Platform) -> int:
    return sum(platform.lags()[stage] for stage in ("store", "sightings"))


def test_the_server_leaves_out_what_the_other_process_runs(tmp_path):
    with Platform(Settings(home=tmp_path / "a"), clock=SystemClock()) as whole:
        names = {beat.name for beat in whole.beats()}
    with Platform(Settings(home=tmp_path / "b"), clock=SystemClock(), apart=True) as server:
        assert names - {beat.name for beat in server.beats()} == FOLLOWING


def test_what_follows_catches_up_and_does_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STORE_S", 0.02)
    monkeypatch.setattr(module, "INDEX_S", 0.02)
    settings = Settings(home=tmp_path)
    with Platform(settings, clock=SystemClock(), apart=True) as server:
        server.intake(TENANT).push("cloudtrail", "one", lines(40))
        assert lag(server) == 80
        # Two of them at once share the work.
        with following(settings, SystemClock()), following(settings, SystemClock()):
            until = time.monotonic() + 240
            while lag(server) and time.monotonic() < until:
                time.sleep(0.02)
        assert lag(server) == 0
        table = server.store.table("cloudtrail").dataset([TENANT])
        assert table is not None
        assert table.count_rows() == 40


def test_a_stage_that_stood_at_the_end_is_passed_over_until_something_comes_or_a_second_is_over(tmp_path, clock):
    asked, place, broken = [], [0], []

    def step():
        asked.append(place[0])
        if broken:
            raise DataError("test.stage.broken", broken.pop())
        taken = log.end("event", 0) - place[0]
        place[0] += taken
        return taken

    with SqliteLog(tmp_path, clock) as log:
        turns = Turns(log, Meters(), clock)
        stages = (Stage("one", "event", step, lambda _part: place[0]),)
        assert [turns.go(stages) for _ in range(5)] == [0] * 5
        assert asked == [0]
        log.append("event", "key", [b"{}", b"{}"])
        broken.append("no")
        assert [turns.go(stages) for _ in range(5)] == [0, 2, 0, 0, 0]  # what failed is tried again at once
        assert asked == [0, 0, 0, 2]
        clock.advance(LOOK_S)
        place[0] = 1  # begun anew
        assert [turns.go(stages) for _ in range(3)] == [1, 0, 0]
        assert asked == [0, 0, 0, 2, 1, 2]
