"""Event and Entity: what comes in, and what it is about."""

from __future__ import annotations

from typing import Any

import msgspec


class Entity(msgspec.Struct, frozen=True, order=True):
    """What events are about: card, account, user, device, host, ip, key, merchant, customer, terminal."""

    type: str
    id: str

    @property
    def key(self) -> str:
        """`type:id`, the form used in logs, features and storage."""
        return f"{self.type}:{self.id}"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope of one thing that happened, with the source's own fields untouched in `data`."""

    id: str
    """The source's own id where the source file names one, else a hash of tenant, source, stream and offset."""
    tenant: str
    source: str
    """Name of the source file that read it, such as `cloudtrail`."""
    event_time: int
    """When it happened by the source's clock, microseconds UTC."""
    ingest_time: int
    """When we read it by our clock, microseconds UTC."""
    seq: int = 0
    """Place in the tenant's log, from 1; 0 while the event is in no log."""
    class_uid: int = 0
    """OCSF class; 0 (base event) when the source file maps none."""
    entities: tuple[Entity, ...] = ()
    """In the order of the source file; absent ones are left out."""
    raw_ref: str = ""
    """Where the raw record is: `path@offset` in the decompressed stream."""
    data: dict[str, Any] = {}
    """The record, with the source's own field names."""
