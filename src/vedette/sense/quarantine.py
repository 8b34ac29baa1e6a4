"""Quarantine: what could not become an event is kept with its reason, its place and its bytes.

Nothing is dropped: for every source and tenant, records read = stored + quarantined + duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vedette.core.clock import DAY
from vedette.sense.sources import computed_id
from vedette.sense.store import Appended, check_tenant
from vedette.sense.tables import Mark, Table, known_keys

TABLE = "quarantine"
"""Name of the table, beside those of the sources; queries see it under this name."""

RAW_BYTES = 1 << 20
"""How much of a refused record's bytes is kept; `size` tells its true length."""

_MICRO = pa.timestamp("us", tz="UTC")
_COLUMNS: list[Any] = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("tenant", pa.string(), nullable=False),
    pa.field("date", pa.date32(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("ingest_time", _MICRO, nullable=False),
    pa.field("code", pa.string(), nullable=False),
    pa.field("message", pa.string(), nullable=False),
    pa.field("stream", pa.string(), nullable=False),
    pa.field("line", pa.int64(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("raw", pa.binary(), nullable=False),
]
SCHEMA = pa.schema(_COLUMNS)
"""`date` is the day of ingest: a refused record has no event time one could trust."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One record in quarantine."""

    tenant: str
    source: str
    ingest_time: int
    """Microseconds UTC."""
    code: str
    """Why: the code of the error."""
    message: str
    stream: str
    line: int
    """From 1; 0 when the stream has no lines."""
    offset: int
    """Of its first byte in the stream."""
    raw: bytes = field(repr=False)
    """As it was read; never printed, because nobody knows what is in it."""

    @property
    def id(self) -> str:
        """From its place, as an event's computed id: the same place refused twice is one row."""
        return computed_id(self.tenant, self.source, self.stream, self.offset)


class Quarantine:
    """The quarantine beside an event store.

    Args:
        folder: The store's folder.
        observe: Told of the records that were added, after their commit.
    """

    def __init__(self, folder: Path, observe: Callable[[Sequence[Refused]], None] = lambda _added: None) -> None:
        self.table = Table(folder / TABLE)
        self._observe = observe

    def count(self, tenant: str) -> int:
        """How many records of a tenant are in quarantine."""
        dataset = self.table.dataset([tenant])
        return dataset.count_rows() if dataset is not None else 0

    def append(self, refused: Sequence[Refused], *, mark: Mark | None = None) -> Appended:
        """Keeps refused records in one commit; those that are already there count as duplicates.

        Raises:
            DataError: `store.tenant.name`.
        """
        for tenant in {each.tenant for each in refused}:
            check_tenant(tenant)
        with self.table.writing():
            if mark is not None and self.table.holds(mark):
                return Appended(0, len(refused), replayed=True)
            fresh = self._fresh(refused)
            if fresh or mark is not None:
                self.table.append(to_rows(fresh), mark)
        self._observe(fresh)
        return Appended(len(fresh), len(refused) - len(fresh))

    def _fresh(self, refused: Sequence[Refused]) -> list[Refused]:
        first = {(each.tenant, each.id): each for each in reversed(refused)}
        if not first:
            return []
        streams = pa.array(sorted({each.stream for each in refused}), pa.string())
        keys = pa.table({"id": pa.array([key[1] for key in first], pa.string())})
        tenants = sorted({tenant for tenant, _ in first})
        known = known_keys(self.table.dataset(tenants), pc.field("stream").isin(streams), keys)
        return [each for key, each in reversed(first.items()) if key not in known]


def to_rows(refused: Sequence[Refused]) -> pa.Table:
    """Refused records as rows."""
    columns: dict[str, list[Any]] = {
        "id": [each.id for each in refused],
        "tenant": [each.tenant for each in refused],
        "date": [each.ingest_time // DAY for each in refused],
        "source": [each.source for each in refused],
        "ingest_time": [each.ingest_time for each in refused],
        "code": [each.code for each in refused],
        "message": [each.message for each in refused],
        "stream": [each.stream for each in refused],
        "line": [each.line for each in refused],
        "offset": [each.offset for each in refused],
        "size": [len(each.raw) for each in refused],
        "raw": [each.raw[:RAW_BYTES] for each in refused],
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)
