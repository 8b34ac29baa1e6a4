"""A separate process that runs the job `detect` and kills itself at a named step.

Usage: job_child.py HOME RULES STEP NTH

STEP is one of `STEPS`, NTH the time it is reached at which the process dies (0: never). With PLANT set in the
environment a known mistake is built in.
"""

import os
import sys
from pathlib import Path

import jobs_world
from pipeline_child import Killer, around

from vedette.act.alerts import Alerts
from vedette.core.log import SqliteLog
from vedette.run.jobs import detect
from vedette.run.jobs.detect import Worker
from vedette.run.jobs.ledger import Ledger

STEPS = (
    "open.before",
    "open.after",
    "contributions.after",
    "signals.before",
    "signals.after",
    "finish.before",
    "finish.after",
    "close.before",
    "close.after",
    "alerts.before_commit",
    "alerts.after",
)


def probe(killer):
    around(Ledger, "open", killer, "open.before", "open.after")
    around(SqliteLog, "append", killer, "signals.before", "signals.after")
    around(Ledger, "finish", killer, "finish.before", "finish.after")
    around(Ledger, "close", killer, "close.before", "close.after")
    around(Alerts, "_apply", killer, "", "alerts.before_commit")
    around(Alerts, "consume", killer, "", "alerts.after")
    write = detect.write_contributions

    def written(path, contributions):
        write(path, contributions)
        killer.reached("contributions.after")

    detect.write_contributions = written


def plant(mistake):
    """Builds in a known mistake: the test has to notice."""
    if mistake == "done_first":
        once, finish = Worker._once, Ledger.finish

        def done_first(self, job, part, folder, report):
            finish(self._ledger, job.id, part)
            whole, self._ledger.parts = self._ledger.parts, lambda _id: [*_undone(whole(job.id))]
            try:
                once(self, job, part, folder, report)
            finally:
                self._ledger.parts = whole

        Worker._once = done_first
    elif mistake == "nothing_known":
        tell = Worker._tell
        Alerts.known = lambda _self, _tenant, _ids: set()
        Worker._tell = lambda self, tenant, signals: tell(self, tenant, [_renamed(one) for one in signals])


def _undone(parts):
    import msgspec

    return [msgspec.structs.replace(part, done=0) for part in parts]


def _renamed(signal):
    import msgspec

    return msgspec.structs.replace(signal, id=os.urandom(16).hex())


if __name__ == "__main__":
    home, rules, step, nth = sys.argv[1:]
    probe(Killer(step, int(nth)))
    plant(os.environ.get("PLANT", ""))
    jobs_world.run(Path(home), Path(rules))
