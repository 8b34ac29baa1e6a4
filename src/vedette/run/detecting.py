"""The stages that run Sigma rules over events and decisions of the log and write what fired to topic `signal`.

Rules on single events are judged event by event. What they bring to correlations goes on to the correlator, whose
moments are kept in a journal. Order of one batch: signals are appended, the journal is written, the place moves. Killed
anywhere in between, the batch is read again and gives the same signals with the same ids, which alerts count once.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import msgspec

from vedette.core.db import Database
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.log import Log, Record
from vedette.core.signal import Signal
from vedette.expr.nodes import Node
from vedette.judge.correlation.correlator import Contribution, Correlator
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.detect import why
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.pipelines import NO_PIPELINES, Pipelines
from vedette.judge.sigma.ready import Placed, Ready
from vedette.judge.sigma.rules import Rule
from vedette.run import decided
from vedette.run.guard import guarded
from vedette.run.journal import Entry, Journal
from vedette.run.metrics import Meters
from vedette.run.storing import to_event
from vedette.run.stream import BATCH, Stage
from vedette.sense.sources import Source, load_sources

GROUP = "detect"
TOPIC = "event"
SIGNALS = "signal"
DECISIONS = "detect_decisions"
"""Name of the stage that reads topic `decision`."""

_LOG = logging.getLogger("vedette.run")
_NOTHING: tuple[list[Signal], list[Contribution]] = ([], [])
_LOST = {"evicted": "correlation.groups.evicted", "thinned": "correlation.moments.thinned"}
"""What a bound took away, and the code it is told by."""


class Detection:
    """A rule set over the stream. Not for several threads at once.

    Args:
        rules: What to look for.
        sources: The known sources.
        paths: Where the rules were read from, for what people wrote in them.
    """

    def __init__(self, rules: RuleSet, sources: Mapping[str, Source] | None = None, paths: Iterable[Path] = ()) -> None:
        self.rules = rules
        self.sources = load_sources() if sources is None else sources
        self.paths = tuple(paths)
        self.correlator = Correlator(rules.correlations, self.sources)
        self._ready = Ready(rules)

    def judge(self, event: Event) -> tuple[list[Signal], list[Contribution]]:
        """What rules on single events say of an event, and what they bring to correlations; the same each time."""
        return self.told(event, list(self._ready.fired(event.source, event.data)))

    def told(self, event: Event, fired: Sequence[Placed]) -> tuple[list[Signal], list[Contribution]]:
        """What the rules that fired on an event say, and what they bring to correlations."""
        if not fired:
            return [], []
        quiet = self.correlator.quiet
        signals = [to_signal(rule, node, event) for rule, node in fired if rule.id not in quiet]
        return signals, self.correlator.contributions(event, (rule.id for rule, _ in fired))

    def reads(self, source: str) -> bool:
        """True when a rule reads a source."""
        return bool(self._ready.of(source)[1])


def load_detection(
    paths: Iterable[Path],
    *,
    only: str = "",
    cache: Path | None = None,
    pipelines: Pipelines = NO_PIPELINES,
    today: date | None = None,
) -> Detection:
    """Reads Sigma rules from folders and archives.

    Args:
        paths: Folders, archives and files.
        only: Glob that selects files inside each.
        cache: Where compiled rules are kept; None: nowhere.
        pipelines: What every rule goes through, and the lists of placeholders.
        today: The day (UTC) by which filters expire; None: none does.

    Raises:
        DataError, DefinitionError: When a path cannot be opened. A rule that cannot match is in `rules.skipped`.
    """
    roots = tuple(paths)
    sources = load_sources()
    places = LogSources({name: source.logsource for name, source in sources.items()}, pipelines=pipelines)
    files = [file for path in roots for file in rule_files(path, only)]
    return Detection(load_cached(files, places, cache, today), sources, roots)


def to_signal(rule: Rule, node: Node, event: Event) -> Signal:
    """What a rule that fired on an event says."""
    return Signal(
        id=hashlib.sha256(msgspec.json.encode([event.tenant, rule.id, rule.version, event.id])).hexdigest()[:32],
        tenant=event.tenant,
        rule_id=rule.id,
        rule_version=rule.version,
        title=rule.title,
        level=rule.level,
        event_id=event.id,
        event_time=event.event_time,
        source=event.source,
        entities=event.entities,
        tags=rule.tags,
        why=why(node, event.data),
    )


def detecting(log: Log, detection: Detection, meters: Meters, database: Database) -> tuple[Stage, Stage]:
    """Events and decisions to signals.

    Args:
        log: Topics `event`, `decision` and `signal`.
        detection: What to look for. Its correlator is filled from the journal at the first turn.
        meters: Counts signals, and what correlations hold and lose.
        database: Where the journal is.
    """
    source = detection.sources.get(decided.SOURCE)

    def to_decided(record: Record) -> Event | DataError:
        assert source is not None  # noqa: S101 - the stage is skipped without it
        return decided.to_decided(record, source)

    stream = _Stream(log, detection, meters, Journal(database))
    wanted = source is not None and detection.reads(decided.SOURCE)
    return (
        stream.stage(GROUP, TOPIC, to_event),
        stream.stage(DECISIONS, decided.TOPIC, to_decided if wanted else None),
    )


class _Stream:
    """What the stages share: one correlator, and whether it holds what the journal says."""

    def __init__(self, log: Log, detection: Detection, meters: Meters, journal: Journal) -> None:
        self._log = log
        self._detection = detection
        self._correlator = detection.correlator
        self._meters = meters
        self._journal = journal
        self._whole = False
        self._told: Counter[tuple[str, str]] = Counter()
        self._forgotten: dict[str, int] = {}
        self._tides: dict[tuple[str, int], dict[str, int]] = {}
        """Topic and partition with more to read -> tenant -> newest event time of its last batch."""
        self._topics: list[str] = []

    def stage(self, name: str, topic: str, read: Callable[[Record], Event | DataError] | None) -> Stage:
        """A stage over a topic; without `read` it only keeps its place at the end."""
        if read is not None:
            self._topics.append(topic)

        def step() -> int:
            return sum(self._partition(name, topic, read, part) for part in range(self._log.partitions(topic)))

        return Stage(name, topic, step, lambda part: self._log.committed(GROUP, topic, part))

    def _partition(self, name: str, topic: str, read: Callable[[Record], Event | DataError] | None, part: int) -> int:
        start = self._log.committed(GROUP, topic, part)
        if read is None:
            end = self._log.end(topic, part)
            if end > start:
                self._log.commit(GROUP, topic, part, end)
            return end - start
        records = self._log.read(topic, part, start, BATCH)
        if not records:
            return 0
        self._restore()
        # Until the place has moved the correlator is ahead of the journal; a turn that fails starts from the journal.
        self._whole = False
        signals, entries = self._judge(name, topic, part, [(read(record), record.time) for record in records])
        for tenant, values in _by_tenant(signals).items():
            self._log.append(SIGNALS, tenant, values)
            self._meters.taken(SIGNALS, len(values))
        self._journal.keep([entry for entry in entries if entry.contributions])
        self._log.commit(GROUP, topic, part, records[-1].offset + 1)
        self._whole = True
        self._tidy(entries)
        return len(records)

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
            signals, contributions = guarded(name, partial(self._detection.judge, event), self._meters, _NOTHING)
            found += signals
            contributions = self._correlator.needed(event.tenant, contributions)
            if contributions:
                take = partial(self._correlator.take, event.tenant, contributions)
                found += guarded(name, take, self._meters, [])
                brought.setdefault(event.tenant, []).extend([*contributions, *self._correlator.raised()])
            # A clock that is ahead must not make the others late.
            tides[event.tenant] = max(tides.get(event.tenant, 0), min(event.event_time, time))
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
        places = [(name, number) for name in self._topics for number in range(self._log.partitions(name))]
        for place in places:
            if place != (topic, part) and self._log.end(*place) > self._log.committed(GROUP, *place):
                held = self._tides.get(place)
                # A topic that brought nothing of this tenant yet does not hold it up.
                tide = 0 if held is None else min(tide, held.get(tenant, tide))
        return tide

    def _tidy(self, entries: Sequence[Entry]) -> None:
        """Drops what the journal need not hold any more, and tells what the correlator holds and has lost."""
        if not self._detection.rules.correlations:
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
