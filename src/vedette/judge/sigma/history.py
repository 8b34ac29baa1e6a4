"""A rule set over stored events, by the matcher or by SQL: the same rules fire on the same events.

The matcher's cost hardly depends on the number of rules and needs every event decoded; SQL's grows with each rule, and
it decodes only what fires. So SQL wins with a few rules that columns of the store narrow down, the matcher with many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.dataset as pads

from vedette.core.errors import UnsupportedError
from vedette.core.event import Event
from vedette.expr.sql.printer import Form, Printer
from vedette.expr.sql.prune import Demands, demands, pruned
from vedette.expr.sql.query import FIRED, Query, rules_query
from vedette.expr.sql.spark import SparkPrinter
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.ready import Placed, Ready, once
from vedette.judge.sigma.rules import Skipped
from vedette.sense.scan import TABLE, refused_patterns, scanning
from vedette.sense.sources import Source
from vedette.sense.store import ENVELOPE, events_of, promoted, to_event

RULES_A_QUERY = 200
"""Planning a query costs about a millisecond a rule, and memory with it; reading the rows once more costs less."""
_OPEN_ROWS = 20_000
"""Rows with lists that are judged at once."""

Fired = tuple[Event, list[Placed]]


class Engine(StrEnum):
    """What judges stored events."""

    MATCHER = "matcher"
    SQL = "sql"


class Dialect(StrEnum):
    """Whose SQL rules are printed as."""

    DUCKDB = "duckdb"
    """The event store's own engine."""
    SPARK = "spark"
    """Spark SQL 4, for whoever has the events elsewhere."""


class Judge(Protocol):
    """Rules over a source's stored events."""

    def fired(self, source: str, rows: pads.Dataset) -> Iterator[Fired]:
        """The events that rules fire on, each once, with those rules; in no order."""


class Matching:
    """The matcher over stored events.

    Args:
        rules: What to look for.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._ready = Ready(rules)

    def fired(self, source: str, rows: pads.Dataset) -> Iterator[Fired]:
        """See `Judge`."""
        matcher, rules = self._ready.of(source)
        for held in events_of(rows):
            for event, numbers in zip(held, matcher.match_many([event.data for event in held]), strict=True):
                if numbers:
                    yield event, list(once(rules, numbers))


class Hunting:
    """SQL over stored events.

    Args:
        rules: What to look for.
        sources: The known sources: what the store promotes.
        threads: Most threads of one query.

    Raises:
        UnsupportedError: `sql.rules.refused`: rules that SQL cannot run; `runnable` leaves them out.
    """

    def __init__(self, rules: RuleSet, sources: Mapping[str, Source], *, threads: int = 2) -> None:
        self._rules = rules
        self._sources = sources
        self._threads = threads
        self._batches: dict[str, list[_Batch]] = {}
        if refused := runnable(rules)[1]:
            raise UnsupportedError("sql.rules.refused", "; ".join(f"{one.path}: {one.reason}" for one in refused[:10]))

    def fired(self, source: str, rows: pads.Dataset) -> Iterator[Fired]:
        """See `Judge`."""
        there = tuple(name for name in promoted(self._sources[source]) if name in rows.schema.names)
        batches = self._of(source)
        if len(batches) == 1:
            yield from self._run(batches[0], rows, there)
            return
        found: dict[str, Fired] = {}
        for batch in batches:
            for event, placed in self._run(batch, rows, there):
                found.setdefault(event.id, (event, []))[1].extend(placed)
        order = {id(node): number for number, (_, node) in enumerate(self._rules.of(source))}
        for event, placed in found.values():
            ordered = sorted(placed, key=lambda pair: order[id(pair[1])])
            yield event, list(once(ordered, range(len(ordered))))

    def _of(self, source: str) -> list[_Batch]:
        if source not in self._batches:
            fields = {path: column for column, path in promoted(self._sources[source]).items() if "." not in path}
            self._batches[source] = [_Batch(some, fields) for some in _grouped(self._rules.of(source), fields)]
        return self._batches[source]

    def _run(self, batch: _Batch, rows: pads.Dataset, there: Sequence[str]) -> Iterator[Fired]:
        waiting: list[pa.RecordBatch] = []
        with scanning(rows, threads=self._threads) as scan:
            for piece in scan.run(batch.query(Form.ONE, there).text()):
                open_ = pa.compute.is_null(piece.column(FIRED))
                waiting.append(piece.filter(open_))
                yield from batch.placed(piece.filter(pa.compute.invert(open_)))
                if sum(one.num_rows for one in waiting) > _OPEN_ROWS:
                    yield from self._lists(batch, waiting)
                    waiting.clear()
        yield from self._lists(batch, waiting)

    def _lists(self, batch: _Batch, waiting: Sequence[pa.RecordBatch]) -> Iterator[Fired]:
        """Judges rows in which a field holds a list."""
        if not any(one.num_rows for one in waiting):
            return
        table = pa.Table.from_batches(waiting).select(ENVELOPE.names)
        with scanning(table, threads=self._threads) as scan:
            for piece in scan.run(batch.query(Form.LISTS, ()).text()):
                yield from batch.placed(piece)


class _Batch:
    """Rules of one query."""

    def __init__(self, rules: Sequence[tuple[Placed, Demands]], fields: Mapping[str, str]) -> None:
        self._rules = [placed for placed, _ in rules]
        self._demands = [demand for _, demand in rules]
        self._fields = fields
        self._queries: dict[tuple[Form, tuple[str, ...]], Query] = {}

    def query(self, form: Form, there: Sequence[str]) -> Query:
        """The query, narrowed by the columns that are there."""
        key = form, tuple(there)
        if key not in self._queries:
            columns = {field: column for field, column in self._fields.items() if column in there}
            self._queries[key] = rules_query(
                [node for _, node in self._rules],
                table=TABLE,
                columns=ENVELOPE.names,
                form=form,
                where=pruned(self._demands, columns),
            )
        return self._queries[key]

    def placed(self, rows: pa.RecordBatch) -> Iterator[Fired]:
        """The events of an answer's rows with the rules that fired."""
        fired: list[Any] = rows.column(FIRED).to_pylist()
        events = rows.select(ENVELOPE.names).to_pylist()
        for row, numbers in zip(events, fired, strict=True):
            yield to_event(row), list(once(self._rules, numbers))


