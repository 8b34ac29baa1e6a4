"""Relational state: SQLite by default, PostgreSQL by URL, one schema and one migration path for both.

`Database` is one SQLite file or one PostgreSQL schema. `begin` opens a transaction that on SQLite holds the write lock
from its first statement (`BEGIN IMMEDIATE`), so what it reads stays true until it commits; on PostgreSQL a room locks
the rows it decides on. A commit is synced: it survives a power cut. Rooms hand over their `Migration`s by component
name; each runs once, in order.

This module is the one door to SQLAlchemy: rooms that keep tables write `from vedette.core.db import sa`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from vedette.core.errors import DefinitionError, PermanentError, TransientError, VedetteError

__all__ = [
    "BUSY_MS",
    "LONG",
    "Connection",
    "Database",
    "Migration",
    "copy_in",
    "create",
    "execute",
    "insert_all_new",
    "insert_new",
    "marked",
    "open_database",
    "overwrite_deleted",
    "sa",
]

BUSY_MS = 5_000
"""How long a SQLite writer waits for another one before it fails."""

CACHE_KIB = 32 * 1024
"""Pages a SQLite connection keeps in memory at most; what keys of random ids touch does not fit the default 2 MB."""
CHECKPOINT_PAGES = 8_000
"""SQLite's write-ahead log is copied back by a commit at 32 MB, where nobody calls `Database.checkpoint` before."""
RESTART_PAGES = 4_000
"""The log begins anew after so many pages, for which writers wait a moment: most is copied by then."""

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


def execute(connection: Connection, statement: str, values: tuple[Any, ...] | list[tuple[Any, ...]] = ()) -> Any:
    """A statement in the driver's own words, within the transaction: for the few that every payment needs.

    Its rows are plain tuples without names, which costs a fifth; the driver keeps the statement prepared.

    Args:
        connection: The transaction.
        statement: With `?` on SQLite, `%s` on PostgreSQL.
        values: Of one row; a list does the statement for each of many.

    Returns:
        The driver's cursor.

    Raises:
        sa.exc.DBAPIError: As `Connection.execute`, without the values.
    """
    with _told(connection, statement):
        cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
        (cursor.executemany if isinstance(values, list) else cursor.execute)(statement, values)
        return cursor


def marked(connection: Connection, statement: str) -> str:
    """A statement with `?` for its values, as the driver of this connection wants it."""
    return statement if connection.dialect.name == "sqlite" else statement.replace("?", "%s")


@contextmanager
def _told(connection: Connection, statement: str) -> Iterator[None]:
    """Tells a driver's error as SQLAlchemy does."""
    dialect = connection.dialect
    try:
        yield
    except dialect.loaded_dbapi.Error as error:
        base = dialect.loaded_dbapi.Error
        raise sa.exc.DBAPIError.instance(statement, None, error, base, hide_parameters=True, dialect=dialect) from error


def copy_in(connection: Connection, statement: str, text: str) -> None:
    """PostgreSQL's way to take many rows at once: `COPY ... FROM STDIN` in its text form, within the transaction.

    Raises:
        sa.exc.IntegrityError: A key is taken; the transaction, or its savepoint, is void.
    """
    with _told(connection, statement):
        raw: Any = connection.connection.driver_connection
        with raw.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(text)


def overwrite_deleted(connection: Connection) -> None:
    """Has SQLite write zeros over what this connection deletes from now on; PostgreSQL leaves that to its vacuum."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


_PASSING = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN"})
"""SQLite's words for what may work later; its other operational errors are faults of ours."""


_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_RESTORE = "stop the server and restore a backup; `vedette audit verify` tells what it lacks"


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
    except sa.exc.DatabaseError as error:
        name = str(getattr(error.orig, "sqlite_errorname", ""))
        if not name.startswith(_DAMAGED):
            raise
        raise PermanentError("core.db.damaged", "the database file is damaged", hint=_RESTORE) from error


