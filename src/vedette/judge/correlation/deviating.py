"""Amounts of a stretch of time that are far above what is usual, of the entity itself and of its peers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from vedette.judge.correlation.definition import Measure
from vedette.judge.correlation.moments import Moment, Value
from vedette.judge.correlation.usual import Key, Law

PEERS = 20
"""Fewest active stretches of others from which what is usual for peers is known."""


class Deviation(Law):
    """Amounts of a stretch of time, against those of the stretches before."""

    def __init__(self, measure: Measure) -> None:
        super().__init__(measure)
        self._step = 0
        self._now: dict[Key, set[Value]] = {}
        self._past: dict[Key, dict[int, int]] = {}
        self._peers: dict[int, Counter[int]] = {}
        self._told: set[Key] = set()
        self.keep = measure.span * (measure.knobs.baseline + 1)

    def fold(self, key: Key, moment: Moment) -> tuple[float, str] | None:
        """The least deviation of those that are known, and the amount. Once for a group and stretch."""
        self._begin(moment.time // self.measure.span)
        values = self._now.setdefault(key, set())
        values.add(moment.value)
        knobs = self.measure.knobs
        if len(values) < knobs.least or key in self._told or moment.time <= self.floor:
            return None
        usual = [one for one in (self._own(key), self._others()) if one]
        score = min((deviation(len(values), one) for one in usual), default=0.0)
        if not usual or not self.measure.condition.holds(score):
            return None
        self._told.add(key)
        return round(score, 3), str(len(values))

    def _own(self, key: Key) -> list[int]:
        """What the group had in each stretch of the baseline since it is known; empty while it is learnt."""
        knobs, past = self.measure.knobs, self._past.get(key, {})
        oldest = self._step - knobs.baseline
        first = min((step for step in past if step >= oldest), default=self._step)
        known = self._step - first
        if not known or known * self.measure.span < knobs.learn:
            return []
        return [past.get(step, 0) for step in range(first, self._step)]

    def _others(self) -> list[int]:
        """What groups had in the stretches of the baseline in which they did anything; empty when those are few."""
        oldest = self._step - self.measure.knobs.baseline
        total: Counter[int] = Counter()
        for step, counts in self._peers.items():
            if step >= oldest:
                total.update(counts)
        return sorted(total.elements()) if total.total() >= PEERS else []

    def _begin(self, step: int) -> None:
        if step == self._step:
            return
        for key, values in self._now.items():
            self._past.setdefault(key, {})[self._step] = len(values)
            self._peers.setdefault(self._step, Counter())[len(values)] += 1
        self._now, self._told, self._step = {}, set(), step

    def sweep(self, time: int) -> None:
        """Forgets stretches before the baseline."""
        oldest = time // self.measure.span - self.measure.knobs.baseline
        self._peers = {step: counts for step, counts in self._peers.items() if step >= oldest}
        kept = {key: {s: n for s, n in past.items() if s >= oldest} for key, past in self._past.items()}
        self._past = {key: past for key, past in kept.items() if past}

    def evict(self, most: int) -> int:
        """The groups seen longest ago go first; of the present stretch none goes."""
        gone, held = 0, self.size[1]
        for key in sorted(self._past, key=lambda one: max(self._past[one])):
            if held <= most:
                break
            held -= len(self._past.pop(key))
            gone += 1
        return gone

    @property
    def size(self) -> tuple[int, int]:
        """Groups, and amounts and values of all of them."""
        held = sum(map(len, self._past.values())) + sum(map(len, self._now.values()))
        return len(self._past.keys() | self._now.keys()), held


def deviation(amount: float, usual: Sequence[int]) -> float:
    """How far an amount is above what is usual, in spreads.

    The spread is 1.4826 times the median distance from the median, but at least the root of the median and at least 1:
    a group that always has the same amount is not surprising with one more.
    """
    middle = median_of(usual)
    spread = 1.4826 * median_of(sorted(abs(one - middle) for one in usual))
    return (amount - middle) / max(spread, math.sqrt(middle), 1.0)


def median_of(numbers: Sequence[float]) -> float:
    """The middle of numbers; of an even count the mean of the two in the middle."""
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
