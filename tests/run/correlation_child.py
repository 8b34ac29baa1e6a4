"""A separate process that runs the detecting stages over a log to its end and kills itself at a named step.

Usage: correlation_child.py HOME RULES STEP NTH

With PLANT set in the environment a known mistake is built in.
"""

import os
import signal
import sys
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.db import open_database
from vedette.core.log import SqliteLog
from vedette.judge.shipments import Shipments
from vedette.judge.sigma.card import Cards
from vedette.run.metrics import Meters
from vedette.run.pipeline import detecting as module
from vedette.run.pipeline.detection import load_detection
from vedette.run.pipeline.journal import Journal
from vedette.run.pipeline.rollout import Rollout
from vedette.run.pipeline.stream import advance

STEPS = (
    "signal.before",
    "signal.after",
    "journal.before",
    "journal.after",
    "place.after",
)


class Killer:
    """Counts how often a step is reached and kills this process, for real, at the wanted time."""

    def __init__(self, step: str, nth: int) -> None:
        self.step, self.left = step, nth

    def reached(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def around(owner, name, killer, step, wanted=lambda *_call: True):
    original = getattr(owner, name)

    def wrapped(self, *args, **kwargs):
        if wanted(*args):
            killer.reached(f"{step}.before")
        result = original(self, *args, **kwargs)
        if wanted(*args):
            killer.reached(f"{step}.after")
        return result

    setattr(owner, name, wrapped)


def plant(mistake):
    """Builds in a known mistake: the test has to notice."""
    if mistake == "no_journal":
        Journal.keep = lambda *_entries: None
    elif mistake == "journal_first":
        append, keep = SqliteLog.append, Journal.keep
        waiting = []

        def hold(self, topic, key, values):
            waiting.append((self, topic, key, values))

        def late(self, *entries):
            keep(self, *entries)
            while waiting:
                append(*waiting.pop(0))

        SqliteLog.append, Journal.keep = hold, late
    elif mistake == "place_first":
        commit, committed = SqliteLog.commit, SqliteLog.committed
        judge = module._Stream._judge

        def early(self, name, topic, part, read):
            found = judge(self, name, topic, part, read)
            commit(self._log, "detect", topic, part, committed(self._log, "detect", topic, part) + len(read))
            return found

        module._Stream._judge = early


def main(home, rules, step, nth):
    module.BATCH = 60
    killer = Killer(step, int(nth))
    around(SqliteLog, "append", killer, "signal")
    around(SqliteLog, "commit", killer, "place")
    around(Journal, "keep", killer, "journal", bool)
    plant(os.environ.get("PLANT", ""))
    detection = load_detection([shipped("rules/sigma"), Path(rules)], cache=Path(rules).parent / "cache")
    meters = Meters()
    state = open_database(Path(home) / "state.db")
    with SqliteLog(Path(home) / "log", SystemClock()) as log:
        rollout = Rollout(detection, Shipments(state, SystemClock()), SystemClock(), detection.sources, Cards())
        stages = module.detecting(log, rollout, meters, state)
        while sum(advance(log, stages, meters).values()):
            pass
    state.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
