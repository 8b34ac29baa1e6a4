"""What is live, what is on trial, and which trials were taken back by themselves, with the harm they did."""

from __future__ import annotations

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._settings import settings_of
from vedette.cli.model import _options
from vedette.core.clock import SystemClock, to_iso
from vedette.core.render import printable
from vedette.run.parts import Parts
from vedette.run.payments.trials import Ended, reports

EXAMPLES = """Examples:

  vedette model trials

  vedette model trials --json"""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="trials", epilog=EXAMPLES)(run)


def run(*, home: _options.Home = None, as_json: _options.Json = False) -> None:
    """Show stages, and trials that ended by themselves."""
    settings = settings_of(home)
    with Parts(settings, clock=SystemClock()) as parts:
        standings = parts.scoring_shipments.standings()
    ended = reports(settings.home / "trials")
    if as_json:
        typer.echo(msgspec.json.encode({"standings": standings, "ended": ended}).decode())
        return
    for part, one in standings.items():
        share = f" {one.percent} %" if one.percent else ""
        live = one.live[:12] or "what the installation began with"
        typer.echo(printable(f"{part}: live {live}; {one.stage}{share} since change {one.seq} by {one.operator}"))
    if not standings:
        typer.echo("nothing was shipped")
    if ended:
        table = Table("when", "what", "guard-rail", "payments", "hurt", "money", "missed", box=None)
        for each in ended:
            table.add_row(*(printable(cell) for cell in _cells(each)))
        Console().print(table, markup=False)


def _cells(one: Ended) -> tuple[str, ...]:
    money = ", ".join(f"{amount / 100:,.2f} {currency}" for currency, amount in one.harm.hurt_minor.items())
    return (
        to_iso(one.time)[:16],
        f"{one.part} {one.title}",
        f"{one.breach.guard}: {one.breach.text}",
        f"{one.harm.answered:,}",
        f"{one.harm.hurt:,}",
        money or "0",
        f"{one.harm.missed:,}",
    )
