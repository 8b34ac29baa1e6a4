"""Moments of one group, kept in event time, with the amount of the newest window at hand."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from fractions import Fraction
from typing import NamedTuple

Value = str | int | float


class Moment(NamedTuple):
    """A rule that fired on an event, as far as a correlation needs it."""

    time: int
    """Event time, microseconds UTC."""
    id: str
    """Of the event; of the signal where the rule is a correlation."""
    part: int
    """Which of the correlation's rules fired."""
    value: Value
    """What is counted or calculated with: the event's id, the field's value, the part."""
    source: str = ""
    seq: int = 0
    """Place of the event in the log, or of the record in its file; 0 where there is none."""
    event: str = ""
    """Id of the event where `id` is that of a signal; else empty."""


class Group:
    """Moments of one group. Adding one behind all others is cheap; one in between costs what follows it."""

    __slots__ = ("done", "head", "live", "moments", "settled", "span", "total")

    def __init__(self, span: int, *, summing: bool) -> None:
        self.span = span
        self.moments: list[Moment] = []
        """By time, then event id, part and value."""
        self.head = 0
        """First moment of the newest window."""
        self.live: dict[Value, int] = {}
        """Value -> its moments in the newest window; empty while summing."""
        self.total: Fraction | int | None = 0 if summing else None
        """Sum over the newest window, exact; None when nothing is summed."""
        self.done: set[int] = set()
        """Spells that have their answer."""
        self.settled: int | None = None
        """Windows that end here or before are settled."""

    def insert(self, moment: Moment) -> int | None:
        """Adds a moment; gives its place, or None when it is there already."""
        moments = self.moments
        if not moments or moments[-1][:4] < moment[:4]:
            moments.append(moment)
            self._enter(moment)
            self._leave(moment.time - self.span)
            return len(moments) - 1
        place = bisect_left(moments, moment[:4])
        if place < len(moments) and moments[place][:4] == moment[:4]:
            return None
        moments.insert(place, moment)
        if moment.time > moments[-1].time - self.span:
            self._enter(moment)
        else:
            self.head += 1
        return place

    def _enter(self, moment: Moment) -> None:
        if self.total is None:
            self.live[moment.value] = self.live.get(moment.value, 0) + 1
        else:
            self.total += exact(moment.value)

    def _leave(self, until: int) -> None:
        moments, head = self.moments, self.head
        while moments[head].time <= until:
            value = moments[head].value
            if self.total is not None:
                self.total -= exact(value)
            elif self.live[value] == 1:
                del self.live[value]
            else:
                self.live[value] -= 1
            head += 1
        self.head = head

    def first_after(self, time: int) -> int:
        """Place of the first moment after a time."""
        return bisect_right(self.moments, time, key=_time)

    def window(self, end: int) -> list[Moment]:
        """The moments of the window that ends at a time."""
        return self.between(end - self.span, end)

    def between(self, begin: int, end: int) -> list[Moment]:
        """The moments after one time, up to another."""
        return self.moments[self.first_after(begin) : self.first_after(end)]

    def forget(self, until: int) -> int:
        """Drops the moments up to a time that stand before the newest window; gives how many."""
        count = min(self.first_after(until), self.head)
        if count:
            del self.moments[:count]
            self.head -= count
            oldest = self.moments[0].time // self.span
            self.done = {spell for spell in self.done if spell >= oldest}
        return count

    def thin(self, most: int) -> int:
        """Keeps the newest moment of each value, then the newest, at most `most`; gives how many went."""
        before = len(self.moments)
        newest = {} if self.total is not None else {moment.value: moment for moment in self.moments}
        spare = most - min(len(newest), most)
        chosen = set(sorted(newest.values())[-most:])
        others = [moment for moment in self.moments if moment not in chosen]
        self._rebuild(sorted([*chosen, *(others[-spare:] if spare else ())]))
        return before - len(self.moments)

    def _rebuild(self, moments: list[Moment]) -> None:
        self.moments, self.head, self.live = moments, 0, {}
        self.total = None if self.total is None else 0
        for moment in moments:
            self._enter(moment)
        self._leave(moments[-1].time - self.span)


def exact(value: Value) -> Fraction | int:
    """A number that adds up without rounding."""
    return value if isinstance(value, int) else Fraction(value)


def _time(moment: Moment) -> int:
    return moment.time


class _Link(NamedTuple):
    """The last moment of a chain, and the chain before it."""

    length: int
    moment: Moment
    before: _Link | None


def chain(moments: list[Moment], parts: int) -> list[Moment]:
    """The longest chain of moments whose parts rise and whose times do not go back.

    Moments of equal time may stand in any order; neighbours are of different events.

    Args:
        moments: Of one window.
        parts: How many parts there are; each moment's `part` is below it.
    """
    # For each part the longest chain that ends in it, and the longest whose last event is another one: a moment of the
    # first one's event goes on from the second.
    best: list[tuple[_Link, _Link | None] | None] = [None] * parts
    for moment in sorted(moments, key=lambda one: (one.time, one.part)):
        before: _Link | None = None
        for held in best[: moment.part]:
            if held is None:
                continue
            link = held[0] if held[0].moment.id != moment.id else held[1]
            if link and (before is None or link.length > before.length):
                before = link
        new = _Link(before.length + 1 if before else 1, moment, before)
        best[moment.part] = _kept(best[moment.part], new)
    ends = [held[0] for held in best if held]
    last: _Link | None = max(ends, key=lambda link: link.length, default=None)
    found: list[Moment] = []
    while last:
        found.append(last.moment)
        last = last.before
    return found[::-1]


def _kept(held: tuple[_Link, _Link | None] | None, new: _Link) -> tuple[_Link, _Link | None]:
    if held is None:
        return new, None
    first, second = held
    if new.moment.id == first.moment.id:
        return (new if new.length > first.length else first), second
    if new.length > first.length:
        return new, first
    return first, (new if second is None or new.length > second.length else second)
