"""Extended conditions: which rules must fire together, and which must not.

A condition of `and`, `or` and `not` is a list of alternatives, each a `Pattern`. The specification does not say when it
is known that a rule does *not* fire. Our law: events of the wanted rules count when **no stretch as long as the
timespan that holds them all holds an event of an unwanted rule**. So for events from s to e an unwanted one counts
against them from e - timespan to s + timespan, both ends left out: before them and after. It is told when that is over.

With `temporal_ordered` the place of a rule in `rules` says where it must not fire: between its neighbours in that
order, for a timespan before the first, or for a timespan after. One at the same time as a neighbour stands between.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import msgspec

from vedette.judge.correlation.moments import Moment


class Pattern(msgspec.Struct, frozen=True):
    """One alternative of an extended condition."""

    wanted: frozenset[int]
    """Parts that must all be there; not empty."""
    unwanted: frozenset[int] = frozenset()
    """Parts that must not."""

    def within(self, other: Pattern) -> bool:
        """True when it is there wherever the other is.

        More wanted parts move the ends from which unwanted ones count, so with those only equals compare.
        """
        if self.unwanted:
            return self.wanted == other.wanted and self.unwanted <= other.unwanted
        return self.wanted <= other.wanted


def matched(pattern: Pattern, around: list[Moment], end: int, span: int, *, ordered: bool) -> list[Moment]:
    """Moments of a window that make a pattern; none when it is not there.

    Args:
        pattern: What is asked for. With unwanted parts, the last of its moments is at `end`.
        around: By time: those of the window, and of the timespan after it where parts are unwanted.
        end: Of the window, event time.
        span: The timespan.
        ordered: Whether moments must come in the order of their parts.
    """
    window = [one for one in around if one.time <= end]
    if not pattern.wanted <= {one.part for one in window}:
        return []
    if ordered:
        return _in_order(pattern, around, end, span)
    return _together(pattern, around, end, span) if pattern.unwanted else _newest(pattern, window)


def _newest(pattern: Pattern, window: list[Moment]) -> list[Moment]:
    return sorted({one.part: one for one in window if one.part in pattern.wanted}.values())


def _together(pattern: Pattern, around: list[Moment], end: int, span: int) -> list[Moment]:
    earliest: dict[int, Moment] = {}
    last: dict[int, Moment] = {}
    for one in around:
        if one.part in pattern.wanted and one.time <= end:
            earliest.setdefault(one.part, one)
            if one.time == end:
                last[one.part] = one
    # One of them ends the window; the others begin as early as they can, which leaves least room after them.
    ways = [{**earliest, part: one} for part, one in last.items()]
    chosen = min((sorted(way.values()) for way in ways), key=lambda way: way[0].time, default=[])
    if not chosen or any(one.part in pattern.unwanted and one.time < chosen[0].time + span for one in around):
        return []
    return chosen


class _Link(NamedTuple):
    """A chain: when it began, and its last moment."""

    begin: int
    moment: Moment
    before: _Link | None

    def whole(self) -> Iterator[Moment]:
        """Its moments, the last first."""
        link: _Link | None = self
        while link:
            yield link.moment
            link = link.before


def _in_order(pattern: Pattern, around: list[Moment], end: int, span: int) -> list[Moment]:
    """The chain of the wanted parts that begins first, where nothing unwanted stands in its place."""
    order = sorted(pattern.wanted)
    gaps = {part: sum(part > one for one in order) for part in pattern.unwanted}
    # Of each part the two chains of different events that began first: neighbours are of different events.
    held: list[list[_Link]] = [[] for _ in order]
    blocked = False
    found: _Link | None = None
    for time, group in groupby((one for one in around if one.time <= end), key=lambda one: one.time):
        now = list(group)
        cut = {gaps[one.part] for one in now if one.part in gaps}
        blocked = blocked or 0 in cut
        for place, part in enumerate(order):
            if place in cut and place:
                held[place - 1] = []
            for moment in (one for one in now if one.part == part):
                link = _link(held[place - 1] if place else None, moment, blocked=blocked)
                if link and place == len(order) - 1 and (time == end or not pattern.unwanted):
                    found = link if found is None or link.begin < found.begin else found
                elif link and place + 1 not in cut:
                    held[place] = _kept([*held[place], link])
    if found is None:
        return []
    after = {part for part, gap in gaps.items() if gap == len(order)}
    if any(one.part in after and end <= one.time < found.begin + span for one in around):
        return []
    return list(found.whole())[::-1]


def _link(before: list[_Link] | None, moment: Moment, *, blocked: bool) -> _Link | None:
    """The chain that a moment goes on with; `before` is None for the first part."""
    if before is None:
        return None if blocked else _Link(moment.time, moment, None)
    link = next((one for one in before if one.moment.id != moment.id), None)
    return _Link(link.begin, moment, link) if link else None


def _kept(links: list[_Link]) -> list[_Link]:
    ordered = sorted(links, key=lambda one: one.begin)
    first = ordered[0]
    second = next((one for one in ordered if one.moment.id != first.moment.id), None)
    return [first, second] if second else [first]
