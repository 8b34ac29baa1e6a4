"""Whose turn it is: the worker asks for short turns that its threads have too, what follows the log leaves its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = """
import ctypes, os, struct, sys, threading
from vedette.core.turns import TURN_NS, come_first, let_finish, step_back

def turn():
    held = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall({"x86_64": 315, "aarch64": 275}[os.uname().machine], 0, held, 56, 0) == 0
    return struct.unpack_from("IIQiIQ", held)[5]

found = []
if sys.argv[1] == "first":
    asked = come_first()
    thread = threading.Thread(target=lambda: found.append(turn()))
    thread.start()
    thread.join()
    print(asked, found[0] == turn() == TURN_NS, os.getpriority(os.PRIO_PROCESS, 0))
elif sys.argv[1] == "finish":
    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=lambda: (let_finish(), found.append(os.sched_getscheduler(0))))
    thread.start()
    thread.join()
    nicer = os.getpriority(os.PRIO_PROCESS, 0) - before
    print(nicer, found[0] == os.SCHED_BATCH, os.sched_getscheduler(0) == os.SCHED_OTHER)
else:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    step_back()
    print(os.getpriority(os.PRIO_PROCESS, 0) - before, os.sched_getscheduler(0) == os.SCHED_BATCH, come_first())
"""


def show(what):
    done = subprocess.run([sys.executable, "-c", SHOW, what], capture_output=True, text=True, check=True)
    return done.stdout.split()


def kernel():
    name = os.uname()
    return tuple(int(each) for each in name.release.split(".")[:2]) if name.sysname == "Linux" else (0, 0)


@pytest.mark.skipif(kernel() < (6, 12), reason="this kernel gives no shorter turns")
def test_who_answers_has_the_shortest_turns_in_every_thread():
    asked, short, _nice = show("first")
    assert asked == short  # what a container forbids has no effect, and says so


@pytest.mark.skipif(kernel() == (0, 0), reason="Linux alone has batches")
def test_who_lets_others_finish_does_so_alone_and_keeps_its_share():
    assert show("finish") == ["0", "True", "True"]


@pytest.mark.skipif(kernel() == (0, 0), reason="Linux alone has batches")
def test_what_follows_steps_back_and_cannot_come_first_any_more():
    nicer, batch, asked = show("follow")
    assert int(nicer) in range(11)  # the nicest there is cannot be nicer
    assert not (batch == asked == "True")


SHARES = """
import time
from vedette.core.turns import Shares

shares = Shares()
until = time.thread_time() + 0.2
while time.thread_time() < until:
    pass
ran, waited = shares.look()
print(ran >= 0.2, waited >= 0, shares.look()[0] < 0.1)
"""


@pytest.mark.skipif(kernel() == (0, 0), reason="Linux alone counts")
def test_what_threads_had_of_the_processors_is_counted_from_look_to_look():
    done = subprocess.run([sys.executable, "-c", SHARES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
