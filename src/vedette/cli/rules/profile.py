"""What rules cost on real events: the dearest rules and clauses, and the slow stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from vedette.cli._progress import progress
from vedette.cli._settings import settings_of
from vedette.cli.rules._sets import (
    AsJson,
    Home,
    Lists,
    Only,
    Pipeline,
    Sources,
    files_of,
    places_of,
    set_of,
)
from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.profile import DEAREST, RuleCost, Sample, Stages, profile_rules, profile_stages
from vedette.run.rules.records import Batch, of_files, of_store
from vedette.sense.sources import Source, load_sources
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette rules profile --rules my-rules/ events.ndjson.gz

  vedette rules profile --home .vedette --events 5000          # the newest stored events of the product's rules

A rule's cost is what it takes alone, on events not seen before; all together share work and cost less than the sum.

Exit codes: 0 done; 2 a path cannot be opened, or there is no event that a rule reads."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="profile", epilog=EXAMPLES)(profile)


def profile(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", help="Events; else those stored.")] = None,
    *,
    rules: Annotated[list[Path] | None, typer.Option(help="Rules; those of the product by default. Repeat it.")] = None,
    only: Only = "",
    sources: Sources = None,
    pipeline: Pipeline = None,
    lists: Lists = None,
    home: Home = None,
    events: Annotated[int, typer.Option(min=1, max=1_000_000, help="Events of each source.")] = 2_000,
    top: Annotated[int, typer.Option(min=1, help="How many of the dearest rules to show.")] = DEAREST,
    as_json: AsJson = False,
) -> None:
    """Measure what each rule and clause costs on real events, and name the slow stage."""
    known = load_sources(sources)
    files = files_of(rules or [shipped("rules") / "sigma"], only)
    loaded = set_of(files, places_of(known, lists, pipeline), SystemClock().now())
    read = {name: source for name, source in known.items() if loaded.of(name)}
    samples = [sample for sample in _samples(paths, home, read, events) if sample.events]
    if not samples:
        raise DataError("rules.records.missing", "there is no event that a rule reads")
    stages = [profile_stages(loaded, known, sample, time.process_time) for sample in samples]
    with progress() as report:
        costs = profile_rules(
            loaded, samples, time.process_time, lambda done, total: report("measuring rules", done, total)
        )
    if as_json:
        told = {"sources": [_stages(one) for one in stages], "rules": costs[:top], "skipped": len(loaded.skipped)}
        typer.echo(msgspec.json.encode(told).decode())
    else:
        _print(stages, costs[:top], loaded)


def _samples(paths: list[Path] | None, home: Path | None, read: Mapping[str, Source], most: int) -> Iterator[Sample]:
    """The first events of each source, and what decoding them took."""
    settings = settings_of(home)
    if paths:
        batches: Iterator[Batch] = of_files(paths, read)
    else:
        store = Store(settings.store_folder)
        batches = of_store(store, settings.tenant, read, since=0, until=1 << 55)
    held: dict[str, Sample] = {}
    for batch in batches:
        name = batch.source.name
        sample = held.get(name, Sample(batch.source, []))
        wanted = min(len(batch.records), most - len(sample.events))
        found = [event for event in map(batch.event, range(wanted)) if event]
        lines = [msgspec.json.encode(event.data) for event in found] if paths else []
        start = time.process_time()
        batch.source.parse_many(lines)
        spent = time.process_time() - start
        held[name] = Sample(batch.source, [*sample.events, *found], sample.decode + spent)
    yield from held.values()


def _stages(one: Stages) -> dict[str, object]:
    return {**msgspec.to_builtins(one), "slow": one.slow}


def _print(stages: list[Stages], costs: list[RuleCost], loaded: RuleSet) -> None:
    console = Console(markup=False, highlight=False, emoji=False)
    names = ("events", "rules", "decode", "match", "again", "why", "chain", "seen", "slow")
    table = Table("source", *(Column(name, no_wrap=True) for name in names))
    for column in table.columns[1:-1]:
        column.justify = "right"
    for one in stages:
        figures = (f"{cost:.1f}" for cost in (one.decode, one.match, one.again, one.explain, one.correlate))
        table.add_row(one.source, f"{one.events:,}", f"{one.rules:,}", *figures, f"{one.repeats:.0%}", one.slow)
    console.print(table)
    dear = Table("us an event", "rule or clause", "source", "true")
    for rule in costs:
        dear.add_row(f"{rule.micros:.2f}", printable(rule.title or rule.id), rule.source, f"{rule.matches:,}")
        for clause in rule.clauses[:3]:
            dear.add_row(f"  {clause.micros:.2f}", printable(f"  {clause.text:.100}"), "", f"{clause.true:,}")
    console.print(dear)
    typer.echo(
        "CPU microseconds an event; a rule and a clause alone, on events not seen before.\n"
        "again: the same events once more; why: reasons of matches; chain: correlations; seen: values that came before"
    )
    if loaded.skipped:
        typer.echo(f"{len(loaded.skipped):,} rules cannot match and cost nothing")
