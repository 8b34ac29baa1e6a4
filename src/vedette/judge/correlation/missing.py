"""Why a correlation is quiet: for each group how near it came, in which window, and which of its rules is missing.

The same windows judge as on the stream, only with the condition opened: then every window tells its amount. A group's
nearest window is the one that lacks least, of equals the last.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from vedette.core.clock import to_iso
from vedette.core.event import Event
from vedette.judge.correlation.correlator import Contribution, Correlator, condition_text
from vedette.judge.correlation.course import Course, make_window
from vedette.judge.correlation.definition import Condition, Correlation, Kind, Measure
from vedette.judge.correlation.moments import Moment
from vedette.judge.correlation.window import Crossing, Key, Window
from vedette.judge.explain import Clause, Lack, Read, RuleExplanation
from vedette.prove.dlp import scrub
from vedette.sense.sources import Source

SHOWN = 10
"""Most events that are named for one rule of a correlation."""
TENANT = "explain"

Near = Mapping[str, RuleExplanation]
"""Rule id -> that rule on the event that came nearest to firing it."""


class Gathering(Correlator):
    """A correlator that keeps what reaches the windows of one correlation, instead of judging it.

    Args:
        correlations: The whole set.
        watched: The one to gather for.
        sources: The known sources.
    """

    def __init__(
        self, correlations: Sequence[Correlation], watched: Correlation, sources: Mapping[str, Source]
    ) -> None:
        super().__init__(correlations, sources)
        self.watched = watched
        self.gathered: dict[Key, list[Moment]] = {}

    def keys(self, event: Event) -> set[Key]:
        """The groups that an event would be in, if all the correlation's rules fired on it."""
        parts = [part.id for part in self.watched.parts]
        return {one.group for one in self.contributions(event, parts) if self._watches(one.correlation)}

    def settle(self, contributions: Iterable[Contribution]) -> None:
        """Takes contributions in event time, and settles every window."""
        for one in sorted(contributions, key=lambda one: one.moment[:3]):
            self.take(TENANT, [one])
            self.advance(TENANT, one.moment.time)
        self.finish(TENANT)

    def _watches(self, name: str) -> bool:
        found = self._correlations[name]
        return (found.id, found.version) == (self.watched.id, self.watched.version)

    def _window(self, tenant: str, name: str) -> Window | Course:
        return _Gathered(self.watched.measure, self.gathered) if self._watches(name) else super()._window(tenant, name)


class _Gathered(Window):
    def __init__(self, measure: Measure, into: dict[Key, list[Moment]]) -> None:
        super().__init__(measure)
        self._into = into

    def add(self, key: Key, moment: Moment) -> list[Crossing]:
        self._into.setdefault(key, []).append(moment)
        return []


@dataclass(frozen=True, slots=True)
class _Nearest:
    """One group's nearest window."""

    group: Key
    end: int
    amount: float
    short: float
    """How much the window lacks; 0 when it meets the condition."""
    fired: bool
    window: list[Moment] = field(repr=False)
    moments: list[Moment] = field(repr=False)
    """Of the whole group."""


def explain_groups(
    correlation: Correlation,
    gathered: Mapping[Key, Sequence[Moment]],
    *,
    near: Near,
    dropped: Mapping[str, int],
    most: int = 3,
) -> Iterator[RuleExplanation]:
    """The groups of a correlation, the nearest first.

    Args:
        correlation: Which.
        gathered: Group -> moments, from `Gathering`.
        near: For the rules of which no event came.
        dropped: Reason -> how often a rule fired and could not be used.
        most: How many groups.
    """
    groups = sorted((_nearest(correlation.measure, key, held) for key, held in gathered.items()), key=_order)
    for one in groups[:most] or [_Nearest((), 0, 0, math.inf, fired=False, window=[], moments=[])]:
        yield _explained(correlation, one, near, dropped)


def _order(one: _Nearest) -> tuple[bool, float, int]:
    return not one.fired, one.short, -one.end


def _nearest(measure: Measure, key: Key, held: Sequence[Moment]) -> _Nearest:
    moments = sorted(held)
    kind = Kind.EVENT_COUNT if measure.kind.looks_back else measure.kind
    opened = msgspec.structs.replace(measure, kind=kind, condition=Condition(gte=-math.inf), patterns=())
    windows = list(_crossings(opened, key, moments))
    if not windows:
        return _Nearest(key, 0, 0, math.inf, fired=False, window=[], moments=moments)
    judged = [(_short(measure, one, within(moments, measure.span, one.end)), -one.end, one.amount) for one in windows]
    short, end, amount = min(judged)
    fired = next(_crossings(measure, key, moments), None)
    end = fired.end if fired else -end
    return _Nearest(
        key,
        end,
        fired.amount if fired else amount,
        0 if fired else short,
        fired=fired is not None,
        window=within(moments, measure.span, end),
        moments=moments,
    )


def _crossings(measure: Measure, key: Key, moments: Sequence[Moment]) -> Iterator[Crossing]:
    window = make_window(measure, every=True)
    for moment in moments:
        yield from window.add(key, moment)
    yield from window.finish()


