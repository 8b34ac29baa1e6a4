"""Sightings: where each entity was seen, as places in the log; an index that is made from the log alone.

A sighting is 27 bytes: a hash of tenant and entity, the event's place in the log, its time, its source and its kind.
They are kept in `BUCKETS` buckets by hash. A batch of events adds at most one row to each bucket, whatever the number
of its entities, so writing costs one page a bucket and not one page a sighting; an entity's timeline is read by
scanning its bucket, which for a million events is half a megabyte. What a page shows of an event is read from the log,
which also tells two entities of one hash apart.

Names of entities are kept once each, in the batch that saw them first, to be searched by a part of them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.core.event import Entity, Event
from vedette.core.log import Log, Record
from vedette.core.projection import Projection

NAME = "sightings"
TOPIC = "event"
VERSION = 1
BATCH = 5_000
"""Records of the log taken in one transaction."""
BUCKET_BITS = 9
BUCKETS = 1 << BUCKET_BITS
LABELLED = "event"
"""Type of the entity that a label is a sighting of: the event it is about."""
LABEL_SOURCE = "label"
DECIDED = "decide:"
"""Prefix of the log key of events that want a decision."""
MAX_NAMES = 1_000
"""Most names that a search gives."""
MAX_KNOWN = 1 << 24
"""Hashes of names kept in memory, 8 bytes each; beyond that a name may be stored twice, and is still found once."""

_SHARD_BITS = 48
_OFFSETS = (1 << _SHARD_BITS) - 1
_SCHEMA = """
create table if not exists sightings_bucket (place integer primary key, seen blob not null) strict;
create table if not exists sightings_batch (id integer primary key, count integer not null) strict;
create table if not exists sightings_name (
  id integer primary key, tenant text not null, hashes blob not null, names blob not null
) strict;
create table if not exists sightings_source (id integer primary key, name text not null unique) strict
"""
_ROW = np.dtype([("entity", "<u8"), ("place", "<i8"), ("time", "<i8"), ("source", "<u2"), ("kind", "u1")])

Rows = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]

_names = msgspec.json.Decoder(list[str]).decode


class _Envelope(msgspec.Struct):
    """What of an event the index needs; its data is passed over."""

    tenant: str
    source: str
    event_time: int
    entities: tuple[Entity, ...] = ()


class _Told(msgspec.Struct):
    event_id: str


class _Label(msgspec.Struct):
    data: _Told


_envelope = msgspec.json.Decoder(_Envelope).decode
_label = msgspec.json.Decoder(_Label).decode
_event = msgspec.json.Decoder(Event).decode


class Cursor(NamedTuple):
    """Where a page of a timeline ended."""

    time: int
    place: int


class Sighting(NamedTuple):
    """One event about an entity."""

    time: int
    """Event time, microseconds UTC."""
    place: int
    """Partition and offset in topic `event`, as one number."""
    source: str
    decided: bool
    """Whether the event wanted a decision."""

    @classmethod
    def at(cls, partition: int, offset: int, source: str) -> Sighting:
        """One at a known place; its time is not known."""
        return cls(0, (partition << _SHARD_BITS) | offset, source, decided=False)

    @property
    def partition(self) -> int:
        """Its partition of the log."""
        return self.place >> _SHARD_BITS

    @property
    def offset(self) -> int:
        """Its offset in that partition."""
        return self.place & _OFFSETS

    @property
    def cursor(self) -> Cursor:
        """The page after this one starts here."""
        return Cursor(self.time, self.place)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of an entity at a glance."""

    count: int
    decided: int
    """How many of its events wanted a decision."""
    first: int
    """Earliest event time, microseconds UTC; 0 when it was never seen."""
    last: int
    sources: dict[str, int]
    """Source -> how many events, most first."""


