"""One topic in one SQLite file: a writer thread that groups commits, one that syncs, one that checkpoints.

A row is a batch: the appends that shared a commit. Its primary key is `partition << 48 | offset of its first record`,
so one tree serves every partition and an append touches few pages. SQLite runs in WAL mode with `synchronous=NORMAL`: a
commit writes the WAL without waiting for the disk, and the sync thread syncs that file, which makes every commit before
it durable at once. Checkpoints run on their own connection, so an append never pays for one.

The usual commit is one row, and one statement that finds its place, inserts it and commits: each call into SQLite lets
go of the interpreter, and every other thread of a busy process is a reason to wait for it again.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, NamedTuple

import msgspec

from vedette.core.errors import DataError, DefinitionError, PermanentError, TransientError
from vedette.core.packing import pack, unpack
from vedette.core.turns import let_finish, step_back

BUSY_S = 5.0
"""How long a writer waits for another process's commit."""
LINGER_S = 0.0035
"""How long the sync thread gathers commits that nobody waits for; with the fsync itself this stays near 5 ms."""
GROUP_RECORDS, GROUP_BYTES = 4_096, 4 * 1024 * 1024
"""Most that one row holds, unless one append alone is larger: bounds what a reader decodes to find one record."""
WAITING_BYTES = 256 * 1024 * 1024
"""Most that may wait for the writer before appends are refused."""
CHECKPOINT_BYTES, RESTART_BYTES = 8 * 1024 * 1024, 32 * 1024 * 1024
"""The WAL is copied back each time so much was appended; past the second size writers are stopped to finish that.

A file that is written over again needs no change of its size, and so no commit of the file system's journal, for which
every later write would wait.
"""
KEPT_BYTES = 2 * RESTART_BYTES
"""A larger WAL is cut when it is begun anew: above what it usually reaches, so that it usually keeps its size."""
FEW_PAGES, MOST_COPIES = 64, 4
"""What may be left to copy when writers are paused; how often it is tried to come there."""
CALM_S = 0.01
"""A disk that takes longer to sync what is left is busy with something else, and would hold writers up."""
PAUSE_S = 0.008
"""The longest that writers wait for the last of it to be copied: a disk may suddenly take a fifth of a second."""
PAGE_BYTES = 4_096
MAX_PARTITIONS = 1_024
FORMAT = 2
"""PRAGMA user_version of the files this program writes. In the first, no row was packed."""

_SHARD_BITS = 48
_LAST = (1 << _SHARD_BITS) - 1
"""Highest offset of a partition."""
_RESTORE = "restore the file from a copy; `vedette audit verify` lists what was changed"
_APPEND = """
with tail as materialized (
  select coalesce((select place + count from batch where place between :base and :last order by place desc limit 1),
                  :base) as place
)
insert into batch select place, :count, :runs, :payload from tail returning place
"""
_SCHEMA = f"""
begin immediate;
create table if not exists meta (partitions integer not null) strict;
create table if not exists batch (
  place integer primary key, count integer not null, runs blob not null, payload blob not null
) strict;
pragma user_version = {FORMAT};
commit;
"""


class Run(NamedTuple):
    """Records of one append: they share a key and a time."""

    key: str
    time: int
    records: Annotated[int, msgspec.Meta(ge=0)]


@dataclass(slots=True, eq=False)
class Append:
    """What a caller wants written, and the future that tells it the offset."""

    shard: int
    run: Run
    values: tuple[bytes, ...]
    synced: bool
    done: Future[int] = field(default_factory=Future)
    size: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        self.size = sum(map(len, self.values))


_RUNS = msgspec.msgpack.Decoder(list[Run])
_VALUES = msgspec.msgpack.Decoder(list[bytes])
_encode = msgspec.msgpack.Encoder().encode


