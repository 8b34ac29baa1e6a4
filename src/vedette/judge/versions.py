"""Versions: when each rule and model first ran here, so that people see what changed and since when."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa

MAX_HISTORY = 100
"""Most versions of one definition that are listed."""

_METADATA = sa.MetaData()
_VERSION = sa.Table(
    "definition_version",
    _METADATA,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("first_run", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "versions of definitions", create(_METADATA)),)


class Kind(StrEnum):
    """What is versioned."""

    SIGMA = "sigma"
    PAYMENT = "payment"
    MODEL = "model"


class Version(NamedTuple):
    """One version of a definition."""

    version: str
    """Content hash."""
    first_run: int
    """When an installation first ran it, microseconds UTC."""


class Versions:
    """What ran here and since when. A version that comes back keeps its first time.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of first runs.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.migrate("versions", MIGRATIONS)

    def note(self, kind: Kind, running: Iterable[tuple[str, str]]) -> int:
        """Notes what runs now, as (id, version); gives how many of them never ran before."""
        wanted = sorted(set(running))
        with self._database.begin() as connection:
            held = _held(connection, kind)
            fresh = [each for each in wanted if each not in held]
            # In order, so that two processes that start together never wait for each other in a circle.
            for name, version in fresh:
                insert_new(connection, _VERSION, kind=str(kind), id=name, version=version, first_run=self._clock.now())
        return len(fresh)

    def history(self, kind: Kind, name: str) -> list[Version]:
        """The versions of one definition, newest first."""
        query = (
            sa.select(_VERSION.c.version, _VERSION.c.first_run)
            .where(_VERSION.c.kind == str(kind), _VERSION.c.id == name)
            .order_by(_VERSION.c.first_run.desc(), _VERSION.c.version)
            .limit(MAX_HISTORY)
        )
        with self._database.read() as connection:
            return [Version(*row) for row in connection.execute(query)]

    def changed(self, kind: Kind) -> dict[str, int]:
        """Id -> when its newest version first ran."""
        query = (
            sa.select(_VERSION.c.id, sa.func.max(_VERSION.c.first_run))
            .where(_VERSION.c.kind == str(kind))
            .group_by(_VERSION.c.id)
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}


def _held(connection: Connection, kind: Kind) -> set[tuple[str, str]]:
    query = sa.select(_VERSION.c.id, _VERSION.c.version).where(_VERSION.c.kind == str(kind))
    return {(name, version) for name, version in connection.execute(query)}
