"""Ingest: files to events in the store and refused records in quarantine, every record accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from vedette.core.clock import Clock
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.prove.dlp import find_pans, mask, scrub
from vedette.sense.files import Chunk, Limits, read_lines, stream_identity
from vedette.sense.quarantine import Quarantine, Refused
from vedette.sense.sources import Source, recognise
from vedette.sense.store import Appended

BATCH_RECORDS = 10_000
"""Records per append: large enough for cheap commits, small enough that a killed run repeats little."""

_LIMITS = Limits()

LARGE_BYTES = 1 << 20
"""Records from this size on are checked against what the sink can hold; a smaller one cannot grow beyond it."""

UNKNOWN = "unknown"
"""Source under which records of a file are quarantined when no source recognises it."""


@dataclass(slots=True)
class Counts:
    """What became of the records of one source: `read = stored + quarantined + duplicate`."""

    read: int = 0
    stored: int = 0
    quarantined: int = 0
    duplicate: int = 0


@dataclass(slots=True)
class _Batch:
    """What was read of one stream and is not handed on yet."""

    stream: str = ""
    known: int = 0
    """Byte offset before which everything is taken in already."""
    events: list[Event] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


class Sink(Protocol):
    """Where events go: a `Store`, or the log in front of one."""

    def append(self, source: Source, events: Sequence[Event]) -> Appended:
        """Takes events of one source; says how many were new."""

    def check(self, event: Event) -> None:
        """Refuses, with a DataError, an event that it could not hold."""


class Ingest:
    """Reads files into a sink for one tenant.

    Running it again over the same files, also after a kill, stores nothing twice: ids come from the place of a record.

    Args:
        sink: Where events go.
        quarantine: Where refused records go.
        sources: The known sources.
        tenant: Whose records they are.
        clock: Gives the ingest time.
        limits: What one file may cost.
    """

    def __init__(
        self,
        sink: Sink,
        quarantine: Quarantine,
        sources: Mapping[str, Source],
        *,
        tenant: str,
        clock: Clock,
        limits: Limits = _LIMITS,
    ) -> None:
        self._sink = sink
        self._quarantine = quarantine
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
        resume: Callable[[str], int] = lambda _stream: 0,
        growing: bool = False,
    ) -> Mapping[str, Counts]:
        """Ingests files and folders.

        Args:
            paths: What to read.
            source: Of all of them; recognised file by file from the first records when left out.
            stream: Name of the stream instead of the file's path, for a copy that has moved.
            progress: Told about each chunk after it was taken in.
            resume: Stream -> byte offset up to which its records are known to be taken in; they count as duplicates.
            growing: Leave out a last line without a newline: it is still being written.

        Raises:
            DataError: `files.path.*`, `files.gzip.not_gzip` for a path that cannot be opened.
        """
        for path in paths:
            for file, chunks in groupby(read_lines(path, limits=self._limits, growing=growing), key=attrgetter("path")):
                self.take(file, chunks, source=source, stream=stream, progress=progress, resume=resume)
        return self.counts

    def take(
        self,
        file: Path,
        chunks: Iterable[Chunk],
        *,
        source: Source | None = None,
        stream: str = "",
        progress: Callable[[Chunk], None] = lambda _chunk: None,
        resume: Callable[[str], int] = lambda _stream: 0,
    ) -> None:
        """Ingests the chunks of one stream; see `run`."""
        batch = _Batch()
        for chunk in chunks:
            if not batch.stream:
                batch.stream = stream_identity(file, chunk.lines[0] if chunk.lines else b"", stream)
                batch.known = resume(batch.stream)
            if source is None and chunk.lines:
                source = recognise(chunk.lines, self._sources)
            opened = source.unwrap(chunk) if source else chunk
            self._sift(opened, source, batch)
            if len(batch.events) + len(batch.refused) >= BATCH_RECORDS:
                self._flush(source, batch)
            progress(opened)
        self._flush(source, batch)

    def _sift(self, chunk: Chunk, source: Source | None, batch: _Batch) -> None:
        now = self._clock.now()
        name = source.name if source else UNKNOWN
        counts = self.counts.setdefault(name, Counts())
        counts.read += chunk.count
        if batch.known:
            whole = chunk.count
            chunk = chunk.after(batch.known)
            counts.duplicate += whole - chunk.count

        def refuse(code: str, message: str, line: int, offset: int, raw: bytes) -> None:
            kept = scrub(raw.decode("utf-8", "surrogateescape")) if find_pans(raw) else None
            safe = raw if kept is None else kept.encode("utf-8", "surrogateescape")
            batch.refused.append(Refused(self._tenant, name, now, code, message, batch.stream, line, offset, safe))

        unknown = DataError("sources.sniff.unknown", "no source recognises the records of this file")
        parsed = source.parse_many(chunk.lines) if source else [unknown] * len(chunk.lines)
        for raw, line, offset, read in zip(chunk.lines, chunk.numbers, chunk.offsets, parsed, strict=True):
            # Card numbers are kept nowhere, but what happened must be: the record stays and the number goes.
            data = mask(read) if isinstance(read, dict) and find_pans(raw) else read
            if source is None or isinstance(data, DataError):
                error = data if isinstance(data, DataError) else unknown
                refuse(error.code, error.message, line, offset, raw)
                continue
            try:
                event = source.to_event(data, tenant=self._tenant, stream=batch.stream, offset=offset, ingest_time=now)
                if len(raw) >= LARGE_BYTES:
                    self._sink.check(event)
            except DataError as error:
                refuse(error.code, error.message, line, offset, raw)
            else:
                batch.events.append(event)
        for bad in chunk.bad:
            refuse(bad.code, bad.message, bad.line, bad.offset, bad.raw)

    def _flush(self, source: Source | None, batch: _Batch) -> None:
        # Records before the one by which a file was recognised are refused under another name.
        for name in sorted({each.source for each in batch.refused}):
            kept = self._quarantine.append([each for each in batch.refused if each.source == name])
            self.counts[name].quarantined += kept.stored
            self.counts[name].duplicate += kept.duplicates
        if batch.events and source:
            added = self._sink.append(source, batch.events)
            self.counts[source.name].stored += added.stored
            self.counts[source.name].duplicate += added.duplicates
        batch.events.clear()
        batch.refused.clear()
