"""Runs a rule set over the records of files: counts, and each match with its reasons.

Nothing is stored and nothing is deduplicated. A record that cannot be read counts as an event and as quarantined; one
without a readable time is matched all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from vedette.core.clock import Clock
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.expr.evidence import evidence
from vedette.expr.nodes import Node
from vedette.expr.reference import trace
from vedette.expr.values import leaves, reader
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.ready import Ready, once
from vedette.judge.sigma.rules import Rule
from vedette.prove.dlp import scrub
from vedette.sense.files import Chunk, Limits, list_files, read_lines, stream_identity
from vedette.sense.sources import Source, computed_id, sniff

EVIDENCE_CHARS = 1_000
"""Longest value shown as a reason; the rest is cut."""

TENANT = "default"


@dataclass(slots=True)
class Tally:
    """What a run has seen so far."""

    events: int = 0
    """Records read, quarantined ones included."""
    quarantined: int = 0
    matches: Counter[str] = field(default_factory=Counter)
    """Rule id -> events it matched."""


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

    def event(self, clock: Clock) -> Event:
        """The event. Without a readable time its time is 0 and it has no entities."""
        now = clock.now()
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
    """

    def __init__(
        self,
        rules: RuleSet,
        sources: Mapping[str, Source],
        *,
        source: Source | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.tally = Tally()
        self._sources = sources
        self._source = source
        self._limits = limits or Limits()
        self._ready = Ready(rules)

    def run(self, paths: Sequence[Path], progress: Callable[[Chunk], None] = lambda _chunk: None) -> Iterator[Match]:
        """Every match, in the order of the records; the tally is complete when the iterator ends.

        Raises:
            DataError: `files.path.missing`, `files.folder.empty` and what else keeps a path from being opened.
        """
        # All paths are looked up first, so that a missing one is told before anything is read.
        for path in paths:
            list_files(path)
        for path in paths:
            for file, chunks in groupby(read_lines(path, limits=self._limits), key=attrgetter("path")):
                yield from self._file(file, chunks, progress)

    def _file(self, file: Path, chunks: Iterable[Chunk], progress: Callable[[Chunk], None]) -> Iterator[Match]:
        source, stream = self._source, ""
        for chunk in chunks:
            stream = stream or stream_identity(file, chunk.lines[0] if chunk.lines else b"")
            if source is None and chunk.lines:
                source = self._recognise(chunk)
            chunk = source.unwrap(chunk) if source else chunk  # noqa: PLW2901 - records, not the documents around them
            self.tally.events += chunk.count
            self.tally.quarantined += len(chunk.bad)
            if source is None:
                self.tally.quarantined += len(chunk.lines)
            else:
                yield from self._chunk(chunk, source, stream)
            progress(chunk)

    def _recognise(self, chunk: Chunk) -> Source | None:
        try:
            return sniff(chunk.lines, self._sources)
        except DataError:
            return None

    def _chunk(self, chunk: Chunk, source: Source, stream: str) -> Iterator[Match]:
        matcher, rules = self._ready.of(source.name)
        records = source.parse_many(chunk.lines)
        read = [data for data in records if not isinstance(data, DataError)]
        self.tally.quarantined += len(records) - len(read)
        results = matcher.match_many(read)
        if not any(results):
            return
        places = [place for place, data in enumerate(records) if not isinstance(data, DataError)]
        for place, data, numbers in zip(places, read, results, strict=True):
            for rule, node in once(rules, numbers):
                self.tally.matches[rule.id] += 1
                yield Match(rule, node, source, data, stream, chunk.numbers[place], chunk.offsets[place])
