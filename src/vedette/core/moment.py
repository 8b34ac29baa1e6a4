"""One moment of several databases that are in use: what each holds is pinned while nobody writes to any of them.

Every database's write lock is taken, so that for some milliseconds nobody writes; then what each holds is pinned by a
read transaction; then the locks are given back, and each is copied from its pinned state while everything goes on.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa

from vedette.core.db import open_database
from vedette.core.errors import DefinitionError, TransientError, VedetteError

LOCK_S = 10.0
"""How long the moment is looked for in which all write locks are free."""
TRY_S, PAUSE_S = 0.05, 0.05
"""A try holds what it has for so long at most, and so long is the pause before the next: writers never wait longer."""
PASSWORD = "PGPASSWORD"  # noqa: S105 - the name of a variable
_OURS = "nspname not in ('information_schema', 'pg_catalog', 'pg_toast') and nspname not like 'pg\\_temp%'"


class Source(ABC):
    """A database that can be copied as it was at a moment."""

    @abstractmethod
    def lock(self) -> bool:
        """Takes the write lock; False when it is not to be had within `TRY_S`."""

    @abstractmethod
    def unlock(self) -> None:
        """Gives the write lock back, if it is held."""

    @abstractmethod
    def pin(self) -> None:
        """From here on `copy` sees what is there now."""

    @abstractmethod
    def copy(self, target: Path) -> None:
        """Writes what was pinned to a new file."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of everything."""


class File(Source):
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pinned = sqlite3.connect(path, timeout=TRY_S, isolation_level=None)
        self._locking = sqlite3.connect(path, timeout=TRY_S, isolation_level=None)

    def lock(self) -> bool:
        """As `Source`."""
        try:
            self._locking.execute("begin immediate")
        except sqlite3.OperationalError:
            return False
        return True

    def unlock(self) -> None:
        """As `Source`."""
        if self._locking.in_transaction:
            self._locking.execute("rollback")

    def pin(self) -> None:
        """A read transaction begins with its first read."""
        self._pinned.execute("begin")
        self._pinned.execute("select count(*) from sqlite_master").fetchone()

    def copy(self, target: Path) -> None:
        """As `Source`; the copy needs no file beside it."""
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            self._pinned.backup(copy)
            copy.execute("pragma journal_mode=delete")
        finally:
            copy.close()
        target.chmod(self._path.stat().st_mode & 0o777)

    def close(self) -> None:
        """As `Source`."""
        self._pinned.close()
        self._locking.close()


class Server(Source):
    """A PostgreSQL database, all of it: an installation has one of its own.

    Args:
        url: `postgresql://`.

    Raises:
        TransientError: `backup.database.unreachable`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._database = open_database(url, schema=None, pool=2)
        try:
            self._pinned = self._database.engine.connect()
            self._locking = self._database.engine.connect()
        except sa.exc.OperationalError as error:
            self._database.close()
            hint = "look at VEDETTE_DATABASE_URL, and whether the server runs"
            raise TransientError("backup.database.unreachable", "PostgreSQL does not answer", hint=hint) from error
        self._snapshot = ""

    def lock(self) -> bool:
        """Takes every table against writing; who reads goes on."""
        try:
            self._locking.execute(sa.text(f"set local lock_timeout = '{int(TRY_S * 1_000)}ms'"))
            names = self._locking.execute(sa.text(
                "select quote_ident(nspname) || '.' || quote_ident(relname) from pg_class c"
                f" join pg_namespace n on n.oid = c.relnamespace where relkind in ('r', 'p') and {_OURS} order by 1"
            )).scalars().all()  # fmt: skip
            if names:
                self._locking.execute(sa.text(f"lock table {', '.join(names)} in exclusive mode"))
        except sa.exc.OperationalError:
            self._locking.rollback()
            return False
        return True

    def unlock(self) -> None:
        """As `Source`."""
        self._locking.rollback()

    def pin(self) -> None:
        """A snapshot that another program can read from, for as long as this transaction is open."""
        self._pinned.execute(sa.text("set transaction isolation level repeatable read read only"))
        self._snapshot = self._pinned.execute(sa.text("select pg_export_snapshot()")).scalar_one()

    def copy(self, target: Path) -> None:
        """A file for `pg_restore`."""
        _run("pg_dump", self._url, "--format=custom", f"--snapshot={self._snapshot}", f"--file={target}")
        target.chmod(0o600)

    def close(self) -> None:
        """As `Source`."""
        self._pinned.close()
        self._locking.close()
        self._database.close()


def fill(url: str, dump: Path) -> None:
    """Puts what `Server.copy` wrote into an empty PostgreSQL database, all of it or nothing.

    Raises:
        DefinitionError: `backup.target.exists` when there are tables in it; `backup.tool.missing`.
        VedetteError: `backup.tool.failed`.
    """
    database = open_database(url, schema=None, pool=1)
    try:
        with database.engine.connect() as connection:
            there = connection.execute(
                sa.text(f"select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where {_OURS} limit 1")
            ).scalar()
    finally:
        database.close()
    if there:
        raise DefinitionError("backup.target.exists", "the PostgreSQL database is not empty", hint="make a new one")
    _run("pg_restore", url, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(dump))


@contextmanager
def one_moment(sources: Sequence[Source]) -> Iterator[None]:
    """Pins what all of them hold at one moment.

    Raises:
        TransientError: `backup.database.busy` when somebody holds a write lock for more than `LOCK_S`.
    """
    with ExitStack() as stack:
        for source in sources:
            stack.callback(source.close)
        _lock_all(sources)
        for source in sources:
            source.pin()
        for source in sources:
            source.unlock()
        yield


def _lock_all(sources: Sequence[Source]) -> None:
    """All write locks or none: who waits for one while holding another would stand in the way of writers like us."""
    end = time.monotonic() + LOCK_S
    while not all(source.lock() for source in sources):
        for source in sources:
            source.unlock()
        if time.monotonic() >= end:
            raise TransientError("backup.database.busy", "some database is always being written", hint="try again")
        time.sleep(PAUSE_S)


def _run(tool: str, url: str, *options: str) -> None:
    """Runs one of PostgreSQL's own tools; the password goes through the environment, which other users cannot read."""
    program = shutil.which(tool)
    if program is None:
        hint = "install PostgreSQL's client tools, of the server's version or newer"
        raise DefinitionError("backup.tool.missing", f"`{tool}` is not installed", hint=hint)
    made = sa.make_url(url)
    plain = sa.URL.create(
        made.drivername, made.username, None, made.host, made.port, made.database, made.query
    ).render_as_string()
    environ = dict(os.environ) | ({PASSWORD: str(made.password)} if made.password else {})  # noqa: TID251 - of a child
    done = subprocess.run([program, f"--dbname={plain}", *options], env=environ, capture_output=True, text=True)  # noqa: S603, PLW1510 - ours, and looked at
    if done.returncode:
        raise VedetteError("backup.tool.failed", f"{tool}: {done.stderr.strip()[:300]}")
