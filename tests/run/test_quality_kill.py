"""What is known of the quality of data: a process killed at every step, and at any moment, leaves the same alarms."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from quality_home import DAY, MINUTE, MONDAY, SOURCES, TENANT, Home

from vedette.core.log import SqliteLog
from vedette.core.projection import Projection
from vedette.core.signal import Signal
from vedette.judge.sigma.load import RuleSet
from vedette.run.pipeline import quality as module
from vedette.run.pipeline.quality import Quality

pytestmark = pytest.mark.kill

LIMIT = 700
"""Records of one transaction: many of them, so that many kills hit different ones."""
END = MONDAY + round(1.7 * DAY)
STEPS = ("tell.before", "tell.after", "save.before", "save.after", "commit.before", "commit.after")
EXPECTED = {
    ("quality.dropped", "cloudtrail"),
    ("quality.skewed", "identity"),
    ("quality.type", "identity"),
    ("quality.silent", "cloudtrail"),
    ("quality.silent", "identity"),
}


def messy(home: Home) -> None:
    """Delivers some records again, a little later, and others a little out of order."""
    rng = random.Random(5)
    with SqliteLog(home.folder / "log", home.clock) as log:
        values = [one.value for one in log.read("event", 0, 0, 1_000_000)]
    values = [one for value in values for one in [value] * (1 + (rng.random() < 0.05))]
    places = [place + rng.random() * 6 for place in range(len(values))]
    shutil.rmtree(home.folder / "log")
    with SqliteLog(home.folder / "log", home.clock) as log:
        log.append(
            "event", f"intake:{TENANT}", [values[at] for at in sorted(range(len(values)), key=places.__getitem__)]
        )


@pytest.fixture(scope="module", params=["once in order", "again and out of order"])
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A day and a half as it should be, then one fault of each kind, then silence."""
    home = Home(tmp_path_factory.mktemp("quality"))
    home.days(0, 1.5, "cloudtrail", "identity", every=MINUTE)
    home.days(1.5, 1.6, "identity", every=MINUTE, lag=50 * MINUTE)
    home.days(1.5, 1.6, "cloudtrail", every=MINUTE, eventName=None)
    home.days(1.6, 1.7, "identity", every=MINUTE, eventType=7)
    home.days(1.6, 1.7, "cloudtrail", every=MINUTE, eventName=None)
    if request.param != "once in order":
        messy(home)
    return home


def copy(fresh: Home, folder: Path) -> Home:
    home = Home(folder / "home")
    shutil.copytree(fresh.folder, home.folder)
    return home


def follow(home: Home) -> None:
    """The stage to the end of the log, then twenty minutes of nothing by its clock."""
    home.clock.micros = END
    with home.parts() as parts:
        quality = Quality(parts.index, parts.clock, SOURCES, RuleSet(()))
        while quality.consume(parts.log, limit=LIMIT):
            pass
        for _ in range(20):
            home.clock.advance(60)
            quality.consume(parts.log, limit=LIMIT)


class Killer:
    """Kills this process, for real, when a step is reached so many times."""

    def __init__(self, step: str, nth: int) -> None:
        self._step, self._left = step, nth

    def reached(self, step: str) -> None:
        self._left -= step == self._step
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def armed(killer: Killer) -> None:
    """Puts the killer round what the stage does; in a child only."""

    def around(owner: Any, name: str, step: str) -> None:
        original = getattr(owner, name)

        def wrapped(*given: Any, **named: Any) -> Any:
            killer.reached(f"{step}.before")
            result = original(*given, **named)
            killer.reached(f"{step}.after")
            return result

        setattr(owner, name, wrapped)

    around(module, "_tell", "tell")
    around(module, "_save", "save")
    write = Projection.write

    @contextmanager
    def committing(self: Projection) -> Any:
        with write(self) as connection:
            yield connection
            killer.reached("commit.before")
        killer.reached("commit.after")

    Projection.write = committing  # type: ignore[method-assign]


def child(home: Home, *prepare: Callable[[], None]) -> int:
    """How a process of its own, that follows the log, ended: 0, or the signal that killed it."""
    pid = os.fork()
    if not pid:
        try:
            for one in prepare:
                one()
            follow(home)
        except BaseException:  # noqa: BLE001 - a forked test must not go on with the others
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return -os.waitstatus_to_exitcode(status)


def outcome(home: Home) -> tuple[dict[str, tuple[str, str]], dict[str, int], list[Any]]:
    """Signals by id, signals of each alert, and what is known of each source."""
    with home.parts() as parts:
        found = [msgspec.json.decode(one.value, type=Signal) for one in parts.log.read("signal", 0, 0, 10_000)]
        parts.alerts.consume(parts.log)
        alerts = {
            f"{one.rule_id} {one.entity.key}": len(parts.alerts.signals(TENANT, one.id))
            for one in parts.alerts.find(TENANT)
        }
        with parts.index.read() as connection:
            known = connection.execute("select * from quality_profile order by tenant, source").fetchall()
    return {one.id: (one.rule_id, one.source) for one in found}, alerts, known


@pytest.fixture(scope="module")
def wanted(fresh: Home, tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = copy(fresh, tmp_path_factory.mktemp("whole"))
    assert child(home) == 0
    found = outcome(home)
    assert set(found[0].values()) == EXPECTED
    assert set(found[1].values()) == {1}
    return found


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(step: str, fresh: Home, wanted: Any, tmp_path: Path) -> None:
    home = copy(fresh, tmp_path)
    died = [child(home, lambda nth=nth: armed(Killer(step, nth))) for nth in (1, 3, 2, 5)]
    assert died.count(signal.SIGKILL) >= 2, f"{step} is hardly reached"
    assert child(home) == 0
    assert outcome(home) == wanted


def tells_late() -> None:
    """A planted mistake: alarms are told when the place has moved already."""
    tell, take, waiting = module._tell, Projection._take, []
    module._tell = lambda *given: waiting.append(given)

    def late(*given: Any) -> int:
        taken = take(*given)
        while waiting:
            module_tell(*waiting.pop())
        return taken

    def module_tell(*given: Any) -> None:
        tell(*given)

    Projection._take = late  # type: ignore[method-assign]


def names_anew() -> None:
    """A planted mistake: an alarm that is told again has another id."""
    made = Quality._signal
    Quality._signal = lambda self, *given: msgspec.structs.replace(
        made(self, *given), id=f"{os.getpid()}{time.time_ns()}"
    )


@pytest.mark.parametrize(("mistake", "step"), [(tells_late, "commit.after"), (names_anew, "tell.after")])
def test_a_planted_mistake_is_noticed(
    mistake: Callable[[], None], step: str, fresh: Home, wanted: Any, tmp_path: Path
) -> None:
    home = copy(fresh, tmp_path)
    for nth in range(1, 12):
        child(home, mistake, lambda nth=nth: armed(Killer(step, nth)))
    assert child(home, mistake) == 0
    assert outcome(home)[:2] != wanted[:2]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_many_random_moments(seed: int, fresh: Home, wanted: Any, tmp_path: Path) -> None:
    rng, home = random.Random(seed), copy(fresh, tmp_path)
    for _ in range(40):
        pid = os.fork()
        if not pid:
            try:
                follow(home)
            finally:
                os._exit(0)
        time.sleep(rng.random() * 0.6)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert child(home) == 0
    assert outcome(home) == wanted
