"""Runs a rule set over the records of files: counts, each match with its reasons, and the signals of correlations.

Nothing is stored and nothing is deduplicated. A record that cannot be read counts as an event and as quarantined; one
without a readable time is matched all the same, but no correlation can use it. Correlations are judged in event time
over all files together, whatever the order of files and records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, repeat
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from vedette.core.errors import DataError, TransientError
from vedette.core.event import Event
from vedette.core.signal import Signal
from vedette.expr.evidence import evidence
from vedette.expr.nodes import Node
from vedette.expr.reference import trace
from vedette.expr.values import leaves, reader
from vedette.judge.correlation.correlator import Contribution, Correlator
from vedette.judge.indicators import Lookout, Seen
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.ready import Ready, once
from vedette.judge.sigma.rules import Rule
from vedette.prove.dlp import scrub
from vedette.sense.files import Chunk, Limits, Stretch, list_files, read_lines, spans, stream_identity
from vedette.sense.sources import Source, computed_id, recognise

if TYPE_CHECKING:
    from vedette.expr.matcher.skimmer import Skimmed, Skimmer

T = TypeVar("T")

EVIDENCE_CHARS = 1_000
"""Longest value shown as a reason; the rest is cut."""

SPAN_BYTES = 4 << 20
"""How much of a file one worker process takes at a time."""

SKIM_BYTES = 64 << 20
"""Size of a file from which loading the skimmer pays."""

GZIP_RATIO = 16
"""How many times larger logs are before they are packed."""

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
        return _event(self.source, self.data, self.stream, self.offset, now)

    def why(self) -> dict[str, Any]:
        """Why the rule fired."""
        return why(self.node, self.data)


def _event(source: Source, data: Mapping[str, Any], stream: str, offset: int, now: int) -> Event:
    try:
        return source.to_event(dict(data), tenant=TENANT, stream=stream, offset=offset, ingest_time=now)
    except DataError:
        name = computed_id(TENANT, source.name, stream, offset)
        return Event(id=name, tenant=TENANT, source=source.name, event_time=0, ingest_time=now)


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


@dataclass(frozen=True, slots=True)
class Hit:
    """An event on which rules are true."""

    line: int
    offset: int
    data: dict[str, Any]
    numbers: tuple[int, ...]
    """Of the rules, by their places in the source's matcher."""
    seen: Seen = ()
    """What of it indicators name."""


@dataclass(slots=True)
class Part:
    """What was found in some lines."""

    events: int = 0
    quarantined: int = 0
    """Records that could not be parsed; what was no line is counted by who read it."""
    lines: int = 0
    hits: list[Hit] = field(default_factory=list)


def judge_chunk(ready: Ready, source: Source, chunk: Chunk) -> Part:
    """The events of a chunk on which rules are true."""
    skimmer = ready.skimmer(source)
    skimmed = skimmer.skim(chunk.text) if skimmer and chunk.text else None
    if skimmer and skimmed:
        return _judge_skimmed(ready, skimmer, skimmed, source, chunk)
    matcher, _ = ready.of(source.name)
    records = source.parse_chunk(chunk)
    read = [data for data in records if type(data) is dict]
    clean = chunk.text is not None and len(read) == len(chunk.ended)
    suspects = matcher.suspects(chunk.text, chunk.ended) if clean and chunk.text is not None else None
    results = matcher.match_many(read, suspects)
    part = Part(chunk.count, len(records) - len(read))
    seen = ready.lookout.each(source.name, read) if ready.lookout else {}
    if seen or any(results):
        places = (place for place, data in enumerate(records) if not isinstance(data, DataError))
        part.hits = [
            Hit(chunk.numbers[place], chunk.offsets[place], data, numbers, seen.get(number, ()))
            for number, (place, data, numbers) in enumerate(zip(places, read, results, strict=True))
            if numbers or number in seen
        ]
    return part


def _judge_skimmed(ready: Ready, skimmer: Skimmer, skimmed: Skimmed, source: Source, chunk: Chunk) -> Part:
    """`judge_chunk` of the lines that could not be ruled out."""
    chunk.none_blank(skimmed.lines)
    text, spans = chunk.text or b"", skimmed.spans()
    records = source.parse_many([text[begin:end] for begin, end in spans])
    read = [
        (place, begin, data)
        for place, (begin, _), data in zip(skimmed.places, spans, records, strict=True)
        if not isinstance(data, DataError)
    ]
    found = skimmer.match([place for place, _, _ in read], [data for _, _, data in read], skimmed)
    seen = ready.lookout.each(source.name, [data for _, _, data in read]) if ready.lookout else {}
    hits = [
        Hit(chunk.first + place, chunk.start + begin, data, numbers, seen.get(number, ()))
        for number, ((place, begin, data), numbers) in enumerate(zip(read, found, strict=True))
        if numbers or number in seen
    ]
    return Part(skimmed.lines, len(records) - len(read), hits=hits)


_worker: tuple[Ready, Source, Limits] | None = None
"""What a worker process was born with."""


def _adopt(ready: Ready, source: Source, limits: Limits) -> None:
    global _worker  # noqa: PLW0603 - the one way to hand a worker what need not be copied
    _worker = ready, source, limits


