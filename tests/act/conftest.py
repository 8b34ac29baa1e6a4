"""A state database of each kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.core.db import Database, open_database

PORT = 8750
sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory) -> Iterator[str]:
    """A PostgreSQL of its own on loopback; missing programs skip, but fail where CI is set."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    program = shutil.which("initdb") or (str(found[-1]) if found else "")
    if not program:
        message = "PostgreSQL is not installed (Debian package postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    folder = Path("/tmp") / f"vedette-act-pg-{os.getpid()}"
    folder.mkdir(mode=0o700)
    # The server refuses to run as root; its packages bring a user for it.
    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres", "postgres")
    tools = Path(program).resolve().parent
    data = folder / "data"
    run = {"stdout": subprocess.DEVNULL, "cwd": folder, **user}
    subprocess.run([tools / "initdb", "-D", data, "-A", "trust", "-U", "vedette", "--no-sync"], check=True, **run)
    options = f"-p {PORT} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run(
        [tools / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"], check=True, **run
    )
    try:
        yield f"postgresql://vedette@127.0.0.1:{PORT}/postgres"
    finally:
        subprocess.run([tools / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True, **run)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path) -> Iterator[Database]:
    """An empty state database, once of each kind."""
    if request.param == "sqlite":
        opened = open_database(tmp_path / "state.db")
    else:
        name = f"t{abs(hash(request.node.nodeid)):x}"
        opened = open_database(request.getfixturevalue("postgres_url"), schema=name)
    yield opened
    opened.close()
