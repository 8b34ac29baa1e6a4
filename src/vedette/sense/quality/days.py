"""The lowest and highest of a value on each of the last days: what is normal includes nights and weekends."""

from __future__ import annotations

import msgspec

from vedette.core.clock import DAY

KEPT = 8
"""Days that are remembered: a week, and the day in hand."""


class Days(msgspec.Struct):
    """Ranges by day, the newest last."""

    days: list[tuple[int, float, float]] = []
    """(day since 1970, lowest, highest)"""
    count: int = 0
    """Values taken in all."""

    def take(self, time: int, value: float) -> None:
        """Adds a value of a time, microseconds UTC."""
        # A float from the start, as it is read back.
        day, value = time // DAY, float(value)
        self.count += 1
        if self.days and self.days[-1][0] >= day:
            held, low, high = self.days[-1]
            self.days[-1] = (held, min(low, value), max(high, value))
        else:
            self.days = [*self.days[1 - KEPT :], (day, value, value)]

    @property
    def low(self) -> float:
        """The lowest of all days; 0 without any."""
        return min((low for _, low, _ in self.days), default=0)

    @property
    def high(self) -> float:
        """The highest of all days; 0 without any."""
        return max((high for _, _, high in self.days), default=0)
