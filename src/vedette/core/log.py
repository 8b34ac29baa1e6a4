"""The log: the one hand-off between rooms. Append-only topics of records, each read by offset.

Embedded, a topic is one SQLite file (`SqliteLog`); beyond one machine the same port is Kafka. Offsets count from 0
without gaps inside a partition, and a key always goes to the same partition, so records of one key keep their order.
Delivery is at least once: a consumer keeps its offset inside its own state's transaction where it has one, and in
`commit` where it has none.

Example:
    >>> import tempfile
    >>> from vedette.core.clock import SystemClock
    >>> folder = tempfile.TemporaryDirectory()
    >>> with SqliteLog(Path(folder.name), SystemClock()) as log:
    ...     first = log.append("event", "card:c-42", [b"{}", b"[]"])
    ...     [(record.offset, record.value) for record in log.read("event", 0, first, 10)]
    [(0, b'{}'), (1, b'[]')]
    >>> folder.cleanup()
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self
from zlib import crc32

from vedette.core._log_topic import Append, Run, Topic, connect
from vedette.core.clock import Clock
from vedette.core.errors import DataError, DefinitionError, PermanentError

__all__ = ["MAX_VALUE_BYTES", "Durability", "Log", "Record", "SqliteLog"]

MAX_VALUE_BYTES = 16 * 1024 * 1024
"""Largest record. Larger things are stored as files and referred to by hash."""

_TOPIC = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_CURSORS = """
create table if not exists cursor (
  consumer text not null, topic text not null, shard integer not null, place integer not null,
  primary key (consumer, topic, shard)
) strict
"""


class Durability(StrEnum):
    """When an append counts as done."""

    WRITTEN = "written"
    """The commit returned: survives a killed process. On disk (fsync) within about 5 ms."""
    SYNCED = "synced"
    """On disk (fsync) before the answer: survives a power cut."""


class Record(NamedTuple):
    """One record of a topic."""

    offset: int
    """Place in its partition, from 0, without gaps."""
    key: str
    value: bytes
    time: int
    """When it was appended, microseconds UTC."""


class Log(Protocol):
    """What a log can do. Every method may be called from any thread."""

    def append(
        self, topic: str, key: str, values: Sequence[bytes], *, durability: Durability = Durability.WRITTEN
    ) -> int:
        """Appends values of one key, all or none, and waits until they are durable as asked.

        Returns:
            Offset of the first value; the rest follow it without gaps. For no values, the end of the key's partition:
            a way to make a topic ahead of time, where its first record must not wait for that.

        Raises:
            TransientError: `log.append.failed` (the disk refused: nothing was written), `log.append.overloaded` (too
                much is waiting: nothing was written), `log.sync.failed` (committed, but the disk did not confirm).
            DataError: `log.record.too_large`.
        """

    def submit(
        self, topic: str, key: str, values: Sequence[bytes], *, durability: Durability = Durability.WRITTEN
    ) -> Future[int]:
        """As `append`, without waiting. A future cancelled in time is not written; later it cannot be cancelled."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Up to `limit` committed records from `offset` on, in order; empty at the end and for a topic not made yet.

        Raises:
            DataError: `log.file.damaged` with the place, as `topic/partition/offset` where one record is meant.
            DefinitionError: `log.topic.name`, `log.partition.unknown`.
            TransientError: `log.read.failed` (the disk refused).
        """

    def end(self, topic: str, partition: int) -> int:
        """Offset after the last committed record; 0 for a topic not made yet. Raises as `read`."""

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has: fixed by the first append, before it what this log would make."""

    def partition_of(self, topic: str, key: str) -> int:
        """The partition that records of a key go to."""

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Remembers that `group` has handled everything before `offset`. May go back, to read again."""

    def committed(self, group: str, topic: str, partition: int) -> int:
        """The offset of the last `commit`; 0 for a group that never did."""

    def close(self) -> None:
        """Writes what waits, syncs, and gives back files. Later appends are refused with `log.closed`."""


class SqliteLog(Log):
    """A log in a folder: one SQLite file a topic, whose rows hold batches.

    Several processes may append to and read from the same folder. Open it after a fork, never across one. Only an
    append makes a topic; looking at one that nobody appended to leaves no file.

    Args:
        folder: Where the files are; made when missing.
        clock: Gives records their time.
        partitions: For topics made by this log, 1..1024; a topic that exists keeps its own.
    """

    def __init__(self, folder: Path, clock: Clock, *, partitions: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._clock = clock
        self._new_partitions = partitions
        self._topics: dict[str, Topic] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._cursors = connect(folder / "cursors.db")
        self._cursors.execute(_CURSORS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(
        self, topic: str, key: str, values: Sequence[bytes], *, durability: Durability = Durability.WRITTEN
    ) -> int:
        """See `Log.append`."""
        place, append = self._prepared(topic, key, values, durability)
        return place.append(append)

    def submit(
        self, topic: str, key: str, values: Sequence[bytes], *, durability: Durability = Durability.WRITTEN
    ) -> Future[int]:
        """See `Log.submit`."""
        place, append = self._prepared(topic, key, values, durability)
        return place.submit(append)

    def _prepared(self, topic: str, key: str, values: Sequence[bytes], durability: Durability) -> tuple[Topic, Append]:
        place = self._made(topic)
        size = max(map(len, values), default=0)
        if size > MAX_VALUE_BYTES:
            raise DataError("log.record.too_large", f"a record of {size} bytes is above {MAX_VALUE_BYTES}", at=topic)
        shard = _shard(key, place.partitions)
        run = Run(key, self._clock.now(), len(values))
        return place, Append(shard, run, tuple(values), synced=durability is Durability.SYNCED)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """See `Log.read`."""
        found = self._partition(topic, partition)
        return [Record(*row) for row in found.read(partition, offset, limit)] if found else []

    def end(self, topic: str, partition: int) -> int:
        """See `Log.end`."""
        found = self._partition(topic, partition)
        return found.end(partition) if found else 0

    def partitions(self, topic: str) -> int:
        """See `Log.partitions`."""
        found = self._found(topic)
        return found.partitions if found else self._new_partitions

    def partition_of(self, topic: str, key: str) -> int:
        """See `Log.partition_of`."""
        return _shard(key, self.partitions(topic))

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """See `Log.commit`. Written, not synced: after a power cut a group may read some records again."""
        self._partition(topic, partition)
        with self._lock:
            self._cursors.execute(
                "insert into cursor values (?, ?, ?, ?) on conflict do update set place = excluded.place",
                (group, topic, partition, offset),
            )

    def committed(self, group: str, topic: str, partition: int) -> int:
        """See `Log.committed`."""
        with self._lock:
            row = self._cursors.execute(
                "select place from cursor where consumer = ? and topic = ? and shard = ?", (group, topic, partition)
            ).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """See `Log.close`."""
        with self._lock:
            topics, self._topics, closed, self._closed = self._topics, {}, self._closed, True
        for topic in topics.values():
            topic.close()
        if not closed:
            self._cursors.close()

    def _found(self, name: str) -> Topic | None:
        """The topic; None while nobody has appended to it."""
        found = self._topics.get(name)
        return found or (self._made(name) if self._file(name).exists() else None)

    def _made(self, name: str) -> Topic:
        found = self._topics.get(name)
        if found:
            return found
        path = self._file(name)
        with self._lock:
            self._check_open(name)
            if name not in self._topics:
                self._topics[name] = self._open(path)
            return self._topics[name]

    def _file(self, name: str) -> Path:
        if not _TOPIC.fullmatch(name):
            raise DefinitionError("log.topic.name", f"`{name[:80]}` is not a topic name", hint="a-z, 0-9, _ and -")
        self._check_open(name)
        return self._folder / f"{name}.db"

    def _check_open(self, name: str) -> None:
        if self._closed:
            raise PermanentError("log.closed", "the log is closed", at=name)

    def _open(self, path: Path) -> Topic:
        try:
            return Topic(path, self._new_partitions)
        except sqlite3.DatabaseError as error:
            raise PermanentError("log.file.damaged", f"cannot open the topic: {error}", at=path.stem) from error

    def _partition(self, topic: str, partition: int) -> Topic | None:
        found = self._found(topic)
        count = found.partitions if found else self._new_partitions
        if not 0 <= partition < count:
            raise DefinitionError("log.partition.unknown", f"no partition {partition} of {count}", at=topic)
        return found


def _shard(key: str, partitions: int) -> int:
    return crc32(key.encode()) % partitions
