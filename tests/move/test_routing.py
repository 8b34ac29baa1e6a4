"""The router: few keys move, load is even and bounded, answers never change; failover does nothing twice."""

import contextlib
import itertools
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.clock import SystemClock
from vedette.core.db import open_database, sa
from vedette.core.errors import ConflictError, DefinitionError, TransientError
from vedette.move.dedup import SqlDedup
from vedette.move.routing import Node, Placements, Router

CHILD = Path(__file__).with_name("region_child.py")
KEYS = [f"charge:ch_{n}" for n in range(20_000)]
GOLDEN = {
    "charge:ch_0": "n2",
    "charge:ch_1": "n1",
    "charge:ch_2": "n2",
    "charge:ch_3": "n5",
    "acme": "n4",
    "": "n4",
    "é\u0000": "n8",
}
"""Of the nodes n0 to n9. A change here moves every customer's keys: it needs a new `VERSION` and a plan."""


def names(count):
    return [f"n{n}" for n in range(count)]


def assigned(router, keys=KEYS):
    return {key: router.route(key) for key in keys}


def test_golden_assignments():
    assert {key: Router(names(10)).route(key) for key in GOLDEN} == GOLDEN


def test_another_process_with_another_hash_seed_agrees():
    code = (
        "import json; from vedette.move.routing import Router; r = Router([f'n{n}' for n in reversed(range(10))]);"
        "print(json.dumps([r.route(f'k{n}') for n in range(500)]))"
    )
    router = Router(names(10))
    env = {**os.environ, "PYTHONHASHSEED": "77"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True).stdout
    assert json.loads(told) == [router.route(f"k{n}") for n in range(500)]


@pytest.mark.parametrize("count", [1, 2, 5, 10, 31])
def test_only_the_share_of_a_new_node_moves(count):
    router = Router(names(count))
    before = assigned(router)
    router.add("new")
    after = assigned(router)
    moved = {key for key in KEYS if before[key] != after[key]}
    assert {after[key] for key in moved} == {"new"}, "no key moves between old nodes"
    assert len(moved) / len(KEYS) <= 1 / (count + 1) + 0.02
    router.remove("new")
    assert assigned(router) == before


def test_a_node_that_goes_moves_only_its_own():
    router = Router(names(10))
    before = assigned(router)
    router.remove("n4")
    after = assigned(router)
    assert all(after[key] == before[key] for key in KEYS if before[key] != "n4")
    heirs = Counter(after[key] for key in KEYS if before[key] == "n4")
    assert len(heirs) == 9
    assert max(heirs.values()) < 1.5 * statistics.mean(heirs.values()), "they are shared among all others"


@pytest.mark.parametrize("count", [2, 10, 50])
def test_load_is_even(count):
    loads = Counter(assigned(Router(names(count))).values())
    assert len(loads) == count
    assert max(loads.values()) / (len(KEYS) / count) <= 1.25


@given(st.lists(st.text(max_size=8), min_size=1, max_size=12, unique=True), st.text(max_size=30))
def test_the_order_of_nodes_says_nothing(nodes, key):
    nodes = [name or "empty name" for name in nodes]
    nodes = list(dict.fromkeys(nodes))
    router = Router(nodes)
    assert router.route(key) == Router(nodes[::-1]).route(key) == router.ranked(key)[0]
    assert sorted(router.ranked(key)) == sorted(nodes)


def test_health_and_zones():
    router = Router([Node("eu-1", "eu"), Node("eu-2", "eu"), Node("us-1", "us")])
    for key in KEYS[:200]:
        order = router.ranked(key, zone="eu")
        assert order[2] == "us-1"
        assert router.route(key, zone="eu") == order[0]
        router.set_down(order[0])
        assert router.route(key, zone="eu") == order[1], "within the zone first"
        router.set_down(order[1])
        assert router.route(key, zone="eu") == "us-1"
        router.set_up(order[0])
        router.set_up(order[1])
        assert router.route(key) == router.ranked(key)[0]
    for name in ("eu-1", "eu-2", "us-1"):
        router.set_down(name)
    for act in (lambda: router.route("a"), lambda: router.acquire("a").__enter__()):
        with pytest.raises(TransientError) as nobody:
            act()
        assert nobody.value.code == "routing.nodes.none"


def test_mistakes_have_codes():
    router = Router(["a"])
    for act, code in (
        (lambda: router.add("a"), "routing.node.repeated"),
        (lambda: router.add(""), "routing.node.repeated"),
        (lambda: router.remove("b"), "routing.node.unknown"),
        (lambda: router.set_down("b"), "routing.node.unknown"),
        (lambda: Router(["a"], bound=0.9), "routing.bound.invalid"),
        (lambda: Router(names(1_025)), "routing.nodes.too_many"),
    ):
        with pytest.raises(DefinitionError) as refused:
            act()
        assert refused.value.code == code


