"""The exceptions to rules: who owns each, until when it applies, and whether it still keeps anything away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._settings import settings_of
from vedette.cli.rules import _sets
from vedette.core.clock import SystemClock, to_datetime
from vedette.core.render import printable
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.filters import Filter
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.run.rules.gates import written_of
from vedette.run.rules.records import Batch
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules exceptions my-rules/                                   # `exceptions/` beside them is read too

  vedette rules exceptions my-rules/ --home .vedette --from 90d --used   # which keep nothing away any more

Exit codes: 0 all apply; 1 one has expired, lacks owner, reason or end, or narrows nothing; 2 bad input."""

BAD = 1
"""Exit code when one is to be looked at."""
SOON = timedelta(days=14)


class Row(msgspec.Struct, frozen=True):
    """One exception."""

    id: str
    title: str
    path: str
    owner: str
    reason: str
    expires: str
    state: str
    """`applies`, `expires soon`, `expired`, `no end` or `narrows nothing`."""
    rules: tuple[str, ...]
    used: int | None = None
    """Events it kept from a rule over the period; None: not asked."""

    @property
    def bad(self) -> bool:
        """True when somebody must look at it."""
        return self.state not in {"applies", "expires soon"} or not (self.owner and self.reason)


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="exceptions", epilog=EXAMPLES)(run)


def run(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, archives or files of rules.")],
    *,
    used: Annotated[bool, typer.Option("--used", help="Count what each keeps away.")] = False,
    events: Annotated[list[Path] | None, typer.Option(help="Files to count over; else the home's; repeat it.")] = None,
    since: Annotated[str, typer.Option("--from", help="Start: a date, a time, or `30d` ago.")] = "30d",
    home: _sets.Home = None,
    exceptions: _sets.Exceptions = None,
    lists: _sets.Lists = None,
    sources: _sets.Sources = None,
    as_json: _sets.AsJson = False,
) -> None:
    """List exceptions with owner, reason and end; name those that have expired, soon will, or keep nothing away."""
    now, known = SystemClock().now(), load_sources(sources)
    places = _sets.places_of(known, lists)
    files = _sets.files_of(paths, "", exceptions)
    rules = _sets.set_of(files, places, now)
    counts: Mapping[str, int] = {}
    if used:
        counting = _Counting(files, rules.filters, places)
        period = _sets.Period(None if events else _sets.moment_of(since, now), None)
        with _sets.records(events or [], settings_of(home), known, period, counting.reads) as batches:
            counts = counting.over(batches)
    today = to_datetime(now).date()
    rows = [_row(one, today, counts.get(one.id, 0) if used else None) for one in rules.filters]
    if as_json:
        typer.echo(msgspec.json.encode(rows).decode())
    else:
        _print(rows)
    if any(row.bad for row in rows):
        raise typer.Exit(BAD)


class _Counting:
    """Counts, for each exception, the events of its rules that it alone keeps away: with it none, without it one.

    Args:
        files: Rules and exceptions.
        filters: The exceptions.
        places: Where log sources are found.
    """

    def __init__(self, files: list[RuleFile], filters: Iterable[Filter], places: LogSources) -> None:
        holding = {one.path for one in written_of(files) if one.is_filter}
        plain = [file for file in files if file.path not in holding]
        self._bare = Ready(build(plain, places))
        self._narrowed: list[tuple[str, frozenset[str], Ready]] = []
        documents = {file.path: file for file in files}
        for one in (one for one in filters if one.applies):
            rules = build([*plain, documents[one.path]], places)
            self._narrowed.append((one.id, frozenset(one.rules), Ready(rules)))

    def reads(self, source: str) -> bool:
        """True when a rule reads a source."""
        return bool(self._bare.of(source)[1])

    def over(self, batches: Iterable[Batch]) -> dict[str, int]:
        """Exception -> events."""
        found: dict[str, int] = {}
        for batch in batches:
            name, records = batch.source.name, list(batch.records)
            matcher, bare = self._bare.of(name)
            hits = matcher.match_many(records)
            fired = [
                (data, {bare[number][0].id for number in numbers})
                for data, numbers in zip(records, hits, strict=True)
                if numbers
            ]
            for title, wanted, ready in self._narrowed:
                for data, ids in fired:
                    if here := ids & wanted:
                        left = {rule.id for rule, _ in ready.fired(name, data)}
                        found[title] = found.get(title, 0) + bool(here - left)
        return found


def _row(one: Filter, today: date, used: int | None) -> Row:
    expires = one.card.expires
    if expires is None:
        state = "no end"
    elif not one.applies:
        state = "expired"
    elif not one.rules:
        state = "narrows nothing"
    else:
        state = "expires soon" if expires - today <= SOON else "applies"
    return Row(
        id=one.id,
        title=one.title,
        path=one.path,
        owner=one.card.owner,
        reason=one.card.reason,
        expires=expires.isoformat() if expires else "",
        state=state,
        rules=one.rules,
        used=used,
    )


def _print(rows: Iterable[Row]) -> None:
    table = Table("exception", "owner", "reason", "expires", "state", "rules", "kept away")
    for row in rows:
        used = "" if row.used is None else f"{row.used:,}"
        cells = (row.title or row.id, row.owner, row.reason, row.expires, row.state, str(len(row.rules)), used)
        table.add_row(*map(printable, cells))
    Console(markup=False, highlight=False, emoji=False).print(table)
