"""One suite for every filter: exact within its window, bounded, marked with the effect, safe to kill."""

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.clock import MICROS
from vedette.core.db import open_database, sa
from vedette.core.errors import ConflictError, DataError, DefinitionError, TransientError
from vedette.core.redis import Redis
from vedette.move.dedup import RedisDedup, SqlDedup, Window

CHILD = Path(__file__).with_name("dedup_child.py")
WINDOW_S = 100


@pytest.fixture
def store(redis_url):
    with_it = Redis(redis_url)
    yield with_it
    with_it.close()


@pytest.fixture(params=["window", "journal", "sqlite", "postgres", "redis"])
def make(request, clock, tmp_path):
    """Makes a filter over the same state each time, as a restart does; Redis has its own clock."""
    kind, made = request.param, []

    def window(**options):
        for each in made:
            each.close()
        made[:] = [Window(clock, window_s=WINDOW_S, **options)]
        return made[0]

    if kind == "window":
        yield window
    elif kind == "journal":
        yield lambda: window(journal=tmp_path / "marks")
        for each in made:
            each.close()
    elif kind == "redis":
        redis = request.getfixturevalue("store")
        yield lambda: RedisDedup(redis, window_s=WINDOW_S)
    else:
        place = tmp_path / "money.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
        db = open_database(place, schema=f"dedup_{abs(hash(request.node.nodeid)) % 10**12}")
        yield lambda: SqlDedup(db, clock, window_s=WINDOW_S)
        db.close()


LASTING = pytest.mark.parametrize("make", ["journal", "sqlite", "postgres", "redis"], indirect=True)
TIMED = pytest.mark.parametrize("make", ["window", "journal", "sqlite", "postgres"], indirect=True)


class Boom(Exception):
    pass


def boom(_):
    raise Boom


def test_once(make):
    dedup, done = make(), []
    assert [dedup.once(id_, lambda _, id_=id_: done.append(id_)) for id_ in "aabab"] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert done == ["a", "b"]
    assert dedup.admit("a") is False
    assert dedup.admit("c") is True
    assert dedup.once("c", done.append) is False


def test_an_effect_that_fails_leaves_no_mark(make):
    dedup, done = make(), []
    with pytest.raises(Boom):
        dedup.once("a", boom)
    assert dedup.once("a", lambda _: done.append(1)) is True
    assert done == [1]


@LASTING
def test_a_restart_forgets_nothing(make):
    assert make().once("a", lambda _: None)
    assert make().once("a", boom) is False
    assert make().admit("b")
    assert make().admit("b") is False


@TIMED
def test_the_window_has_an_end(make, clock):
    dedup = make()
    assert dedup.admit("a")
    clock.advance(WINDOW_S - 0.000001)
    assert not dedup.admit("a")
    clock.advance(0.000001)
    assert dedup.admit("a")
    assert not dedup.admit("a")


@TIMED
def test_a_clock_that_is_set_back_lets_nothing_through(make, clock):
    dedup = make()
    assert dedup.admit("a")
    clock.advance(-WINDOW_S)
    assert not dedup.admit("a")


def test_the_window_of_redis_has_an_end(store):
    dedup = RedisDedup(store, window_s=2)
    assert dedup.admit("a")
    assert not dedup.admit("a")
    time.sleep(2.03)
    assert dedup.admit("a")


@pytest.mark.parametrize("bad", ["", "x" * 257, "a\nb", "\0"])
def test_ids_are_ids(make, bad):
    for act in (lambda: make().admit(bad), lambda: make().once(bad, boom)):
        with pytest.raises(DataError) as refused:
            act()
        assert refused.value.code == "dedup.id.invalid"


