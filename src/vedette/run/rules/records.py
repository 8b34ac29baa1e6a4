"""Records of the past, from files or from the event store, in batches that rules can be run over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.sense.files import Chunk, read_lines, stream_identity
from vedette.sense.sources import Source, recognise
from vedette.sense.store import Store

TENANT = "default"
_FAR = 1 << 60
"""A moment so late that no time is of its future."""

Tell = Callable[[int], None]
"""Told how many records were read so far."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one source."""

    source: Source
    records: Sequence[Mapping[str, Any]]
    event: Callable[[int], Event | None]
    """Place -> the record as an event; None for one without a readable time."""


def of_files(
    paths: Sequence[Path], sources: Mapping[str, Source], *, source: Source | None = None, tell: Tell = lambda _n: None
) -> Iterator[Batch]:
    """The readable records of files; a file that no source recognises is passed over.

    Raises:
        DataError: `files.path.missing`, `files.folder.empty` and what else keeps a path from being opened.
    """
    count = 0
    for path in paths:
        for file, chunks in groupby(read_lines(path), key=attrgetter("path")):
            found, stream = source, ""
            for read in chunks:
                stream = stream or stream_identity(file, read.lines[0] if read.lines else b"")
                found = found or recognise(read.lines, sources)
                if found:
                    yield _batch(found, found.unwrap(read), stream)
                count += read.count
                tell(count)


def _batch(source: Source, chunk: Chunk, stream: str) -> Batch:
    parsed = source.parse_many(chunk.lines)
    read = [(place, data) for place, data in enumerate(parsed) if not isinstance(data, DataError)]

    def event(number: int) -> Event | None:
        place, data = read[number]
        try:
            found = source.to_event(
                dict(data), tenant=TENANT, stream=stream, offset=chunk.offsets[place], ingest_time=_FAR
            )
        except DataError:
            return None
        return msgspec.structs.replace(found, seq=chunk.numbers[place])

    return Batch(source, [data for _, data in read], event)


def of_store(
    store: Store,
    tenant: str,
    sources: Mapping[str, Source],
    *,
    since: int,
    until: int,
    tell: Tell = lambda _n: None,
) -> Iterator[Batch]:
    """A tenant's stored events of some sources in [since, until) of event time, microseconds UTC."""
    count = 0
    for source in sources.values():
        for events in store.between(tenant, source.name, since, until):
            yield Batch(source, [event.data for event in events], events.__getitem__)
            count += len(events)
            tell(count)
