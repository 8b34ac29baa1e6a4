"""Run rules over the past: alerts a day, people's work, and what changes against another version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.act.alerts import Alerts
from vedette.act.load import Minutes, fetch_minutes
from vedette.act.triage import Triage
from vedette.cli._settings import settings_of
from vedette.cli.rules import _payment, _sets
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.errors import DataError
from vedette.core.ids import Ids
from vedette.core.render import printable
from vedette.core.settings import Settings
from vedette.judge.sigma.load import RuleSet
from vedette.prove.audit import Audit
from vedette.run.parts import Parts
from vedette.run.pipeline.rollout import Rollout
from vedette.run.rules.backtest import Counted, Example, Report, RuleReport, backtest
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules backtest --rules my-rules/ --home .vedette --from 30d          # over the stored events

  vedette rules backtest --rules my-rules/ --against shipped --home .vedette   # what would change

  vedette rules backtest --rules new/ --against old/ events.ndjson.gz --json   # over files

  vedette rules backtest --rules payment.yaml --home .vedette --from 30d       # payment rules, over what was decided

An alert is what a person would have got: signals grouped and suppressed as the rules' cards say. Work is alerts times
the median minutes from taking an alert in hand to resolving it; 10 while there is no such history.

Exit codes: 0 done; 1 a rule raises more alerts a day than its `budget`; 2 a path cannot be opened."""

OVER = 1
"""Exit code when a rule is over its budget."""
SHIPPED = "shipped"
"""Says that the comparison is with what runs in the installation."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="backtest", epilog=EXAMPLES)(run)


def run(
    events: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Records; else the home's.")] = None,
    *,
    rules: Annotated[list[Path], typer.Option(help="Folder, archive or file of rules; repeat it.")],
    against: Annotated[str, typer.Option(metavar="PATH", help="Rules to compare with; `shipped`: what is live.")] = "",
    since: Annotated[str, typer.Option("--from", help="Start: a date, a time, or `30d` ago.")] = "",
    until: Annotated[str, typer.Option("--to", help="End; by default now, of files their last record.")] = "",
    home: _sets.Home = None,
    only: _sets.Only = "",
    exceptions: _sets.Exceptions = None,
    lists: _sets.Lists = None,
    pipeline: _sets.Pipeline = None,
    sources: _sets.Sources = None,
    as_json: _sets.AsJson = False,
) -> None:
    """Count the alerts that rules would have raised, and those that another version would not."""
    now, settings, known = SystemClock().now(), settings_of(home), load_sources(sources)
    end = _sets.moment_of(until, now) if until else None if events else now
    period = _sets.Period(_sets.moment_of(since, now) if since else None, end)
    if _payment.all_payment(rules):
        if events or len(rules) > 1 or len(lists or ()) > 1:
            hint = "one file of rules and one of lists, over a home; `rules simulate` runs over files of payments"
            raise DataError("rules.payment.asked", "payment rules are backtested over what was decided", hint=hint)
        found = _payment.backtest_recorded(
            rules[0], Path(against) if against else None, lists[0] if lists else None, settings, period
        )
        _payment.show(found, as_json=as_json)
        return
    places = _sets.places_of(known, lists, pipeline)
    new = _sets.set_of(_sets.files_of(rules, only, exceptions), places, now)
    old: RuleSet | None = None
    if against == SHIPPED:
        old = _shipped(settings)
    elif against:
        old = _sets.set_of(_sets.files_of([Path(against)], only, exceptions), places, now)

    def reads(source: str) -> bool:
        return any(source in rule.nodes for one in (new, old) if one for rule in one.rules)

    with _sets.records(events or [], settings, known, period, reads) as batches:
        report = backtest(
            new, batches, known, old=old, since=period.since, until=period.until, minutes=minutes_of(settings)
        )
    if as_json:
        typer.echo(msgspec.json.encode({**msgspec.structs.asdict(report), "skipped": _skipped(new)}).decode())
    else:
        print_report(report)
        for one in new.skipped:
            typer.echo(printable(f"skipped {one.path}: {one.reason}"))
    if report.over_budget:
        raise typer.Exit(OVER)


def _shipped(settings: Settings) -> RuleSet:
    """What is live in the installation, of what was shipped to it."""
    with Parts(settings, clock=SystemClock()) as parts:
        return Rollout(None, parts.shipments, parts.clock, parts.sources, parts.cards).newest().live.rules


def _skipped(rules: RuleSet) -> list[dict[str, str]]:
    return [{"id": one.id, "path": one.path, "reason": one.reason} for one in rules.skipped]


def minutes_of(settings: Settings) -> Minutes:
    """What an alert costs a person, by the installation's history."""
    if not (settings.database_url or settings.state_file.is_file()):
        return Minutes()
    clock = SystemClock()
    state = open_database(settings.database_url or settings.state_file, schema="state")
    try:
        Alerts(state)
        Triage(state, clock, Ids(clock), Audit(None, clock, Ids(clock)))
        return fetch_minutes(state, settings.tenant)
    finally:
        state.close()


