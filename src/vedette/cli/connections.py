"""Let platforms act in an account, list what was given and taken back, and take it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from vedette.cli._settings import OPERATOR
from vedette.cli.keys import AsJson, Home, Tenant, Url, open_access, open_log, parse_duration, state
from vedette.core.clock import SystemClock, to_iso
from vedette.core.render import printable
from vedette.prove.access import Connection, Mode
from vedette.prove.access.policy import format_scopes, parse_scopes

EXAMPLES = """Examples:

  vedette connections give market --scope charges:write --scope payouts:read --expires 90d

  vedette connections give market --live --scope charges:read --merchant m-17 --json

  vedette connections list --held              # what others gave to this tenant

  vedette connections revoke con_01jd...       # again changes nothing"""

ConnectionId = Annotated[str, typer.Argument(metavar="CONNECTION", help="Id, from `vedette connections list`.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="connections", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    for name, command in (("give", give), ("list", list_connections), ("revoke", revoke)):
        verb.command(name, epilog=EXAMPLES)(command)
    app.add_typer(verb)


def give(
    platform: Annotated[str, typer.Argument(help="Tenant that gets it.")],
    *,
    scope: Annotated[list[str], typer.Option(help="resource:read or resource:write; repeat it.")],
    live: Annotated[bool, typer.Option("--live", help="For live data; test data otherwise.")] = False,
    merchant: Annotated[list[str] | None, typer.Option(help="Bind to this merchant; repeat it.")] = None,
    expires: Annotated[str, typer.Option(help="How long it holds, at most 366d.")] = "90d",
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Let a platform act in this account. What it was given before, for the same mode, ends."""
    scopes, lasts = parse_scopes(",".join(scope)), parse_duration(expires)
    with open_log(home) as log:
        access = open_access(home, url, log)
        access.create_tenant(tenant)
        made = access.connections.give(
            tenant,
            platform,
            scopes=scopes,
            mode=Mode.LIVE if live else Mode.TEST,
            expires_s=lasts,
            merchants=merchant or (),
            by=OPERATOR,
        )
    _tell(made, as_json=as_json)


def list_connections(
    *,
    held: Annotated[bool, typer.Option("--held", help="What others gave to this tenant.")] = False,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """List what this account gave, ended ones too."""
    with open_log(home) as log:
        known = open_access(home, url, log).connections
        found = known.held(tenant) if held else known.given(tenant)
    if as_json:
        typer.echo(msgspec.json.encode([to_dict(each) for each in found]).decode())
        return
    columns = (Column("id", no_wrap=True), "account" if held else "platform", "mode", "state", "scopes", "until")
    table = Table(*columns)
    for each in found:
        shape = to_dict(each)
        other = each.account if held else each.platform
        row = (each.id, other, each.mode, shape["state"], shape["scopes"], shape["expires"][:10])
        table.add_row(*(printable(cell) for cell in row))
    Console().print(table, markup=False)


def revoke(
    connection: ConnectionId,
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Take back what a platform may do. Running services refuse it within a second."""
    with open_log(home) as log:
        ended = open_access(home, url, log).connections.revoke(tenant, connection, by=OPERATOR)
    _tell(ended, as_json=as_json)


def to_dict(found: Connection) -> dict[str, Any]:
    """A connection as `--json` prints it; times are ISO 8601."""
    return {
        "id": found.id,
        "account": found.account,
        "platform": found.platform,
        "mode": found.mode,
        "state": state(found, SystemClock().now()),
        "scopes": format_scopes(found.scopes),
        "merchants": sorted(found.merchants),
        "created": to_iso(found.created),
        "expires": to_iso(found.expires),
        "revoked": None if found.revoked is None else to_iso(found.revoked),
    }


def _tell(found: Connection, *, as_json: bool) -> None:
    shape = to_dict(found)
    if as_json:
        typer.echo(msgspec.json.encode(shape).decode())
        return
    for name in ("id", "platform", "mode", "state", "scopes", "expires"):
        typer.echo(printable(f"{name:<9} {shape[name]}"))
