"""What the tests of prove share: a database of each kind, and seeded ids."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import FakeClock

from vedette.core.db import Database, open_database
from vedette.core.ids import Ids


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database; on PostgreSQL a schema of its own."""
    if request.param == "sqlite":
        database = open_database(tmp_path / "state.db")
    else:
        schema = f"prove_{random.SystemRandom().getrandbits(64):x}"
        database = open_database(request.getfixturevalue("postgres_url"), schema=schema)
    yield database
    database.close()


@pytest.fixture
def ids(clock: FakeClock, rng: random.Random) -> Ids:
    return Ids(clock, rng.getrandbits)
