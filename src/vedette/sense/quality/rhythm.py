"""The rhythm of a source: how long it is quiet at each hour of the week, and when it is quiet for too long.

For each of the 168 hours of the week the longest gap that reached into it is kept, for its last four occurrences. A
source is silent when nothing came for more than `FACTOR` times the second longest of them (until there are four, of the
longest), and for `LEAST` at least. Of the hours that the quiet time reaches into and the next one, the most patient
counts: who is wont to leave at six may leave at half past five. So nights and weekends are silent only once they are
longer than they are wont to be, and one outage teaches nothing.

Hours that were not met yet are not judged: an office's source is judged from its second week on. A source that never
was quiet for `BUSY` in a whole day does not sleep, and is judged from its second day on.

A gap that was told teaches nothing either, unless another one was told within `AGAIN` before: then it is the rhythm.
"""

from __future__ import annotations

import msgspec

from vedette.core.clock import DAY, MICROS

HOUR = 3_600 * MICROS
WEEK = 168
"""Hours."""
KEPT = 4
"""Occurrences of an hour of the week that are remembered."""
FACTOR = 3
LEAST = 900 * MICROS
"""No source is silent sooner, unless its file says so."""
BUSY = HOUR
AGAIN = 8 * DAY


class Rhythm(msgspec.Struct):
    """What is known of when records come. Times are ingest times, microseconds UTC."""

    first: int = 0
    last: int = 0
    """Of the newest record; 0 before the first."""
    slots: list[list[int]] = msgspec.field(default_factory=lambda: [[] for _ in range(WEEK)])
    """Hour of the week from Thursday 00:00 UTC -> longest gaps, the newest first."""
    hour: int = 0
    """Hour since 1970 that is in hand."""
    longest: int = 0
    """Longest gap that reached into it so far."""
    told: int = 0
    """When the last silence that was told ended; 0 without one."""

    def take(self, time: int, *, silent: bool = False) -> None:
        """Takes the time of a record.

        Args:
            time: When it came.
            silent: The gap before it was told as a silence.
        """
        if not self.last:
            self.first = self.last = time
            self.hour = time // HOUR
            return
        gap, hour = max(0, time - self.last), time // HOUR
        self.last = max(self.last, time)
        if silent:
            known, self.told = bool(self.told) and time - self.told < AGAIN, time
            if not known:
                self._keep(self.hour, self.longest)
                self.hour, self.longest = hour, 0
                return
        if hour <= self.hour:
            self.longest = max(self.longest, gap)
            return
        # A new rhythm counts as met twice, or it would be told for as long as the old one is remembered.
        for _ in range(2 if silent else 1):
            self._keep(self.hour, max(self.longest, gap))
            for each in range(max(self.hour + 1, hour - WEEK), hour):
                self._keep(each, gap)
        self.hour, self.longest = hour, gap

    def limit(self, now: int) -> int | None:
        """How long it may be quiet, microseconds; None while that is not known.

        Args:
            now: How far the quiet time reaches.
        """
        if not self.last:
            return None
        begin, end = self.last // HOUR, now // HOUR + 1
        found = [_usual(self.slots[hour % WEEK]) for hour in range(max(begin, end - WEEK + 1), end + 1)]
        known = [gap for gap in found if gap is not None]
        if len(known) == len(found):
            return max(LEAST, FACTOR * max(known))
        seen = [gap for slot in self.slots for gap in slot]
        if self.last - self.first >= DAY and max([*seen, self.longest]) < BUSY:
            return max(LEAST, FACTOR * max([*seen, self.longest]))
        return None

    def _keep(self, hour: int, gap: int) -> None:
        slot = self.slots[hour % WEEK]
        self.slots[hour % WEEK] = [gap, *slot[: KEPT - 1]]


def _usual(slot: list[int]) -> int | None:
    if not slot:
        return None
    return sorted(slot)[-2] if len(slot) == KEPT else max(slot)