def runnable(rules: RuleSet, dialect: Dialect = Dialect.DUCKDB) -> tuple[RuleSet, list[Skipped]]:
    """The rules that SQL runs with the same meaning, and the others with the reason of each.

    A correlation over a refused rule would miss events, and is refused too.
    """
    make = Printer if dialect is Dialect.DUCKDB else SparkPrinter
    problems, patterns = {}, {}
    for rule in rules.rules:
        printer = make()
        try:
            for node in rule.nodes.values():
                printer.condition(node)
        except UnsupportedError as error:
            problems[rule] = f"{error.message} [{error.code}]"
        patterns[rule] = printer.patterns
    bad = refused_patterns(set().union(*patterns.values())) if dialect is Dialect.DUCKDB else {}
    for rule, own in patterns.items():
        for pattern in sorted(own & bad.keys()):
            problems[rule] = f"the regular expression `{pattern}` is refused: {bad[pattern]} [sql.regex.refused]"
    refused = [Skipped(rule.id, reason, rule.path) for rule, reason in problems.items()]
    lost = {one.id for one in refused}
    kept = []
    for one in rules.correlations:
        if lost.isdisjoint(part.id for part in one.parts):
            kept.append(one)
        else:
            lost.add(one.id)
            refused.append(Skipped(one.id, "rests on a rule that SQL cannot run [sql.rule.refused]", one.path))
    good = tuple(rule for rule in rules.rules if rule not in problems)
    return RuleSet(good, rules.skipped, tuple(kept)), refused


def _grouped(rules: Sequence[Placed], fields: Mapping[str, str]) -> Iterator[list[tuple[Placed, Demands]]]:
    """Rules in batches; those that ask the same of promoted fields stand together, so that few rows are read."""
    groups: dict[tuple[tuple[str, ...], ...], list[tuple[Placed, Demands]]] = defaultdict(list)
    for placed in rules:
        wanted = demands(placed[1])
        groups[tuple(tuple(sorted(wanted.get(name, ()))) for name in fields)].append((placed, wanted))
    ordered = [pair for key in sorted(groups) for pair in groups[key]]
    for start in range(0, len(ordered), RULES_A_QUERY):
        yield ordered[start : start + RULES_A_QUERY]


def make_judge(engine: Engine, rules: RuleSet, sources: Mapping[str, Source], *, threads: int = 2) -> Judge:
    """The engine of a name over a rule set. Raises as `Hunting`."""
    return Matching(rules) if engine is Engine.MATCHER else Hunting(rules, sources, threads=threads)
