"""Databases for the money tests: every test that asks for `db` runs on SQLite and, where a server is up, PostgreSQL."""

import os
import shutil
import subprocess
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


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory):
    """A PostgreSQL server of this test run, on loopback."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or os.getuid() != 0:
        pytest.skip("no PostgreSQL server here")
    folder, binaries = Path(f"/tmp/vedette-move-pg-{os.getpid()}"), found[-1].parent
    folder.mkdir()
    shutil.chown(folder, "postgres")
    data = folder / "data"

    def run(*command):
        subprocess.run(["runuser", "-u", "postgres", "--", *map(str, command)], check=True, stdout=subprocess.DEVNULL)

    run(binaries / "initdb", "-D", data, "--auth=trust", "-U", "postgres", "-N")
    options = f"-p 8731 -c listen_addresses=127.0.0.1 -k {folder} -c max_connections=60"
    run(binaries / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
    yield "postgresql://postgres@127.0.0.1:8731/postgres"
    run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)
