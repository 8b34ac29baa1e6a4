"""A process that executes runs on PostgreSQL or stands by, for the tests of turns.

Usage: turn_child.py URL FOLDER. Each run writes what it does to a file of FOLDER that is its own, with the process's id,
and one row a step; it waits before the end of its step `gate` until FOLDER has a file `open`. The process says `ready`,
then `executing` once it is its turn. `VEDETTE_CHILD_DEAF=1`: it never renews its lease, nor looks whether it is over.
`VEDETTE_CHILD_BUG=no-fence`: nobody's connections carry a number.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from vedette.core.execute import Executor
from vedette.core.execute import executor as module
from vedette.core.execute import turn as turns

STEPS = 12


def tell(word):
    print(word, flush=True)


def make(folder):
    def walk(steps, definition, inputs):
        done = []
        for number in range(STEPS):

            def body(number=number):
                with (folder / f"{steps.run_id}.calls").open("a") as file:
                    file.write(f"{os.getpid()} {number}\n")
                while number == inputs.get("gate") and not (folder / "open").exists():
                    time.sleep(0.02)
                time.sleep(inputs.get("pause", 0.05))
                return [os.getpid(), number]

            done.append(steps.step(f"s{number}", body).value)
        return done

    return walk


def main(url, folder):
    logging.disable(logging.CRITICAL)
    turns.LEASE_S, turns.RENEW_S = 2.0, 1e9 if os.environ.get("VEDETTE_CHILD_DEAF") else 0.3
    module.LOOK_S = 0.1
    if os.environ.get("VEDETTE_CHILD_BUG") == "no-fence":
        turns._carry = lambda *_: None
        turns._alone = lambda _connection, _holder, over: over
    with Executor(url, {"walk": make(folder)}, standby=True) as runs:
        tell("ready")
        was = False
        while True:
            if runs.executing != was:
                was = runs.executing
                tell("executing" if was else "standing by")
            time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
