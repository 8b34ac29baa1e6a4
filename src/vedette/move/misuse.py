"""Signs of misuse at the edges of money, as events of the source `product` that detections read.

A limit that is hit, a webhook whose signature does not fit or that comes twice, a key that is reused for another
request: each is noted where it is refused, in memory and without waiting. Once a turn what was noted becomes events,
one for each kind, reason and culprit with how often it happened: a flood costs a line a second and not a line each.

What was noted in the last turn is lost when the process dies: these are signs, not effects.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from vedette.core.clock import Clock, to_iso
from vedette.core.event import Event
from vedette.core.ids import Ids
from vedette.move.events import asker, product
from vedette.move.told import Told

MAX_NOTED: Final = 2_000
"""Most different ones that are told apart in a turn; of the rest only tenant, kind and reason are kept."""


class MisuseKind(StrEnum):
    """`type` of the event."""

    LIMIT = "limit.exceeded"
    WEBHOOK = "webhook.refused"
    REPEATED = "webhook.repeated"
    IDEMPOTENCY = "idempotency.refused"
    TENANT = "tenant.refused"
    """Somebody asked for what belongs to another tenant or account."""


@dataclass(frozen=True, slots=True)
class Misuse:
    """What was refused, and to whom. Holds no content of the request."""

    tenant: str
    kind: MisuseKind
    reason: str
    """Code of the error that the caller got."""
    asked_by: str = ""
    """Id of the API key or of the person; empty when unknown."""
    merchant: str = ""
    ip: str = ""

    def to_event(self, event_id: str, *, count: int, time: int) -> Event:
        """The event: `{id, type, time, reason, count, key | user, merchant, ip}`, without what is not known.

        Args:
            event_id: Unique.
            count: How often it happened since the last such event.
            time: When it was told, microseconds UTC.
        """
        known = {"merchant": self.merchant, "ip": self.ip}
        data: dict[str, Any] = {
            "id": event_id,
            "type": self.kind.value,
            "time": to_iso(time),
            "reason": self.reason,
            "count": count,
            **asker(self.asked_by),
            **{name: value for name, value in known.items() if value},
        }
        return product().to_event(data, tenant=self.tenant, stream="misuse", offset=0, ingest_time=time)


class Misuses:
    """Gathers misuse and tells of it. Thread-safe.

    Args:
        clock: Time of the events.
        ids: Ids of the events.
    """

    def __init__(self, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._noted: Counter[Misuse] = Counter()
        self._lock = threading.Lock()

    def note(self, misuse: Misuse) -> None:
        """Takes note; never waits and never fails."""
        with self._lock:
            if misuse not in self._noted and len(self._noted) >= MAX_NOTED:
                misuse = replace(misuse, asked_by="", merchant="", ip="")
            self._noted[misuse] += 1

    def tell(self, told: Told) -> int:
        """Writes what was noted since the last call as events that wait for the log; answers how many."""
        with self._lock:
            noted, self._noted = self._noted, Counter()
        if not noted:
            return 0
        now = self._clock.now()
        events = [each.to_event(self._ids.new("evt"), count=count, time=now) for each, count in noted.items()]
        told.db.together(lambda connection: told.tell(connection, events), synced=False)
        return len(events)
