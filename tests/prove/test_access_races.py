"""Several processes and threads that make the same tenant or grant the same role at once: none fails, each once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vedette
from vedette.core.clock import SystemClock
from vedette.core.db import Database, open_database
from vedette.core.ids import Ids
from vedette.prove.access import Access, Role
from vedette.prove.audit import AuditRecord

ENV = {**os.environ, "PYTHONPATH": str(Path(vedette.__file__).parent.parent)}
RACER = Path(__file__).with_name("access_racer.py")
AT_ONCE = 4
Place = tuple[str, str]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Target and schema of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "state.db"), ""
    return request.getfixturevalue("postgres_url"), f"races_{os.getpid()}_{abs(hash(request.node.name)):x}"


def opened(place: Place) -> Database:
    return open_database(place[0], schema=place[1])


def test_processes_make_and_open_the_same(place: Place) -> None:
    clock = SystemClock()
    database = opened(place)
    access = Access(database, clock, Ids(clock))
    access.create_tenant("acme")
    person = access.people.create("acme", "Ada")
    command = [sys.executable, str(RACER), *place, person.id]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(command, env=ENV, **pipes) for _ in range(AT_ONCE)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n", racer.communicate()[1]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ended = [(racer.communicate(timeout=300)[1], racer.returncode) for racer in racers]
    assert ended == [("", 0)] * AT_ONCE
    assert access.tenants() == sorted(["acme", *(f"t{number}" for number in range(20))])
    assert access.people.get("acme", person.id).roles == set(Role)
    database.close()


def test_threads_make_the_same_and_one_is_observed(place: Place) -> None:
    clock, seen = SystemClock(), list[AuditRecord]()
    databases = [opened(place) for _ in range(AT_ONCE)]
    every = [Access(database, clock, Ids(clock), observe=seen.append) for database in databases]
    every[0].create_tenant("acme")
    person = every[0].people.create("acme", "Ada")
    gate = threading.Barrier(AT_ONCE)

    def race(access: Access) -> None:
        for number, role in enumerate(Role):
            gate.wait(300)
            access.create_tenant(f"t{number}")
            gate.wait(300)
            access.people.grant("acme", person.id, role, by="system")
            gate.wait(300)
            access.people.withdraw("acme", person.id, role, by="system")
        gate.wait(300)
        access.people.disable("acme", person.id, by="system")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(race, access) for access in every]:
            done.result(60)
    actions = [record.action for record in seen]
    rounds = len(Role)
    assert {name: actions.count(name) for name in sorted(set(actions))} == {
        "people.create": 1,
        "people.disable": 1,
        "people.grant": rounds,
        "people.withdraw": rounds,
        "tenants.create": rounds + 1,
    }
    for database in databases:
        database.close()
