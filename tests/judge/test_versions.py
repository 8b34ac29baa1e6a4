"""When each version of a rule first ran."""

from __future__ import annotations

import pytest

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.judge.versions import Kind, Version, Versions


@pytest.fixture
def times():
    return iter(range(10, 1_000, 10))


@pytest.fixture
def versions(tmp_path, times):
    clock = SystemClock()
    clock.now = lambda: next(times)
    database = open_database(tmp_path / "state.db")
    yield Versions(database, clock)
    database.close()


def test_a_version_keeps_the_time_it_first_ran(versions):
    assert versions.note(Kind.SIGMA, [("a", "1"), ("b", "1")]) == 2
    assert versions.note(Kind.SIGMA, [("a", "1"), ("b", "1")]) == 0
    assert versions.note(Kind.SIGMA, [("a", "2"), ("b", "1")]) == 1
    assert versions.note(Kind.SIGMA, [("a", "1")]) == 0
    assert versions.history(Kind.SIGMA, "a") == [Version("2", 30), Version("1", 10)]
    assert versions.changed(Kind.SIGMA) == {"a": 30, "b": 20}


def test_kinds_do_not_meet(versions):
    versions.note(Kind.SIGMA, [("a", "1")])
    versions.note(Kind.PAYMENT, [("a", "9")])
    assert versions.history(Kind.PAYMENT, "a") == [Version("9", 20)]
    assert versions.history(Kind.MODEL, "a") == []
