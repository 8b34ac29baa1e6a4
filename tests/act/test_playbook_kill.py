"""SIGKILL of the real process that executes a playbook, before and after every step, while it waits, and in between."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from act_world import SHIPPED, make_signal
from playbook_site import Site

from vedette.act.alerts import Alerts
from vedette.act.playbooks.loader import load_playbook, read_playbook
from vedette.act.playbooks.playbook import ActionStep, ApprovalStep, walk
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.documents import load_yaml
from vedette.core.execute import State

pytestmark = pytest.mark.kill

CHILD = Path(__file__).parent / "playbook_child.py"
MOMENTS = ("before", "after")
"""Before its effect, and between its effect and its record. Once recorded, it is `before` the next one."""
PATIENCE_S = 240


def operations(playbook):
    """Everything a straight run records, from the definition."""
    found = ["run.start"]
    for step in playbook.steps:
        found += [f"{step.id}.request", f"{step.id}.settle"] if isinstance(step, ApprovalStep) else [step.id]
    return [*found, "run.end"]


@pytest.fixture
def site(tmp_path):
    opened = Site(tmp_path)
    yield opened
    opened.close()


def test_killed_at_every_moment_of_every_step(site):
    """One run is killed 18 times: around every step, and while it waits. Half-way its program changes."""
    playbook = load_playbook(SHIPPED)
    run_id = site.start(playbook)
    before, after = [], []
    for name in operations(playbook):
        points = [f"{name}:{moment}" for moment in MOMENTS]
        (after if after or name == "ask.settle" else before).extend(points)
    after.append("run.end:recorded")
    for point in before:
        site.spawn(point)
        site.reap()
    site.spawn()
    site.until_waiting(run_id)
    site.kill()
    # Nobody executes now: the decision waits for the restart.
    site.responder.decide("acme", run_id, by="bob", approve=True)
    for point in after:
        site.spawn(point, VEDETTE_CHILD_CODE="new")
        site.reap()
    site.spawn(VEDETTE_CHILD_CODE="new")
    assert site.finish() == ["succeeded"]

    actions = [step.id for step in walk(playbook.steps) if isinstance(step, ActionStep) and step.id != "tell_denied"]
    keys = {f"{run_id}:{name}" for name in actions}
    assert {key for _, key in site.rows("select name, key from effect")} == keys
    # Twice each: the call that was killed before it was recorded, and the one that was recorded. Never a third.
    assert sorted(site.rows("select key, count(*) from call group by key")) == sorted((key, 2) for key in keys)
    names = [step.name for step in site.runs.history(run_id) if not step.name.startswith("DBOS.")]
    assert names == operations(playbook)
    (case,) = site.cases.find("acme")
    kinds = [type(entry.body).__name__ for entry in site.cases.timeline("acme", case.id)]
    assert kinds.count("StepFinished") == len(actions)
    assert [kinds.count(kind) for kind in ("RunStarted", "ApprovalRequested", "ApprovalSettled", "RunFinished")] == [
        1
    ] * 4
    assert len(site.cases.evidence("acme", case.id)) == 1
    assert site.responder.show("acme", run_id).state == "completed"


QUICK = """
id: quick
version: 1
title: Decide quickly
owner: ops
steps:
  - {id: ask, type: approval, title: now, covers: [end], deadline: 3s}
  - {id: end, type: action, action: revoke_key, arguments: {key_id: k}}
"""


def test_a_decision_in_time_counts_after_a_restart_past_the_deadline(site):
    playbook = read_playbook(load_yaml(QUICK))
    decided, silent = site.start(playbook, 1), site.start(playbook, 2)
    site.spawn()
    site.until_waiting(decided)
    site.until_waiting(silent)
    site.kill()
    asked = site.responder.decide("acme", decided, by="bob", approve=True)
    site.until(lambda: site.clock.now() > max(asked.deadline, site.approvals.find("acme", run_id=silent)[0].deadline))
    site.spawn()
    assert site.finish() == ["succeeded", "succeeded"]
    assert [site.responder.show("acme", each).state for each in (decided, silent)] == ["completed", "expired"]
    assert site.rows("select key from effect") == [(f"{decided}:end",)]


def test_without_the_pinned_version_a_run_would_wait_for_ever(site, monkeypatch):
    """The same restart under another version: what the pin prevents, and that the check above can fail."""
    run_id = site.start(read_playbook(load_yaml(QUICK)))
    site.spawn("ask.request:recorded")
    site.reap()
    site.spawn(VEDETTE_CHILD_VERSION="another")
    time.sleep(2.5)  # twice what recovery takes
    site.kill()
    assert site.runs.status(run_id).state is State.RUNNING
    assert not any(step.name == "ask.settle" for step in site.runs.history(run_id))


def test_the_count_of_effects_sees_an_action_that_ignores_its_key(site):
    """A planted bug, seen by what the first test asserts: one effect too many."""
    run_id = site.start(read_playbook(load_yaml(QUICK.replace("3s", "60s"))))
    site.spawn()
    site.until_waiting(run_id)
    site.kill()
    site.responder.decide("acme", run_id, by="bob", approve=True)
    site.spawn("end:after", VEDETTE_CHILD_BUG="no-key")
    site.reap()
    site.spawn(VEDETTE_CHILD_BUG="no-key")
    assert site.finish() == ["succeeded"]
    assert len(site.rows("select key from effect")) == 2


CONSUMER = """
import sys
from pathlib import Path
from vedette.act.alerts import Alerts
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.log import SqliteLog
folder = Path(sys.argv[1])
alerts = Alerts(open_database(folder / "state.db"))
log = SqliteLog(folder / "log", SystemClock())
print("ready", flush=True)
while alerts.consume(log, limit=3).read:
    print("batch", flush=True)
print("done", flush=True)
"""


def test_a_consumer_killed_again_and_again_counts_every_signal_once(tmp_path, rng):
    import msgspec

    from vedette.core.log import SqliteLog

    signals = [make_signal(n, rule_id=f"rule-{n % 5}", event_time=1_700_000_000_000_000) for n in range(150)]
    delivered = signals + rng.choices(signals, k=60)
    rng.shuffle(delivered)
    log = SqliteLog(tmp_path / "log", SystemClock())
    for each in delivered:
        log.append("signal", each.id, [msgspec.json.encode(each)])
    log.close()
    kills = 0
    while True:
        child = subprocess.Popen([sys.executable, "-c", CONSUMER, tmp_path], stdout=subprocess.PIPE, text=True)
        lines = rng.randrange(2, 12)
        seen = [child.stdout.readline().strip() for _ in range(lines)]
        if "done" in seen:
            child.communicate()
            break
        time.sleep(rng.random() * 0.01)  # somewhere inside the next transaction
        child.kill()
        child.communicate()
        kills += 1
    store = Alerts(open_database(tmp_path / "state.db"))
    assert kills >= 5
    assert sorted(alert.signal_count for alert in store.find("acme")) == [30] * 5
