"""Projections: tables made from the log alone, in one SQLite file that may be deleted and is then made again.

Each component of the file keeps its place in the log in the transaction of what it made from it, so a record counts
once, whenever the process is killed. The file is not synced at each commit: after a power cut some of the last commits
may be gone, place and effect together, and are made again. A file that is damaged, that was made in another format, or
that knows more of the log than there is (the log was restored from a copy) starts anew.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vedette.core.errors import TransientError
from vedette.core.log import Log, Record

BUSY_S = 5.0
"""How long a writer waits for another process's commit."""
CACHE_KIB = 16_384
"""Page cache of the writer's connection."""

_CURSORS = """
create table if not exists projection (component text primary key, format integer not null) strict;
create table if not exists place (
  component text not null, shard integer not null, next integer not null, primary key (component, shard)
) strict;
"""

Apply = Callable[[sqlite3.Connection, int, Sequence[Record]], None]
"""Takes a partition's next records into the component's tables, inside the transaction that it is given."""


class Projection:
    """The file. Reads may come from any thread and never wait; writes take turns.

    Args:
        path: Made when missing, its folder too.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._readers: deque[sqlite3.Connection] = deque()
        self._lock = threading.Lock()
        try:
            self._writer = self._connect(_CURSORS)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _unavailable(error) from error
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            self._writer = self._connect(_CURSORS)
        self._writer.execute(f"pragma cache_size = -{CACHE_KIB}")

    def _connect(self, schema: str = "") -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "trusted_schema=OFF", "temp_store=MEMORY"):
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(schema)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def prepare(self, component: str, version: int, schema: str) -> None:
        """Makes a component's tables; those of another version are dropped, to be made again from the log.

        Args:
            component: Its name; every table of it is called `component_...`.
            version: Of its tables and of what they mean.
            schema: `create table if not exists` and `create index if not exists` statements, with semicolons between.
        """
        with self.write() as connection:
            row = connection.execute("select format from projection where component = ?", (component,)).fetchone()
            if row and row[0] != version:
                self._forget(connection, component)
            for statement in filter(None, map(str.strip, schema.split(";"))):
                connection.execute(statement)
            connection.execute("insert or replace into projection values (?, ?)", (component, version))

    @staticmethod
    def _forget(connection: sqlite3.Connection, component: str) -> None:
        found = connection.execute(
            "select name from sqlite_schema where type = 'table' and name glob ?", (f"{component}_*",)
        ).fetchall()
        for (name,) in found:
            connection.execute(f"drop table {name}")
        connection.execute("delete from place where component = ?", (component,))

    def follow(self, component: str, log: Log, topic: str, limit: int, apply: Apply) -> int:
        """Takes what is new in a topic, at most `limit` records a partition; gives how many that was.

        The place moves in the transaction of what `apply` does: both or neither.

        Raises:
            TransientError: `core.index.unavailable`; what reading the log raises. The place stays.
        """
        taken = 0
        for shard in range(log.partitions(topic)):
            # Read before the transaction: another process's writer need not wait for it.
            records = log.read(topic, shard, self.place(component, shard), limit)
            if records:
                taken += self._take(component, shard, records, apply)
        return taken

    def _take(self, component: str, shard: int, records: list[Record], apply: Apply) -> int:
        with self.write() as connection:
            if self._place(connection, component, shard) != records[0].offset:
                return 0  # another process was faster; the next turn reads on from there
            apply(connection, shard, records)
            connection.execute(
                "insert into place values (?, ?, ?) on conflict do update set next = excluded.next",
                (component, shard, records[-1].offset + 1),
            )
        return len(records)

    def ahead(self, component: str, log: Log, topic: str) -> bool:
        """Whether it has taken more than the log holds: then it was made from another log."""
        return any(self.place(component, shard) > log.end(topic, shard) for shard in range(log.partitions(topic)))

    def place(self, component: str, shard: int) -> int:
        """Offset of the next record to take from a partition."""
        with self.read() as connection:
            return self._place(connection, component, shard)

    @staticmethod
    def _place(connection: sqlite3.Connection, component: str, shard: int) -> int:
        row = connection.execute(
            "select next from place where component = ? and shard = ?", (component, shard)
        ).fetchone()
        return int(row[0]) if row else 0

    def restart(self, component: str, version: int, schema: str) -> None:
        """Empties a component: its next turn begins at the start of the log."""
        with self.write() as connection:
            self._forget(connection, component)
        self.prepare(component, version, schema)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock; commits at the end of the block, rolls back on any error.

        Raises:
            TransientError: `core.index.unavailable` when the file is locked by another process, or the disk is full.
        """
        with self._lock:
            try:
                self._writer.execute("begin immediate")
                yield self._writer
                self._writer.execute("commit")
            except sqlite3.OperationalError as error:
                raise _unavailable(error) from error
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("rollback")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state from its first statement on.

        Raises:
            TransientError: `core.index.unavailable`.
        """
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._connect()
        try:
            connection.execute("begin")
            yield connection
        except sqlite3.OperationalError as error:
            raise _unavailable(error) from error
        finally:
            if connection.in_transaction:
                connection.execute("rollback")
            self._readers.append(connection)

    def close(self) -> None:
        """Gives back every connection."""
        with self._lock:
            self._writer.close()
        while self._readers:
            self._readers.pop().close()


_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
"""SQLite's words for what may work later; its other operational errors are faults of ours."""


def _unavailable(error: sqlite3.OperationalError) -> Exception:
    if not str(getattr(error, "sqlite_errorname", "")).startswith(_PASSING):
        return error
    return TransientError("core.index.unavailable", f"the index cannot do this now: {error}", retry_after=1.0)
