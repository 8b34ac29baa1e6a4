"""Takes log records into the tree, exactly once: the place in the log moves in the transaction that appends."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from vedette.core.clock import MICROS, Clock
from vedette.core.db import Connection, sa
from vedette.core.errors import DataError, DefinitionError, PermanentError
from vedette.core.log import Log, Record
from vedette.prove.evidence.store import Entry, Evidence, append_to, read_head
from vedette.prove.evidence.tables import cursors

TOPICS = ("decision", "audit", "action")
"""Topics of which everything becomes evidence."""

SETTLED = 0.25
"""Least age of a record in seconds. The log syncs within about 5 ms; what a power cut may take is no evidence yet."""

GROUP = "evidence"


class _Tenant(msgspec.Struct):
    tenant: str = ""


_decoder = msgspec.json.Decoder(_Tenant)
_END = 2**63
_DAMAGED = (DataError, DefinitionError, PermanentError)
"""What reading raises when the log's file, or the name of the place, was changed; a busy disk is no damage."""
_PLACE = re.compile(r"([^/]+)/([0-9]{1,4})/([0-9]{1,15})")


class Collector:
    """Reads topics of the log into the tree.

    Several collectors on one database do no harm: each batch checks its place under the tree's lock.

    Args:
        evidence: The tree.
        log: Where records come from. Their content stays there.
        clock: To leave out what is not settled.
        topics: Topics to read.
        settled: Least age of a record in seconds.
    """

    def __init__(
        self,
        evidence: Evidence,
        log: Log,
        clock: Clock,
        *,
        topics: Sequence[str] = TOPICS,
        settled: float = SETTLED,
    ) -> None:
        self._evidence = evidence
        self._log = log
        self._clock = clock
        self._topics = topics
        self._settled = round(settled * MICROS)

    def collect(self, limit: int = 5_000) -> int:
        """Takes up to `limit` records of each partition. Gives how many it took; 0 when there is no more for now."""
        return sum(
            self._partition(topic, partition, limit)
            for topic in self._topics
            for partition in range(self._log.partitions(topic))
        )

    def _partition(self, topic: str, partition: int, limit: int) -> int:
        with self._evidence.db.read() as connection:
            start = read_cursor(connection, topic, partition)
        newest = self._clock.now() - self._settled
        batch = [record for record in self._log.read(topic, partition, start, limit) if record.time <= newest]
        if not batch:
            return 0
        entries = [to_entry(topic, partition, record) for record in batch]
        with self._evidence.db.begin() as connection:
            # The lock first: on PostgreSQL another collector may have moved the cursor since it was read above.
            read_head(connection, lock=True)
            if read_cursor(connection, topic, partition) != start:
                return 0
            append_to(connection, entries, keep=False)
            _move_cursor(connection, topic, partition, start + len(batch))
        self._log.commit(GROUP, topic, partition, start + len(batch))
        return len(batch)


def to_entry(topic: str, partition: int, record: Record) -> Entry:
    """The entry of a log record: its place is its id, its bytes are its content."""
    return Entry(f"{topic}/{partition}/{record.offset}", _tenant(record), topic, record.time, record.value)


def from_log(log: Log) -> Callable[[str], bytes | None]:
    """Finds the content of a record by its id. Fastest in the order of the log: it reads ahead.

    A record that is not there gives None; one that stands there and cannot be read gives an empty text, which no
    record has, so that it is found to differ.
    """
    ahead: dict[tuple[str, int], tuple[range, dict[int, bytes]]] = {}

    def find(record_id: str) -> bytes | None:
        place = _PLACE.fullmatch(record_id)
        if not place:
            return None
        key, wanted = (place[1], int(place[2])), int(place[3])
        if key not in ahead or wanted not in ahead[key][0]:
            try:
                held = {record.offset: record.value for record in _read_around(log, *key, wanted)}
            except _DAMAGED:
                return b""
            # A gap before the first one found, or behind the last one, is known too: it is not read again and again.
            ahead[key] = range(wanted, max(held) + 1 if held else _END), held
        return ahead[key][1].get(wanted)

    return find


def _read_around(log: Log, topic: str, partition: int, wanted: int) -> list[Record]:
    """Some records from a place on; only the one there when something behind it cannot be read."""
    try:
        return log.read(topic, partition, wanted, 1_000)
    except _DAMAGED:
        return log.read(topic, partition, wanted, 1)


def read_cursor(connection: Connection, topic: str, partition: int) -> int:
    """Offset of the next record to take."""
    query = sa.select(cursors.c.next).where(cursors.c.topic == topic, cursors.c.part == partition)
    return connection.scalar(query) or 0


def _move_cursor(connection: Connection, topic: str, partition: int, place: int) -> None:
    where = (cursors.c.topic == topic, cursors.c.part == partition)
    if not connection.execute(cursors.update().where(*where).values(next=place)).rowcount:
        connection.execute(cursors.insert().values(topic=topic, part=partition, next=place))


def _tenant(record: Record) -> str:
    """The tenant that the record names, else an empty text: a broken record is evidence too."""
    try:
        return _decoder.decode(record.value).tenant
    except msgspec.DecodeError:
        return ""
