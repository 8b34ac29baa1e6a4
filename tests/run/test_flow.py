"""A stage that is slowed on purpose is the one that is named, and its queue is seen to grow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from quality_home import DAY, MINUTE, MONDAY, Home

from vedette.cli.main import main
from vedette.core.settings import Settings
from vedette.run.pipeline import stream
from vedette.run.pipeline.flow import flows, look
from vedette.run.pipeline.stream import Stage
from vedette.run.platform import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Any:
    home = Home(tmp_path)
    home.days(0, 0.02, "cloudtrail")
    with Platform(Settings(home=tmp_path), clock=home.clock) as opened:
        opened.drain()
        yield home, opened


def slowed(stage: Stage, platform: Platform, taken: int) -> Stage:
    """A stage that takes so many records of a turn and leaves the rest."""
    place = {"at": stage.place(0)}

    def step() -> int:
        place["at"] += min(taken, platform.log.end(stage.topic, 0) - place["at"])
        return taken

    return Stage(stage.name, stage.topic, step, lambda _part: place["at"])


@pytest.mark.parametrize("name", ["store", "sightings", "quality"])
def test_the_slow_stage_is_named_with_its_queue(platform: Any, name: str) -> None:
    home, opened = platform
    stages = [slowed(one, opened, 40) if one.name == name else one for one in opened.stages]
    before = look(opened.log, stages, 0.0)
    assert not any(one.slow for one in flows(stages, before, before))
    for turn in range(1, 4):
        home.days(turn, turn + 0.1, "cloudtrail")  # 288 events
        stream.advance(opened.log, stages, opened.meters)
    after = look(opened.log, stages, 6.0)
    rows = {one.stage: one for one in flows(stages, before, after)}
    assert [one.stage for one in rows.values() if one.slow] == [name]
    assert (rows[name].waiting, rows[name].arriving, rows[name].taking) == (3 * 248, 144.0, 20.0)
    assert rows[name].growing == 124.0
    assert rows[name].left_s is None
    others = [one for one in rows.values() if one.topic == "event" and one.stage != name]
    assert all((one.waiting, one.left_s) == (0, 0.0) for one in others)


def test_a_queue_that_shrinks_is_named_while_it_is_there(platform: Any) -> None:
    home, opened = platform
    home.days(1, 1.1, "cloudtrail")
    stages = [slowed(one, opened, 100) if one.name == "store" else one for one in opened.stages]
    before = look(opened.log, stages, 0.0)
    stream.advance(opened.log, stages, opened.meters)
    rows = flows(stages, before, look(opened.log, stages, 2.0))
    (row,) = [one for one in rows if one.slow]
    assert (row.stage, row.waiting, row.growing, row.left_s) == ("store", 188, -50.0, 3.76)


def test_the_verb_shows_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path / "home")
    home.days(0, 0.02, "cloudtrail", every=MINUTE)
    assert home.clock.now() < MONDAY + DAY
    with pytest.raises(SystemExit):
        main(["pipeline", "status", "--home", str(home.folder), "--for", "0.01", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (shown["store"]["lag"], shown["store"]["growing"]) == (29, 0)
    assert [name for name, one in shown.items() if one["slow"]] == ["store"] or sum(
        one["slow"] for one in shown.values()
    ) == 1
    with pytest.raises(SystemExit):
        main(["pipeline", "status", "--home", str(home.folder), "--for", "0.01"])
    assert "slow" in capsys.readouterr().out
