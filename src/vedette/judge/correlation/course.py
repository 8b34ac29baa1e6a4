"""Moments put in the order of event time, for the laws that look back (`usual`).

A moment waits until nothing can come before it any more, by the lateness; then the law takes it. So what such a
correlation says is a function of the set of moments, told when the lateness is over. One that comes later still is
counted (`late`) and not used: what was usual at its time has been judged.
"""

from __future__ import annotations

import heapq
from collections import Counter

from vedette.judge.correlation.beaconing import Beaconing
from vedette.judge.correlation.definition import Kind, Measure
from vedette.judge.correlation.deviating import Deviation
from vedette.judge.correlation.moments import Moment, Value
from vedette.judge.correlation.usual import FirstSeen, Law, RareValue
from vedette.judge.correlation.window import DEFAULT, Crossing, Key, Limits, Window

LAWS: dict[Kind, type[Law]] = {
    Kind.FIRST_SEEN: FirstSeen,
    Kind.RARE_VALUE: RareValue,
    Kind.DEVIATION: Deviation,
    Kind.BEACONING: Beaconing,
}


class Course:
    """What one correlation that looks back holds for one tenant. Not for several threads at once.

    Args:
        measure: What it is about.
        limits: What it may hold.
        lag: How much later than the lateness a moment may come, because it is the answer of a correlation that waits.
    """

    def __init__(self, measure: Measure, limits: Limits = DEFAULT, *, lag: int = 0) -> None:
        self._measure = measure
        self._limits = limits
        self._lateness = limits.lateness + lag
        self._law = LAWS[measure.kind](measure)
        self._waiting: list[tuple[Moment, Key]] = []
        self._there: set[tuple[int, str, int, Value, Key]] = set()
        self._last: tuple[int, str, int, Value, Key] | None = None
        self._swept: int | None = None
        self.counts: Counter[str] = Counter()
        """`late`, `duplicate` moments, `evicted` groups since the start."""

    @property
    def keep(self) -> int:
        """How long a moment can matter after its time, microseconds."""
        return self._law.keep + self._lateness

    @property
    def groups(self) -> int:
        """Groups that are known; those of which everything still waits are not."""
        return self._law.size[0]

    @property
    def held(self) -> int:
        """Moments that wait, and what is known."""
        return len(self._waiting) + self._law.size[1]

    def needs(self, key: Key, moment: Moment) -> bool:
        """False for a moment that can change nothing any more."""
        place = _place(key, moment)
        late = self._last is not None and place <= self._last
        return not late and place not in self._there and self._law.needs(key, moment)

    def add(self, key: Key, moment: Moment) -> list[Crossing]:
        """Takes one moment; tells nothing yet."""
        place = _place(key, moment)
        if place in self._there:
            self.counts["duplicate"] += 1
        elif self._last is not None and place <= self._last:
            self.counts["late"] += 1
        else:
            self._there.add(place)
            heapq.heappush(self._waiting, (moment, key))
            if len(self._waiting) > self._limits.moments:
                return self._fold_oldest()
        return []

    def advance(self, tide: int, low: int) -> list[Crossing]:
        """Tells how far event time has come; gives what is settled by that.

        Args:
            tide: Newest event time of what is being taken in.
            low: The lowest it was lately; what no moment after it can need is forgotten.
        """
        found = self._fold(tide - self._lateness - 1)
        if self._swept is None or abs(low - self._swept) > self.keep // 16:
            self._swept = low
            self._law.sweep(low - self._lateness)
        return found

    def settled(self, low: int) -> None:
        """Tells that what was over before `low` had its answer."""
        self._law.floor = low - self._lateness - 1

    def finish(self) -> list[Crossing]:
        """Settles everything: no further event is coming."""
        return self._fold(None)

    def _fold(self, horizon: int | None) -> list[Crossing]:
        found: list[Crossing] = []
        while self._waiting and (horizon is None or self._waiting[0][0].time <= horizon):
            found += self._take()
        self._bound()
        return found

    def _fold_oldest(self) -> list[Crossing]:
        """Makes room: a tenth of what waits is judged before its time is over, and counted."""
        count = self._limits.moments // 10 or 1
        self.counts["thinned"] += count
        return [one for _ in range(count) for one in self._take()]

    def _take(self) -> list[Crossing]:
        moment, key = heapq.heappop(self._waiting)
        self._last = _place(key, moment)
        self._there.discard(self._last)
        told = self._law.fold(key, moment)
        if told is None or moment.time <= self._law.floor:
            return []
        amount, value = told
        spell = moment.time // self._measure.span
        return [Crossing(key, moment.time, spell, amount, fresh=True, last=moment, moments=(moment,), value=value)]

    def _bound(self) -> None:
        groups, held = self._law.size
        if groups > self._limits.groups or held > self._limits.moments:
            most = min(self._limits.moments, held * self._limits.groups // max(groups, 1)) * 9 // 10
            self.counts["evicted"] += self._law.evict(most)


def make_window(measure: Measure, limits: Limits = DEFAULT, *, every: bool = False, lag: int = 0) -> Window | Course:
    """What judges a correlation, by its type."""
    if measure.kind.looks_back:
        return Course(measure, limits, lag=lag)
    return Window(measure, limits, every=every, lag=lag)


def _place(key: Key, moment: Moment) -> tuple[int, str, int, Value, Key]:
    return (moment.time, moment.id, moment.part, moment.value, key)
