"""A state database of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vedette.core.db import Database, open_database


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
