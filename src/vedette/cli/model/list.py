"""List the registered models, their signatures checked."""

from __future__ import annotations

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._settings import settings_of
from vedette.cli.model import _options
from vedette.core.clock import SystemClock, to_iso
from vedette.core.render import printable

EXAMPLES = """Examples:

  vedette model list

  vedette model list --json

Exit codes: 0 all entries are sound; 1 one is damaged or not signed by this installation: it is never loaded."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="list", epilog=EXAMPLES)(run)


def run(*, home: _options.Home = None, as_json: _options.Json = False) -> None:
    """List the registered models."""
    settings, clock = settings_of(home), SystemClock()
    registry = _options.registry_of(settings, clock)
    entries, damaged = registry.entries(), registry.damaged()
    if as_json:
        typer.echo(msgspec.json.encode({"models": entries, "damaged": damaged}).decode())
    else:
        table = Table("id", "registered", "by", "note", box=None)
        for entry in entries:
            cells = (entry.id, to_iso(entry.time)[:16], entry.operator, entry.note)
            table.add_row(*(printable(cell) for cell in cells))
        Console().print(table, markup=False)
        for name in damaged:
            typer.echo(f"damaged: {printable(name)}: its entry is missing, changed, or not signed by us", err=True)
    if damaged:
        raise typer.Exit(1)
