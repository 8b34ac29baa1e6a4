"""A service that is killed: each fork takes the log from its checkpoint on and ends itself by SIGKILL at a given step.

Run as a program of its own: `feature_killer.py FOLDER`. Every step of every round is killed once, then the log is taken
to its end; the state's checksum must be that of a service that nobody killed. Prints how many forks died.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import test_features as base

from vedette.sense.features import engine as module
from vedette.sense.features.engine import Engine

EVERY = 20
ROUNDS = 60


def serve(path: Path, log, die_at: int) -> str:
    """Takes the log from the checkpoint on; every write of state, file or folder is a step that may be the last."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace = os.fsync, Path.replace

    def fsync_(descriptor):
        step()
        fsync(descriptor)
        step()

    def replace_(self, target):
        step()
        return replace(self, target)

    module.os.fsync, Path.replace = fsync_, replace_
    engine = Engine.load(path, base.FEATURES) if path.exists() else Engine(base.FEATURES)
    for place in range(engine.offsets.get("event", 0), len(log)):
        event, label = log[place]
        engine.fetch(event)
        engine.apply(event)
        if label:
            engine.learn(label)
        step()
        engine.offsets["event"] = place + 1
        if (place + 1) % EVERY == 0:
            engine.save(path)
            step()
    return engine.checksum()


def main(folder: Path) -> None:
    log = list(zip(*base.sample_log(21, 100), strict=True))
    whole = serve(folder / "whole.npz", log, 0)
    died = 0
    for die_at in range(1, ROUNDS):
        path = folder / "killed.npz"
        path.unlink(missing_ok=True)
        # The second life dies too, at another step; the third is left alone.
        for step in (die_at, die_at // 2 + 3, 0):
            child = os.fork()
            if child == 0:
                # The log is read again from where the checkpoint stands: never less, never twice.
                os._exit(0 if serve(path, log, step) == whole else 7)
            _, status = os.waitpid(child, 0)
            died += os.WIFSIGNALED(status)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                sys.exit(f"killed at {die_at}: another state")
    print(died)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
