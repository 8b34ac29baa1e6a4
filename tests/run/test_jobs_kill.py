"""SIGKILL of a job at every step and at random moments: resumed, it finds the same and tells nothing twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job_child import STEPS
from jobs_world import alerts, found, run, write
from jobs_world import stream as run_stream

pytestmark = pytest.mark.kill

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Rules, a store, and what a job finds that nobody killed."""
    folder = tmp_path_factory.mktemp("world")
    rules, path = write(folder)
    run_stream(folder / "stream", rules, path)
    whole = folder / "whole"
    shutil.copytree(folder / "stream" / "store", whole / "store")
    run(whole, rules)
    return folder / "stream" / "store", rules, (found(whole)[0], alerts(whole))


def child(home, rules, step="none", nth=0, *, wait=True, **more):
    path = os.pathsep.join([str(SOURCE), str(HERE)])
    env = {"PYTHONPATH": path, "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}
    command = [sys.executable, str(HERE / "job_child.py"), str(home), str(rules), step, str(nth)]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    if wait:
        _, told = started.communicate(timeout=300)
        assert started.returncode in {0, -signal.SIGKILL}, told
    return started


def outcome(world, home):
    """What is there in the end; the job's own counts agree with the log."""
    job, _ = run(home, world[1])
    assert job.parts_done == job.parts
    assert job.finished_time
    assert not list((home / "jobs").glob("*/*.contributions"))
    return found(home)[0], alerts(home)


def fresh(world, folder):
    shutil.copytree(world[0], folder / "store")
    return folder


@pytest.mark.parametrize(
    ("step", "nth"),
    [*((step, 1) for step in STEPS), ("signals.after", 2), ("contributions.after", 3), ("finish.after", 4)],
)
def test_killed_at_a_step(world, tmp_path, step, nth):
    home = fresh(world, tmp_path / "home")
    killed = child(home, world[1], step, nth)
    assert killed.returncode == -signal.SIGKILL
    assert outcome(world, home) == world[2]


def killed_at_random(world, home, seed, times):
    rng = random.Random(seed)
    for _ in range(times):
        started = child(home, world[1], wait=False)
        try:
            time.sleep(rng.uniform(0.3, 2.5))
        finally:
            started.kill()
            started.communicate()
    return outcome(world, home)


def test_killed_at_random_moments(world, tmp_path):
    assert killed_at_random(world, fresh(world, tmp_path / "home"), 1, 4) == world[2]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_many_random_moments(world, tmp_path, seed):
    assert killed_at_random(world, fresh(world, tmp_path / "home"), seed, 8) == world[2]


@pytest.mark.parametrize(("mistake", "step"), [("done_first", "signals.before"), ("nothing_known", "finish.before")])
def test_a_planted_mistake_is_seen(world, tmp_path, mistake, step):
    home = fresh(world, tmp_path / "home")
    child(home, world[1], step, 1, PLANT=mistake)
    child(home, world[1], PLANT=mistake)
    assert outcome(world, home) != world[2]
