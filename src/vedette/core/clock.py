"""Time is passed in. Wall time is int64 microseconds UTC; intervals are measured on a monotonic clock."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Protocol

MICROS = 1_000_000
"""Microseconds in a second."""

DAY = 86_400 * MICROS
"""Microseconds in a day."""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"([0-9]{1,9})([smhdw])")


class Clock(Protocol):
    """Where the time comes from. Tests pass a fake; only `SystemClock` reads the machine."""

    def now(self) -> int:
        """Wall time, microseconds since 1970-01-01 UTC. May step backwards when the machine's clock is set."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back. Only differences mean something."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> int:
        """Wall time in microseconds UTC."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()


def seconds_of(text: object) -> int | None:
    """Seconds of a timespan such as `30s`, `10m`, `1h`, `7d`, `2w`; None when it is none."""
    found = _SPAN.fullmatch(text) if isinstance(text, str) else None
    return int(found[1]) * _UNITS[found[2]] if found else None


def to_iso(micros: int) -> str:
    """ISO 8601 with microseconds and `Z`: `1970-01-01T00:00:00.000000Z`."""
    return (
        datetime.fromtimestamp(micros // MICROS, UTC)
        .replace(microsecond=micros % MICROS)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def to_datetime(micros: int) -> datetime:
    """Aware UTC datetime of a time in microseconds."""
    return datetime.fromtimestamp(micros // MICROS, UTC).replace(microsecond=micros % MICROS)


def from_datetime(moment: datetime) -> int:
    """Microseconds UTC of a datetime; a naive one is taken as UTC. Exact: no float is involved."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * MICROS + since.microseconds
