"""Seeded SIGKILLs anywhere: branches in parallel, approvals, playbooks inside playbooks, failures that are undone.

The actions speak HTTP to a server that outlives every kill and counts idempotency keys. A few kills in every run of
the tests; 500 on each database under `soak`.
"""

from __future__ import annotations

import json
import random
import time

import msgspec
import pytest
from playbook_site import PATIENCE_S, Site
from remotes import Remote, serve

from vedette.act.playbooks.loader import read_playbook
from vedette.core.documents import load_yaml
from vedette.core.execute import Outcome, State

pytestmark = pytest.mark.kill

HEAD = "title: T\nowner: ops\nversion: "
INNER = """
id: inner
title: T
owner: sub
version: 1
inputs: {word: {}}
steps:
  - {id: say, type: action, action: notify, arguments: {text: "${inputs.word}"}}
  - {id: again, type: action, action: notify, arguments: {text: two}}
"""
STORY = """
steps:
  - {id: keep, type: action, action: snapshot_evidence, arguments: {alert_id: "${alert.id}"}}
  - id: both
    type: parallel
    branches:
      - - {id: ask, type: approval, title: end, covers: [end], deadline: 10m}
        - {id: end, type: action, action: revoke_key, arguments: {key_id: k-1}, retry: {attempts: 20, delay: 100ms}}
      - - {id: left, type: action, action: notify, arguments: {text: left}, retry: {attempts: 20, delay: 100ms},
           compensation: {action: notify, arguments: {text: undo left}}}
        - {id: rest, type: wait, for: 200ms}
        - {id: sub, type: playbook-action, playbook: inner, inputs: {word: "${steps.left.done}"}}
      - - id: deep
          type: parallel
          branches:
            - [{id: a, type: action, action: notify, arguments: {text: a}}]
            - [{id: b, type: action, action: notify, arguments: {text: b}}]
"""
GOOD = "  - {id: last, type: action, action: notify, arguments: {text: last}, on_failure: continue}\n"
BAD = "  - {id: last, type: action, action: notify, arguments: {text: refuse}}\n"


def book(name, tail, version=1):
    inner = read_playbook(load_yaml(INNER))
    text = f"id: {name}\n{HEAD}{version}\n{STORY}{tail}"
    return read_playbook(load_yaml(text), library={"inner": inner}.get)