STEPS = st.lists(st.tuples(st.integers(0, WINDOW_S * MICROS // 3), st.integers(0, 6), st.booleans()), max_size=60)


@TIMED
@given(STEPS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_as_a_brute_force_filter(make, clock, steps):
    dedup, marks = make(), {}
    clock.advance(WINDOW_S)
    for gap, number, fails in steps:
        clock.micros += gap
        id_ = f"e{number}"
        new = clock.now() - marks.get(id_, -(10**18)) >= WINDOW_S * MICROS
        if fails and new:
            with pytest.raises(Boom):
                dedup.once(id_, boom)
        else:
            assert dedup.once(id_, lambda _: None) is new
            marks |= {id_: clock.now()} if new else {}


def test_two_at_a_time_do_it_once(make):
    dedup, begun, go, done, told = make(), threading.Event(), threading.Event(), [], []

    def slow(_):
        begun.set()
        go.wait(300)
        done.append(1)

    first = threading.Thread(target=lambda: dedup.once("a", slow))
    first.start()
    begun.wait(300)
    second = threading.Thread(target=lambda: told.append(again(dedup)))
    second.start()
    time.sleep(0.05)
    go.set()
    first.join()
    second.join()
    assert done == [1]
    assert told[0] in {False, "dedup.id.in_flight"}
    assert dedup.admit("a") is False


def again(dedup):
    try:
        return dedup.once("a", boom)
    except TransientError as error:
        return error.code if error.retry_after > 0 else "no time to wait"


def test_a_full_window_refuses_and_forgets_nothing(clock):
    window = Window(clock, window_s=WINDOW_S, max_ids=100)
    for n in range(100):
        clock.advance(0.1)
        assert window.admit(f"e{n}")
    with pytest.raises(TransientError) as full:
        window.admit("one more")
    assert full.value.code == "dedup.window.full"
    assert not window.admit("e0")
    clock.advance(full.value.retry_after)
    assert window.admit("one more")
    assert len(window) <= 100


def test_a_long_stream_stays_bounded(clock, tmp_path):
    """Out of order, a fifth repeated: no repeat passes, memory and file stay small, a torn line is no mark."""
    journal = tmp_path / "marks"
    window, rng, passed = Window(clock, window_s=WINDOW_S, max_ids=20_000, journal=journal), random.Random(3), Counter()
    for n in range(40_000):
        clock.advance(0.01)
        id_ = f"e{max(0, n - rng.randrange(2_000)) if rng.random() < 0.2 else n}"
        passed[id_] += window.admit(id_)
    assert set(passed.values()) == {1}
    assert len(window) <= 11_000
    assert journal.read_bytes().count(b"\n") < 40_000
    with pytest.raises(DefinitionError):
        Window(clock, journal=journal)
    window.close()
    with journal.open("ab") as file:
        file.write(b"%d torn" % clock.now())
    window = Window(clock, window_s=WINDOW_S, journal=journal)
    assert window.admit("torn")
    assert not window.admit(id_)
    window.close()


@pytest.mark.soak
def test_ten_million_ids(clock):
    window, rng, twice = Window(clock, window_s=60, max_ids=1_000_000), random.Random(5), 0
    last = {}
    for n in range(10_000_000):
        clock.micros += 100
        id_ = f"e{max(0, n - rng.randrange(300_000)) if rng.random() < 0.2 else n}"
        if window.admit(id_) and clock.micros - last.get(id_, -(10**18)) < 60 * MICROS:
            twice += 1
        last[id_] = max(last.get(id_, 0), clock.micros) if id_ in last else clock.micros
        if n % 1_000_000 == 0:
            last = {id_: at for id_, at in last.items() if clock.micros - at < 60 * MICROS}
    assert twice == 0
    assert len(window) <= 700_000


def test_marks_of_sql_are_swept(clock, tmp_path):
    dedup = SqlDedup(open_database(tmp_path / "money.db"), clock, window_s=WINDOW_S)
    for n in range(10):
        dedup.admit(f"e{n}")
    assert dedup.sweep() == 0
    clock.advance(WINDOW_S)
    assert dedup.admit("e0")
    assert (dedup.sweep(), dedup.sweep()) == (9, 0)
    assert not dedup.admit("e0")


def test_scopes_are_apart(clock, tmp_path):
    db = open_database(tmp_path / "money.db")
    assert SqlDedup(db, clock, scope="acme").admit("a")
    assert SqlDedup(db, clock, scope="globex").admit("a")


def test_the_mark_is_in_the_effects_transaction(clock, tmp_path):
    db = open_database(tmp_path / "money.db")
    dedup = SqlDedup(db, clock)
    with pytest.raises(Boom):
        dedup.once("a", boom)
    with db.begin() as connection:
        assert dedup.mark(connection, "a")
        assert not dedup.mark(connection, "a")


def test_a_lease_that_is_lost_is_told(store):
    dedup = RedisDedup(store, lease_s=0.05)
    done = []

    def slow(_):
        time.sleep(0.1)
        done.append(dedup.once("a", lambda _: done.append("second")))

    with pytest.raises(ConflictError) as lost:
        dedup.once("a", slow)
    assert lost.value.code == "dedup.lease.lost"
    assert done == ["second", True]


def test_a_server_that_would_forget_is_refused(store):
    store.client.config_set("maxmemory", "50mb")
    store.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(DefinitionError) as refused:
            RedisDedup(store)
    finally:
        store.client.config_set("maxmemory-policy", "noeviction")
        store.client.config_set("maxmemory", "0")
    assert refused.value.code == "dedup.redis.evicts"
    RedisDedup(store)


def killed(kind, place, effects, *, count, kills, seed):
    """Runs the child, kills it `kills` times, then lets it end."""
    rng = random.Random(seed)
    for attempt in range(kills + 1):
        arguments = [kind, str(place), str(effects), str(count), str(seed + attempt)]
        child = subprocess.Popen([sys.executable, CHILD, *arguments], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        if attempt < kills:
            time.sleep(rng.uniform(0.01, 0.2))
            child.kill()
            child.communicate()
        else:
            assert child.communicate(timeout=300)[0] == "done\n"


@pytest.mark.kill
@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_killed_with_the_effect_in_one_transaction(tmp_path, kills):
    db = open_database(tmp_path / "money.db")
    with db.begin() as connection:
        connection.execute(sa.text("create table effect (id text)"))
    killed("sql", tmp_path / "money.db", tmp_path / "effects", count=500, kills=kills, seed=kills)
    with db.read() as connection:
        done = Counter(connection.execute(sa.text("select id from effect")).scalars())
    assert set(done) == {f"evt_{n}" for n in range(500)}
    assert set(done.values()) == {1}
    db.close()


@pytest.mark.kill
@pytest.mark.parametrize("kind", ["journal", "redis"])
def test_killed_between_effect_and_mark(request, tmp_path, kind):
    place = tmp_path / "marks" if kind == "journal" else request.getfixturevalue("redis_url")
    killed(kind, place, tmp_path / "effects", count=3_000, kills=3, seed=9)
    done = Counter((tmp_path / "effects").read_text().split())
    assert set(done) == {f"evt_{n}" for n in range(3_000)}
    assert sum(done.values()) - 3_000 <= 3, "at most the one that was in hand at each kill"


def test_the_suite_finds_a_filter_that_forgets(clock):
    """The check is seen to fail: a filter that makes room by forgetting lets a repeat pass."""

    class Forgetful(Window):
        def _is_new(self, id_, now):
            if len(self._marks) >= self._max:
                del self._marks[next(iter(self._marks))]
            return super()._is_new(id_, now)

    window = Forgetful(clock, max_ids=10)
    assert sum(window.admit(json.dumps(n % 11)) for n in range(22)) > 11
