"""A rule set over stored events: the signals that the stream gives for them, with the same ids.

Rules on single events are judged span by span, in any order. Correlations are judged over all that the spans brought,
in event time; they need events from before the span that is asked for (`Reach.back`), and those that answer only when
a window is over need events from after it (`Reach.ahead`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vedette.core.signal import Signal
from vedette.judge.correlation.correlator import Contribution, Correlator
from vedette.judge.sigma.history import Engine, make_judge
from vedette.run.pipeline.detection import Detection
from vedette.run.pipeline.rollout import Edition, Pair
from vedette.sense.history import Span
from vedette.sense.store import Store

_STEP = 1_000
"""Contributions between two looks at what is settled."""


class Reach(NamedTuple):
    """How far beyond a span correlations must read, microseconds; 0 without correlations."""

    back: int
    ahead: int


class Judged(NamedTuple):
    """What the rules say of one span of one source."""

    events: int
    """Events that a rule fired on."""
    signals: list[Signal]
    contributions: list[Contribution]


class History:
    """Rules over the event store. Not for several threads at once.

    Args:
        store: The event store.
        detection: What to look for.
        engine: What judges single events.
        threads: Most threads of the SQL engine.

    Raises:
        UnsupportedError: `sql.rules.refused`.
    """

    def __init__(
        self, store: Store, detection: Detection, *, engine: Engine = Engine.MATCHER, threads: int = 2
    ) -> None:
        self._store = store
        self._detection = detection
        self._judge = make_judge(engine, detection.rules, detection.sources, threads=threads)

    @property
    def reach(self) -> Reach:
        """How far correlations read beyond what is asked for."""
        return reach(self._detection)

    def sources(self) -> list[str]:
        """The sources that have a table and rules."""
        return [name for name in self._store.names() if name in self._detection.sources and self._detection.reads(name)]

    def judge(self, tenant: str, source: str, span: Span) -> Judged:
        """What rules on single events say of a span, signals and contributions in the order of event time."""
        held = self._store.rows(tenant, source, span.start, span.end)
        signals: list[Signal] = []
        contributions: list[Contribution] = []
        events = 0
        for event, placed in self._judge.fired(source, held) if held else ():
            told, brought = self._detection.told(event, placed)
            events += 1
            signals += told
            contributions += brought
        signals.sort(key=lambda one: (one.event_time, one.id))
        contributions.sort(key=_moment)
        return Judged(events, signals, contributions)

    def correlate(self, tenant: str, contributions: Iterable[Contribution], span: Span) -> Iterator[Signal]:
        """The correlations' signals of a span.

        Args:
            tenant: Whose.
            contributions: Of the span and its reach, in the order of event time.
            span: Signals of other times are left out: they belong to the spans beside it.
        """
        correlator = Correlator(self._detection.rules.correlations, self._detection.sources)
        for signal in _correlated(correlator, tenant, contributions):
            if span.start <= signal.event_time < span.end:
                yield signal


class Staged:
    """The rules of an edition over the event store: `History`, but what is on trial counts as its stage says."""

    def __init__(self, store: Store, edition: Edition, *, engine: Engine = Engine.MATCHER, threads: int = 2) -> None:
        self._edition = edition
        self._sets = [History(store, one, engine=engine, threads=threads) for one in edition.sets]

    def judge(self, tenant: str, source: str, span: Span) -> Judged:
        """What rules on single events say of a span; see `History.judge`."""
        live, *others = (one.judge(tenant, source, span) for one in self._sets)
        if not others:
            return live
        (tried,) = others
        signals = sorted(self._edition.passed(live.signals, tried.signals), key=lambda one: (one.event_time, one.id))
        contributions = sorted([*live.contributions, *tried.contributions], key=_moment)
        return Judged(max(live.events, tried.events), signals, contributions)

    def correlate(self, tenant: str, contributions: Iterable[Contribution], span: Span) -> Iterator[Signal]:
        """The correlations' signals of a span; see `History.correlate`."""
        correlator = self._edition.correlator
        correlator.clear()
        return (
            one for one in _correlated(correlator, tenant, contributions) if span.start <= one.event_time < span.end
        )


def reach(*sets: Detection) -> Reach:
    """How far the correlations of some sets of rules read beyond a span."""
    each = [_reach(one) for one in sets]
    return Reach(max((one.back for one in each), default=0), max((one.ahead for one in each), default=0))


def _reach(detection: Detection) -> Reach:
    correlations = detection.rules.correlations
    if not correlations:
        return Reach(0, 0)
    keep = detection.correlator.keep
    late = any(not one.measure.eager for one in correlations)
    # A spell that begins before the span has its answer there, so that the look-back holds that spell's windows too.
    return Reach(keep + max(one.measure.span for one in correlations), keep if late else 0)


def widened(span: Span, by: Reach) -> Span:
    """A span with its reach."""
    return Span(span.start - by.back, span.end + by.ahead)


def _correlated(correlator: Correlator | Pair, tenant: str, contributions: Iterable[Contribution]) -> Iterator[Signal]:
    newest = 0
    for number, one in enumerate(contributions, 1):
        yield from correlator.take(tenant, [one])
        newest = one.moment.time
        if number % _STEP == 0:
            yield from correlator.advance(tenant, newest)
    yield from correlator.finish(tenant)


def _moment(one: Contribution) -> tuple[int, str, int]:
    return one.moment.time, one.moment.id, one.moment.part