def _judge_span(file: Path, span: tuple[int, int]) -> Part:
    assert _worker is not None  # noqa: S101 - `_adopt` ran before
    ready, source, limits = _worker
    stretch = Stretch(file, span, limits)
    whole = Part()
    shift = 0 if span[0] == 0 else -1
    for chunk in stretch.chunks():
        part = judge_chunk(ready, source, chunk)
        whole.events += part.events
        whole.quarantined += part.quarantined + len(chunk.bad)
        whole.hits += [replace(hit, line=hit.line + shift) for hit in part.hits] if shift else part.hits
    whole.lines = stretch.lines
    return whole


class Detector:
    """Matches records of files against a rule set; one matcher per source, built when the source is first seen.

    Args:
        rules: What to look for.
        sources: The known sources.
        source: Of every file; recognised file by file from the first records when left out.
        limits: What one file may cost.
        now: For times from the future, microseconds UTC; 0 takes every time.
        jobs: Processes among which plain files of more than `SPAN_BYTES` are divided. What is found, its order and
            all counts are those of one process.
        lookout: Indicators to look for beside the rules.
    """

    def __init__(
        self,
        rules: RuleSet,
        sources: Mapping[str, Source],
        *,
        source: Source | None = None,
        limits: Limits | None = None,
        now: int = 0,
        jobs: int = 1,
        lookout: Lookout | None = None,
    ) -> None:
        self._jobs = jobs
        self._lookout = lookout
        self.tally = Tally()
        self._sources = sources
        self._source = source
        self._limits = limits or Limits()
        self._ready = Ready(rules, lookout)
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
                chunks = iter(chunks)  # noqa: PLW2901 - to be read on after the first
                self._ready.skims |= decoded_size(file) >= SKIM_BYTES
                first = next(chunks)
                if self._jobs > 1 and self._is_large(file):
                    yield from self._in_parallel(file, first, progress)
                else:
                    yield from self._file(file, chain([first], chunks), progress)
        yield from self._correlated(len(self._waiting))
        yield from self._told(self._correlator.finish(TENANT))

    def _file(self, file: Path, chunks: Iterable[Chunk], progress: Callable[[Chunk], None]) -> Iterator[Match | Signal]:
        source, stream = self._source, ""
        for chunk in chunks:
            stream = stream or stream_identity(file, chunk.lines[0] if chunk.lines else b"")
            if source is None and chunk.lines:
                source = recognise(chunk.lines, self._sources)
            chunk = source.unwrap(chunk) if source else chunk  # noqa: PLW2901 - records, not the documents around them
            self.tally.quarantined += len(chunk.bad)
            if source is None:
                self.tally.events += chunk.count
                self.tally.quarantined += len(chunk.lines)
            else:
                yield from self._chunk(chunk, source, stream)
            progress(chunk)

    def _is_large(self, file: Path) -> bool:
        with file.open("rb") as start:
            return file.is_file() and file.stat().st_size > SPAN_BYTES and start.read(2) != b"\x1f\x8b"

    def _in_parallel(self, file: Path, first: Chunk, progress: Callable[[Chunk], None]) -> Iterator[Match | Signal]:
        """Stretches of one file, each judged by another process; what they find is told in the file's order."""
        stream = stream_identity(file, first.lines[0] if first.lines else b"")
        source = self._source or recognise(first.lines, self._sources)
        if source is None or source.definition.records:
            yield from self._file(file, read_lines(file, limits=self._limits), progress)
            return
        self._ready.of(source.name)
        self._ready.skimmer(source)
        base = 0
        with ProcessPoolExecutor(
            self._jobs, get_context("fork"), initializer=_adopt, initargs=(self._ready, source, self._limits)
        ) as pool:
            try:
                for part in pool.map(_judge_span, repeat(file), spans(file, SPAN_BYTES)):
                    self.tally.events += part.events
                    self.tally.quarantined += part.quarantined
                    for hit in part.hits:
                        yield from self._told_of(hit, base, source, stream)
                    base += part.lines
                    progress(first)
            except BrokenProcessPool as error:
                raise TransientError("detect.worker.lost", "a worker process ended before its work did") from error

    def _chunk(self, chunk: Chunk, source: Source, stream: str) -> Iterator[Match | Signal]:
        part = judge_chunk(self._ready, source, chunk)
        self.tally.events += part.events
        self.tally.quarantined += part.quarantined
        for hit in part.hits:
            yield from self._told_of(hit, 0, source, stream)

    def _told_of(self, hit: Hit, base: int, source: Source, stream: str) -> Iterator[Match | Signal]:
        _, rules = self._ready.of(source.name)
        fired = [
            Match(rule, node, source, hit.data, stream, base + hit.line, hit.offset)
            for rule, node in once(rules, hit.numbers)
        ]
        self._bring(fired)
        for match in fired:
            if match.rule.id not in self._correlator.quiet:
                self.tally.matches[match.rule.id] += 1
                yield match
        if hit.seen and self._lookout is not None:
            event = _event(source, hit.data, stream, hit.offset, self._now)
            yield from self._told(self._lookout.found(event, hit.seen))
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


def decoded_size(file: Path) -> int:
    """About how many bytes of lines a file holds; 0 for a pipe."""
    if not file.is_file():
        return 0
    with file.open("rb") as start:
        return file.stat().st_size * (GZIP_RATIO if start.read(2) == b"\x1f\x8b" else 1)


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in pieces of a size; the last may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))
