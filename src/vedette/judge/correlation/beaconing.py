"""Groups that come again at nearly even intervals, to a place where few others go."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from vedette.judge.correlation.definition import Measure
from vedette.judge.correlation.deviating import median_of
from vedette.judge.correlation.moments import Moment
from vedette.judge.correlation.usual import STEPS, Key, Law, Spread

BEATS = 120
"""Newest beats of a group that beaconing looks at."""
MISSED = 4
"""Beats in a row that may be missing; a longer gap is a pause, such as a machine that sleeps."""
LASTING = 60
"""The beats last at least this part of the timespan: a page that loads is even too, for some seconds."""
EVEN, FITTING, PAUSES = 0.5, 0.85, 0.1
"""Least share of intervals of one beat, least share of intervals of one to `MISSED` beats, most share of pauses."""
FEW = 2
"""A place that so many go to is not common yet, whatever their share."""


class Beaconing(Law):
    """Groups that come again at nearly even intervals."""

    def __init__(self, measure: Measure) -> None:
        super().__init__(measure)
        self._grain = max(1, measure.span // STEPS)
        self._beats: dict[Key, deque[int]] = {}
        self._last: dict[Key, int] = {}
        self._places: dict[str, Spread] = {}
        self._sources = Spread()
        self._told: dict[Key, int] = {}
        self.keep = measure.span + self._grain + measure.knobs.burst

    def fold(self, key: Key, moment: Moment) -> tuple[float, str] | None:
        """The number of beats, and the period in seconds. Once for a group in each timespan."""
        step, span, knobs = moment.time // self._grain, self.measure.span, self.measure.knobs
        place = self._places.setdefault(key[-1], Spread())
        place.add(key[:-1], step)
        self._sources.add(key[:-1], step)
        before, self._last[key] = self._last.get(key), moment.time
        if before is not None and moment.time - before < knobs.burst:
            return None
        beats = self._beats.setdefault(key, deque(maxlen=BEATS))
        beats.append(moment.time)
        while beats[0] <= moment.time - span:
            beats.popleft()
        if self._told.get(key) == moment.time // span or not self.measure.condition.holds(len(beats)):
            return None
        if (beats[-1] - beats[0]) * LASTING < span or moment.time <= self.floor:
            return None
        others = place.count(step)
        if others > FEW and 100 * others > knobs.spread * self._sources.count(step):
            return None
        period = even(list(beats), knobs.jitter / 100)
        if period is None:
            return None
        self._told[key] = moment.time // span
        return len(beats), f"{period / 1_000_000:.0f} s"

    def sweep(self, time: int) -> None:
        """Forgets who came longer than a timespan ago."""
        oldest = time // self._grain - STEPS
        for name in list(self._places):
            self._places[name].sweep(oldest)
            if not self._places[name].last:
                del self._places[name]
        self._sources.sweep(oldest)
        for key in [key for key, last in self._last.items() if last <= time - self.keep]:
            self._forget(key)

    def evict(self, most: int) -> int:
        """The groups seen longest ago go first."""
        gone, held = 0, self.size[1]
        for key in sorted(self._last, key=self._last.__getitem__):
            if held <= most:
                break
            held -= 1 + len(self._beats.get(key, ()))
            self._forget(key)
            gone += 1
        return gone

    def _forget(self, key: Key) -> None:
        del self._last[key]
        self._beats.pop(key, None)
        self._told.pop(key, None)

    @property
    def size(self) -> tuple[int, int]:
        """Groups, and beats of all of them."""
        return len(self._last), len(self._last) + sum(map(len, self._beats.values()))


def even(beats: Sequence[int], jitter: float) -> float | None:
    """The period of nearly even beats; None when they are not.

    An interval fits when it is one to `MISSED` periods long, give or take the jitter (times the root of their number:
    chance adds up so). At least half must be of one period and `FITTING` must fit. Longer ones are pauses, of which
    there may be few. Chance traffic has less than a third of its intervals about their median, so it never gets there.
    """
    gaps = [later - earlier for earlier, later in pairwise(beats)]
    if not gaps:
        return None
    period = median_of(gaps)
    near = [gap for gap in gaps if abs(gap - period) <= jitter * period]
    if len(near) < EVEN * len(gaps):
        return None
    period = sum(near) / len(near)
    kept = [gap for gap in gaps if gap <= (MISSED + 0.5) * period]
    if len(gaps) - len(kept) > PAUSES * len(gaps):
        return None
    fits = sum(_fits(gap, period, jitter) for gap in kept)
    once = sum(abs(gap - period) <= jitter * period for gap in kept)
    return period if fits >= FITTING * len(kept) and once >= EVEN * len(kept) else None


def _fits(gap: int, period: float, jitter: float) -> bool:
    count = round(gap / period)
    return count >= 1 and abs(gap - count * period) <= jitter * period * math.sqrt(count)
