"""Hunts as objects: save a hypothesis and its query, run it, run a colleague's again; a hit is a case."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.run.investigation.hunts import HuntRun, Hunts, HuntState, SavedHunt, Standing
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette hunts save quiet-trail --hypothesis "somebody stops the audit trail" --technique T1562 \\
    --sql "select id, event_time from cloudtrail where eventName = 'StopLogging'"

  vedette hunts run quiet-trail --by ana      # rows open a case; none is evidence with its date

  vedette hunts list

  vedette hunts link quiet-trail --case cs_5f0c... --rule own.trail.stopped --by ana

  vedette hunts state quiet-trail confirmed --found "one role of the build server did it" --by ana

A run again is told whether its rows are the same ones. Exit code 1 of `run`: something was found."""

HIT = 1
Named = Annotated[str, typer.Argument(metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="hunts", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    verb.command("save", epilog=EXAMPLES)(save)
    verb.command("run", epilog=EXAMPLES)(run)
    verb.command("list", epilog=EXAMPLES)(list_hunts)
    verb.command("state", epilog=EXAMPLES)(set_state)
    verb.command("link", epilog=EXAMPLES)(link)
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
    told = ", ".join(f"{key} {value}" for key, value in shown.items() if value not in ("", None))
    typer.echo(msgspec.json.encode(shown).decode() if as_json else printable(told))
    raise typer.Exit(HIT if made.rows else 0)


def set_state(
    name: Named,
    state: Annotated[HuntState | None, typer.Argument(help="What became of it; without one it is only shown.")] = None,
    *,
    found: Annotated[str | None, typer.Option(help="What was found, in words; a hunt is not settled without.")] = None,
    by: Annotated[str, typer.Option(help="Who.")] = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what became of a hunt, or say it."""
    with Opened(home, tenant, config) as here:
        hunts = Hunts(here, Store(here.settings.store_folder))
        if state is None and found is None:
            made = hunts.standing(here.tenant, name)
        else:
            made = hunts.change(here.tenant, name, operator=by, state=state, found=found)
    _show_standing(made, as_json=as_json)


def link(
    name: Named,
    *,
    case: Annotated[str, typer.Option(help="Id of a case that came of it.")] = "",
    rule: Annotated[str, typer.Option(help="Id of a rule that looks for it from now on.")] = "",
    by: Annotated[str, typer.Option(help="Who.")] = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Link a case or a rule that came of a hunt; again changes nothing."""
    if not case and not rule:
        raise DataError("hunts.link.missing", "there is nothing to link", hint="name a --case or a --rule")
    with Opened(home, tenant, config) as here:
        hunts = Hunts(here, Store(here.settings.store_folder))
        made = hunts.change(here.tenant, name, operator=by, case=case, rule=rule)
    _show_standing(made, as_json=as_json)


def _show_standing(made: Standing, *, as_json: bool) -> None:
    if as_json:
        show_json(made)
        return
    line(f"{made.state}{': ' + made.found if made.found else ''}")
    for kind, names in (("case", made.cases), ("rule", made.rules)):
        for name in names:
            line(f"  {kind} {name}")


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
