"""The follower of a supervised server takes what nobody else wants of the processors, unless that is too little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from server_process import ROOT

PATIENCE_S = 180
FOLLOW = """
import sys
from pathlib import Path
from vedette.core.settings import Settings
from vedette.serve import supervised

supervised.WATCH_S, supervised.INSIST_S = map(float, sys.argv[2:4])
passing = supervised.let_others_pass

def let_pass():
    passing()
    print("lets pass", flush=True)

supervised.let_others_pass = let_pass
print(sys.argv[4], flush=True)
supervised.follow(Settings(home=Path(sys.argv[1])), None, insists=sys.argv[4] == supervised.INSIST)
"""
BURN = "while True: pass"
BEATS = 8
"""Threads that it has at least once it has begun."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone lets a thread come last")


@contextmanager
def follower(home, watch_s, insist_s):
    command = [sys.executable, "-c", FOLLOW, str(home), str(watch_s), str(insist_s), "follow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def heard(process, count):
    return [process.stdout.readline().strip() for _ in range(count)]


def threads(process):
    return sorted(int(each.name) for each in Path(f"/proc/{process.pid}/task").iterdir())


def policies(process):
    """How the kernel treats its first thread, and how the others; its niceness."""
    found = [os.sched_getscheduler(each) for each in threads(process)]
    return found[0], set(found[1:]), os.getpriority(os.PRIO_PROCESS, process.pid)


def test_it_lets_everybody_else_pass_and_ends_when_asked(tmp_path):
    with follower(tmp_path, PATIENCE_S, PATIENCE_S) as process:
        assert heard(process, 2) == ["follow", "lets pass"]
        assert policies(process)[:2] == (os.SCHED_BATCH, {os.SCHED_IDLE})
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_where_others_want_all_processors_it_insists_on_its_part_for_a_while(tmp_path):
    with follower(tmp_path, 1.0, 10.0) as process:
        assert heard(process, 2) == ["follow", "lets pass"]
        before = policies(process)
        burning = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(len(os.sched_getaffinity(0)))]
        try:
            wait_for(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().endswith(b"\0insist\0"))
        finally:
            for each in burning:
                each.kill()
                each.wait()
        assert heard(process, 1) == ["insist"]
        wait_for(lambda: len(threads(process)) > BEATS)
        assert policies(process) == (os.SCHED_BATCH, {os.SCHED_BATCH}, before[-1])
        assert heard(process, 2) == ["follow", "lets pass"]  # and tries again


def test_a_server_that_is_told_to_insist_follows_and_takes_turns(tmp_path):
    environ = {**os.environ, "VEDETTE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "vedette", "serve", "--inherit", "insist"]
    process = subprocess.Popen(command, env=environ)
    try:
        wait_for(lambda: len(threads(process)) > BEATS)
        first, others, _nice = policies(process)
        assert first == os.SCHED_BATCH
        assert os.SCHED_IDLE not in others
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def wait_for(true):
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)
