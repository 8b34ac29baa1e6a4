"""Check rules without running them: what loads, what is skipped and why, what each becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._rules import Lists, Pipeline, log_sources, today
from vedette.core.clock import MICROS
from vedette.core.render import printable
from vedette.expr.printer import to_text
from vedette.judge.correlation.correlator import condition_text
from vedette.judge.correlation.definition import Correlation
from vedette.judge.sigma.filters import Filter
from vedette.judge.sigma.load import RuleSet, load
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules check my-rules/

  vedette rules check sigma/rules.tar.gz --only 'rules/cloud/**' --json

Exit codes: 0 every rule can match; 1 some cannot; 2 the path cannot be opened."""

SKIPPED = 1
"""Exit code when a rule cannot match."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="check", epilog=EXAMPLES)(check)


def check(
    path: Annotated[Path, typer.Argument(help="Folder, `.tar.gz` or file of Sigma rules.")],
    *,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Select rule files, such as 'rules/windows/**'.")] = "",
    sources: Annotated[Path | None, typer.Option(help="Folder of further source files.")] = None,
    pipeline: Pipeline = None,
    lists: Lists = None,
    show: Annotated[bool, typer.Option("--show", help="Also print what each rule asks, per source.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which rules load, by which sources, and why the others are skipped."""
    rules = load([path], log_sources(load_sources(sources), pipeline, lists), only=only, today=today())
    if as_json:
        typer.echo(msgspec.json.encode(_shape(rules)).decode())
    else:
        _print(rules, show=show)
    if rules.skipped:
        raise typer.Exit(SKIPPED)


def _shape(rules: RuleSet) -> dict[str, object]:
    return {
        "loaded": [
            {
                "id": rule.id,
                "title": rule.title,
                "path": rule.path,
                "sources": {source: to_text(node) for source, node in rule.nodes.items()},
            }
            for rule in rules.rules
        ]
        + [
            {"id": one.id, "title": one.title, "path": one.path, "correlation": _correlation(one)}
            for one in rules.correlations
        ],
        "skipped": [{"id": one.id, "path": one.path, "reason": one.reason} for one in rules.skipped],
        "filters": [_filter(one) for one in rules.filters],
    }


def _print(rules: RuleSet, *, show: bool) -> None:
    if show:
        for rule in rules.rules:
            typer.echo(printable(f"{rule.path}: {rule.title}"))
            for source, node in rule.nodes.items():
                typer.echo(printable(f"  {source}: {to_text(node)}"))
        for correlation in rules.correlations:
            typer.echo(printable(f"{correlation.path}: {correlation.title}"))
            for name, value in _correlation(correlation).items():
                typer.echo(printable(f"  {name}: {value}"))
    for exception in rules.filters:
        day = exception.card.expires
        until = f"applies{f' until {day}' if day else ''}" if exception.applies else f"expired on {day}, was applied"
        typer.echo(printable(f"filter {exception.path}: {exception.title}: {until} to {len(exception.rules):,} rules"))
    if rules.skipped:
        table = Table("skipped", "reason")
        for one in rules.skipped:
            table.add_row(printable(one.path), printable(one.reason))
        Console(markup=False, highlight=False, emoji=False).print(table)
    count = len(rules.rules) + len(rules.correlations)
    typer.echo(f"{count:,} rules can match, {len(rules.skipped):,} cannot")


def _filter(one: Filter) -> dict[str, object]:
    return {
        "id": one.id,
        "path": one.path,
        "owner": one.card.owner,
        "reason": one.card.reason,
        "expires": one.card.expires,
        "applies": one.applies,
        "rules": one.rules,
    }


def _correlation(one: Correlation) -> dict[str, str]:
    """What a correlation asks, in one line each."""
    return {
        "correlation": f"{one.measure.kind} {condition_text(one)} in {one.measure.span // MICROS} s",
        "rules": ", ".join(part.name for part in one.parts),
        "group-by": ", ".join(one.group_by) or "nothing",
    }
