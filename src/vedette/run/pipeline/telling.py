"""What money did and who was refused, brought to topic `event` once, whatever dies in between.

A turn reads the audit log and notes each refused use of a known key as an event, together with its place in that log.
Then it appends the events that wait to topic `event` and forgets them. An append that was not forgotten, because the
process died in between, is found again: the log is read from where the last turn ended, by one process at a time.
"""

from __future__ import annotations

import fcntl
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vedette.core.db import Connection
from vedette.core.event import Event
from vedette.core.log import Durability, Log, Record
from vedette.move.events import to_refused
from vedette.move.told import Told, Waiting
from vedette.prove.audit import TOPIC as AUDIT
from vedette.prove.audit import AuditRecord, Outcome
from vedette.run.pipeline.storing import TOPIC, to_event

BATCH = 500
SCAN = 2_000
KEEP = BATCH // 2
"""Audit records after which the place is noted though there was nothing to note: what another process has not read by
the noted place is then few enough for `lag` to look at."""
_KEY = "money:"
"""Prefix of the log key of these events."""
_SUCCESS = f'"outcome":"{Outcome.SUCCESS}"'.encode()
_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(AuditRecord).decode


class Telling:
    """Brings events to the log.

    Args:
        told: Where they wait.
        log: Topics `audit` and `event`.
        lock: File that is locked meanwhile.
    """

    def __init__(self, told: Told, log: Log, lock: Path) -> None:
        self._told = told
        self._log = log
        self._lock = lock
        self._read: dict[int, int] = {}
        """How far each partition of the audit log was read; nothing between its cursor and here was noted."""

    def turn(self) -> int:
        """Does what there is to do, at most `BATCH` of each kind; answers how many records it took."""
        if self._all_read() and not self._told.waiting(1):
            return 0
        with self._alone():
            taken = sum(self._audited(part) for part in range(self._log.partitions(AUDIT)))
            waiting = self._told.waiting(BATCH)
            by_tenant: dict[str, list[Waiting]] = defaultdict(list)
            for one in waiting:
                by_tenant[one.event.tenant].append(one)
            for tenant, some in by_tenant.items():
                self._bring(tenant, some)
        return taken + len(waiting)

    def _bring(self, tenant: str, some: Sequence[Waiting]) -> None:
        name = f"event:{tenant}"
        key = f"{_KEY}{tenant}"
        there, end = self._since(key, self._told.cursor(name))
        fresh = [_encode(one.event) for one in some if one.event.id not in there]
        if fresh:
            # Synced: what is forgotten there must not be lost here.
            end = self._log.append(TOPIC, key, fresh, durability=Durability.SYNCED) + len(fresh)

        def work(connection: Connection) -> None:
            self._told.forget(connection, some)
            self._told.move(connection, name, end)

        self._told.db.together(work)

    def _since(self, key: str, place: int) -> tuple[set[str], int]:
        """Ids of our events from a place of the log on, and where it ends."""
        part = self._log.partition_of(TOPIC, key)
        there: set[str] = set()
        while records := self._log.read(TOPIC, part, place, SCAN):
            mine = [to_event(record) for record in records if record.key == key]
            there |= {event.id for event in mine if isinstance(event, Event)}
            place = records[-1].offset + 1
        return there, place

    def _audited(self, part: int) -> int:
        start = self._place(part)
        records = self._log.read(AUDIT, part, start, BATCH)
        if not records:
            self._read[part] = start
            return 0
        end = records[-1].offset + 1
        events = [event for record in records for event in _refusals(record)]

        def work(connection: Connection) -> None:
            self._told.tell(connection, events)
            self._told.move(connection, f"{AUDIT}:{part}", end)

        # Most batches hold no refusal: their place is kept in memory, and noted now and then.
        if events or end // KEEP > start // KEEP:
            # Like the log they come from, they need not wait for the disk: no money has moved.
            self._told.db.together(work, synced=False)
        self._read[part] = end
        return len(records)

    def _all_read(self) -> bool:
        """Whether the audit log ends where this process has read it to."""
        return all(self._log.end(AUDIT, part) == self._read.get(part) for part in range(self._log.partitions(AUDIT)))

    def _place(self, part: int) -> int:
        return max(self._read.get(part, 0), self._told.cursor(f"{AUDIT}:{part}"))

    def lag(self) -> int:
        """How many events are still to be told. Of audit records only those count that tell of a refusal."""
        audits = range(self._log.partitions(AUDIT))
        return sum(map(self._untold, audits)) + len(self._told.waiting(BATCH))

    def _untold(self, part: int) -> int:
        start = self._place(part)
        unread = self._log.end(AUDIT, part) - start
        if not 0 < unread <= BATCH:
            return unread
        return sum(1 for record in self._log.read(AUDIT, part, start, unread) for _ in _refusals(record))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _refusals(record: Record) -> Iterator[Event]:
    if _SUCCESS in record.value:  # of nearly all of them, which is seen without reading the rest
        return
    try:
        audited = _record(record.value)
    except msgspec.MsgspecError:
        return
    event = to_refused(audited)
    if event is not None:
        yield event
