"""Lines of one step: collected from everywhere, ordered by time, written as their sources write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from vedette.core.clock import MICROS

TIME_FIELD: Final = {"cloudtrail": "eventTime", "identity": "published", "product": "time"}
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


class Book:
    """Records of one step.

    Args:
        day: Midnight of the day, microseconds UTC.
    """

    def __init__(self, day: int) -> None:
        self._lines: dict[str, list[tuple[int, bytes]]] = {}
        moment = datetime.fromtimestamp(day // MICROS, UTC)
        self.date = moment.strftime("%Y-%m-%d")
        self.clf_date = f"{moment.day:02d}/{_MONTHS[moment.month - 1]}/{moment.year}"
        self.epoch = day // MICROS

    def put(self, source: str, lines: list[tuple[int, bytes]]) -> None:
        """Takes lines that are written already, each with its time from midnight."""
        self._lines.setdefault(source, []).extend(lines)

    def note(self, time: int, source: str, record: dict[str, Any]) -> None:
        """Takes a record and writes its time into it."""
        raw = msgspec.json.encode({**record, TIME_FIELD[source]: f"{self.date}T{clock(time)}Z"})
        self._lines.setdefault(source, []).append((time, raw))

    def lines(self) -> dict[str, list[bytes]]:
        """Source -> lines in order of time."""
        return {
            source: [raw for _, raw in sorted(lines, key=lambda pair: pair[0])] for source, lines in self._lines.items()
        }


def clock(time: int) -> str:
    """`HH:MM:SS` of microseconds from midnight."""
    second = time // MICROS
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
