"""A folder of databases, a client that executes nothing, and the processes that execute and are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from act_world import KEY_SIGNAL, make_signal

from vedette.act.alerts import Alerts
from vedette.act.approvals import Approvals
from vedette.act.cases import Cases, Preservation
from vedette.act.playbooks.pulses import Pulses
from vedette.act.playbooks.responder import Responder
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.execute import Runs
from vedette.core.ids import Ids

CHILD = Path(__file__).parent / "playbook_child.py"
PATIENCE_S = 240


class Site:
    """A folder of databases, a client that executes nothing, and the processes that execute."""

    def __init__(self, folder, url="", **env):
        self.folder = folder
        self.env = {**env, **({"VEDETTE_CHILD_URL": url} if url else {})}
        self.clock = SystemClock()
        self.state = open_database(url, schema="state") if url else open_database(folder / "state.db")
        self.alerts = Alerts(self.state)
        self.approvals = Approvals(self.state, self.clock)
        self.cases = Cases(self.state, self.clock, Ids(self.clock))
        self.pulses = Pulses(self.state, self.clock)
        self.preservation = Preservation(self.state, self.clock, Ids(self.clock))
        self.child = None
        self.spawn()  # makes runs.db
        self.kill()
        self.runs = Runs(url or folder / "runs.db")
        self.responder = Responder(
            runs=self.runs,
            database=self.state,
            alerts=self.alerts,
            cases=self.cases,
            approvals=self.approvals,
            clock=self.clock,
            pulses=self.pulses,
        )

    def spawn(self, kill="", **env):
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1", **self.env, **env}
        self.child = subprocess.Popen(
            [sys.executable, CHILD, self.folder, kill],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        # A child may die before it can say that it is ready.
        line = self.child.stdout.readline().strip()
        assert line == "ready" or (kill and not line)

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.reap()

    def reap(self):
        code = self.child.wait(timeout=PATIENCE_S)
        self.child.stdin.close()
        self.child.stdout.close()
        assert code == -signal.SIGKILL, f"the process ended by itself with {code}"
        self.child = None

    def finish(self):
        """Lets the process end the runs that were pending when it started; gives their states."""
        output, _ = self.child.communicate("finish\n", timeout=PATIENCE_S)
        assert self.child.wait() == 0
        self.child = None
        return output.split()[1:]

    def start(self, playbook, number=1):
        self.alerts.apply([(make_signal(number, rule_id=f"rule-{number}", **KEY_SIGNAL), 1)])
        (alert,) = [each for each in self.alerts.find("acme") if each.rule_id == f"rule-{number}"]
        view = self.responder.start("acme", playbook, alert.id, requester="ana")
        self.preservation.waive("acme", view.case_id, operator="ana", reason="what is killed here is no evidence")
        return view.id

    def until(self, check):
        end = time.monotonic() + PATIENCE_S
        while not (found := check()):
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.02)
        return found

    def until_waiting(self, run_id):
        self.until(lambda: self.approvals.find("acme", run_id=run_id, pending=True))
        # The request is stored; now also let it be recorded and the wait begin.
        self.until(lambda: any(step.name == "DBOS.sleep" for step in self.runs.history(run_id)))

    def rows(self, query):
        connection = sqlite3.connect(self.folder / "outside.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def close(self):
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child.stdin.close()
            self.child.stdout.close()
        self.runs.close()
        self.state.close()