def test_no_node_holds_more_than_its_bound():
    router, rng, held = Router(names(7), bound=1.25), random.Random(4), []
    for _ in range(5_000):
        if held and rng.random() < 0.45:
            held.pop(rng.randrange(len(held))).__exit__(None, None, None)
        lease = router.acquire(rng.choice(["hot", "hot", "warm", f"cold{rng.random()}"]))
        lease.__enter__()
        held.append(lease)
        assert max(router.load(name) for name in names(7)) <= math.ceil(1.25 * len(held) / 7)
    for lease in held:
        lease.__exit__(None, None, None)
    assert sum(router.load(name) for name in names(7)) == 0
    with router.acquire("hot") as first:
        assert first == router.route("hot")


# Placements


@pytest.fixture
def world(db, clock):
    router = Router(["eu", "us", "ap"])
    return Placements(db, clock, router, lease_s=5), router


def test_a_key_stays_where_it_was_until_the_lease_is_over(world, clock, db):
    places, router = world
    with pytest.raises(TransientError):
        places.place("k")
    for node in ("eu", "us", "ap"):
        places.beat(node)
    first = places.place("k")
    assert (first.node, first.moved) == (router.route("k"), False)
    assert places.place("k") == first
    clock.advance(4.9)
    for node in {"eu", "us", "ap"} - {first.node}:
        places.beat(node)
    assert places.place("k") == first
    clock.advance(0.2)
    second = places.place("k")
    assert (second.node, second.moved) == (router.ranked("k")[1], True)
    assert second.epoch > first.epoch
    places.beat(first.node)
    assert places.place("k") == second, "it does not run back"
    with pytest.raises(ConflictError) as late, db.begin() as connection:
        places.fence(connection, first)
    assert late.value.code == "routing.epoch.lost"
    with db.begin() as connection:
        places.fence(connection, second)
    places.leave(second.node)
    assert places.place("k").node != second.node, "who leaves is not waited for"


def test_a_forgotten_placement_comes_back_above_every_earlier_one(world, clock, db):
    places, _ = world
    places.beat("eu")
    old = places.place("k")
    clock.advance(8 * 86_400)
    assert (places.sweep(), places.sweep()) == (1, 0)
    places.beat("eu")
    new = places.place("k")
    assert new.epoch > old.epoch
    with pytest.raises(ConflictError), db.begin() as connection:
        places.fence(connection, old)


def test_many_at_once_agree(db, clock):
    places = Placements(db, clock, Router(["eu", "us"]), lease_s=5)
    places.beat("eu")
    places.beat("us")
    for key in ("a", "b"):
        found = []
        threads = [
            threading.Thread(target=lambda key=key, found=found: found.append(places.place(key))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 1


REGIONS, LEASE_S = ("eu", "us"), 0.6


class Region:
    def __init__(self, name, path):
        command = [sys.executable, CHILD, name, str(path), str(LEASE_S), *REGIONS]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, key):
        """The answer, or None when there is none: then nobody knows whether it was done."""
        try:
            self.process.stdin.write(f"{key}\n")
            answer = self.process.stdout.readline().split()
        except OSError:
            answer = []
        if not answer:
            time.sleep(0.01)
            return None
        assert answer[0] == key
        return answer[1]

    def end(self):
        self.process.kill()
        with contextlib.suppress(OSError):
            self.process.communicate()


@pytest.mark.kill
def test_a_region_that_is_killed_under_load_does_nothing_twice(tmp_path):
    path = tmp_path / "shared.db"
    db = open_database(path)
    with db.begin() as connection:
        connection.execute(sa.text("create table effect (key text, node text)"))
    Placements(db, SystemClock(), Router(REGIONS))
    SqlDedup(db, SystemClock())
    both = {name: Region(name, path) for name in REGIONS}
    acknowledged, begun, recovered = [], 0.0, 0.0
    try:
        # It has done something before it is killed, however late a busy machine lets its signs of life be.
        theirs = (key for number in itertools.count() if Router(REGIONS).route(key := f"first_{number}") == "us")
        assert any(both["us"].ask(key) == "done" for key in theirs)
        for number in range(60):
            key, victim = f"pay_{number}", both["us"].process
            if number == 30:
                os.kill(victim.pid, signal.SIGKILL)
                begun = time.monotonic()
            sides = itertools.cycle(REGIONS)
            while both[next(sides)].ask(key) != "done":
                assert time.monotonic() - (begun or time.monotonic()) < 400
            acknowledged.append(key)
            placed_there = Router(REGIONS).route(key) == "us"
            if begun and not recovered and placed_there:
                recovered = time.monotonic() - begun
    finally:
        for each in both.values():
            each.end()
    with db.read() as connection:
        done = Counter(connection.execute(sa.text("select key from effect")).scalars())
        where = Counter(connection.execute(sa.text("select node from effect")).scalars())
    assert set(done) >= set(acknowledged), "nothing that was acknowledged is lost"
    assert set(done.values()) == {1}
    assert set(where) == set(REGIONS)
    assert 0 < recovered < 400
    db.close()
