"""Make apps, roll their client secrets, and end them. A client secret is shown once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from vedette.cli._settings import OPERATOR
from vedette.cli.keys import AsJson, Home, Tenant, Url, open_access, open_log, parse_duration
from vedette.core.clock import to_iso
from vedette.core.render import printable
from vedette.prove.access import App, IssuedApp, Mode
from vedette.prove.access.policy import format_scopes, parse_scopes

EXAMPLES = """Examples:

  vedette apps create till --scope charges:write --scope payouts:read

  vedette apps list --json                     # ids and scopes, never a secret

  vedette apps roll app_01jd... --overlap 24h  # both secrets hold for a day

  vedette apps disable app_01jd...             # again changes nothing

  curl -u app_01jd...:vs_... -d grant_type=client_credentials localhost:8700/v1/oauth/token"""

AppId = Annotated[str, typer.Argument(metavar="APP", help="Id of the app, from `vedette apps list`.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="apps", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    for name, command in (("create", create), ("list", list_apps), ("roll", roll), ("disable", disable)):
        verb.command(name, epilog=EXAMPLES)(command)
    app.add_typer(verb)


def create(
    name: Annotated[str, typer.Argument(help="For people.")],
    *,
    scope: Annotated[list[str], typer.Option(help="The most its tokens may do: resource:read or resource:write.")],
    live: Annotated[bool, typer.Option("--live", help="For live data; test data otherwise.")] = False,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Make an app and show its client secret this once."""
    scopes = parse_scopes(",".join(scope))
    with open_log(home) as log:
        access = open_access(home, url, log)
        access.create_tenant(tenant)
        issued = access.apps.create(tenant, name, scopes=scopes, mode=Mode.LIVE if live else Mode.TEST, by=OPERATOR)
    _show_issued(issued, as_json=as_json)


def list_apps(
    *, tenant: Tenant = "default", home: Home = Path(".vedette"), url: Url = "", as_json: AsJson = False
) -> None:
    """List apps, disabled ones too, without any secret."""
    with open_log(home) as log:
        found = open_access(home, url, log).apps.list(tenant)
    if as_json:
        typer.echo(msgspec.json.encode([to_dict(app) for app in found]).decode())
        return
    table = Table(Column("id", no_wrap=True), "name", "mode", "state", "scopes", "last used")
    for app in found:
        used = to_iso(app.last_used)[:19] if app.last_used else "-"
        row = (app.id, app.name, app.mode, to_dict(app)["state"], format_scopes(app.scopes), used)
        table.add_row(*(printable(cell) for cell in row))
    Console().print(table, markup=False)


def roll(
    app: AppId,
    *,
    overlap: Annotated[str, typer.Option(help="How long the old secret still holds: 0s to 7d.")] = "24h",
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Give an app a new client secret, shown this once."""
    seconds = parse_duration(overlap)
    with open_log(home) as log:
        issued = open_access(home, url, log).apps.roll(tenant, app, overlap=seconds, by=OPERATOR)
    _show_issued(issued, as_json=as_json)


def disable(
    app: AppId, *, tenant: Tenant = "default", home: Home = Path(".vedette"), url: Url = "", as_json: AsJson = False
) -> None:
    """End an app for good, and with it every token. Running services see it within a second."""
    with open_log(home) as log:
        ended = open_access(home, url, log).apps.disable(tenant, app, by=OPERATOR)
    typer.echo(msgspec.json.encode(to_dict(ended)).decode() if as_json else f"{ended.id} disabled")


def to_dict(app: App) -> dict[str, Any]:
    """An app as `--json` prints it; times are ISO 8601."""
    return {
        "id": app.id,
        "tenant": app.tenant,
        "name": app.name,
        "mode": app.mode,
        "state": "active" if app.disabled is None else "disabled",
        "scopes": format_scopes(app.scopes),
        "created": to_iso(app.created),
        "disabled": None if app.disabled is None else to_iso(app.disabled),
        "last_used": None if app.last_used is None else to_iso(app.last_used),
    }


def _show_issued(issued: IssuedApp, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode({**to_dict(issued.app), "client_secret": issued.secret.reveal()}).decode())
        return
    typer.echo(f"id             {issued.app.id}\nclient_secret  {issued.secret.reveal()}")
    typer.echo("The client secret is shown this once and stored nowhere.", err=True)
