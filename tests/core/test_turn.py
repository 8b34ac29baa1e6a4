"""Whose turn it is to execute runs on PostgreSQL: killed, stopped and woken holders, and connections cut."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from turn_child import STEPS

from vedette.core.db import open_database, sa
from vedette.core.errors import ConflictError
from vedette.core.execute import Runs, State
from vedette.core.execute import turn as turns
from vedette.core.execute.turn import open_turn

CHILD = Path(__file__).with_name("turn_child.py")
pytestmark = [pytest.mark.postgres, pytest.mark.kill]


class Pair:
    """Processes on one database."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder
        self.children = []

    def spawn(self, **environ):
        child = subprocess.Popen(
            [sys.executable, str(CHILD), self.url, str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        self.children.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    def heard(self, child, word):
        assert child.stdout.readline() == f"{word}\n"

    def begin(self, runs, count, mark="r", **inputs):
        names = [f"{mark}{number}" for number in range(count)]
        for name in names:
            runs.start(name, "walk", {}, inputs)
        return names

    def open(self):
        """Lets the runs pass that wait at their gate."""
        (self.folder / "open").touch()

    def calls(self, name):
        file = self.folder / f"{name}.calls"
        return [tuple(map(int, line.split())) for line in file.read_text().splitlines()] if file.exists() else []

    def end(self):
        for child in self.children:
            child.kill()
            child.wait()
            child.stdout.close()


@pytest.fixture
def url(postgres_url):
    """A database of its own: whose turn it is belongs to a database."""
    name = f"turn_{secrets.token_hex(4)}"
    server = sa.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"create database {name}")
    server.dispose()
    return server.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


@pytest.fixture
def pair(url, tmp_path):
    found = Pair(url, tmp_path)
    yield found
    found.end()


def recorded(runs, name):
    """Results in the record of a run, in order: one a step, whoever did it."""
    return [step.output["value"] for step in runs.history(name) if step.name.startswith("s")]


def whole(pair, runs, names):
    """Every run ended, each step is recorded once, and none was begun again after it was recorded."""
    for name in names:
        run = runs.wait(name, timeout_s=240)
        assert run.state is State.SUCCEEDED, run
        steps = recorded(runs, name)
        assert [number for _pid, number in steps] == list(range(STEPS))
        assert run.result == steps
        calls = pair.calls(name)
        for number in range(STEPS):
            # A step that was interrupted is done again, by the next holder: at most once more for each that died.
            assert 1 <= sum(one == number for _pid, one in calls) <= len(pair.children)


def test_a_killed_holder_is_followed_at_once_and_its_runs_end(pair):
    first = pair.spawn()
    pair.heard(first, "executing")
    second = pair.spawn()
    with Runs(pair.url) as runs:
        names = pair.begin(runs, 4, gate=6)
        runs.wait(names[0], timeout_s=240, until=lambda _run: len(recorded(runs, names[0])) >= 3)
        first.kill()
        pair.heard(second, "executing")
        pair.open()
        whole(pair, runs, names)
        assert {pid for pid, _number in runs.status(names[0]).result} == {first.pid, second.pid}


def test_a_stopped_holder_loses_its_turn_and_records_nothing_when_it_wakes(pair):
    first = pair.spawn()
    pair.heard(first, "executing")
    second = pair.spawn()
    with Runs(pair.url) as runs:
        names = pair.begin(runs, 4, gate=6)
        runs.wait(names[0], timeout_s=240, until=lambda _run: len(recorded(runs, names[0])) >= 3)
        first.send_signal(signal.SIGSTOP)
        pair.heard(second, "executing")
        pair.open()
        runs.wait(names[0], timeout_s=240, until=lambda _run: recorded(runs, names[0])[-1][0] == second.pid)
        first.send_signal(signal.SIGCONT)
        pair.heard(first, "standing by")
        whole(pair, runs, names)
        # It is whole again: the next turn may be its own.
        second.kill()
        pair.heard(first, "executing")
        whole(pair, runs, pair.begin(runs, 1, "again"))


def overtaken(pair, **environ):
    """A holder that never looks whether its lease is over, and is overtaken.

    Returns:
        Both, and who did what: in the runs that were on their way, and in those that were begun afterwards.
    """
    first = pair.spawn(VEDETTE_CHILD_DEAF="1", **environ)
    pair.heard(first, "executing")
    with Runs(pair.url) as runs:
        names = pair.begin(runs, 2, gate=3)
        for name in names:
            runs.wait(name, timeout_s=240, until=lambda _run, name=name: len(pair.calls(name)) == 4)
        second = pair.spawn(**environ)
        pair.heard(second, "executing")
        pair.open()
        later = [pair.begin(runs, 1, mark=f"later{number}-", pause=0.01)[0] for number in range(15)]
        for name in (*names, *later):
            runs.wait(name, timeout_s=240)
        under_way, after = ([[pid for pid, _number in pair.calls(name)] for name in some] for some in (names, later))
    return first.pid, second.pid, under_way, after


def test_a_holder_that_does_not_know_that_it_was_followed_does_nothing_more(pair):
    first, second, under_way, after = overtaken(pair)
    assert all({*each} == {first, second} and each == sorted(each, key=[first, second].index) for each in under_way)
    assert all({*each} == {second} for each in after)


@pytest.mark.soak
def test_without_the_fence_both_execute(pair):
    first, _second, _under_way, after = overtaken(pair, VEDETTE_CHILD_BUG="no-fence")
    assert any(first in each for each in after)


def test_a_holder_whose_connections_are_cut_goes_on_or_is_followed(pair):
    children = [pair.spawn(), pair.spawn()]
    rng = random.Random(7)
    with Runs(pair.url) as runs:
        names = pair.begin(runs, 3)
        database = open_database(pair.url)
        for _ in range(3):
            runs.wait(names[0], timeout_s=rng.uniform(0.1, 0.4), until=lambda _run: False)
            with database.begin() as connection:
                connection.execute(
                    sa.text(
                        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 1"
                        " and database = (select oid from pg_database where datname = current_database())"
                    )
                )
        database.close()
        for name in names:
            assert runs.wait(name, timeout_s=240).state is State.SUCCEEDED
            assert [number for _pid, number in recorded(runs, name)] == list(range(STEPS))
    assert all(child.poll() is None for child in children)


def take_soon(turn):
    """The server lets go of a closed connection's locks a moment after it was closed."""
    until = time.monotonic() + 240
    while not turn.take():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_connections_of_a_turn_that_is_over_are_refused(url):
    one, two = open_turn(url, "t"), open_turn(url, "t")
    assert one.take()
    assert not two.take()
    engine = one.open()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select 1")) == 1
    assert one.keep()
    one._drop()
    assert not two.take(), "a connection of the holder is left, and its lease is not over"
    engine.dispose()
    take_soon(two)
    with pytest.raises(ConflictError) as caught:
        engine.connect()
    assert caught.value.code == "execute.turn.over"
    token = turns.WALKING.set(True)
    with pytest.raises(turns.ClosedError):
        engine.connect()
    turns.WALKING.reset(token)
    one._renewed -= 60
    assert not one.keep()
    two.leave()
    take_soon(one)
    for turn in (one, two):
        turn.leave()
    engine.dispose()