T = TypeVar("T")
MAX_TOGETHER = 64
"""Most pieces of work that share one commit: bounds how long the first of them waits for the last."""


@dataclass(slots=True, eq=False)
class _Turn(Generic[T]):
    """One piece of work that waits for its transaction."""

    work: Callable[[Connection], T]
    synced: bool
    done: list[T] = field(default_factory=list)
    """Its result, once that is committed."""
    error: VedetteError | None = None
    alone: bool = False
    """A neighbour failed in a way that nobody foresaw: the owner does its own again."""

    def attempt(self, connection: Connection) -> list[T]:
        """Does the work under a savepoint: what it refuses is taken back without touching its neighbours."""
        try:
            with connection.begin_nested():
                return [self.work(connection)]
        except VedetteError as error:
            self.error = error
            return []


class Database:
    """One place of relational state.

    Args:
        engine: From `open_database`.
        service: See `open_database`.
    """

    def __init__(self, engine: Engine, service: str = "") -> None:
        self.engine = engine
        self.service = service
        self._single = engine if self.is_sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._written = engine.execution_options(vedette_written=True)
        self._reading = engine.execution_options(vedette_read=True)
        self._own: list[Connection] = []
        self._waiting: list[_Turn[Any]] = []
        self._lock = threading.Lock()
        self._leading = threading.Lock()

    def placed(self, name: str) -> str:
        """The name under which a reader keeps its place in this service's log; of other services it is another one."""
        return f"{name}@{self.service}" if self.service else name

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite, false for PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def begin(self, *, synced: bool = True) -> Iterator[Connection]:
        """A write transaction; commits at the end of the block, rolls back on any error.

        Args:
            synced: Wait for the disk. False: the commit survives a killed process, and is on disk at the latest with
                the next synced one; a power cut before that takes it back.

        Raises:
            TransientError: `core.db.unavailable` when the database is locked, full or gone, or chose this transaction
                to end a deadlock. Nothing of it was kept, unless the connection broke during the commit itself.
        """
        engine = self.engine if synced else self._written
        with _passing(), engine.connect() as connection, connection.begin():
            if not synced and not self.is_sqlite:
                execute(connection, "set local synchronous_commit to off")
            yield connection

    def together(self, work: Callable[[Connection], T], *, synced: bool = True) -> T:
        """Does `work` in a write transaction, and answers once that is committed.

        On SQLite, which has one writer at a time, works of concurrent callers share a commit: whoever comes first does
        everything that waits, each under its own savepoint. PostgreSQL has a transaction for each, and groups the
        commits itself. `work` may run twice, the first time without effect; it must not call `together`.

        Args:
            work: Gets the connection of the transaction. What it raises is raised here, and takes back only its own.
            synced: As for `begin`; a shared commit is synced when one of its works wants that.

        Raises:
            TransientError: As `begin`.
        """
        if not self.is_sqlite:
            with self.begin(synced=synced) as connection:
                return work(connection)
        turn = _Turn(work, synced)
        with self._lock:
            self._waiting.append(turn)
        with self._leading:
            if not (turn.done or turn.error or turn.alone):
                self._lead(turn)
            if turn.alone:
                with self.begin(synced=synced) as connection:
                    return work(connection)
        if turn.error:
            raise turn.error
        return turn.done[0]

    def _lead(self, mine: _Turn[Any]) -> None:
        """One commit for everything that waits, `mine` included. Without company, `mine` needs no savepoint."""
        with self._lock:
            self._waiting.remove(mine)
            turns = [mine, *self._waiting[: MAX_TOGETHER - 1]]
            del self._waiting[: MAX_TOGETHER - 1]
        if len(turns) == 1:
            mine.alone = True
            return
        # What nobody foresaw belongs to one of them: unless this ends well, each does its own again.
        for turn in turns:
            turn.alone = True
        with suppress(Exception):
            self._share(turns)

    def _share(self, turns: Sequence[_Turn[Any]]) -> None:
        failed: VedetteError | None = None
        results: list[list[Any]] = [[] for _ in turns]
        try:
            with self.begin(synced=any(turn.synced for turn in turns)) as connection:
                results = [turn.attempt(connection) for turn in turns]
        except VedetteError as error:
            failed = error
        for turn, result in zip(turns, results, strict=True):
            turn.alone = False
            turn.done = [] if failed else result
            turn.error = failed or turn.error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only look at one state. On SQLite it never waits for a writer.

        Raises:
            TransientError: `core.db.unavailable`.
        """
        with _passing(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """As `read`, for one statement only: on PostgreSQL it is spared a transaction around it.

        Raises:
            TransientError: `core.db.unavailable`.
        """
        if self.is_sqlite:
            with self.read() as connection:
                yield connection
            return
        with _passing(), self._single.connect() as connection:
            yield connection

    def own(self) -> Connection:
        """A connection outside the pool, for one who begins and ends transactions by itself in the driver's own words.

        It keeps what was prepared on it, which the pool's lose with every rollback. Closed with the database.

        Raises:
            TransientError: `core.db.unavailable`.
        """
        with _passing():
            connection = self.engine.connect()
            connection.detach()
        self._own = [*(one for one in self._own if not one.closed and not one.invalidated), connection]
        return connection

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

    def checkpoint(self) -> int:
        """Copies SQLite's write-ahead log back while others write, so that no commit has to do all of it at once.

        Call it now and then where much is written. PostgreSQL does this by itself.

        Returns:
            How many pages the log holds.

        Raises:
            TransientError: `core.db.unavailable`.
        """
        if not self.is_sqlite:
            return 0
        with _passing(), self.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            with _told(connection, "checkpoint"):
                _busy, pages, _copied = raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages >= RESTART_PAGES:
                    raw.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        return max(0, int(pages))

    def close(self) -> None:
        """Gives back every connection."""
        for connection in self._own:
            connection.close()
        self.engine.dispose()


POOL = 8
"""Connections that are kept open."""


def open_database(target: Path | str, *, schema: str | None = "", pool: int = POOL, service: str = "") -> Database:
    """Opens a database.

    Args:
        target: A path of a SQLite file (its folder is made), or a `postgresql://` URL.
        schema: PostgreSQL schema to live in, made when missing; None: the one that the server or the URL's own options
            choose. Ignored for SQLite, where the file is the schema.
        pool: Connections to keep open; more are made and closed again when as many are in use.
        service: Which of the services that share it this is: what follows its log keeps places of its own.
    """
    if isinstance(target, str) and target.startswith("postgresql"):
        return Database(_postgres(target, "public" if schema == "" else schema, pool), service)
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Database(_sqlite(path, pool))


def _sqlite(path: Path, pool: int) -> Engine:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False}, pool_size=pool)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: `begin` below says which kind.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_MS}",
            "trusted_schema=OFF",
            f"cache_size=-{CACHE_KIB}",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("vedette_read"):
            execute(connection, "BEGIN DEFERRED")
            return
        wanted = "NORMAL" if options.get("vedette_written") else "FULL"
        if connection.info.get("synchronous") != wanted:
            execute(connection, f"PRAGMA synchronous={wanted}")
            connection.info["synchronous"] = wanted
        execute(connection, "BEGIN IMMEDIATE")

    return engine


def _postgres(url: str, schema: str | None, pool: int) -> Engine:
    plain = url.replace("postgresql://", "postgresql+psycopg://", 1)
    if schema is None:
        return sa.create_engine(plain, pool_size=pool)
    if not schema.isidentifier():
        raise DefinitionError("core.db.schema_name", f"`{schema}` is not a schema name")
    engine = sa.create_engine(plain, connect_args={"options": f"-csearch_path={schema}"}, pool_size=pool)
    with engine.begin() as connection:
        # IF NOT EXISTS alone fails when another process makes the same schema at the same time.
        connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('vedette_schema'))"))
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    return engine