class Endpoint(Remote):
    """Counts each key once, and is now and then too busy for a new one; what says `refuse` is refused."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng
        self.calls = []

    def handle(self, method, path, headers, body):
        key, told = headers["idempotency-key"], json.loads(body)
        self.calls.append((time.time(), key))
        if told["text"] == "refuse":
            return 409, {}
        if self.rng.random() < 0.1 and key.rpartition(":")[2] in ("left", "end"):
            return 503, {}
        self.once(key, told["name"])
        return 200, {}


WANTED = {
    "good": ("completed", {"keep", "end", "left", "sub/say", "sub/again", "a", "b", "last"}),
    "bad": ("failed", {"keep", "end", "left", "sub/say", "sub/again", "a", "b", "left.compensate"}),
    "denied": ("denied", {"keep", "left", "sub/say", "sub/again", "a", "b"}),
}


def storm(site, endpoint, rng, kills):
    """Runs under kills until so many were done; gives run id -> how it must end."""
    wanted, number, done = {}, 0, 0
    code = {}
    while done < kills:
        going = [run_id for run_id in wanted if not site.runs.status(run_id).state.finished]
        while len(going) < 3:
            number += 1
            kind = rng.choice(list(WANTED))
            tail = BAD if kind == "bad" else GOOD
            # The second half runs a newer program, and newer versions of the playbooks beside runs of the old ones.
            playbook = book(kind, tail, version=1 + (done > kills // 2))
            run_id = site.start(playbook, number)
            wanted[run_id] = kind
            going.append(run_id)
        code = {"VEDETTE_CHILD_CODE": "new"} if done > kills // 2 else {}
        if rng.random() < 0.7:
            site.spawn(f"#{rng.randrange(1, 60)}", **code)
            attend(site, wanted, rng, until=time.monotonic() + 6)
            if site.child.poll() is None:
                site.child.kill()
        else:
            site.spawn(**code)
            attend(site, wanted, rng, until=time.monotonic() + rng.random())
            site.child.kill()
        site.reap()
        done += 1
    return wanted


def attend(site, wanted, rng, until):
    """People decide while the process runs, or is gone."""
    while site.child.poll() is None and time.monotonic() < until:
        decide(site, wanted, rng, 0.3)
        if not any(not site.runs.status(run_id).state.finished for run_id in wanted):
            return
        time.sleep(0.02)


def decide(site, wanted, rng, share):
    for asked in site.approvals.find("acme", pending=True):
        if rng.random() < share:
            yes = wanted[asked.run_id] != "denied"
            site.responder.decide("acme", asked.run_id, by="bob", approve=yes, step=asked.step)


def check(site, endpoint, wanted):
    for run_id, kind in wanted.items():
        state, names = WANTED[kind]
        view = site.responder.show("acme", run_id)
        assert (view.state, view.overdue) == (state, ""), (run_id, kind, view.error)
        effects = [key for key, *_ in endpoint.effects if key.startswith(f"{run_id}:")]
        assert sorted(effects) == sorted(f"{run_id}:{name}" for name in names)
        recorded = {}
        for step in view.steps:
            outcome = msgspec.convert(step.output, Outcome)
            if outcome.ok:
                assert step.name not in recorded or step.name.endswith(".settle"), f"{step.name} is finished twice"
                recorded[step.name] = step.ended_time / 1e6
        for at, key in endpoint.calls:
            name = key.partition(":")[2]
            if key.startswith(f"{run_id}:") and name in recorded:
                assert at <= recorded[name] + 0.05, f"{name} was called after it was recorded"
    assert site.responder.overdue() == []
    assert site.pulses.overdue(grace_s=-1e9) == []


def soak(folder, url, seed, kills):
    rng = random.Random(seed)
    endpoint = Endpoint(random.Random(seed + 1))
    with serve(endpoint) as address:
        site = Site(folder, url, VEDETTE_CHILD_ENDPOINT=address)
        try:
            wanted = storm(site, endpoint, rng, kills)
            site.spawn()
            end = time.monotonic() + PATIENCE_S
            while any(not site.runs.status(run_id).state.finished for run_id in wanted):
                assert time.monotonic() < end, "a run does not end"
                decide(site, wanted, rng, 1.0)
                time.sleep(0.05)
            assert site.finish() is not None
            check(site, endpoint, wanted)
        finally:
            site.close()
    return len(wanted)


@pytest.mark.parametrize("where", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_kills_anywhere(request, tmp_path, where):
    url = fresh(request) if where == "postgres" else ""
    assert soak(tmp_path, url, seed=11, kills=8)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("where", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("seed", range(10))
def test_five_hundred_kills(request, tmp_path, where, seed):
    url = fresh(request) if where == "postgres" else ""
    assert soak(tmp_path, url, seed=100 + seed, kills=50)


def fresh(request):
    """A database of its own on the test's server."""
    import psycopg

    server = request.getfixturevalue("postgres_url")
    name = f"soak{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return server.rpartition("/")[0] + f"/{name}"


def test_the_check_sees_an_effect_too_many(tmp_path):
    """A planted bug: the endpoint counts a key twice."""
    endpoint = Endpoint(random.Random(1))
    with serve(endpoint) as address:
        site = Site(tmp_path, VEDETTE_CHILD_ENDPOINT=address)
        try:
            run_id = site.start(book("denied", GOOD), 1)
            site.spawn()
            end = time.monotonic() + PATIENCE_S
            while site.runs.status(run_id).state is not State.SUCCEEDED:
                assert time.monotonic() < end
                decide(site, {run_id: "denied"}, random.Random(1), 1.0)
                time.sleep(0.05)
            site.finish()
            check(site, endpoint, {run_id: "denied"})
            endpoint.effects.append((f"{run_id}:left", "notify"))
            with pytest.raises(AssertionError):
                check(site, endpoint, {run_id: "denied"})
        finally:
            site.close()
