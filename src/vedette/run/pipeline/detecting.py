"""The stages that run Sigma rules over events and decisions of the log and write what fired to topic `signal`.

Rules on single events are judged event by event. What they bring to correlations goes on to the correlator, whose
moments are kept in a journal. Order of one batch: signals are appended, the journal is written, the place moves. Killed
anywhere in between, the batch is read again and gives the same signals with the same ids, which alerts count once: by
the same edition of the rules too, see `run.pipeline.rollout`.

**Quiet streams.** Event time goes on with what arrives. Where nothing came of a tenant for `IDLE_S` and nothing is left
to read, it goes on with the clock, from the tenant's newest event: so the last window of a source that fell silent has
its answer too. Such a tick is in the journal like a batch. What comes later and is older is late, as it would be behind
newer events. A time in which nobody ran is no quiet of anyone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from vedette.core.clock import MICROS
from vedette.core.db import Database
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.log import Log, Record
from vedette.core.signal import Signal
from vedette.judge.correlation.correlator import Contribution
from vedette.run.guard import guarded
from vedette.run.metrics import Meters
from vedette.run.pipeline import decided
from vedette.run.pipeline.journal import Entry, Journal
from vedette.run.pipeline.rollout import Edition, Rollout
from vedette.run.pipeline.storing import to_event
from vedette.run.pipeline.stream import BATCH, Stage

GROUP = "detect"
TOPIC = "event"
SIGNALS = "signal"
DECISIONS = "detect_decisions"
"""Name of the stage that reads topic `decision`."""

IDLE_S = 600.0
"""Of a tenant nothing came for so long: then its event time goes on with the clock. As long as data may be late."""
TICK_S = 60.0
"""How often it does."""
_TICK = "tick"
"""Stands for the topic in the journal."""

_LOG = logging.getLogger("vedette.run")
_NOTHING: tuple[list[Signal], list[Contribution]] = ([], [])
_LOST = {"evicted": "correlation.groups.evicted", "thinned": "correlation.moments.thinned"}
"""What a bound took away, and the code it is told by."""


def detecting(log: Log, rollout: Rollout, meters: Meters, database: Database) -> tuple[Stage, Stage]:
    """Events and decisions to signals.

    Args:
        log: Topics `event`, `decision` and `signal`.
        rollout: What to look for, and when that changes. Correlators are filled from the journal at the first turn.
        meters: Counts signals, and what correlations hold and lose.
        database: Where the journal is.
    """
    source = rollout.sources.get(decided.SOURCE)

    def to_decided(record: Record) -> Event | DataError:
        assert source is not None  # noqa: S101 - the stage is skipped without it
        return decided.to_decided(record, source)

    stream = _Stream(log, rollout, meters, Journal(database))
    stages = (
        stream.stage(GROUP, TOPIC, to_event, lambda _edition: True),
        stream.stage(
            DECISIONS, decided.TOPIC, to_decided, lambda edition: source is not None and edition.reads(decided.SOURCE)
        ),
    )
    stream.begin()
    return stages


class _Quiet(NamedTuple):
    """Since when nothing came of a tenant."""

    since: float
    """Monotonic seconds."""
    newest: int
    """Event time of its newest event, microseconds UTC."""


class _Stream:
    """What the stages share: one edition of the rules, its correlators, and whether they hold what the journal says."""

    def __init__(self, log: Log, rollout: Rollout, meters: Meters, journal: Journal) -> None:
        self._log = log
        self._rollout = rollout
        self._edition = rollout.applied()
        self._correlator = self._edition.correlator
        self._open: set[tuple[str, int]] = set()
        """Topics and partitions of which a batch may have been judged and not marked taken."""
        self._meters = meters
        self._journal = journal
        self._whole = False
        self._told: Counter[tuple[str, str]] = Counter()
        self._forgotten: dict[str, int] = {}
        self._tides: dict[tuple[str, int], dict[str, int]] = {}
        """Topic and partition with more to read -> tenant -> newest event time of its last batch."""
        self._quiet: dict[str, _Quiet] = {}
        """By tenant."""
        self._ticked = 0.0
        self._wanted: dict[str, Callable[[Edition], bool]] = {}
        """Topic -> whether an edition reads it."""

    def stage(
        self, name: str, topic: str, read: Callable[[Record], Event | DataError], wanted: Callable[[Edition], bool]
    ) -> Stage:
        """A stage over a topic; while no rule reads it, it only keeps its place at the end."""
        self._wanted[topic] = wanted

        def step() -> int:
            taken = sum(self._partition(name, topic, read, part) for part in range(self._log.partitions(topic)))
            self._tick(name)
            return taken

        return Stage(name, topic, step, lambda part: self._log.committed(GROUP, topic, part))

    def begin(self) -> None:
        """Looks what waits: nobody knows whether a process that was killed judged some of it.

        So it is judged by the edition that was noted last.
        """
        waiting = (place for place in self._places() if self._log.end(*place) > self._log.committed(GROUP, *place))
        self._open = set(waiting)

    def _go_over(self) -> None:
        """Takes the next edition, where every batch that may have been judged is marked taken."""
        if not self._open and self._rollout.due(self._edition):
            self._edition = self._rollout.next()
            self._correlator = self._edition.correlator
            self._whole = False

    def _places(self) -> list[tuple[str, int]]:
        """Every topic that is read now, with its partitions."""
        topics = [topic for topic, wanted in self._wanted.items() if wanted(self._edition)]
        return [(topic, part) for topic in topics for part in range(self._log.partitions(topic))]

    def _partition(self, name: str, topic: str, read: Callable[[Record], Event | DataError], part: int) -> int:
        self._go_over()
        start = self._log.committed(GROUP, topic, part)
        if not self._wanted[topic](self._edition):
            end = self._log.end(topic, part)
            if end > start:
                self._log.commit(GROUP, topic, part, end)
            return end - start
        records = self._log.read(topic, part, start, BATCH)
        if not records:
            return 0
        self._open.add((topic, part))
        self._restore()
        # Until the place has moved the correlator is ahead of the journal; a turn that fails starts from the journal.
        self._whole = False
        signals, entries = self._judge(name, topic, part, [(read(record), record.time) for record in records])
        self._write(signals)
        self._journal.keep([entry for entry in entries if entry.contributions])
        self._log.commit(GROUP, topic, part, records[-1].offset + 1)
        self._open.discard((topic, part))
        self._whole = True
        self._tidy(entries)
        return len(records)

    def _write(self, signals: Iterable[Signal]) -> None:
        for tenant, values in _by_tenant(signals).items():
            self._log.append(SIGNALS, tenant, values)
            self._meters.taken(SIGNALS, len(values))

    def _tick(self, name: str) -> None:
        """Lets event time go on with the clock for tenants that are quiet, where nothing is left to read."""
        now = self._rollout.clock.monotonic()
        if not self._edition.correlations or now - self._ticked < TICK_S:
            return
        self._restore()
        due = [tenant for tenant, one in self._quiet.items() if now - one.since >= IDLE_S]
        if not due or any(self._log.end(*place) > self._log.committed(GROUP, *place) for place in self._places()):
            return
        self._ticked = now
        self._whole = False
        signals, entries = list[Signal](), list[Entry]()
        for tenant in due:
            held = self._quiet[tenant]
            tide = held.newest + int((now - held.since) * MICROS)
            signals += guarded(name, partial(self._correlator.advance, tenant, tide), self._meters, [])
            raised = self._correlator.raised()
            expires = max(map(self._correlator.until, raised), default=tide)
            entries.append(Entry(tenant, _TICK, 0, tide, tide, expires, raised))
            if tide > held.newest + self._correlator.keep:
                del self._quiet[tenant]  # all that waited has its answer
        self._write(signals)
        self._journal.keep(entries)
        self._whole = True
        self._tidy(entries)

    def _heard(self, tenant: str, tide: int) -> None:
        """Notes that something came of a tenant, and how far its event time is."""
        held = self._quiet.get(tenant)
        self._quiet[tenant] = _Quiet(self._rollout.clock.monotonic(), max(tide, held.newest if held else 0))

    def _restore(self) -> None:
        if self._whole:
            return
        self._correlator.clear()
        self._tides.clear()
        lows = self._journal.lows()
        for tenant, low in lows.items():
            self._correlator.settled(tenant, low)
        for entry in self._journal.entries():
            low = lows.get(entry.tenant, 0)
            # What these complete was appended before they were kept.
            self._correlator.take(
                entry.tenant, [one for one in entry.contributions if self._correlator.until(one) > low]
            )
            if entry.tide:
                self._correlator.advance(entry.tenant, entry.tide)
                self._heard(entry.tenant, entry.tide)
        self._whole = True

    def _judge(
        self, name: str, topic: str, part: int, read: Sequence[tuple[Event | DataError, int]]
    ) -> tuple[list[Signal], list[Entry]]:
        found: list[Signal] = []
        brought: dict[str, list[Contribution]] = {}
        tides: dict[str, int] = {}
        start = self._log.committed(GROUP, topic, part)
        for event, time in read:
            if not isinstance(event, Event):
                self._meters.failure(name, event.code)
                continue
            # For each event: one that a matcher chokes on must not hide what the others hold.
            signals, contributions = guarded(name, partial(self._edition.judge, event), self._meters, _NOTHING)
            found += signals
            if contributions and (contributions := self._correlator.needed(event.tenant, contributions)):
                take = partial(self._correlator.take, event.tenant, contributions)
                found += guarded(name, take, self._meters, [])
                brought.setdefault(event.tenant, []).extend([*contributions, *self._correlator.raised()])
            # A clock that is ahead must not make the others late.
            tides[event.tenant] = max(tides.get(event.tenant, 0), min(event.event_time, time))
        for tenant, tide in tides.items():
            self._heard(tenant, tide)
        common = {tenant: self._common(topic, part, tenant, tide) for tenant, tide in tides.items()}
        for tenant, tide in common.items():
            if tide:
                found += guarded(name, partial(self._correlator.advance, tenant, tide), self._meters, [])
                if raised := self._correlator.raised():
                    brought.setdefault(tenant, []).extend(raised)
        if len(read) < BATCH:
            self._tides.pop((topic, part), None)
        else:
            self._tides[topic, part] = {**self._tides.get((topic, part), {}), **tides}
        entries = []
        for tenant, tide in common.items():
            own = brought.get(tenant, [])
            expires = max(map(self._correlator.until, own), default=0)
            entries.append(Entry(tenant, topic, part, start, tide, expires, own))
        return found, entries

    def _common(self, topic: str, part: int, tenant: str, tide: int) -> int:
        """How far event time has come in all that is read: what another topic has not caught up with is not over.

        0 when another has more to read and nobody knows yet of what time.
        """
        for place in self._places():
            if place != (topic, part) and self._log.end(*place) > self._log.committed(GROUP, *place):
                held = self._tides.get(place)
                # A topic that brought nothing of this tenant yet does not hold it up.
                tide = 0 if held is None else min(tide, held.get(tenant, tide))
        return tide

    def _tidy(self, entries: Sequence[Entry]) -> None:
        """Drops what the journal need not hold any more, and tells what the correlator holds and has lost."""
        if not self._edition.correlations:
            return
        for entry in entries:
            low = self._correlator.low(entry.tenant)
            if low and abs(low - self._forgotten.get(entry.tenant, 0)) > self._correlator.keep // 8:
                self._forgotten[entry.tenant] = low
                self._journal.forget(entry.tenant, low)
        dropped = self._correlator.dropped()
        for (rule_id, reason), count in (dropped - self._told).items():
            self._meters.correlation_lost(rule_id, reason, count)
            if reason in _LOST:
                _LOG.warning("%s: %s, %d", _LOST[reason], rule_id, count)
        self._told = dropped
        for rule_id, (groups, moments) in self._correlator.held().items():
            self._meters.correlation_held(rule_id, groups, moments)


def _by_tenant(signals: Iterable[Signal]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for signal in signals:
        found.setdefault(signal.tenant, []).append(msgspec.json.encode(signal))
    return found