def within(moments: Sequence[Moment], span: int, end: int) -> list[Moment]:
    """The moments of the window (end - span, end]."""
    return [one for one in moments if end - span < one.time <= end]


def _short(measure: Measure, crossing: Crossing, window: Sequence[Moment]) -> float:
    if measure.patterns:
        there = {one.part for one in window}
        return min(len(pattern.wanted - there) + len(pattern.unwanted & there) for pattern in measure.patterns) or 1
    amount = crossing.amount
    if measure.condition.holds(amount):
        return 0
    return sum(_beyond(name, bound, amount) for name, bound in measure.condition.bounds.items())


def _beyond(name: str, bound: float, amount: float) -> float:
    """How far an amount is from a bound that it does not meet; at least 1 from one that it must pass."""
    if Condition(**{name: bound}).holds(amount):
        return 0
    return max(abs(bound - amount), 0 if name in {"gte", "lte", "eq"} else 1)


def _explained(correlation: Correlation, one: _Nearest, near: Near, dropped: Mapping[str, int]) -> RuleExplanation:
    measure = correlation.measure
    # Where nothing came there is no group, and no value of it.
    named = zip(correlation.group_by, one.group, strict=False)
    by = tuple(Read(name, scrub(value), missing=False) for name, value in named)
    counted = Read(str(measure.kind), one.amount, missing=False)
    when = f", ending {to_iso(one.end)}" if one.window else ""
    parts = tuple(_part(correlation, number, one, near) for number in range(len(correlation.parts)))
    unused = tuple(_unused(correlation, reason, count) for reason, count in dropped.items() if count)
    clause = Clause(
        text=f"{measure.kind} {condition_text(correlation)} within {measure.span // 1_000_000} s{when}",
        result="true" if one.fired else "false",
        values=(*by, counted),
        children=(*parts, *unused),
        kind="all",
    )
    return RuleExplanation(
        correlation.id,
        correlation.title,
        correlation.level.value,
        "fired" if one.fired else "quiet",
        clause,
        () if one.fired else tuple(_lacks(correlation, one, near)),
        one.window[-1].event or one.window[-1].id if one.window else "",
    )


def _part(correlation: Correlation, number: int, one: _Nearest, near: Near) -> Clause:
    """One rule of the correlation: its events in the window, else where it did fire, else how near it came."""
    part = correlation.parts[number]
    here = [moment for moment in one.window if moment.part == number]
    group = sum(moment.part == number for moment in one.moments)
    closest = near.get(part.id)
    return Clause(
        text=f"`{part.name}` fired {len(here)} times in this window, {group} in this group",
        result="true" if here else "false",
        children=(
            *(_event(moment) for moment in here[-SHOWN:]),
            *((_closest(closest),) if closest and not group else ()),
        ),
    )


def _event(moment: Moment) -> Clause:
    counted = (
        (Read("counted", scrub(str(moment.value).replace("\x1f", ", ")), missing=False),)
        if moment.value not in {moment.id, moment.part}
        else ()
    )
    return Clause(f"{moment.source} event `{moment.event or moment.id}` at {to_iso(moment.time)}", "true", counted)


def _closest(shown: RuleExplanation) -> Clause:
    return Clause(f"nearest: event `{shown.event_id}`", "false", children=(shown.clause,))


def _unused(correlation: Correlation, reason: str, count: int) -> Clause:
    what = {
        "ungrouped": f"without {', '.join(correlation.group_by)}, so in no group",
        "unreadable": f"without {', '.join(correlation.field)}, so not counted",
    }.get(reason, reason)
    return Clause(f"{count} events fired a rule {what}", "false")


def _lacks(correlation: Correlation, one: _Nearest, near: Near) -> Iterator[Lack]:
    measure = correlation.measure
    missing = _missing(measure, one)
    if not missing:
        amount = Read(str(measure.kind), one.amount, missing=not one.moments)
        yield Lack((amount,), (f"{measure.kind} {condition_text(correlation)}",))
        return
    for number in missing:
        part = correlation.parts[number]
        times = [moment.time for moment in one.moments if moment.part == number]
        last = Read(f"last time of `{part.name}`", to_iso(max(times)) if times else None, missing=not times)
        order = ", after what stands before it" if measure.kind is Kind.TEMPORAL_ORDERED else ""
        yield Lack((last,), (f"`{part.name}` fires in the same {measure.span // 1_000_000} s{order}",))
        if not times and part.id in near:
            yield from near[part.id].lacks


def _missing(measure: Measure, one: _Nearest) -> list[int]:
    """The rules that did not fire in the window, of a correlation of rules; of an order, those out of it too."""
    if measure.kind not in {Kind.TEMPORAL, Kind.TEMPORAL_ORDERED}:
        seen = {moment.part for moment in one.moments}
        return [] if seen else list(range(measure.parts))
    there = {moment.part for moment in one.window}
    whole = frozenset(range(measure.parts))
    wanted = min((one.wanted for one in measure.patterns), key=lambda parts: len(parts - there), default=whole)
    found = sorted(wanted - there)
    if not found and measure.kind is Kind.TEMPORAL_ORDERED:
        times = Counter({moment.part: moment.time for moment in one.window})
        found = [number for number in range(1, measure.parts) if times[number] < times[number - 1]]
    return found
