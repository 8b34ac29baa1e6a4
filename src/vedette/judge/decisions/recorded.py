"""Reads a recorded decision from the log, without the service that recorded it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vedette.core.decision import Decision
from vedette.core.log import Log
from vedette.judge.decisions.recorder import DECISIONS
from vedette.judge.decisions.seen import Seen, key_of

MAX_TAIL = 100_000
"""Most decisions that the index of a folder lags behind."""


def find_recorded(log: Log, index: Path, tenant: str, event_id: str) -> Decision | None:
    """The answer that was given to an event; None when there is none.

    Args:
        log: Holds the decisions.
        index: `seen.db` beside them; what it does not know yet is looked for at the end of the log.
        tenant: Whose.
        event_id: Of the decided event.
    """
    if not index.is_file():
        return None
    seen = Seen(index)
    try:
        place = seen.get(key_of(tenant, event_id))
        records = [] if place is None else log.read(DECISIONS, 0, place, 1)
        records += [one for one in log.read(DECISIONS, 0, seen.next, MAX_TAIL) if event_id.encode() in one.value]
    finally:
        seen.close()
    found = [msgspec.json.decode(record.value, type=Decision) for record in records]
    mine = [one for one in found if (one.tenant, one.event_id) == (tenant, event_id)]
    # The last record of an event is the answer that was given.
    return mine[-1] if mine else None
