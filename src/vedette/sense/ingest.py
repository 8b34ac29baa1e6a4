"""Ingest: files to events in the store and refused records in quarantine, every record accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from vedette.core.clock import Clock
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.sense.files import Chunk, Limits, read_lines, stream_identity
from vedette.sense.quarantine import Quarantine, Refused
from vedette.sense.sources import Source, sniff
from vedette.sense.store import Store

BATCH_RECORDS = 10_000
"""Records per append: large enough for cheap commits, small enough that a killed run repeats little."""

_LIMITS = Limits()

UNKNOWN = "unknown"
"""Source under which records of a file are quarantined when no source recognises it."""


@dataclass(slots=True)
class Counts:
    """What became of the records of one source: `read = stored + quarantined + duplicate`."""

    read: int = 0
    stored: int = 0
    quarantined: int = 0
    duplicate: int = 0


class Ingest:
    """Reads files into a store for one tenant.

    Running it again over the same files, also after a kill, stores nothing twice: ids come from the place of a record.

    Args:
        store: Where events go; the quarantine is beside them.
        sources: The known sources.
        tenant: Whose records they are.
        clock: Gives the ingest time.
        limits: What one file may cost.
    """

    def __init__(
        self, store: Store, sources: Mapping[str, Source], *, tenant: str, clock: Clock, limits: Limits = _LIMITS
    ) -> None:
        self._store = store
        self._quarantine = Quarantine(store.folder)
        self._sources = sources
        self._tenant = tenant
        self._clock = clock
        self._limits = limits
        self.counts: dict[str, Counts] = {}
        """Source -> what became of its records so far."""

    def run(
        self,
        paths: Iterable[Path],
        *,
        source: Source | None = None,
        stream: str = "",
        progress: Callable[[Chunk], None] = lambda _chunk: None,
    ) -> Mapping[str, Counts]:
        """Ingests files and folders.

        Args:
            paths: What to read.
            source: Of all of them; recognised file by file from the first records when left out.
            stream: Name of the stream instead of the file's path, for a copy that has moved.
            progress: Told about each chunk after it was taken in.

        Raises:
            DataError: `files.path.*`, `files.gzip.not_gzip` for a path that cannot be opened.
        """
        for path in paths:
            for file, chunks in groupby(read_lines(path, limits=self._limits), key=attrgetter("path")):
                self._file(file, chunks, source, stream, progress)
        return self.counts

    def _file(
        self,
        file: Path,
        chunks: Iterable[Chunk],
        source: Source | None,
        stream: str,
        progress: Callable[[Chunk], None],
    ) -> None:
        identity = ""
        events: list[Event] = []
        refused: list[Refused] = []
        for chunk in chunks:
            if not identity:
                identity = stream_identity(file, chunk.lines[0] if chunk.lines else b"", stream)
            if source is None and chunk.lines:
                source = self._recognise(chunk)
            opened = source.unwrap(chunk) if source else chunk
            self._take(opened, source, identity, events, refused)
            if len(events) + len(refused) >= BATCH_RECORDS:
                self._flush(source, events, refused)
            progress(opened)
        self._flush(source, events, refused)

    def _recognise(self, chunk: Chunk) -> Source | None:
        try:
            return sniff(chunk.lines, self._sources)
        except DataError:
            return None

    def _take(
        self, chunk: Chunk, source: Source | None, stream: str, events: list[Event], refused: list[Refused]
    ) -> None:
        now = self._clock.now()
        name = source.name if source else UNKNOWN

        def refuse(code: str, message: str, line: int, offset: int, raw: bytes) -> None:
            refused.append(Refused(self._tenant, name, now, code, message, stream, line, offset, raw))

        unknown = DataError("sources.sniff.unknown", "no source recognises the records of this file")
        parsed = source.parse_many(chunk.lines) if source else [unknown] * len(chunk.lines)
        for raw, line, offset, data in zip(chunk.lines, chunk.numbers, chunk.offsets, parsed, strict=True):
            if source is None or isinstance(data, DataError):
                error = data if isinstance(data, DataError) else unknown
                refuse(error.code, error.message, line, offset, raw)
                continue
            try:
                event = source.to_event(data, tenant=self._tenant, stream=stream, offset=offset, ingest_time=now)
            except DataError as error:
                refuse(error.code, error.message, line, offset, raw)
            else:
                events.append(event)
        for bad in chunk.bad:
            refuse(bad.code, bad.message, bad.line, bad.offset, bad.raw)
        self.counts.setdefault(name, Counts()).read += chunk.count

    def _flush(self, source: Source | None, events: list[Event], refused: list[Refused]) -> None:
        # Records before the one by which a file was recognised are refused under another name.
        for name in sorted({each.source for each in refused}):
            kept = self._quarantine.append([each for each in refused if each.source == name])
            self.counts[name].quarantined += kept.stored
            self.counts[name].duplicate += kept.duplicates
        if events and source:
            added = self._store.append(source, events)
            self.counts[source.name].stored += added.stored
            self.counts[source.name].duplicate += added.duplicates
        events.clear()
        refused.clear()