def connect(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode whose statements each commit by themselves, and which never checkpoints."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "wal_autocheckpoint=0",
        f"journal_size_limit={KEPT_BYTES}",
        "trusted_schema=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def sync_folder(folder: Path) -> None:
    """Makes the names of new files durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def batches(appends: list[Append]) -> Iterator[list[Append]]:
    """Splits appends of one partition, kept in order, into rows of bounded size."""
    row: list[Append] = []
    records = size = 0
    for append in appends:
        if row and (records + append.run.records > GROUP_RECORDS or size + append.size > GROUP_BYTES):
            yield row
            row, records, size = [], 0, 0
        row.append(append)
        records += append.run.records
        size += append.size
    if row:
        yield row


class Topic:
    """One topic's file and its threads.

    Args:
        path: The SQLite file; made when missing.
        partitions: For a file that is made now.

    Raises:
        DefinitionError: `log.partitions.invalid`, `log.file.newer`.
    """

    def __init__(self, path: Path, partitions: int) -> None:
        if not 0 < partitions <= MAX_PARTITIONS:
            raise DefinitionError("log.partitions.invalid", f"partitions must be 1 to {MAX_PARTITIONS}")
        self._path = path
        self._readers: deque[sqlite3.Connection] = deque()
        self._connection = connect(path)
        self.partitions = self._prepare(partitions)
        self._wal = os.open(f"{path}-wal", os.O_RDWR)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._free = threading.Event()
        self._free.set()
        self._work = threading.Condition(self._lock)
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._large = threading.Event()
        self._waiting: deque[Append] = deque()
        self._waiting_bytes = 0
        self._unsynced: list[Append] = []
        self._since_checkpoint = 0
        self._dirty = self._resting = False
        self._writer_gone = False
        self._closing = False
        self._failed: str = ""
        self._threads = [
            self._start(self._write_loop),
            self._start(self._sync_loop),
            self._start(self._checkpoint_loop),
        ]

    def _prepare(self, partitions: int) -> int:
        """Makes the tables, or checks that this program knows them; returns how many partitions the file has."""
        (version,) = self._connection.execute("pragma user_version").fetchone()
        if version > FORMAT:
            raise DefinitionError("log.file.newer", f"the file has format {version}, this program knows {FORMAT}")
        if version < FORMAT:
            self._connection.executescript(_SCHEMA)
        # Two processes may get here together: the first insert wins, both read what it wrote.
        self._connection.execute("insert into meta select ? where not exists (select 1 from meta)", (partitions,))
        self._connection.execute("pragma wal_checkpoint(passive)")
        sync_folder(self._path.parent)
        return int(self._connection.execute("select partitions from meta").fetchone()[0])

    def _start(self, loop: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=loop, name=f"log-{self._path.stem}-{loop.__name__}", daemon=True)
        thread.start()
        return thread

    # Appending

    def append(self, append: Append) -> int:
        """Writes in the caller's own thread while nobody else writes, which saves two changes of thread; else waits."""
        if append.synced or self._waiting or not self._writing.acquire(blocking=False):
            return self.submit(append).result()
        try:
            with self._lock:
                self._check_open()
            append.done.set_running_or_notify_cancel()
            self._write_group([append])
        finally:
            self._writing.release()
        return append.done.result()

    def _check_open(self) -> None:
        if self._closing:
            raise PermanentError("log.closed", "the log is closed", at=self._path.stem)
        if self._failed:
            raise TransientError("log.append.failed", self._failed, hint="start again", at=self._path.stem)

    def submit(self, append: Append) -> Future[int]:
        """Hands an append to the writer."""
        with self._lock:
            self._check_open()
            if self._waiting_bytes > WAITING_BYTES:
                raise TransientError("log.append.overloaded", "too much waits to be written", retry_after=1.0)
            self._waiting.append(append)
            self._waiting_bytes += append.size
            self._work.notify()
        return append.done

    def _take(self) -> list[Append]:
        """Everything that waits, as one group; empty when the topic is closing and nothing is left."""
        with self._lock:
            self._work.wait_for(lambda: self._waiting or self._closing)
            group = list(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        return group

    def _write_loop(self) -> None:
        while group := self._take():
            live = [append for append in group if append.done.set_running_or_notify_cancel()]
            with self._writing:
                self._write_group(live)
        self._writer_gone = True
        self._bell.put(None)

    def _write_group(self, group: list[Append]) -> None:
        """Commits a group and tells its callers; called by whoever holds `_writing`."""
        if not self._free.wait(PAUSE_S):
            self._free.set()  # nobody else waits again
        try:
            self._write(group)
        except sqlite3.Error as error:
            self._fail(group, "log.append.failed", f"nothing was written: {error}")
        except BaseException as error:
            self._give_up(group, error)
            raise
        else:
            self._acknowledge(group)

    def _write(self, group: list[Append]) -> None:
        """One commit for the whole group. On any error nothing of it is in the file."""
        connection = self._connection
        by_shard = groupby(sorted(group, key=lambda one: one.shard), key=lambda one: one.shard)
        rows = [(shard, row) for shard, appends in by_shard for row in batches(list(appends))]
        if len(rows) == 1:
            self._insert(connection, *rows[0])
            return
        connection.execute("begin immediate")
        try:
            for shard, row in rows:
                self._insert(connection, shard, row)
            connection.execute("commit")
        finally:
            if connection.in_transaction:
                connection.execute("rollback")

    def _insert(self, connection: sqlite3.Connection, shard: int, row: list[Append]) -> None:
        """Appends a row at the end of its partition, in one statement; nothing is written of a row without records."""
        count, base = sum(append.run.records for append in row), shard << _SHARD_BITS
        if count:
            runs = _encode([append.run for append in row])
            payload = pack(_encode([value for append in row for value in append.values]))
            self._since_checkpoint += len(payload) + PAGE_BYTES
            given = {"base": base, "last": base + _LAST, "count": count, "runs": runs, "payload": payload}
            # All rows are fetched: only then is the statement done, and committed when it is alone.
            end = connection.execute(_APPEND, given).fetchall()[0][0] - base
        else:
            end = self._end(connection, shard)
        for append in row:
            append.first = end
            end += append.run.records

    def _acknowledge(self, group: list[Append]) -> None:
        if self._since_checkpoint > CHECKPOINT_BYTES:
            self._since_checkpoint = 0
            self._large.set()
        waiters = [append for append in group if append.synced]
        with self._lock:
            # A thread that gathers commits is not woken for each of them: a wake-up costs more than a commit's share.
            wake = waiters or self._resting
            self._dirty, self._resting = True, False
            self._unsynced += waiters
        if wake:
            self._bell.put(None)
        for append in group:
            if not append.synced:
                append.done.set_result(append.first)

    def _fail(self, group: list[Append], code: str, message: str) -> None:
        for append in group:
            append.done.set_exception(TransientError(code, message, at=self._path.stem, retry_after=1.0))

    def _give_up(self, group: list[Append], error: BaseException) -> None:
        """The writer dies of a bug: nobody may wait for it for ever."""
        with self._lock:
            self._failed = "the writer stopped"
            left = [append for append in self._waiting if append.done.set_running_or_notify_cancel()]
            self._waiting.clear()
        self._writer_gone = True
        self._bell.put(None)
        for append in [*group, *left]:
            append.done.set_exception(error)

    # Making durable

    def _sync_loop(self) -> None:
        let_finish()
        while True:
            # One look each few milliseconds while commits come; none at all while nothing does.
            with suppress(Empty):
                self._bell.get(timeout=None if self._resting else LINGER_S)
            with self._lock:
                waiters, self._unsynced = self._unsynced, []
                dirty, self._dirty = self._dirty, False
                self._resting = not dirty
            if not dirty:
                if self._writer_gone:
                    break
                continue
            try:
                # Times of the file alone are not worth a commit of the file system's journal.
                os.fdatasync(self._wal)
            except OSError as error:
                # After a failed sync the kernel may have dropped the pages: nothing later can be trusted either.
                self._failed = f"the disk did not confirm a write: {error}"
                self._fail(waiters, "log.sync.failed", self._failed)
            else:
                for append in waiters:
                    append.done.set_result(append.first)
        self._large.set()

    def _checkpoint_loop(self) -> None:
        step_back()
        connection = connect(self._path)
        while self._large.wait() and not self._writer_gone:
            self._large.clear()
            # An error leaves the WAL to grow meanwhile; when the disk is truly broken, appends say so.
            with suppress(sqlite3.Error):
                _checkpoint(connection, self._wal, self._paused)
        connection.close()

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Nobody in this process writes meanwhile, unless it has waited for `PAUSE_S`."""
        with self._writing:
            self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    # Reading

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = connect(self._path)
        try:
            yield connection
        except sqlite3.OperationalError as error:
            raise TransientError("log.read.failed", str(error), at=self._path.stem) from error
        except sqlite3.DatabaseError as error:
            raise DataError("log.file.damaged", str(error), hint=_RESTORE, at=self._path.stem) from error
        finally:
            self._readers.append(connection)

    @staticmethod
    def _end(connection: sqlite3.Connection, shard: int) -> int:
        base = shard << _SHARD_BITS
        row = connection.execute(
            "select place, count from batch where place between ? and ? order by place desc limit 1",
            (base, base + _LAST),
        ).fetchone()
        return row[0] - base + row[1] if row else 0

    def end(self, shard: int) -> int:
        """Offset after the last committed record of a partition."""
        with self._reader() as connection:
            return self._end(connection, shard)

    def read(self, shard: int, offset: int, limit: int) -> list[tuple[int, str, bytes, int]]:
        """Up to `limit` of (offset, key, value, time) from `offset` on."""
        if offset > _LAST:
            return []
        base = shard << _SHARD_BITS
        found: list[tuple[int, str, bytes, int]] = []
        with self._reader() as connection, closing(connection.cursor()) as rows:
            rows.execute(
                "select place, runs, payload from batch where place <= :last and place >= coalesce("
                "(select max(place) from batch where place between :base and :start), :base) order by place",
                {"base": base, "start": base + offset, "last": base + _LAST},
            )
            for place, runs, payload in rows:
                if len(found) >= limit:
                    break
                try:
                    found += _unpack(place - base, runs, payload, offset, limit - len(found))
                except (msgspec.MsgspecError, TypeError, IndexError, ValueError) as error:
                    at = f"{self._path.stem}/{shard}/{place - base}"
                    raise DataError("log.file.damaged", "this batch cannot be read", hint=_RESTORE, at=at) from error
        return found

    def close(self) -> None:
        """Writes what waits, syncs it, and closes every file."""
        with self._lock:
            self._closing = True
            self._work.notify()
        for thread in self._threads:
            thread.join()
        for reader in self._readers:
            reader.close()
        os.close(self._wal)
        self._connection.close()


def _bring_to_disk(handle: int) -> None:
    """Syncs the file system of an open file, where the machine can.

    The database's own file may not be opened beside SQLite: closing it would give back the locks of every connection.
    """
    sync = getattr(ctypes.CDLL(None), "syncfs", None)
    if sync is not None:
        sync(handle)


def _checkpoint(connection: sqlite3.Connection, wal: int, paused: Callable[[], AbstractContextManager[None]]) -> None:
    """Copies the WAL back; has it written over from its start when it is large.

    SQLite begins it anew with the next commit when all of it is copied and on the disk. So writers are paused at the
    end, and before that little may be left to copy and to bring to the disk: each look takes what came during the one
    before, which is less each time, and waits for the disk by itself. A disk that stays busy, or is at the last moment,
    is left for the next time, unless the WAL has grown too large: then writers are stopped until it is done.
    """
    before = 0
    for _ in range(MOST_COPIES):
        pages, copied = _copy(connection)
        if pages * PAGE_BYTES <= RESTART_BYTES:
            return
        began = time.monotonic()
        _bring_to_disk(wal)
        if pages - before <= FEW_PAGES and time.monotonic() - began < CALM_S:
            with paused():
                _copy(connection)
            break
        before = copied
    if pages * PAGE_BYTES >= KEPT_BYTES:
        connection.execute("pragma wal_checkpoint(restart)")


def _copy(connection: sqlite3.Connection) -> tuple[int, int]:
    """Copies what writers leave alone: how many pages the WAL has, and how many of them are copied."""
    _busy, pages, copied = connection.execute("pragma wal_checkpoint(passive)").fetchone()
    return pages, copied


def _unpack(first: int, runs: bytes, payload: bytes, offset: int, limit: int) -> list[tuple[int, str, bytes, int]]:
    """The records of one row from `offset` on, at most `limit`."""
    values = _VALUES.decode(unpack(payload))
    found = []
    place = first
    for run in _RUNS.decode(runs):
        start, stop = max(place, offset), min(place + run.records, max(first, offset) + limit)
        found += [(at, run.key, values[at - first], run.time) for at in range(start, stop)]
        place += run.records
    if place - first != len(values):
        raise IndexError("the runs do not cover the values")
    return found
