"""Relational state: SQLite by default, PostgreSQL by URL, one schema and one migration path for both.

`Database` is one SQLite file or one PostgreSQL schema. `begin` opens a transaction that on SQLite holds the write lock
from its first statement (`BEGIN IMMEDIATE`), so what it reads stays true until it commits; on PostgreSQL a room locks
the rows it decides on. A commit is synced: it survives a power cut. Rooms hand over their `Migration`s by component
name; each runs once, in order.

This module is the one door to SQLAlchemy: rooms that keep tables write `from vedette.core.db import sa`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from vedette.core.errors import DefinitionError, TransientError

__all__ = [
    "BUSY_MS",
    "LONG",
    "Connection",
    "Database",
    "Migration",
    "create",
    "insert_all_new",
    "insert_new",
    "open_database",
    "sa",
]

BUSY_MS = 5_000
"""How long a SQLite writer waits for another one before it fails."""

LONG = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
"""64-bit whole number, such as a time in microseconds; SQLite's STRICT tables know no BIGINT."""

_VERSIONS = sa.Table(
    "schema_version",
    sa.MetaData(),
    sa.Column("component", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sqlite_strict=True,
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a component's schema. Steps are never edited once released; a change is a further step."""

    version: int
    """From 1, without gaps."""
    name: str
    apply: Callable[[Connection], None]


def create(metadata: sa.MetaData) -> Callable[[Connection], None]:
    """The usual first step: create every table of `metadata`."""
    return lambda connection: metadata.create_all(connection, checkfirst=False)


def insert_new(connection: Connection, table: sa.Table, **values: Any) -> bool:
    """Inserts a row unless its key is taken; true when it was inserted. A row that is there stays as it is."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    # RETURNING and not the row count, which the PostgreSQL driver does not give for this.
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing().returning(sa.literal(1))
    return connection.execute(statement).first() is not None


def insert_all_new(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], key: str) -> set[Any]:
    """Inserts the rows whose keys are not taken, in few statements; gives the `key` column of the inserted ones."""
    if not rows:
        return set()
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).on_conflict_do_nothing().returning(table.c[key])
    return set(connection.execute(statement, [dict(row) for row in rows]).scalars())


_PASSING = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN"})
"""SQLite's words for what may work later; its other operational errors are faults of ours."""


@contextmanager
def _passing() -> Iterator[None]:
    """Tells errors that may pass from faults."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:
        name = str(getattr(getattr(error, "orig", None), "sqlite_errorname", ""))
        if name and not any(name.startswith(word) for word in _PASSING):
            raise
        what = name.removeprefix("SQLITE_").lower() or type(getattr(error, "orig", error)).__name__
        message = f"the database cannot do this now: {what}"
        raise TransientError("core.db.unavailable", message, retry_after=1.0) from error


class Database:
    """One place of relational state.

    Args:
        engine: From `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite, false for PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction; commits at the end of the block, rolls back on any error.

        Raises:
            TransientError: `core.db.unavailable` when the database is locked, full or gone, or chose this transaction
                to end a deadlock. Nothing of it was kept, unless the connection broke during the commit itself.
        """
        with _passing(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only look at one state. On SQLite it never waits for a writer.

        Raises:
            TransientError: `core.db.unavailable`.
        """
        with _passing(), self.engine.connect().execution_options(vedette_read=True) as connection:
            yield connection

    def migrate(self, component: str, migrations: Sequence[Migration]) -> None:
        """Brings a component's tables up to its newest step. Safe to call at every start and from several processes.

        Raises:
            DefinitionError: `core.db.newer_schema` when the database was written by a newer version of the program.
        """
        with self.begin() as connection:
            if not self.is_sqlite:
                connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('vedette_migrate'))"))
            _VERSIONS.create(connection, checkfirst=True)
            held = connection.execute(sa.select(_VERSIONS.c.version).where(_VERSIONS.c.component == component)).scalar()
            current = held or 0
            if current > len(migrations):
                raise DefinitionError(
                    "core.db.newer_schema",
                    f"the tables of `{component}` are at version {current}, this program knows {len(migrations)}",
                    hint="run the newer program, or restore the older database",
                )
            for migration in migrations[current:]:
                migration.apply(connection)
            if held is None:
                connection.execute(_VERSIONS.insert().values(component=component, version=len(migrations)))
            elif current < len(migrations):
                connection.execute(
                    _VERSIONS.update().where(_VERSIONS.c.component == component).values(version=len(migrations))
                )

    def close(self) -> None:
        """Gives back every connection."""
        self.engine.dispose()


def open_database(target: Path | str, *, schema: str = "") -> Database:
    """Opens a database.

    Args:
        target: A path of a SQLite file (its folder is made), or a `postgresql://` URL.
        schema: PostgreSQL schema to live in, made when missing; ignored for SQLite, where the file is the schema.
    """
    if isinstance(target, str) and target.startswith("postgresql"):
        return Database(_postgres(target, schema or "public"))
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Database(_sqlite(path))


def _sqlite(path: Path) -> Engine:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False}, pool_size=8)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: `begin` below says which kind.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_MS}",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        kind = "DEFERRED" if connection.get_execution_options().get("vedette_read") else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _postgres(url: str, schema: str) -> Engine:
    if not schema.isidentifier():
        raise DefinitionError("core.db.schema_name", f"`{schema}` is not a schema name")
    plain = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(plain, connect_args={"options": f"-csearch_path={schema}"}, pool_size=8)
    with engine.begin() as connection:
        # IF NOT EXISTS alone fails when another process makes the same schema at the same time.
        connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('vedette_schema'))"))
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    return engine
