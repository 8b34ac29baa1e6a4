"""A process that executes playbooks, for the kill tests. Its actions write rows to a database of their own.

Usage: playbook_child.py FOLDER [KILL] where KILL is `step:moment`, or `#n`: the n-th moment of all; prints `ready`.
Environment: `VEDETTE_CHILD_CODE=new` runs it with changed workflow code, `VEDETTE_CHILD_URL` on PostgreSQL, and with
`VEDETTE_CHILD_ENDPOINT` the actions speak to a server that counts idempotency keys.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
import uuid
from pathlib import Path

from vedette.act.actions import ActionResult, Actions
from vedette.act.alerts import Alerts
from vedette.act.approvals import Approvals
from vedette.act.cases import Cases, Preservation
from vedette.act.effects import Effects
from vedette.act.playbooks.caps import Caps
from vedette.act.playbooks.interpreter import make_interpreters
from vedette.act.playbooks.pulses import Pulses
from vedette.act.playbooks.world import KIND, World
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.egress import Egress
from vedette.core.errors import ConflictError, PermanentError, TransientError
from vedette.core.execute import Executor, nouns
from vedette.core.ids import Ids

PATIENCE_S = 240.0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Outside:
    """The world outside: each call is a row, each effect is a row by its idempotency key."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.connection.execute("pragma journal_mode=wal")
        self.connection.execute("pragma busy_timeout=10000")
        self.connection.execute("create table if not exists call (name text, key text)")
        self.connection.execute("create table if not exists effect (name text, key text primary key)")

    def perform(self, name):
        def act(call):
            key = f"{call.key}:{uuid.uuid4()}" if os.environ.get("VEDETTE_CHILD_BUG") == "no-key" else call.key
            self.connection.execute("insert into call values (?, ?)", (name, key))
            self.connection.execute("insert or ignore into effect values (?, ?)", (name, key))
            return ActionResult({"done": name})

        return act


class Elsewhere:
    """The world outside behind HTTP: a server of another process counts the keys."""

    def __init__(self, url):
        self.url = url
        self.egress = Egress(("127.0.0.1",))

    def perform(self, name):
        def act(call):
            headers = {"Idempotency-Key": call.key}
            body = json.dumps({"name": name, "text": call.arguments.get("text", "")}).encode()
            answer = self.egress.request("POST", self.url, headers=headers, content=body, timeout=300)
            if answer.status == 409:
                raise PermanentError("elsewhere.refused", "no")
            if answer.status != 200:
                raise TransientError("elsewhere.busy", "later")
            return ActionResult({"done": name})

        return act


def opened(target, interpreters):
    """The executor; a database server may take a moment to see that the one before is dead."""
    for _ in range(100):
        try:
            return Executor(target, interpreters)
        except ConflictError:
            time.sleep(0.05)
    return Executor(target, interpreters)


def build(folder, probe):
    """The interpreter over the databases in `folder`."""
    clock = SystemClock()
    url = os.environ.get("VEDETTE_CHILD_URL", "")
    state = open_database(url, schema="state") if url else open_database(folder / "state.db")
    alerts = Alerts(state)
    endpoint = os.environ.get("VEDETTE_CHILD_ENDPOINT", "")
    outside = Elsewhere(endpoint) if endpoint else Outside(folder / "outside.db")
    effects = Effects(state, clock, alerts)

    def snapshot(call):
        outside.perform("snapshot_evidence")(call)
        return effects.snapshot_evidence(call)

    perform = {name: outside.perform(name) for name in ("revoke_key", "freeze_payouts", "notify")}
    actions = Actions({**perform, "snapshot_evidence": snapshot})
    world = World(
        actions,
        Approvals(state, clock),
        Cases(state, clock, Ids(clock)),
        clock,
        Caps(state, clock),
        Pulses(state, clock),
        Preservation(state, clock, Ids(clock)),
        probe,
    )
    interpreters = make_interpreters(world)
    interpreter = interpreters[KIND]
    if os.environ.get("VEDETTE_CHILD_CODE") != "new":
        return interpreters

    def changed(steps, definition, inputs):
        # Another function body: the library's own version hash would strand every pending run.
        return interpreter(steps, {**definition}, {**inputs})

    return {**interpreters, KIND: changed}


def main(folder, kill):
    left = [int(kill[1:]) if kill.startswith("#") else 0]

    def probe(step, moment):
        left[0] -= 1
        if f"{step}:{moment}" == kill or left[0] == 0:
            die()

    target = os.environ.get("VEDETTE_CHILD_URL") or folder / "runs.db"
    with opened(target, build(folder, probe)) as runs:
        print("ready", flush=True)
        pending = [run.id for run in runs.list_runs() if not run.state.finished]
        for line in iter(sys.stdin.readline, ""):
            if line.strip() == "finish":
                states = [runs.wait(run_id, timeout_s=PATIENCE_S).state for run_id in pending]
                print("states", *states, flush=True)
                # What is asked here is what survives; how threads of a database driver die is none of it.
                os._exit(0)


if __name__ == "__main__":
    nouns.VERSION = os.environ.get("VEDETTE_CHILD_VERSION", nouns.VERSION)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
