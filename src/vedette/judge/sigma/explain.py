"""Explain Sigma rules on records of files: one event, the event that comes nearest, or the groups of a correlation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.expr.nearest import changes, distance
from vedette.expr.nodes import Node
from vedette.expr.reference import trace
from vedette.expr.values import leaves, reader
from vedette.judge.correlation.definition import Correlation
from vedette.judge.correlation.missing import Gathering, explain_groups
from vedette.judge.correlation.window import Key
from vedette.judge.decisions.files import read_rows
from vedette.judge.explain import RuleExplanation, explain_rule
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.ready import Ready
from vedette.judge.sigma.rules import Rule
from vedette.sense.files import read_lines, stream_identity
from vedette.sense.sources import Source, computed_id, sniff

MAX_RECORDS = 200_000
"""Most records that are looked at."""
MAX_TRIED = 5_000
"""Most events on which a rule that never fired is tried for its nearest miss."""
TENANT = "default"
_FAR = 1 << 60


@dataclass(frozen=True, slots=True)
class Taken:
    """One record of a file, as an event."""

    event: Event
    line: int
    timed: bool
    """False for a record without a readable time: no correlation can use it."""


def take(paths: Sequence[Path], sources: Mapping[str, Source], source: Source | None = None) -> Iterator[Taken]:
    """The readable records of files, at most `MAX_RECORDS`.

    Args:
        paths: Plain or gzip files and folders.
        sources: The known sources.
        source: Of every file; recognised file by file when left out.

    Raises:
        DataError: `files.path.missing` and its like; `source.unknown` for a file that nobody knows.
    """
    return islice((one for path in paths for one in _records(path, sources, source)), MAX_RECORDS)


def _records(path: Path, sources: Mapping[str, Source], source: Source | None) -> Iterator[Taken]:
    if path.name.removesuffix(".gz").endswith((".parquet", ".csv")):
        table = source or sources["card_transactions"]
        for row in read_rows(path, table):
            if isinstance(row.data, dict):
                yield _taken(table, row.data, path.name, row.number, row.number)
        return
    for file, chunks in groupby(read_lines(path), key=attrgetter("path")):
        stream, found = "", source
        for read in chunks:
            stream = stream or stream_identity(file, read.lines[0] if read.lines else b"")
            found = found or sniff(read.lines, sources)
            chunk = found.unwrap(read)
            for line, offset, data in zip(chunk.numbers, chunk.offsets, found.parse_many(chunk.lines), strict=True):
                if not isinstance(data, DataError):
                    yield _taken(found, data, stream, offset, line)


def _taken(source: Source, data: dict[str, Any], stream: str, offset: int, line: int) -> Taken:
    try:
        event = source.to_event(data, tenant=TENANT, stream=stream, offset=offset, ingest_time=_FAR)
    except DataError:
        name = computed_id(TENANT, source.name, stream, offset)
        event = Event(id=name, tenant=TENANT, source=source.name, event_time=0, ingest_time=_FAR, data=data)
        return Taken(event, line, timed=False)
    return Taken(msgspec.structs.replace(event, seq=line), line, timed=True)


class Explainer:
    """Rules on records in hand.

    Args:
        rules: The rules, those that correlations refer to among them.
        sources: The known sources.
        records: What they are tried on; kept in memory.
    """

    def __init__(self, rules: RuleSet, sources: Mapping[str, Source], records: Iterable[Taken]) -> None:
        self._rules = rules
        self._sources = sources
        self._records = tuple(records)
        self._ready = Ready(rules)
        self._fired: list[tuple[Taken, tuple[str, ...]]] = []
        for one in self._records:
            names = tuple(rule.id for rule, _ in self._ready.fired(one.event.source, one.event.data))
            if names:
                self._fired.append((one, names))

    def rule(self, rule: Rule, line: int = 0) -> RuleExplanation | None:
        """A rule on one record, or on the one that fires it, else on the one that comes nearest.

        Args:
            rule: Which.
            line: Number of the record in its file; 0 for the nearest.

        Returns:
            None when no record is of a source that the rule reads.
        """
        if not line:
            hit = next((one for one, names in self._fired if rule.id in names), None)
            return self._on(rule, hit) if hit else self._nearest(rule, self._records)
        found = (one for one in self._records if one.line == line and one.event.source in rule.nodes)
        one = next(found, None)
        return self._on(rule, one) if one else None

    def correlation(
        self, correlation: Correlation, *, line: int = 0, group: Mapping[str, str] | None = None, most: int = 3
    ) -> list[RuleExplanation]:
        """The groups of a correlation over all records, the nearest first.

        Args:
            correlation: Which.
            line: Only the groups that this record belongs to, or would belong to if it fired.
            group: Only the groups with these values, by the correlation's own field names.
            most: How many groups.
        """
        gathering = Gathering(self._rules.correlations, correlation, self._sources)
        brought = [
            each for one, names in self._fired if one.timed for each in gathering.contributions(one.event, names)
        ]
        dropped = {reason: count for (name, reason), count in gathering.counts.items() if name == correlation.id}
        gathering.settle(brought)
        keys = set(gathering.gathered)
        if line:
            keys = {key for one in self._records if one.line == line and one.timed for key in gathering.keys(one.event)}
        keys = {key for key in keys if _fits(correlation, key, group or {})}
        gathered = {key: gathering.gathered.get(key, []) for key in keys}
        near = self._near(correlation, gathering, keys)
        return list(explain_groups(correlation, gathered, near=near, dropped=dropped, most=most))

    def _near(self, correlation: Correlation, gathering: Gathering, keys: set[Key]) -> dict[str, RuleExplanation]:
        """For each rule that never fired, the nearest event: of one of the groups where there is one."""
        seen = {name for _, names in self._fired for name in names}
        missing = {part.id for part in correlation.parts} - seen
        own = [one for one in self._records if one.timed and keys & gathering.keys(one.event)] if missing else []
        shown = (
            self._nearest(rule, own) or self._nearest(rule, self._records)
            for rule in self._rules.rules
            if rule.id in missing
        )
        return {one.id: one for one in shown if one}

    def _nearest(self, rule: Rule, records: Iterable[Taken]) -> RuleExplanation | None:
        """The rule on the record that lacks least, of the first `MAX_TRIED`."""
        readable = islice((one for one in records if one.event.source in rule.nodes), MAX_TRIED)
        best = min(readable, key=lambda one: _apart(rule.nodes[one.event.source], one.event.data), default=None)
        return self._on(rule, best) if best else None

    @staticmethod
    def _on(rule: Rule, one: Taken) -> RuleExplanation:
        return msgspec.structs.replace(explain_rule(rule, one.event.source, one.event.data), event_id=one.event.id)


def _apart(node: Node, data: dict[str, Any]) -> tuple[float, float]:
    way = changes(trace(node, reader(data), tuple(leaves(data))))
    return (inf, 0) if way is None else distance(way)


def _fits(correlation: Correlation, key: Key, group: Mapping[str, str]) -> bool:
    held = dict(zip(correlation.group_by, key, strict=True))
    return all(held.get(name) == value for name, value in group.items())
