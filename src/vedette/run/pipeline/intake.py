"""From files and pushes into the log: each record of a stream once, whatever dies in between.

Records of a stream are appended in the order of their offsets. A cursor row says how far the stream is and where the
log ended: it is there before the first append, and moves after each. After a kill between an append and its cursor, the
events that stand behind that place in the log tell the rest. An append is on disk before its cursor moves. A lock keeps
two readers of one stream apart: files wait for files, and a push for pushes whose batch id falls on the same of a few
locks.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import LONG, Database, Migration, create, sa
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.log import MAX_VALUE_BYTES, Durability, Log
from vedette.run.pipeline.storing import TOPIC, to_event
from vedette.sense.files import Chunk
from vedette.sense.ingest import Counts, Ingest
from vedette.sense.quarantine import Quarantine
from vedette.sense.sources import Source
from vedette.sense.store import Appended

APPEND = 500
"""Records of one append: decisions stand in the same topic and wait for no more than that."""
SCAN = 2_000
"""Records read at a time when the log is asked what it has of a stream."""

MAX_BATCH_ID = 200
"""Longest id of a pushed batch, in characters."""

_PUSH_LOCKS = 16

_METADATA = sa.MetaData()
_CURSOR = sa.Table(
    "intake_cursor",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("next_byte", LONG, nullable=False),
    sa.Column("log_end", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "cursors of streams", create(_METADATA)),)

_encode = msgspec.json.Encoder().encode


class Intake:
    """Takes files and pushes of one tenant into the log.

    Args:
        log: Topic `event`.
        state: Where cursors are kept.
        quarantine: Where refused records go.
        sources: The known sources.
        tenant: Whose records they are.
        clock: Gives the ingest time.
        locks: Folder of the files that are locked while something is taken in.
        observe: Told of a source and how many of its events were appended.
    """

    def __init__(
        self,
        log: Log,
        state: Database,
        quarantine: Quarantine,
        sources: Mapping[str, Source],
        *,
        tenant: str,
        clock: Clock,
        locks: Path,
        observe: Callable[[str, int], None] = lambda _source, _count: None,
    ) -> None:
        state.migrate("intake", MIGRATIONS)
        self._log = log
        self._state = state
        self._quarantine = quarantine
        self._sources = sources
        self._tenant = tenant
        self._clock = clock
        self._locks = locks
        self._observe = observe

    def files(
        self,
        paths: Iterable[Path],
        *,
        source: Source | None = None,
        stream: str = "",
        progress: Callable[[Chunk], None] = lambda _chunk: None,
        growing: bool = False,
    ) -> Mapping[str, Counts]:
        """Takes files and folders in; what was taken in before counts as duplicate.

        Args:
            paths: What to read.
            source: Of all of them; recognised file by file when left out.
            stream: Name of the stream instead of the file's path, for a copy that has moved.
            progress: Told about each chunk after it was read.
            growing: Leave out a last line without a newline: it is still being written.

        Raises:
            DataError: `files.path.*`, `files.gzip.not_gzip` for a path that cannot be opened.
        """
        with self._alone("files"):
            work = self._work()
            return work.run(
                paths, source=source, stream=stream, progress=progress, resume=self._resume, growing=growing
            )

    def push(self, source: str, batch: str, body: bytes) -> Mapping[str, Counts]:
        """Takes a pushed batch of lines in. The same batch id again takes in what was not taken in before.

        Raises:
            DataError: `sources.name.unknown`, `intake.batch.too_long`.
        """
        if source not in self._sources:
            hint = f"one of {', '.join(self._sources)}"
            raise DataError("sources.name.unknown", "no such source", hint=hint, at="$query.source")
        if len(batch) > MAX_BATCH_ID:
            raise DataError(
                "intake.batch.too_long", f"a batch id has at most {MAX_BATCH_ID} characters", at="$query.batch"
            )
        stream = f"push:{source}:{batch}"
        with self._alone(f"push-{crc32(f'{self._tenant}/{stream}'.encode()) % _PUSH_LOCKS}"):
            work = self._work()
            found, chunks = self._sources[source], [to_chunk(Path("push"), body)]
            work.take(Path("push"), chunks, source=found, stream=stream, resume=self._resume)
            return work.counts

    def append(self, source: Source, events: Sequence[Event]) -> Appended:
        """Puts events of one stream in the log and moves the stream's cursor behind the last of them."""
        stream, last = place_of(events[-1])
        end = 0
        for start in range(0, len(events), APPEND):
            values = [_encode(event) for event in events[start : start + APPEND]]
            # The last is synced, and all before with it: a cursor that a power cut leaves ahead of the log would skip
            # what the log lost.
            durability = Durability.SYNCED if start + APPEND >= len(events) else Durability.WRITTEN
            end = self._log.append(TOPIC, self._key, values, durability=durability) + len(values)
        self._move(stream, last + 1, end)
        self._observe(source.name, len(events))
        return Appended(len(events), 0)

    def check(self, event: Event) -> None:
        """Refuses an event that the log could not hold.

        Raises:
            DataError: `log.record.too_large`.
        """
        size = len(_encode(event))
        if size > MAX_VALUE_BYTES:
            raise DataError("log.record.too_large", f"{size} bytes as an event, the limit is {MAX_VALUE_BYTES}")

    @property
    def _key(self) -> str:
        return f"intake:{self._tenant}"

    def _work(self) -> Ingest:
        return Ingest(self, self._quarantine, self._sources, tenant=self._tenant, clock=self._clock)

    def _resume(self, stream: str) -> int:
        """Byte offset behind the last record of a stream that is in the log."""
        here = (_CURSOR.c.tenant == self._tenant) & (_CURSOR.c.stream == stream)
        with self._state.read() as connection:
            row = connection.execute(sa.select(_CURSOR.c.next_byte, _CURSOR.c.log_end).where(here)).one_or_none()
        part = self._log.partition_of(TOPIC, self._key)
        if row is None:
            # Noted before the first append, so that the log has nothing of this stream before this place.
            self._move(stream, 0, self._log.end(TOPIC, part))
            return 0
        following: int = row.next_byte
        place: int = row.log_end
        while records := self._log.read(TOPIC, part, place, SCAN):
            for record in records:
                event = to_event(record) if record.key == self._key else None
                if isinstance(event, Event):
                    named, offset = place_of(event)
                    following = max(following, offset + 1) if named == stream else following
            place = records[-1].offset + 1
        if place:
            self._move(stream, following, place)
        return following

    def _move(self, stream: str, following: int, log_end: int) -> None:
        here = (_CURSOR.c.tenant == self._tenant) & (_CURSOR.c.stream == stream)
        values = {"next_byte": following, "log_end": log_end}
        with self._state.begin() as connection:
            if not connection.execute(_CURSOR.update().where(here).values(**values)).rowcount:
                connection.execute(_CURSOR.insert().values(tenant=self._tenant, stream=stream, **values))

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / f"{name}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def place_of(event: Event) -> tuple[str, int]:
    """Stream and byte offset an event was read at."""
    stream, _, offset = event.raw_ref.rpartition("@")
    return stream, int(offset)


def to_chunk(name: Path, body: bytes) -> Chunk:
    """A pushed body as lines; blank ones are left out."""
    lines: list[bytes] = []
    numbers: list[int] = []
    offsets: list[int] = []
    offset = 0
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            lines.append(line)
            numbers.append(number)
            offsets.append(offset)
        offset += len(line) + 1
    return Chunk(name, lines, numbers, offsets)
