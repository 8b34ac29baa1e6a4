"""Hunts as objects: save a hypothesis and its query, run it, run a colleague's again; a hit is a case."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from vedette.cli._response import AsJson, Config, Home, Opened, Tenant
from vedette.core.clock import to_iso
from vedette.core.render import printable
from vedette.run.investigation.hunts import HuntRun, Hunts, SavedHunt
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette hunts save quiet-trail --hypothesis "somebody stops the audit trail" --technique T1562 \\
    --sql "select id, event_time from cloudtrail where eventName = 'StopLogging'"

  vedette hunts run quiet-trail --by ana      # rows open a case; none is evidence with its date

  vedette hunts list

A run again is told whether its rows are the same ones. Exit code 1 of `run`: something was found."""

HIT = 1
Named = Annotated[str, typer.Argument(metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="hunts", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    verb.command("save", epilog=EXAMPLES)(save)
    verb.command("run", epilog=EXAMPLES)(run)
    verb.command("list", epilog=EXAMPLES)(list_hunts)
    app.add_typer(verb)


def save(
    name: Named,
    *,
    hypothesis: Annotated[str, typer.Option(help="What is suspected.")],
    sql: Annotated[str, typer.Option(help="One SELECT over events; its rows are hits.")],
    technique: Annotated[list[str] | None, typer.Option(help="Of ATT&CK; may be repeated.")] = None,
    by: Annotated[str, typer.Option(help="Who.")] = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Save a hunt."""
    hunt = SavedHunt(name=name, hypothesis=hypothesis, sql=sql, techniques=tuple(technique or ()), author=by)
    with Opened(home, tenant, config) as here:
        Hunts(here, Store(here.settings.store_folder)).save(here.tenant, hunt)
    typer.echo(f"saved {printable(name)}")


def run(
    name: Named,
    *,
    by: Annotated[str, typer.Option(help="Who.")] = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run a hunt."""
    with Opened(home, tenant, config) as here:
        made, _ = Hunts(here, Store(here.settings.store_folder)).run(here.tenant, name, operator=by)
    shown = _shape(made)
    line = ", ".join(f"{key} {value}" for key, value in shown.items() if value not in ("", None))
    typer.echo(msgspec.json.encode(shown).decode() if as_json else printable(line))
    raise typer.Exit(HIT if made.rows else 0)


def list_hunts(*, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """The hunts, and what their last runs found."""
    with Opened(home, tenant, config) as here:
        hunts = Hunts(here, Store(here.settings.store_folder))
        for one in hunts.all(here.tenant):
            runs = hunts.runs(here.tenant, one.name)
            last = _shape(runs[-1]) if runs else None
            shown = {**msgspec.to_builtins(one), "runs": len(runs), "last": last}
            told = f"{last['rows']} rows at {last['time']}" if last else "never run"
            plain = f"{one.name}: {one.hypothesis}; {told}"
            typer.echo(msgspec.json.encode(shown).decode() if as_json else printable(plain))


def _shape(made: HuntRun) -> dict[str, Any]:
    return {**msgspec.to_builtins(made), "time": to_iso(made.time)}
