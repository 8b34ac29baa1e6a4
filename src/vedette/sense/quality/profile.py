"""The profile of one source of one tenant: what is usual, and what is not as usual now.

Records are taken in windows of ingest time: one is over with the first record that comes `WINDOW` after its start and
finds at least `ENOUGH` records in it. Of a window the first 256 records are looked at whole, then every second, fourth,
eighth, ... so that a window costs little however busy it is, and the same records are looked at in every replay.

Nothing but silence is told before `LEARNING` since the source's first record.

**Skewed clock.** The lag of a record is ingest time minus event time. A window whose median lag is outside of what the
windows of the last week had, by their whole range or by `SKEW` (the larger), may be skewed; two such windows in a row
are. A window whose event times reach over more than `PACE` times the ingest time since the window before is history
being read, and tells nothing about a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.clock import DAY, MICROS
from vedette.sense.paths import Reader
from vedette.sense.quality.days import Days
from vedette.sense.quality.rhythm import Rhythm
from vedette.sense.quality.shape import Shape

WINDOW = 300 * MICROS
ENOUGH = 50
"""Records of a window at least."""
WHOLE = 256
"""Records at the start of a window that are all looked at."""
LEARNING = DAY
WINDOWS = 12
"""Windows that must be known before a clock is judged."""
SKEW = 120 * MICROS
PACE = 3
FORGET = 7 * DAY
"""What goes on for so long is what is usual from then on."""
MAX_FIELDS = 256
"""Most fields of a source that are watched."""

_SPARED = WHOLE.bit_length() - 1

Arrival = tuple[int, int, bytes]
"""Ingest time and event time, microseconds UTC, and the record as it was sent."""


class Kind(StrEnum):
    """What can be wrong with a source."""

    SILENT = "silent"
    SKEWED = "skewed"
    TYPE = "type"
    DROPPED = "dropped"


class Problem(msgspec.Struct, frozen=True, order=True):
    """Something about a source that is not as usual."""

    source: str
    kind: Kind
    field: str = ""
    """Of `type` and `dropped`."""
    since: int = 0
    """Microseconds UTC: of a silence, the last record; else the start of the first window that shows it."""
    told: int = 0
    """When it was noticed, microseconds UTC."""
    said: str = ""
    """What was found, for people."""


class Profile(msgspec.Struct):
    """State of one source. Not for several threads."""

    source: str
    rhythm: Rhythm = msgspec.field(default_factory=Rhythm)
    lags: Days = msgspec.field(default_factory=Days)
    """Median lag by window, microseconds."""
    shapes: dict[str, Shape] = {}
    problems: dict[str, Problem] = {}
    """By kind and field; those that go on."""
    records: int = 0
    """Taken in all."""
    start: int = 0
    """Of the window in hand, microseconds UTC."""
    count: int = 0
    """Records in it."""
    looked: int = 0
    """Of these, looked at whole."""
    times: list[tuple[int, int]] = []
    """(ingest time, event time) of those."""
    before: int = 0
    """Start of the window before; 0 without one."""
    suspect: int = 0
    """Start of the window before, when its clock seemed skewed; else 0."""

    def take(
        self, arrivals: Iterable[Arrival], decode: Callable[[bytes], dict[str, Any]], fields: Mapping[str, Reader]
    ) -> Iterator[Problem]:
        """Takes records in the order in which they came; gives what they make known.

        Args:
            arrivals: An ingest time before the last counts as the last.
            decode: Gives a record's fields; called only for those that are looked at.
            fields: The fields to watch, at most `MAX_FIELDS`.
        """
        rhythm, looked = self.rhythm, list[dict[str, Any]]()
        for ingest, event, raw in arrivals:
            now = max(ingest, rhythm.last)
            rhythm.take(now, silent=self.problems.pop(Kind.SILENT, None) is not None)
            self.records += 1
            if not self.start:
                self.start = now
            elif now >= self.start + WINDOW and self.count >= ENOUGH:
                self._look(looked, fields)
                looked.clear()
                yield from self._close(now, fields)
            self.count += 1
            if self.count <= WHOLE or self.count % (1 << (self.count.bit_length() - _SPARED)) == 0:
                self.times.append((now, event))
                looked.append(decode(raw))
        self._look(looked, fields)

    def _look(self, records: Sequence[dict[str, Any]], fields: Mapping[str, Reader]) -> None:
        """Looks at records whole, field by field: each is there, and of a type, so and so often."""
        self.looked += len(records)
        for name, read in fields.items() if records else ():
            self.shapes.setdefault(name, Shape()).take([read(record) for record in records])

    def quiet(self, now: int, *, since: int, stated: int = 0) -> Problem | None:
        """The silence that a moment makes known; None when there is none, or it is known already.

        Args:
            now: Microseconds UTC.
            since: Since when we have listened: what we did not hear before is no silence of the source.
            stated: How long the source's file says it may be quiet, microseconds; 0: as it is wont to.
        """
        last = self.rhythm.last
        limit = stated or self.rhythm.limit(now)
        if Kind.SILENT in self.problems or not last or limit is None or now - max(last, since) <= limit:
            return None
        said = (
            f"nothing came for {_span(now - last)}; at this time of the week {_span(limit)} is the most it may be quiet"
        )
        found = Problem(self.source, Kind.SILENT, since=last, told=now, said=said)
        self.problems[Kind.SILENT] = found
        return found

    def forget(self, fields: Collection[str]) -> None:
        """Drops what is known of fields that are watched no more, once there are as many of them as may be watched."""
        if len(self.shapes) > len(fields) + MAX_FIELDS:
            self.shapes = {name: shape for name, shape in self.shapes.items() if name in fields}

    def _close(self, now: int, fields: Iterable[str]) -> Iterator[Problem]:
        """Judges the window in hand, learns from it, and starts the next."""
        known = self.start - self.rhythm.first >= LEARNING
        yield from self._clock(now, known=known)
        for name in fields:
            shape = self.shapes.setdefault(name, Shape())
            yield from self._field(name, shape, now, known=known)
            shape.now = {}
        self.before, self.start, self.count, self.looked, self.times = self.start, now, 0, 0, []

    def _clock(self, now: int, *, known: bool) -> Iterator[Problem]:
        lags = sorted(ingest - event for ingest, event in self.times)
        median = lags[len(lags) // 2]
        held = self.problems.get(Kind.SKEWED)
        room = max(SKEW, self.lags.high - self.lags.low)
        off = median > self.lags.high + room or median < self.lags.low - room
        if known and self.lags.count >= WINDOWS and off and not (held and now - held.since > FORGET):
            if self._history():
                return
            before, self.suspect = self.suspect, self.suspect or self.start
            if held is None and before:
                wont = (self.lags.low + self.lags.high) / 2
                order = "before" if median > 0 else "after"
                said = f"its clock says {_span(median)} {order} ours, as a rule {_span(wont)}"
                yield from self._tell(Problem(self.source, Kind.SKEWED, "", before, now, said))
            return
        self.suspect = 0
        self.problems.pop(Kind.SKEWED, None)
        if not self._history():
            self.lags.take(self.start, median)

    def _history(self) -> bool:
        events = sorted(event for _, event in self.times)
        tenth = len(events) // 10
        # A file an hour hurries within its window; from one window to the next it keeps the clock's pace.
        since = self.before or self.times[0][0]
        return events[-1 - tenth] - events[tenth] > PACE * (self.times[-1][0] - since) + 60 * MICROS

    def _field(self, name: str, shape: Shape, now: int, *, known: bool) -> Iterator[Problem]:
        fresh = shape.fresh() if known else ""
        found: dict[Kind, str] = {}
        if fresh:
            found[Kind.TYPE] = f"`{name}` is {fresh}, and was {shape.usual()}"
        if known and shape.dropped(self.looked):
            share = 100 * shape.shares.low
            found[Kind.DROPPED] = f"`{name}` is gone from {self.looked} records; at least {share:.0f} % had it"
        for kind in (Kind.TYPE, Kind.DROPPED):
            held = self.problems.get(f"{kind}:{name}")
            if kind not in found:
                self.problems.pop(f"{kind}:{name}", None)
            elif held is None:
                yield from self._tell(Problem(self.source, kind, name, self.start, now, found[kind]))
            elif now - held.since > FORGET:
                found.clear()
                shape.types, shape.shares = {}, Days()
                self.problems.pop(f"{kind}:{name}")
        if found:
            shape.held = None
        else:
            shape.learn(self.start, self.looked)

    def _tell(self, problem: Problem) -> Iterator[Problem]:
        self.problems[f"{problem.kind}:{problem.field}" if problem.field else problem.kind] = problem
        yield problem


def _span(micros: float) -> str:
    """A time span in words, by its largest unit."""
    seconds = abs(micros) / MICROS
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
