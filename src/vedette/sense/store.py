"""The event store: one Delta Lake table per source, partitioned by tenant and date of the event.

Columns: the envelope; `data`, the record as JSON text; and the source's promoted fields as nullable text, a dot or dash
in their names written as `_`. An append stores each event at most once: a batch whose mark is already in the table is a
replay and adds nothing, and an event whose id is already there is a duplicate.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from vedette.core.clock import DAY, MICROS, to_iso
from vedette.core.errors import DataError, DefinitionError
from vedette.core.event import Entity, Event
from vedette.sense.paths import compile_path
from vedette.sense.sources import Source
from vedette.sense.tables import Mark, Table, known_keys

DEDUP_SLACK = 3_600 * MICROS
"""An id is looked for among the stored events between the batch's first and last event time, widened by one hour on
both sides. An id that comes back with another time outside of that is another event."""

TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What a tenant may be called: it names folders."""

# Not orjson: a whole number of more than 64 bits, which a request may hold, is written too.
_encode = msgspec.json.Encoder().encode
_MICRO = pa.timestamp("us", tz="UTC")
_COLUMNS: list[Any] = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("tenant", pa.string(), nullable=False),
    pa.field("date", pa.date32(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("seq", pa.int64(), nullable=False),
    pa.field("event_time", _MICRO, nullable=False),
    pa.field("ingest_time", _MICRO, nullable=False),
    pa.field("class_uid", pa.int32(), nullable=False),
    pa.field("entities", pa.list_(pa.string()), nullable=False),
    pa.field("raw_ref", pa.string(), nullable=False),
    pa.field("data", pa.string(), nullable=False),
]
ENVELOPE = pa.schema(_COLUMNS)
"""Columns that every table has. `entities` holds `type:id` texts."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch: `stored + duplicates` is its length."""

    stored: int
    duplicates: int
    replayed: bool = False
    """The batch's mark was already in the table; nothing was written."""


class Store:
    """The event store in a folder. Safe for several processes: appends to one table take turns.

    Args:
        folder: `store/` under the home; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: dict[str, Table] = {}
        self._only: list[str] | None = None

    def append(self, source: Source, events: Sequence[Event], *, mark: Mark | None = None) -> Appended:
        """Stores a batch of one source in one commit.

        Args:
            source: Whose promoted fields become columns.
            events: Of that source, of any tenants.
            mark: The consumer's place in its log; makes a replay of the batch a no-op.

        Returns:
            How many were stored and how many were duplicates, of stored events or of earlier ones in the batch.

        Raises:
            DataError: `store.tenant.name` for a tenant that cannot name a folder. Nothing of the batch is stored then.
        """
        for tenant in {event.tenant for event in events}:
            check_tenant(tenant)
        table = self.table(source.name)
        with table.writing():
            if mark is not None and table.holds(mark):
                return Appended(0, len(events), replayed=True)
            fresh = _fresh(table, events)
            if fresh or mark is not None:
                table.append(to_rows(source, fresh), mark)
        return Appended(len(fresh), len(events) - len(fresh))

    def check(self, event: Event) -> None:
        """Takes events of any size."""

    def find(self, tenant: str, source: str, event_id: str, event_time: int) -> Event | None:
        """One event, by its id and its time, which says where to look; None when the tenant has no such one.

        Args:
            tenant: Whose.
            source: Name of its source.
            event_id: Its id.
            event_time: Its event time, microseconds UTC.
        """
        check_tenant(tenant)
        dataset = self.table(source).dataset([tenant], [to_iso(event_time)[:10]]) if source in self.names() else None
        if dataset is None:
            return None
        here = (pc.field("event_time") == pa.scalar(event_time, _MICRO)) & (pc.field("id") == event_id)
        rows: list[Any] = dataset.scanner(columns=ENVELOPE.names, filter=here, batch_readahead=1).head(1).to_pylist()
        return to_event(rows[0]) if rows else None

    def rows(self, tenant: str, source: str, since: int, until: int) -> pads.Dataset | None:
        """A tenant's rows of a source in [since, until) of event time; lists only files of those days.

        Args:
            tenant: Whose.
            source: Name of the source; None for one without a table.
            since: Microseconds UTC.
            until: Microseconds UTC.
        """
        check_tenant(tenant)
        days = range(since // DAY, -(-until // DAY))
        listed = [to_iso(day * DAY)[:10] for day in days] if len(days) <= _MAX_LISTED_DATES else None
        dataset = self.table(source).dataset([tenant], listed) if source in self.names() else None
        time = pc.field("event_time")
        here = (time >= pa.scalar(since, _MICRO)) & (time < pa.scalar(until, _MICRO))
        return dataset.filter(here) if dataset else None

    def between(self, tenant: str, source: str, since: int, until: int, size: int = 2_000) -> Iterator[list[Event]]:
        """The events of `rows`, in no order, at most `size` at a time."""
        dataset = self.rows(tenant, source, since, until)
        if dataset is not None:
            yield from events_of(dataset, size)

    def table(self, name: str) -> Table:
        """The table of a source, whether or not it exists yet."""
        return self._tables.setdefault(name, Table(self.folder / name))

    def versions(self, names: Collection[str] = ()) -> dict[str, int]:
        """The newest commit of each table that exists, or of those that are named; `at` reads them again."""
        wanted = [name for name in self.names() if not names or name in names]
        return {name: delta.version() for name in wanted if (delta := self.table(name).delta()) is not None}

    def at(self, versions: Mapping[str, int]) -> Store:
        """The store as it was: these tables at these commits, and no other. It is only read.

        Raises:
            NotFoundError: `store.version.erased`, for a version that is no longer there.
        """
        then = Store(self.folder)
        then._tables = {name: Table(self.folder / name, version) for name, version in versions.items()}
        then._only = sorted(versions)
        for table in then._tables.values():
            table.delta()
        return then

    def names(self) -> list[str]:
        """The tables that exist, in alphabetical order."""
        if self._only is not None:
            return self._only
        return sorted(each.parent.name for each in self.folder.glob("*/_delta_log"))

    def compact(self) -> Mapping[str, Mapping[str, int]]:
        """`Table.compact` over every table."""
        return {name: self.table(name).compact() for name in self.names()}


def check_tenant(tenant: str) -> None:
    """Refuses a name that could lead out of its folder.

    Raises:
        DataError: `store.tenant.name`.
    """
    if not TENANT.fullmatch(tenant):
        raise DataError("store.tenant.name", f"{tenant!r} is no tenant name", hint=f"it must match {TENANT.pattern}")


def column_name(field: str) -> str:
    """The column a promoted field is stored in."""
    return re.sub(r"\W", "_", field, flags=re.ASCII)


def promoted(source: Source) -> dict[str, str]:
    """Column -> field path of what a source promotes.

    Raises:
        DefinitionError: `sources.file.column` when two fields, or a field and the envelope, would share a column.
    """
    taken = {name.lower() for name in ENVELOPE.names}
    columns: dict[str, str] = {}
    for path in source.definition.promote:
        column = column_name(path)
        if column.lower() in taken:
            raise DefinitionError(
                "sources.file.column", f"`{path}` would be a second column `{column}`", at=source.name
            )
        taken.add(column.lower())
        columns[column] = path
    return columns


def events_of(rows: pads.Dataset, size: int = 2_000) -> Iterator[list[Event]]:
    """The events of a dataset of a table's rows, in no order, at most `size` at a time."""
    for batch in rows.scanner(columns=ENVELOPE.names, batch_size=size, batch_readahead=1).to_batches():
        if batch.num_rows:
            yield [to_event(row) for row in batch.to_pylist()]


def to_rows(source: Source, events: Sequence[Event]) -> pa.Table:
    """Events as rows of their source's table."""
    columns: dict[str, list[Any]] = {
        "id": [event.id for event in events],
        "tenant": [event.tenant for event in events],
        "date": [event.event_time // DAY for event in events],
        "source": [event.source for event in events],
        "seq": [event.seq for event in events],
        "event_time": [event.event_time for event in events],
        "ingest_time": [event.ingest_time for event in events],
        "class_uid": [event.class_uid for event in events],
        "entities": [[entity.key for entity in event.entities] for event in events],
        "raw_ref": [event.raw_ref for event in events],
        "data": [_encode(event.data).decode() for event in events],
    }
    schema = ENVELOPE
    for column, path in promoted(source).items():
        read = compile_path(path)
        columns[column] = [_text(read(event.data)) for event in events]
        schema = schema.append(pa.field(column, pa.string()))
    return pa.Table.from_pydict(columns, schema=schema)


def to_event(row: Mapping[str, Any]) -> Event:
    """The event of a row."""
    return Event(
        id=row["id"],
        tenant=row["tenant"],
        source=row["source"],
        event_time=_micros(row["event_time"]),
        ingest_time=_micros(row["ingest_time"]),
        seq=row["seq"],
        class_uid=row["class_uid"],
        entities=tuple(Entity(*key.split(":", 1)) for key in row["entities"]),
        raw_ref=row["raw_ref"],
        data=msgspec.json.decode(row["data"]),
    )


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _encode(value).decode()


def _fresh(table: Table, events: Sequence[Event]) -> list[Event]:
    """The events whose (tenant, id) is neither stored nor earlier in the batch."""
    first: dict[tuple[str, str], Event] = {}
    for event in events:
        first.setdefault((event.tenant, event.id), event)
    if not first:
        return []
    times = [event.event_time for event in first.values()]
    low, high = min(times) - DEDUP_SLACK, max(times) + DEDUP_SLACK
    dates = [to_iso(day * DAY)[:10] for day in range(max(low, 0) // DAY, high // DAY + 1)]
    tenants = sorted({tenant for tenant, _ in first})
    keys = pa.table({"id": pa.array([key[1] for key in first], pa.string())})
    span = (pc.field("event_time") >= pa.scalar(low, _MICRO)) & (pc.field("event_time") <= pa.scalar(high, _MICRO))
    # A batch that spans years would make a long list of dates; the file statistics on event_time prune as well.
    listed = dates if len(dates) <= _MAX_LISTED_DATES else None
    known = known_keys(table.dataset(tenants, listed), span, keys)
    return [event for key, event in first.items() if key not in known]


_MAX_LISTED_DATES = 400
"""Most dates that are listed one by one to find files; beyond, the files' statistics have to do."""