def print_report(report: Report) -> None:
    """The report as a table, and what is gained and lost."""
    compared = report.before is not None
    headings = ("alerts a day", *(("before", "gained", "lost") if compared else ()), "signals", "minutes a day")
    table = Table("rule", "level", *headings)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in report.rules:
        if row.now.signals or row.gained or row.lost or row.change not in {"", "same"}:
            table.add_row(printable(row.title), row.level, *_cells(row, compared=compared))
    total = (f"{report.before.per_day:,.2f}", *_gains(report)) if report.before else ()
    table.add_section()
    table.add_row("in all", "", f"{report.now.per_day:,.2f}", *total, *_work(report.now))
    Console(markup=False, highlight=False, emoji=False).print(table)
    for row in report.rules:
        for line in _details(row):
            typer.echo(printable(line))
    measured = f"measured on {report.minutes.measured:,} alerts" if report.minutes.measured else "assumed"
    span = f"{report.records:,} records, {report.days:,.2f} days"
    typer.echo(f"{span}; an alert takes {report.minutes.usual:g} minutes ({measured})")
    for row in report.over_budget:
        text = f"over budget: {row.title}: {row.now.per_day:,.2f} alerts a day, {row.budget:g} allowed"
        typer.echo(printable(text))


def _gains(report: Report) -> tuple[str, str]:
    return f"{sum(row.gained for row in report.rules):,}", f"{sum(row.lost for row in report.rules):,}"


def _cells(row: RuleReport, *, compared: bool) -> tuple[str, ...]:
    before = f"{row.before.per_day:,.2f}" if row.before else "-"
    diff = (before, f"{row.gained:,}", f"{row.lost:,}") if compared else ()
    return (f"{row.now.per_day:,.2f}" if row.version else "-", *diff, *_work(row.now))


def _work(counted: Counted) -> tuple[str, str]:
    return f"{counted.signals:,}", f"{counted.minutes_per_day:,.1f}"


def _details(row: RuleReport) -> Iterator[str]:
    """What was gained and lost, and what most alerts have in common."""
    if row.change not in {"", "same"}:
        yield f"{row.title} ({row.change}): {row.gained} gained, {row.lost} lost, {row.same} the same"
        yield from (f"  + {_line(one)}" for one in row.gained_examples)
        yield from (f"  - {_line(one)}" for one in row.lost_examples)
    if row.now.suppressed:
        yield f"{row.title}: {row.now.suppressed:,} alerts counted and not raised (`suppress`)"
    for one in row.common if row.now.alerts >= 10 else ():  # noqa: PLR2004 - few need no tuning
        rest = row.now.alerts - one.alerts
        share = f"{one.alerts:,} of {row.now.alerts:,} alerts"
        yield f"{row.title}: {share} have {one.field} = {one.value}; {rest:,} without"


def _line(example: Example) -> str:
    entity = f" {example.entity}" if example.entity else ""
    return f"{example.time[:19]}Z{entity} {example.title} ({example.signals} signals, event {example.event_id})"
