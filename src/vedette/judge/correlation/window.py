"""The window of one correlation and tenant: groups of moments in, crossings out. No clock, no file, no randomness."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

from vedette.core.clock import MICROS
from vedette.core.risk import fading, grown
from vedette.judge.correlation.definition import Kind, Measure, Number
from vedette.judge.correlation.moments import Group, Moment, Value, chain, exact
from vedette.judge.correlation.patterns import matched

Key = tuple[str, ...]
"""Values of the `group-by` fields."""

LATENESS = 600 * MICROS
"""How far an event may lie behind the newest one and still count exactly, microseconds."""
GROUPS = 100_000
"""Most groups of one correlation and tenant."""
MOMENTS = 500_000
"""Most moments of one correlation and tenant; 300 to 400 bytes each."""
GROUP_MOMENTS = 10_000
"""Most moments of one group. A threshold above it could never be met and is refused at load."""
SHOWN = 10
"""Most moments that a crossing names."""
SHOWN_SIGNALS = 50
"""Most signals that a crossing of risk names, the newest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one correlation may hold for one tenant, and how late an event may be."""

    lateness: int = LATENESS
    groups: int = GROUPS
    moments: int = MOMENTS
    group_moments: int = GROUP_MOMENTS


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Crossing:
    """A window that meets its condition."""

    group: Key
    end: int
    """Event time of its last moment."""
    spell: int
    """Number of the stretch of event time it ends in."""
    amount: Number
    fresh: bool
    """True for the one of its spell that makes the signal."""
    last: Moment
    """Its last moment."""
    moments: tuple[Moment, ...] = ()
    """Of a fresh one: what made it, the newest of each value, at most `SHOWN`, by time."""
    value: str = ""
    """Of the types that look back: what it is about."""


class Window:
    """Groups of one correlation. Not for several threads at once.

    Args:
        measure: What is counted and when it is enough.
        limits: What it may hold.
        every: Give every window that meets the condition, not only the first of its spell; for chains.
        lag: How much later than the lateness a moment may come, because it is the answer of a correlation that waits.
    """

    def __init__(self, measure: Measure, limits: Limits = DEFAULT, *, every: bool = False, lag: int = 0) -> None:
        self._measure = measure
        self._limits = limits
        self._every = every
        self._lateness = limits.lateness + lag
        self._groups: dict[Key, Group] = {}
        self._summing = measure.kind is Kind.VALUE_SUM
        self._eager = measure.eager
        self._peak = measure.peak
        self._after = measure.span if measure.absent else 0
        self._keep = measure.span + self._lateness + measure.delay
        self._due: list[tuple[int, Key]] = []
        self._tide: int | None = None
        self._swept: int | None = None
        self._floor: int | None = None
        self.held = 0
        """Moments held."""
        self.counts: Counter[str] = Counter()
        """`late`, `duplicate`, `evicted` groups, `thinned` moments since the start."""

    @property
    def keep(self) -> int:
        """How long a moment can matter after its time, microseconds."""
        return self._keep

    @property
    def groups(self) -> int:
        """Groups held."""
        return len(self._groups)

    def add(self, key: Key, moment: Moment) -> list[Crossing]:
        """Takes one moment; gives what it completes."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(self._measure.span, summing=self._summing)
            group.settled = self._floor
        place = group.insert(moment)
        if place is None:
            self.counts["duplicate"] += 1
            return []
        self.held += 1
        if self._tide is not None and moment.time < self._tide - self._lateness:
            self.counts["late"] += 1
        if not self._eager:
            self._schedule(key, moment.time)
            found = []
        elif place == len(group.moments) - 1:
            found = self._newest(key, group)
            # Correlations that wait answer when event time is told; until then nothing goes that they may need.
            over = min(moment.time, self._tide or 0)
            if group.moments[0].time <= over - 2 * self._keep:
                self.held -= group.forget(over - self._keep)
        else:
            found = self._between(key, group, place)
        self._bound(key, group)
        return found

    def advance(self, tide: int, low: int) -> list[Crossing]:
        """Tells how far event time has come; gives what is settled by that, and forgets what no window can need.

        Args:
            tide: Newest event time of what is being taken in. It may go back, as when an older file follows.
            low: The lowest it was lately; groups that ended long before it are forgotten.
        """
        self._tide = tide
        found = self._settle(tide - self._lateness - 1)
        if self._swept is None or abs(low - self._swept) > self._keep // 2:
            self._swept = low
            self.settled(low)
            self._sweep(low)
        return found

    def settled(self, low: int) -> None:
        """Tells that windows over before `low` had their answer: of what they rested on, some is forgotten."""
        self._floor = self._over(low - self._lateness - 1)

    def finish(self) -> list[Crossing]:
        """Settles everything: no further event is coming."""
        return self._settle(None)

    # Rising conditions: at once

    def _newest(self, key: Key, group: Group) -> list[Crossing]:
        moment = group.moments[-1]
        if not self._every and moment.time // self._measure.span in group.done:
            return []
        amount: Number = len(group.live) if group.total is None else _plain(group.total)
        if self._rough and not self._measure.condition.holds(amount):
            return []
        if self._exact:
            amount = self._judged(group.moments[group.head :], moment.time)
            if not self._measure.condition.holds(amount):
                return []
        return [self._crossing(key, group, moment, amount)]

    def _between(self, key: Key, group: Group, place: int) -> list[Crossing]:
        """What a moment completes that lies before others: every window that it is in may have changed."""
        span, moments = self._measure.span, group.moments
        stop = group.first_after(moments[place].time + span - 1)
        if not self._every and all(spell in group.done for spell in {one.time // span for one in moments[place:stop]}):
            return []
        found = []
        for last, amount in self._walk(moments, place, stop):
            if self._measure.condition.holds(amount) and (self._every or last.time // span not in group.done):
                found.append(self._crossing(key, group, last, amount))
        return found

    # Other conditions: when a window is over

    def _schedule(self, key: Key, time: int) -> None:
        span = self._measure.span
        heapq.heappush(self._due, ((time // span + 1) * span if self._peak else time + self._after, key))

    def _over(self, horizon: int) -> int:
        """The last end of a window that has its answer when nothing more can come up to a time."""
        span = self._measure.span
        return horizon // span * span - 1 if self._peak else horizon - self._after

    def _settle(self, horizon: int | None) -> list[Crossing]:
        found: list[Crossing] = []
        ready: dict[Key, None] = {}
        while self._due and (horizon is None or self._due[0][0] <= horizon):
            ready[heapq.heappop(self._due)[1]] = None
        for key in ready:
            group = self._groups.get(key)
            if group is not None:
                found += self._judge(key, group, horizon)
        return found

    def _judge(self, key: Key, group: Group, horizon: int | None) -> list[Crossing]:
        """The windows of a group that are over and not settled yet."""
        span, moments = self._measure.span, group.moments
        end = self._over(moments[-1].time + 2 * span if horizon is None else horizon)
        begin = 0 if group.settled is None else group.first_after(group.settled)
        stop = group.first_after(end)
        ends = self._walk(moments, begin, stop) if begin < stop else iter(())
        holds = self._measure.condition.holds
        found = [
            self._crossing(key, group, last, amount)
            for last, amount in (_peaks(ends, span) if self._peak else ends)
            if holds(amount) and (self._every or last.time // span not in group.done)
        ]
        group.settled = end if group.settled is None else max(group.settled, end)
        self.held -= group.forget(end - self._keep)
        return found

    # Amounts

    def _walk(self, moments: list[Moment], begin: int, stop: int) -> Iterator[tuple[Moment, Number]]:
        """The windows that end at the moments of some places, each with its amount; of equal times one, the last."""
        span = self._measure.span
        low = bisect_left(moments, moments[begin].time - span + 1, key=lambda one: one.time)
        tally = _Tally(self._measure)
        for moment in moments[low:begin]:
            tally.enter(moment.value)
        for place in range(begin, stop):
            moment = moments[place]
            tally.enter(moment.value)
            if place + 1 < len(moments) and moments[place + 1].time == moment.time:
                continue
            while moments[low].time <= moment.time - span:
                tally.leave(moments[low].value)
                low += 1
            amount = tally.amount()
            if self._exact and (self._peak or not self._rough or self._measure.condition.holds(amount)):
                stop_at = place + 1 if not self._after else bisect_left(moments, (moment.time + span,))
                amount = self._judged(moments[low:stop_at], moment.time)
            yield moment, amount

    @property
    def _exact(self) -> bool:
        """True where the number of different values is not the amount itself."""
        return self._measure.kind in {Kind.TEMPORAL_ORDERED, Kind.RISK} or bool(self._measure.patterns)

    @property
    def _rough(self) -> bool:
        """True where the number of different values is at least the amount."""
        return self._measure.kind is not Kind.RISK

    def _judged(self, around: list[Moment], end: int) -> Number:
        if self._measure.kind is Kind.RISK:
            return risk(self._measure, around, end)
        return len(self._matched(around, end) if self._measure.patterns else chain(around, self._measure.parts))

    def _matched(self, around: list[Moment], end: int) -> list[Moment]:
        """The moments of the first alternative that is there."""
        ordered = self._measure.kind is Kind.TEMPORAL_ORDERED
        found = (matched(one, around, end, self._measure.span, ordered=ordered) for one in self._measure.patterns)
        return next(filter(None, found), [])

    def _crossing(self, key: Key, group: Group, last: Moment, amount: Number) -> Crossing:
        spell = last.time // self._measure.span
        fresh = spell not in group.done
        group.done.add(spell)
        shown = self._shown(group, last.time) if fresh else ()
        return Crossing(key, last.time, spell, amount, fresh, last, shown)

    def _shown(self, group: Group, end: int) -> tuple[Moment, ...]:
        window = group.window(end)
        if self._measure.patterns:
            return tuple(self._matched([*window, *group.between(end, end + self._after)], end)[-SHOWN:])
        if self._measure.kind is Kind.TEMPORAL_ORDERED:
            return tuple(chain(window, self._measure.parts)[-SHOWN:])
        if self._measure.kind.numeric:
            return tuple(window[-SHOWN:])
        if self._measure.kind is Kind.RISK:
            return tuple(window[-SHOWN_SIGNALS:])
        return tuple(sorted({moment.value: moment for moment in window}.values())[-SHOWN:])

    # Bounds

    def _bound(self, key: Key, group: Group) -> None:
        limits = self._limits
        if len(group.moments) > limits.group_moments:
            # A tenth more goes than must, so that a busy group is not rebuilt for every moment.
            gone = group.thin(limits.group_moments * 9 // 10)
            self.held -= gone
            self.counts["thinned"] += gone
        if len(self._groups) > limits.groups or self.held > limits.moments:
            if self._tide is not None:
                self._sweep(self._tide)
            self._evict(key)

    def _sweep(self, tide: int) -> None:
        """Forgets the groups that no window can need any more."""
        old = [key for key, group in self._groups.items() if group.moments[-1].time <= tide - self._keep]
        for key in old:
            self.held -= len(self._groups.pop(key).moments)

    def _evict(self, spared: Key) -> None:
        """Makes room for a tenth, from the groups whose last moment is oldest."""
        limits = self._limits
        order = sorted(self._groups, key=lambda key: self._groups[key].moments[-1].time)
        for key in order:
            if len(self._groups) <= limits.groups * 9 // 10 and self.held <= limits.moments * 9 // 10:
                break
            if key != spared:
                self.held -= len(self._groups.pop(key).moments)
                self.counts["evicted"] += 1
        self._due = [entry for entry in self._due if entry[1] in self._groups]
        heapq.heapify(self._due)


def _peaks(ends: Iterator[tuple[Moment, Number]], span: int) -> Iterator[tuple[Moment, Number]]:
    """Of each spell the window with the greatest amount, of equals the first."""
    for _, group in groupby(ends, key=lambda end: end[0].time // span):
        yield max(group, key=lambda end: end[1])


class _Tally:
    """The amount of a window that moves on: values enter and leave."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._counts: dict[Value, int] = {}
        self._total: Fraction | int = 0
        self._size = 0
        self._sorted: list[Number] = []

    def enter(self, value: Value) -> None:
        match self._measure.kind:
            case Kind.VALUE_SUM | Kind.VALUE_AVG:
                self._total += exact(value)
                self._size += 1
            case Kind.VALUE_MEDIAN | Kind.VALUE_PERCENTILE:
                insort(self._sorted, _number(value))
            case _:
                self._counts[value] = self._counts.get(value, 0) + 1

    def leave(self, value: Value) -> None:
        match self._measure.kind:
            case Kind.VALUE_SUM | Kind.VALUE_AVG:
                self._total -= exact(value)
                self._size -= 1
            case Kind.VALUE_MEDIAN | Kind.VALUE_PERCENTILE:
                del self._sorted[bisect_left(self._sorted, _number(value))]
            case _ if self._counts[value] == 1:
                del self._counts[value]
            case _:
                self._counts[value] -= 1

    def amount(self) -> Number:
        match self._measure.kind:
            case Kind.VALUE_SUM:
                return _plain(self._total)
            case Kind.VALUE_AVG:
                return _plain(Fraction(self._total) / self._size)
            case Kind.VALUE_MEDIAN:
                return median(self._sorted)
            case Kind.VALUE_PERCENTILE:
                return percentile(self._sorted, self._measure.percentile)
            case _:
                return len(self._counts)


def risk(measure: Measure, signals: list[Moment], at: int) -> float:
    """Points of signals at a time: by rule those of its number, faded since its newest; two decimals.

    More signals only add. The parts are summed exactly, so that no order of theirs shows.
    """
    newest = {one.value: one.time for one in signals}
    counts = Counter(one.value for one in signals)
    weights, half_life = measure.weights, measure.knobs.half_life
    parts = [
        grown(weights[rule].points, count) * fading(at - newest[rule], half_life)
        for rule, count in counts.items()
        if isinstance(rule, str) and rule in weights
    ]
    return round(math.fsum(parts), 2)


def median(ordered: list[Number]) -> Number:
    """The middle of sorted numbers; of an even count the mean of the two in the middle."""
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return _plain((Fraction(ordered[middle - 1]) + Fraction(ordered[middle])) / 2)


def percentile(ordered: list[Number], wanted: Number) -> Number:
    """The smallest of sorted numbers that at least `wanted` per cent do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(Fraction(wanted) * len(ordered) / 100) - 1)]


def _exact(value: Value) -> Fraction | int:
    return value if isinstance(value, int) else Fraction(value)


def _number(value: Value) -> Number:
    if isinstance(value, str):
        raise TypeError(value)
    return value


def _plain(value: Fraction | int) -> Number:
    whole = Fraction(value)
    return whole.numerator if whole.denominator == 1 else float(whole)
