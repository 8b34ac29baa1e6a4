"""Runs a rule set over the records of files: counts, each match with its reasons, and the signals of correlations.

Nothing is stored and nothing is deduplicated. A record that cannot be read counts as an event and as quarantined; one
without a readable time is matched all the same, but no correlation can use it. Correlations are judged in event time
over all files together, whatever the order of files and records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.signal import Signal
from vedette.expr.evidence import evidence
from vedette.expr.nodes import Node
from vedette.expr.reference import trace
from vedette.expr.values import leaves, reader
from vedette.judge.correlation.correlator import Contribution, Correlator
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.ready import Ready, once
from vedette.judge.sigma.rules import Rule
from vedette.prove.dlp import scrub
from vedette.sense.files import Chunk, Limits, list_files, read_lines, stream_identity
from vedette.sense.sources import Source, computed_id, sniff

T = TypeVar("T")

EVIDENCE_CHARS = 1_000
"""Longest value shown as a reason; the rest is cut."""

TENANT = "default"
_FAR = 1 << 60
"""A moment so late that no time is of its future."""
WAITING = 1_000_000
"""Contributions to correlations that are put in order before the older half is judged: 300 to 500 bytes each."""


@dataclass(slots=True)
class Tally:
    """What a run has seen so far."""

    events: int = 0
    """Records read, quarantined ones included."""
    quarantined: int = 0
    matches: Counter[str] = field(default_factory=Counter)
    """Rule id -> events it matched; of a correlation, its signals."""
    untimed: int = 0
    """Matches that no correlation could use, because their record has no readable time."""


@dataclass(frozen=True, slots=True)
class Match:
    """One rule on one event."""

    rule: Rule
    node: Node
    source: Source
    data: Mapping[str, Any]
    stream: str
    line: int
    offset: int

    def event(self, now: int) -> Event:
        """The event. Without a readable time its time is 0 and it has no entities.

        Args:
            now: Microseconds UTC; a time more than a day past it is none.
        """
        try:
            return self.source.to_event(
                dict(self.data), tenant=TENANT, stream=self.stream, offset=self.offset, ingest_time=now
            )
        except DataError:
            name = computed_id(TENANT, self.source.name, self.stream, self.offset)
            return Event(id=name, tenant=TENANT, source=self.source.name, event_time=0, ingest_time=now)

    def why(self) -> dict[str, Any]:
        """Why the rule fired."""
        return why(self.node, self.data)


def why(node: Node, data: Mapping[str, Any]) -> dict[str, Any]:
    """Field -> value of the clauses that make a node true; texts scrubbed of card numbers and cut."""
    clause = trace(node, reader(data), list(leaves(data)))
    return {one.name: _shown(value) for one, value in evidence(clause).items()}


def _shown(value: object) -> object:
    if isinstance(value, str):
        return scrub(value if len(value) <= EVIDENCE_CHARS else value[:EVIDENCE_CHARS] + "…")
    if isinstance(value, int | float):
        return value
    return _shown(str(value))


class Detector:
    """Matches records of files against a rule set; one matcher per source, built when the source is first seen.

    Args:
        rules: What to look for.
        sources: The known sources.
        source: Of every file; recognised file by file from the first records when left out.
        limits: What one file may cost.
        now: For times from the future, microseconds UTC; 0 takes every time.
    """

    def __init__(
        self,
        rules: RuleSet,
        sources: Mapping[str, Source],
        *,
        source: Source | None = None,
        limits: Limits | None = None,
        now: int = 0,
    ) -> None:
        self.tally = Tally()
        self._sources = sources
        self._source = source
        self._limits = limits or Limits()
        self._ready = Ready(rules)
        self._now = now or _FAR
        self._correlator = Correlator(rules.correlations, sources)
        self._waiting: list[Contribution] = []

    def run(
        self, paths: Sequence[Path], progress: Callable[[Chunk], None] = lambda _chunk: None
    ) -> Iterator[Match | Signal]:
        """Every match, in the order of the records, and the signals of correlations, most of them at the end.

        The tally is complete when the iterator ends.

        Raises:
            DataError: `files.path.missing`, `files.folder.empty` and what else keeps a path from being opened.
        """
        # All paths are looked up first, so that a missing one is told before anything is read.
        for path in paths:
            list_files(path)
        for path in paths:
            for file, chunks in groupby(read_lines(path, limits=self._limits), key=attrgetter("path")):
                yield from self._file(file, chunks, progress)
        yield from self._correlated(len(self._waiting))
        yield from self._told(self._correlator.finish(TENANT))

    def _file(self, file: Path, chunks: Iterable[Chunk], progress: Callable[[Chunk], None]) -> Iterator[Match | Signal]:
        source, stream = self._source, ""
        for chunk in chunks:
            stream = stream or stream_identity(file, chunk.lines[0] if chunk.lines else b"")
            if source is None and chunk.lines:
                source = self._recognise(chunk)
            chunk = source.unwrap(chunk) if source else chunk  # noqa: PLW2901 - records, not the documents around them
            self.tally.quarantined += len(chunk.bad)
            if source is None:
                self.tally.events += chunk.count
                self.tally.quarantined += len(chunk.lines)
            else:
                yield from self._chunk(chunk, source, stream)
            progress(chunk)

    def _recognise(self, chunk: Chunk) -> Source | None:
        try:
            return sniff(chunk.lines, self._sources)
        except DataError:
            return None

    def _chunk(self, chunk: Chunk, source: Source, stream: str) -> Iterator[Match | Signal]:
        matcher, rules = self._ready.of(source.name)
        records = source.parse_chunk(chunk)
        self.tally.events += chunk.count
        read = [data for data in records if not isinstance(data, DataError)]
        self.tally.quarantined += len(records) - len(read)
        whole = chunk.text if len(read) == len(records) else None
        results = matcher.match_many(read, matcher.suspects(whole) if whole is not None else None)
        if not any(results):
            return
        places = [place for place, data in enumerate(records) if not isinstance(data, DataError)]
        for place, data, numbers in zip(places, read, results, strict=True):
            fired = [
                Match(rule, node, source, data, stream, chunk.numbers[place], chunk.offsets[place])
                for rule, node in once(rules, numbers)
            ]
            self._bring(fired)
            for match in fired:
                if match.rule.id not in self._correlator.quiet:
                    self.tally.matches[match.rule.id] += 1
                    yield match
        if len(self._waiting) > WAITING:
            yield from self._correlated(WAITING // 2)

    def _bring(self, fired: Sequence[Match]) -> None:
        """Keeps what one event's matches bring to correlations."""
        wanted = [match.rule.id for match in fired if self._correlator.uses(match.rule.id)]
        if not wanted:
            return
        event = fired[0].event(self._now)
        if event.event_time:
            event = msgspec.structs.replace(event, seq=fired[0].line)
            self._waiting += self._correlator.contributions(event, wanted)
        else:
            self.tally.untimed += len(wanted)

    def _correlated(self, count: int) -> Iterator[Signal]:
        """Judges the oldest of what waits, in event time."""
        self._waiting.sort(key=lambda one: one.moment[:3])
        now, self._waiting = self._waiting[:count], self._waiting[count:]
        for part in batched(now, 1_000):
            yield from self._told(self._correlator.take(TENANT, part))
            yield from self._told(self._correlator.advance(TENANT, part[-1].moment.time))

    def _told(self, signals: Iterable[Signal]) -> Iterator[Signal]:
        for signal in signals:
            self.tally.matches[signal.rule_id] += 1
            yield signal


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in pieces of a size; the last may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))
