"""Databases for the money tests: every test that asks for `db` runs on SQLite and, where a server is up, PostgreSQL."""

import sys
from pathlib import Path

import pytest

from vedette.core.db import Database, open_database

sys.path.insert(0, str(Path(__file__).parent))  # `money_world`, also for the child processes' programs


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def target(request, tmp_path):
    """What `open_database` takes, and the schema: a fresh, empty place."""
    if request.param == "sqlite":
        return tmp_path / "money.db", ""
    url = request.getfixturevalue("postgres_url")
    return url, f"money_{abs(hash(request.node.nodeid)) % 10**12}"


@pytest.fixture
def db(target) -> Database:
    place, schema = target
    database = open_database(place, schema=schema)
    yield database
    if not database.is_sqlite:
        with database.begin() as connection:
            connection.exec_driver_sql(f"drop schema {schema} cascade")
    database.close()