def entity_hash(tenant: str, kind: str, name: str) -> int:
    """64 bits of BLAKE2b over tenant, type and id."""
    text = f"{len(tenant)}:{tenant}{len(kind)}:{kind}{name}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Sightings:
    """The index. Reads from any thread; one process at a time should follow the log.

    Costs about 3 CPU microseconds a sighting; a timeline costs about a millisecond a million events.

    Args:
        projection: The file.
    """

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._sources: dict[str, int] = {}
        self._known: Hashes | None = None
        projection.prepare(NAME, VERSION, _SCHEMA)

    # Following the log

    def consume(self, log: Log, *, limit: int = BATCH) -> int:
        """Takes what is new in the log; gives how many records that was. Raises as `Projection.follow`."""
        if self._projection.ahead(NAME, log, TOPIC):
            self._known, self._sources = None, {}
            self._projection.restart(NAME, VERSION, _SCHEMA)
        try:
            return self._projection.follow(NAME, log, TOPIC, limit, self._apply)
        except BaseException:
            # What was not committed is not known.
            self._known, self._sources = None, {}
            raise

    def place(self, partition: int) -> int:
        """Offset of the next record to take from a partition of the log."""
        return self._projection.place(NAME, partition)

    def _apply(self, connection: sqlite3.Connection, shard: int, records: Sequence[Record]) -> None:
        found: list[tuple[int, int, int, int, int]] = []
        names: dict[str, dict[int, str]] = {}
        base = shard << _SHARD_BITS
        for record in records:
            try:
                event = _envelope(record.value)
                entities = event.entities or (_labelled(record.value) if event.source == LABEL_SOURCE else ())
            except msgspec.MsgspecError:
                continue  # told and counted by the stage that stores events
            if not entities:
                continue
            source = self._sources.get(event.source) or self._source(connection, event.source)
            kind = record.key.startswith(DECIDED) and event.source != LABEL_SOURCE
            held = names.setdefault(event.tenant, {})
            for entity in set(entities):
                key = entity_hash(event.tenant, entity.type, entity.id)
                found.append((key, base | record.offset, event.event_time, source, kind))
                if entity.type != LABELLED:
                    held[key] = entity.key
        if found:
            _store(connection, np.array(found, _ROW))
            for tenant, held in names.items():
                self._store_names(connection, tenant, held)

    def _source(self, connection: sqlite3.Connection, name: str) -> int:
        connection.execute("insert or ignore into sightings_source (name) values (?)", (name,))
        (number,) = connection.execute("select id from sightings_source where name = ?", (name,)).fetchone()
        self._sources[name] = number
        return int(number)

    def _store_names(self, connection: sqlite3.Connection, tenant: str, held: dict[int, str]) -> None:
        """Keeps the names that were not kept before."""
        if self._known is None:
            rows = connection.execute("select hashes from sightings_name")
            self._known = np.unique(np.frombuffer(b"".join(row[0] for row in rows), np.uint64))
        hashes = np.fromiter(held, np.uint64, len(held))
        hashes.sort()
        fresh = hashes[~np.isin(hashes, self._known, assume_unique=True)]
        if len(fresh):
            texts = msgspec.json.encode([held[key] for key in fresh.tolist()])
            connection.execute(
                "insert into sightings_name (tenant, hashes, names) values (?, ?, ?)", (tenant, fresh.tobytes(), texts)
            )
            known = np.concatenate([self._known, fresh]) if len(self._known) < MAX_KNOWN else fresh
            known.sort(kind="stable")
            self._known = known

    # Reading

    def _rows(self, tenant: str, entity: Entity) -> tuple[Rows, dict[int, str]]:
        """Every sighting of the entity's hash, in no order, and the sources' names."""
        key = entity_hash(tenant, entity.type, entity.id)
        bucket = key >> (64 - BUCKET_BITS)
        with self._projection.read() as connection:
            rows = connection.execute(
                "select seen from sightings_bucket where place between ? and ?",
                (bucket << _SHARD_BITS, bucket << _SHARD_BITS | _OFFSETS),
            ).fetchall()
            sources = dict(connection.execute("select id, name from sightings_source").fetchall())
        seen = np.frombuffer(b"".join(row[0] for row in rows), _ROW)
        return seen[seen["entity"] == np.uint64(key)], sources

    def seen(self, tenant: str, entity: Entity) -> Seen:
        """Counts, first and last time of an entity."""
        rows, sources = self._rows(tenant, entity)
        if not len(rows):
            return Seen(0, 0, 0, 0, {})
        numbers, counts = np.unique(rows["source"], return_counts=True)
        by_source = {sources[number]: count for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)}
        times = rows["time"]
        return Seen(
            count=len(rows),
            decided=int(rows["kind"].sum()),
            first=int(times.min()),
            last=int(times.max()),
            sources=dict(sorted(by_source.items(), key=lambda item: (-item[1], item[0]))),
        )

    def timeline(
        self,
        tenant: str,
        entity: Entity,
        *,
        source: str = "",
        before: Cursor | None = None,
        since: int | None = None,
        limit: int = 50,
    ) -> list[Sighting]:
        """An entity's events, newest event time first; of equal times the later in the log first.

        Args:
            tenant: Whose.
            entity: About whom.
            source: Only events of this source.
            before: Only what comes after this place of the list.
            since: Only event times from here on, microseconds UTC.
            limit: Most entries.
        """
        rows, sources = self._rows(tenant, entity)
        if source:
            wanted = [number for number, name in sources.items() if name == source]
            rows = rows[np.isin(rows["source"], wanted)]
        if since is not None:
            rows = rows[rows["time"] >= since]
        if before is not None:
            time, place = rows["time"], rows["place"]
            rows = rows[(time < before.time) | ((time == before.time) & (place < before.place))]
        if len(rows) > 4 * limit:
            # Only the newest times can be on the page, and all entries that share the oldest of them.
            border = np.partition(rows["time"], len(rows) - limit)[len(rows) - limit]
            rows = rows[rows["time"] >= border]
        order = np.lexsort((rows["place"], rows["time"]))[::-1][:limit]
        return [
            Sighting(int(row["time"]), int(row["place"]), sources[int(row["source"])], bool(row["kind"]))
            for row in rows[order]
        ]

    def histogram(self, tenant: str, entity: Entity, *, bins: int = 48) -> list[tuple[int, dict[str, int]]]:
        """Equal spans of time from the first to the last sighting: start of each, and events by source."""
        rows, sources = self._rows(tenant, entity)
        if not len(rows):
            return []
        first, last = int(rows["time"].min()), int(rows["time"].max())
        width = max(1, -(-(last - first + 1) // bins))
        found: list[tuple[int, dict[str, int]]] = [(first + width * place, {}) for place in range(bins)]
        step = max(sources) + 1
        counts = np.bincount((rows["time"] - first) // width * step + rows["source"], minlength=bins * step)
        for place in np.flatnonzero(counts).tolist():
            found[place // step][1][sources[place % step]] = int(counts[place])
        return found

    def search(self, tenant: str, text: str, *, limit: int = 50) -> list[Entity]:
        """Entities whose `type:id` holds the text, whatever its case: whole ids first, then beginnings, then parts.

        Costs about 10 milliseconds for half a million names.
        """
        wanted = text.strip().casefold()
        if not wanted:
            return []
        needle = msgspec.json.encode(wanted)[1:-1]
        found: dict[str, tuple[int, str]] = {}
        with self._projection.read() as connection:
            rows = connection.execute("select names from sightings_name where tenant = ? order by id desc", (tenant,))
            for (names,) in rows:
                if needle in names.decode().casefold().encode():
                    found.update({name: _rank(name, wanted) for name in _names(names) if wanted in name.casefold()})
                if len(found) > MAX_NAMES and any(rank == 0 for rank, _ in found.values()):
                    break
        return [_entity(name) for name in sorted(found, key=found.__getitem__)[:limit]]

    def labels(self, log: Log, tenant: str, event_id: str, *, limit: int = 10) -> list[Event]:
        """Events that carry a label of an event, newest first."""
        places = self.timeline(tenant, Entity(LABELLED, event_id), limit=limit)
        return [
            event
            for event in read_events(log, places)
            if event.tenant == tenant and event.data.get("event_id") == event_id
        ]

    def events(self, log: Log, tenant: str, entity: Entity, page: Sequence[Sighting]) -> list[Event]:
        """The events of a page of the entity's timeline, in its order."""
        return [event for event in read_events(log, page) if event.tenant == tenant and entity in event.entities]


def read_events(log: Log, page: Sequence[Sighting]) -> list[Event]:
    """Events at places of the log, in the order of the places; one that cannot be read is left out."""
    held: dict[int, Event] = {}
    for sighting in page:
        for record in log.read(TOPIC, sighting.partition, sighting.offset, 1):
            try:
                event = _event(record.value)
            except msgspec.MsgspecError:
                continue
            held[sighting.place] = msgspec.structs.replace(event, seq=record.offset + 1)
    return [held[sighting.place] for sighting in page if sighting.place in held]


def _labelled(value: bytes) -> tuple[Entity, ...]:
    return (Entity(LABELLED, _label(value).data.event_id),)


def _store(connection: sqlite3.Connection, rows: Rows) -> None:
    """One row for each bucket that the batch touches."""
    buckets = (rows["entity"] >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    order = np.argsort(buckets, kind="stable")
    rows, buckets = rows[order], buckets[order]
    batch = connection.execute("insert into sightings_batch (count) values (?)", (len(rows),)).lastrowid or 0
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    ends = np.append(starts[1:], len(rows))
    connection.executemany(
        "insert into sightings_bucket values (?, ?)",
        [
            (int(buckets[start]) << _SHARD_BITS | batch, rows[start:end].tobytes())
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ],
    )


def _rank(name: str, wanted: str) -> tuple[int, str]:
    folded = name.casefold()
    own = folded.partition(":")[2]
    if wanted in {folded, own}:
        return 0, name
    return (1 if folded.startswith(wanted) or own.startswith(wanted) else 2), name


def _entity(name: str) -> Entity:
    kind, _, own = name.partition(":")
    return Entity(kind, own)
