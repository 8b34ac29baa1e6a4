"""What differs between two versions of rules, by meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli.rules import _sets
from vedette.core.clock import SystemClock
from vedette.core.render import printable
from vedette.judge.sigma.difference import difference
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules diff old-rules/ my-rules/

  git worktree add ../main main && vedette rules diff ../main/rules rules --json

Layout and comments are no difference. Exit codes: 0 nothing differs; 1 something does; 2 a path cannot be opened."""

DIFFERS = 1
"""Exit code when something differs."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="diff", epilog=EXAMPLES)(run)


def run(
    old: Annotated[Path, typer.Argument(help="Rules as they were.")],
    new: Annotated[Path, typer.Argument(help="Rules as they are.")],
    *,
    only: _sets.Only = "",
    lists: _sets.Lists = None,
    pipeline: _sets.Pipeline = None,
    sources: _sets.Sources = None,
    as_json: _sets.AsJson = False,
) -> None:
    """Say which clauses, levels, tags and tests came, went or changed."""
    places, now = _sets.places_of(load_sources(sources), lists, pipeline), SystemClock().now()
    sets = [_sets.set_of(_sets.files_of([path], only), places, now) for path in (old, new)]
    found = difference(*sets)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    for one in [] if as_json else found:
        typer.echo(printable(f"{one.change}: {one.title} ({one.rule_id})"))
        for line in one.lines:
            if line.before:
                typer.echo(printable(f"  - {line.what}: {line.before}"))
            if line.after:
                typer.echo(printable(f"  + {line.what}: {line.after}"))
    if found:
        raise typer.Exit(DIFFERS)
