"""The trail: audit records of a tenant, newest first, read from the log."""

from __future__ import annotations

import msgspec

from vedette.core.log import Log
from vedette.prove.audit import TOPIC, AuditRecord, Outcome

CHUNK = 500
MAX_READ = 20_000
"""Most records of the log that one page goes through; a filter that finds little ends there and says where."""


MAX_ACTS = 50_000
"""Newest records of the log that are looked at for what one actor did."""


class TrailFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records; everything that is given must hold."""

    actor: str = ""
    """Id of a key or person."""
    action: str = ""
    """`resource.verb`, or its beginning, such as `keys.`."""
    target: str = ""
    outcome: Outcome | None = None

    def holds(self, record: AuditRecord) -> bool:
        """True when a record is wanted."""
        return (
            (not self.actor or record.actor == self.actor)
            and record.action.startswith(self.action)
            and (not self.target or record.target == self.target)
            and (self.outcome is None or record.outcome is self.outcome)
        )


class TrailPage(msgspec.Struct, frozen=True):
    """Some records."""

    records: list[AuditRecord]
    next: int | None
    """What to give as `before` for older ones; None at the beginning."""


def read_trail(
    log: Log,
    tenant: str,
    wanted: TrailFilter = TrailFilter(),  # noqa: B008 - a frozen value
    *,
    before: int | None = None,
    limit: int = 50,
) -> TrailPage:
    """A page of the trail. A record that cannot be decoded is left out here; it stays evidence.

    Args:
        log: Holds topic `audit`.
        tenant: Whose.
        wanted: Which.
        before: Offset that the page ends before; None: at the end of the log.
        limit: Most records.
    """
    part = log.partition_of(TOPIC, tenant)
    end = log.end(TOPIC, part)
    place = end if before is None else max(0, min(before, end))
    stop = max(0, place - MAX_READ)
    found: list[AuditRecord] = []
    while place > stop:
        first = max(stop, place - CHUNK)
        for record in reversed(log.read(TOPIC, part, first, place - first)):
            place = record.offset
            line = _decode(record.value) if record.key == tenant else None
            if line and wanted.holds(line):
                found.append(line)
                if len(found) == limit:
                    return TrailPage(found, place or None)
        place = first
    return TrailPage(found, place or None)


class Acts(msgspec.Struct, frozen=True):
    """What one actor did, newest first, as far back as was read."""

    records: list[AuditRecord]
    since: int
    """Time of the oldest record that was looked at, microseconds UTC; 0: all of them were."""


def acts_of(log: Log, tenant: str, actor: str, *, most: int = MAX_ACTS) -> Acts:
    """What a key, an app or a person did, from the newest records of the log.

    Args:
        log: Holds topic `audit`.
        tenant: Whose.
        actor: Id of who acted.
        most: Records of the log that are looked at, of all actors.
    """
    part, needle = log.partition_of(TOPIC, tenant), actor.encode()
    place = end = log.end(TOPIC, part)
    found: list[AuditRecord] = []
    oldest = 0
    while place > max(0, end - most):
        first = max(0, end - most, place - CHUNK)
        records = log.read(TOPIC, part, first, place - first)
        for record in reversed(records):
            # Most are of others, which is seen without reading the rest.
            line = _decode(record.value) if needle in record.value and record.key == tenant else None
            if line and line.actor == actor:
                found.append(line)
        oldest, place = (records[0].time if records else oldest), first
    return Acts(found, oldest if place else 0)


def _decode(value: bytes) -> AuditRecord | None:
    try:
        return msgspec.json.decode(value, type=AuditRecord)
    except msgspec.MsgspecError:
        return None
