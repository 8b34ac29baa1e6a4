"""Create, list, roll and revoke API keys. A key's secret is shown once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from vedette.core.clock import MICROS, SystemClock, seconds_of, to_iso
from vedette.core.db import open_database
from vedette.core.errors import DefinitionError
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.core.render import printable
from vedette.prove.access import Access, ApiKey, Connection, IssuedKey, Mode, Token
from vedette.prove.access.policy import format_scopes, parse_scopes
from vedette.prove.audit import to_log

CREATE_EXAMPLES = """Examples:

  vedette keys create --scope charges:write --scope decisions:read --name shop

  vedette keys create --live --scope charges:write --account m-17 --expires 90d --json"""

LIST_EXAMPLES = """Example:

  vedette keys list --json                   # ids and scopes, never a secret"""

ROLL_EXAMPLES = """Example:

  vedette keys roll key_01jd... --overlap 24h"""

REVOKE_EXAMPLES = """Example:

  vedette keys revoke key_01jd...            # again changes nothing"""

Home = Annotated[Path, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
Tenant = Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Which tenant.")]
Url = Annotated[str, typer.Option("--database", envvar="VEDETTE_DATABASE_URL", help="PostgreSQL instead of state.db.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, never its secret.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="keys", no_args_is_help=True, help=__doc__, epilog=CREATE_EXAMPLES)
    verb.command("create", epilog=CREATE_EXAMPLES)(create)
    verb.command("list", epilog=LIST_EXAMPLES)(list_keys)
    verb.command("roll", epilog=ROLL_EXAMPLES)(roll)
    verb.command("revoke", epilog=REVOKE_EXAMPLES)(revoke)
    app.add_typer(verb)


def create(
    *,
    scope: Annotated[list[str], typer.Option(help="resource:read or resource:write; repeat it.")],
    live: Annotated[bool, typer.Option("--live", help="For live data; test data otherwise.")] = False,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    account: Annotated[list[str] | None, typer.Option(help="Bind to this account or merchant; repeat it.")] = None,
    expires: Annotated[str, typer.Option(help="How long it may be used: 90d, 12h; for ever by default.")] = "",
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Create a key and show its secret this once."""
    scopes, lasts = parse_scopes(",".join(scope)), parse_duration(expires) if expires else None
    clock = SystemClock()
    with open_log(home) as log:
        access = open_access(home, url, log)
        access.create_tenant(tenant)
        issued = access.issue_key(
            tenant,
            scopes=scopes,
            mode=Mode.LIVE if live else Mode.TEST,
            name=name,
            accounts=account or (),
            expires=None if lasts is None else clock.now() + lasts * MICROS,
        )
    _show_issued(issued, as_json=as_json)


def list_keys(
    *, tenant: Tenant = "default", home: Home = Path(".vedette"), url: Url = "", as_json: AsJson = False
) -> None:
    """List keys, ended ones too, without any secret."""
    with open_log(home) as log:
        found = open_access(home, url, log).keys(tenant)
    now = SystemClock().now()
    if as_json:
        typer.echo(msgspec.json.encode([to_dict(key, now) for key in found]).decode())
        return
    table = Table(
        Column("id", no_wrap=True), "name", "mode", Column("state", no_wrap=True), "scopes", "accounts", "last used"
    )
    for key in found:
        used = to_iso(key.last_used)[:19] if key.last_used else "-"
        row = (key.id, key.name, key.mode, state(key, now), format_scopes(key.scopes), ",".join(sorted(key.accounts)))
        table.add_row(*(printable(cell) for cell in (*row, used)))
    Console().print(table, markup=False)


def roll(
    key: KeyId,
    *,
    overlap: Annotated[str, typer.Option(help="How long the old one may still be used: 0s to 7d.")] = "24h",
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Replace a key by a new one with the same reach, and show its secret this once."""
    seconds = parse_duration(overlap)
    with open_log(home) as log:
        issued = open_access(home, url, log).roll_key(tenant, key, overlap=seconds)
    _show_issued(issued, as_json=as_json)


def revoke(
    key: KeyId, *, tenant: Tenant = "default", home: Home = Path(".vedette"), url: Url = "", as_json: AsJson = False
) -> None:
    """End a key for good. Running services refuse it within a second."""
    with open_log(home) as log:
        ended = open_access(home, url, log).revoke_key(tenant, key)
    now = SystemClock().now()
    typer.echo(msgspec.json.encode(to_dict(ended, now)).decode() if as_json else f"{ended.id} revoked")


def parse_duration(text: str) -> int:
    """`90d`, `12h`, `30m`, `5s` -> seconds.

    Raises:
        DefinitionError: `keys.duration.invalid`.
    """
    seconds = seconds_of(text)
    if seconds is None:
        raise DefinitionError("keys.duration.invalid", "not a duration", hint="write 90d, 12h, 30m or 5s")
    return seconds


def state(key: ApiKey | Token | Connection, now: int) -> str:
    """`active`, `revoked` or `expired` at a time."""
    if key.revoked is not None:
        return "revoked"
    return "expired" if key.expires is not None and key.expires <= now else "active"


def to_dict(key: ApiKey, now: int) -> dict[str, Any]:
    """A key as `--json` prints it; times are ISO 8601."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "mode": key.mode,
        "state": state(key, now),
        "scopes": format_scopes(key.scopes),
        "accounts": sorted(key.accounts),
        "created": to_iso(key.created),
        "expires": None if key.expires is None else to_iso(key.expires),
        "revoked": None if key.revoked is None else to_iso(key.revoked),
        "last_used": None if key.last_used is None else to_iso(key.last_used),
        "rolled_from": key.rolled_from,
    }


def _show_issued(issued: IssuedKey, *, as_json: bool) -> None:
    if as_json:
        shape = {**to_dict(issued.key, issued.key.created), "secret": issued.secret.reveal()}
        typer.echo(msgspec.json.encode(shape).decode())
        return
    typer.echo(f"id      {issued.key.id}\nsecret  {issued.secret.reveal()}")
    typer.echo("The secret is shown this once and stored nowhere.", err=True)


def open_access(home: Path, url: str, log: SqliteLog) -> Access:
    """Access on the state of a home, or of a PostgreSQL, whose changes are recorded in the log."""
    clock = SystemClock()
    return Access(open_database(url or home / "state.db", schema="state"), clock, Ids(clock), observe=to_log(log))


def open_log(home: Path) -> SqliteLog:
    """The log of a home."""
    return SqliteLog(home / "log", SystemClock())
