"""Works of concurrent callers in shared commits: one's refusal is its own, and nobody is told before the commit."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vedette.core.db import open_database, sa
from vedette.core.errors import ConflictError, TransientError

CALLERS = 12


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    if request.param == "sqlite":
        made = open_database(tmp_path / "x.db")
    else:
        made = open_database(request.getfixturevalue("postgres_url"), schema="together")
    with made.begin() as connection:
        connection.exec_driver_sql("drop table if exists line")
        connection.exec_driver_sql("create table line (name text primary key)")
    yield made
    made.close()


def lines(database):
    with database.read() as connection:
        return set(connection.exec_driver_sql("select name from line").scalars())


def insert(connection, name):
    connection.execute(sa.text("insert into line values (:name)"), {"name": name})


def crowd(database, work, *, synced=True):
    """Every caller's outcome; all of them come while the first transaction is open."""
    barrier = threading.Barrier(CALLERS)

    def act(number):
        barrier.wait()
        try:
            return database.together(lambda connection: work(connection, number), synced=synced)
        except (ConflictError, ZeroDivisionError) as error:
            return error

    with ThreadPoolExecutor(CALLERS) as threads:
        return list(threads.map(act, range(CALLERS)))


@pytest.mark.parametrize("synced", [True, False])
def test_everybody_is_answered_once_it_is_committed(database, synced):
    def work(connection, number):
        insert(connection, f"n{number}")
        return number

    assert crowd(database, work, synced=synced) == list(range(CALLERS))
    assert lines(database) == {f"n{number}" for number in range(CALLERS)}


def test_a_refusal_takes_back_its_own_work_only(database):
    def work(connection, number):
        insert(connection, f"n{number}")
        if number % 3 == 0:
            raise ConflictError("some.conflict", "no", at=str(number))
        return number

    outcomes = crowd(database, work)
    refused = {number for number in range(CALLERS) if number % 3 == 0}
    assert {number for number, outcome in enumerate(outcomes) if isinstance(outcome, ConflictError)} == refused
    assert all(outcomes[number].place == str(number) for number in refused)
    assert lines(database) == {f"n{number}" for number in range(CALLERS) if number not in refused}


def test_what_nobody_foresaw_is_told_to_its_owner_only(database):
    def work(connection, number):
        insert(connection, f"n{number}")
        return 1 // (number - 5)

    outcomes = crowd(database, work)
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, ZeroDivisionError)] == [5]
    assert lines(database) == {f"n{number}" for number in range(CALLERS) if number != 5}


def test_callers_that_wait_share_a_commit(tmp_path):
    database = open_database(tmp_path / "x.db")
    commits = []
    sa.event.listen(database.engine, "commit", lambda _connection: commits.append(1))
    with database.begin() as connection:
        connection.exec_driver_sql("create table line (name text primary key)")
    commits.clear()
    holding, go_on = threading.Event(), threading.Event()

    def first(connection):
        holding.set()
        go_on.wait(300)
        insert(connection, "first")

    with ThreadPoolExecutor(CALLERS) as threads:
        leader = threads.submit(database.together, first)
        holding.wait(300)
        others = [
            threads.submit(database.together, lambda connection, n=n: insert(connection, f"n{n}"))
            for n in range(CALLERS - 1)
        ]
        while len(database._waiting) < CALLERS - 1:
            threading.Event().wait(0.001)
        go_on.set()
        for future in [leader, *others]:
            future.result(10)
    assert len(lines(database)) == CALLERS
    assert len(commits) == 2, "the first alone, all others together"
    database.close()


def test_a_commit_that_fails_is_told_to_all_of_them(tmp_path, monkeypatch):
    database = open_database(tmp_path / "x.db")
    begin = database.begin

    def broken(*, synced=True):
        raise TransientError("core.db.unavailable", "the disk is full")

    monkeypatch.setattr(database, "begin", broken)
    barrier = threading.Barrier(CALLERS)

    def act(_number):
        barrier.wait()
        with pytest.raises(TransientError, match=r"core[.]db[.]unavailable"):
            database.together(lambda _connection: 1)
        return True

    with ThreadPoolExecutor(CALLERS) as threads:
        assert all(threads.map(act, range(CALLERS)))
    monkeypatch.setattr(database, "begin", begin)
    assert database.together(lambda _connection: 7) == 7
    database.close()


@pytest.mark.parametrize(("synced", "level"), [(True, 2), (False, 1)])
def test_how_a_commit_reaches_the_disk(tmp_path, synced, level):
    database = open_database(tmp_path / "x.db")
    for wanted, expected in ((synced, level), (not synced, 3 - level), (synced, level)):
        with database.begin(synced=wanted) as connection:
            assert connection.exec_driver_sql("pragma synchronous").scalar() == expected
    database.close()
