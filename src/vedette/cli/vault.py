"""The vault of card numbers: serve it, and look after its keys. Its folder, database and address are its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from vedette.cli._progress import counting
from vedette.cli._settings import environment
from vedette.core.clock import SystemClock, seconds_of, to_iso
from vedette.core.errors import ConflictError, DefinitionError
from vedette.core.render import printable
from vedette.prove.custody.inventory import Held, State, take_inventory
from vedette.prove.secrets import Secret
from vedette.serve.vault_app import VaultApp, open_vault, serve_vault

SERVE_EXAMPLES = """Examples:

  export VEDETTE_SECRET_CUSTODY_PASSPHRASE=...       # or a file of that name; opens the encrypted file of keys

  vedette keys create --home .vedette-vault --scope cards:write --scope numbers:read

  vedette vault serve --origin https://shop.example

  vedette vault serve --keys 'pkcs11:token=vedette?module-path=/usr/lib/softhsm/libsofthsm2.so'

The vault takes card numbers at its own address, by default port 8701. Put TLS in front of any address but loopback."""

ROTATE_EXAMPLES = """Examples:

  vedette vault rotate acme            # next key, all cards brought over, the older key destroyed a minute later

  vedette vault rotate acme --keep     # leave the older key for now

A rotation that was cut is ended by running it again. The vault serves on meanwhile."""

SHRED_EXAMPLES = """Example:

  vedette vault shred acme --yes       # its cards can be read by nobody from now on, in backups either"""

INVENTORY_EXAMPLES = """Examples:

  vedette vault inventory

  vedette vault inventory --period vault=90 --json      # crypto-period of the wrapping keys: 90 days

Ends with 1 when a key is over its crypto-period."""

CREDENTIAL = "Secrets of services: sealed here, fetched by the id of an API key, rotated with a grace."
CREDENTIAL_EXAMPLES = """Examples:

  vedette keys create --home .vedette-vault --scope credentials:read --name ledger-service      # its id is the consumer

  vedette vault credential put ledger.db --for key_01jd...          # asks for the value

  vedette vault credential rotate ledger.db --grace 1h              # asks for the new value

  vedette vault credential status ledger.db                         # who has not fetched it yet

  vedette vault credential cut ledger.db                            # after the grace; refuses while somebody is behind

A service fetches with POST /v1/credentials/fetch {"name": "ledger.db"} and its key, at least every 15 minutes."""

Home = Annotated[Path, typer.Option(envvar="VEDETTE_VAULT_HOME", help="Folder of the vault's data.")]
Keys = Annotated[
    str,
    typer.Option(
        envvar="VEDETTE_VAULT_KEYS",
        metavar="URI",
        help="Where its keys are: file:PATH, or pkcs11:token=LABEL?module-path=FILE; an encrypted file by default.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tenant = Annotated[str, typer.Argument(help="Whose cards.")]
CredentialName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the credential, such as ledger.db.")]
BY = "command line"
HOME = Path(".vedette-vault")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="vault", no_args_is_help=True, help=__doc__, epilog=SERVE_EXAMPLES)
    verb.command("serve", epilog=SERVE_EXAMPLES)(serve)
    verb.command("rotate", epilog=ROTATE_EXAMPLES)(rotate)
    verb.command("shred", epilog=SHRED_EXAMPLES)(shred)
    verb.command("inventory", epilog=INVENTORY_EXAMPLES)(inventory)
    credential = typer.Typer(name="credential", no_args_is_help=True, help=CREDENTIAL, epilog=CREDENTIAL_EXAMPLES)
    credential.command("put", epilog=CREDENTIAL_EXAMPLES)(put)
    credential.command("allow", epilog=CREDENTIAL_EXAMPLES)(allow)
    credential.command("rotate", epilog=CREDENTIAL_EXAMPLES)(rotate_credential)
    credential.command("status", epilog=CREDENTIAL_EXAMPLES)(status)
    credential.command("cut", epilog=CREDENTIAL_EXAMPLES)(cut)
    verb.add_typer(credential)
    app.add_typer(verb)


def serve(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; TLS in front of any other than loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8701,
    origin: Annotated[list[str] | None, typer.Option(help="A page that may show the card form; repeat it.")] = None,
    keys: Keys = "",
    home: Home = HOME,
) -> None:
    """Serve the vault."""
    opened = open_vault(home, keys, environment(), SystemClock())
    serve_vault(VaultApp(opened, tuple(origin or ())), host=host, port=port, tell=typer.echo)


def rotate(
    tenant: Tenant,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the older key.")] = False,
    keys: Keys = "",
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Change a tenant's wrapping key: its cards' data keys are sealed anew, the cards themselves stay as they are."""
    vault = open_vault(home, keys, environment(), SystemClock()).vault
    version = vault.rotate(tenant, by=BY)
    done = 0
    with counting("cards") as count:
        while more := vault.rewrap(tenant):
            done += more
            count(done)
    ended = [] if keep else _retire(vault, tenant)
    if as_json:
        typer.echo(msgspec.json.encode({"tenant": tenant, "version": version, "cards": done, "ended": ended}).decode())
    else:
        typer.echo(f"version {version}, {done} cards, ended: {', '.join(ended) or 'none'}")


def shred(
    tenant: Tenant,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keys: Keys = "",
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Destroy every key of a tenant: nobody can read its cards any more, in backups either."""
    if not yes:
        typer.confirm(f"Destroy the keys of {tenant} for good?", abort=True)
    vault = open_vault(home, keys, environment(), SystemClock()).vault
    count = vault.shred(tenant, by=BY)
    shape = msgspec.json.encode({"tenant": tenant, "cards": count}).decode()
    typer.echo(shape if as_json else f"{count} cards of {tenant} can be read by nobody")


def inventory(
    *,
    period: Annotated[list[str] | None, typer.Option(help="FIRST=DAYS: crypto-period of keys by first part.")] = None,
    keys: Keys = "",
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """List the keys with their age against their crypto-period."""
    provider = open_vault(home, keys, environment(), SystemClock()).provider
    held = take_inventory(provider.list_keys(), SystemClock().now(), dict(_period(text) for text in period or ()))
    if as_json:
        typer.echo(msgspec.json.encode(held).decode())
    else:
        _show(held)
    if any(one.state is State.OVER for one in held):
        raise typer.Exit(1)


def put(
    name: CredentialName,
    *,
    consumer: Annotated[
        list[str] | None, typer.Option("--for", metavar="KEY", help="Id of an API key; repeat it.")
    ] = None,
    keys: Keys = "",
    home: Home = HOME,
) -> None:
    """Keep the first version of a credential."""
    value = Secret(typer.prompt(f"Value of {name}", hide_input=True, err=True))
    credentials = open_vault(home, keys, environment(), SystemClock()).credentials
    typer.echo(f"{name} version {credentials.put(name, value, consumers=consumer or (), by=BY)}")


def allow(
    name: CredentialName,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of an API key of this home.")],
    *,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="End its right instead.")] = False,
    keys: Keys = "",
    home: Home = HOME,
) -> None:
    """Let a service fetch a credential, or no longer."""
    credentials = open_vault(home, keys, environment(), SystemClock()).credentials
    (credentials.withdraw if withdraw else credentials.allow)(name, key, by=BY)


def rotate_credential(
    name: CredentialName,
    *,
    grace: Annotated[str, typer.Option(help="How long the older version is accepted: 15m or more.")] = "1h",
    keys: Keys = "",
    home: Home = HOME,
) -> None:
    """Keep the next version; the older one is accepted for the grace."""
    seconds = seconds_of(grace)
    if seconds is None:
        raise DefinitionError("vault.grace.invalid", "not a timespan", hint="15m, 1h or 7d", at=grace)
    value = Secret(typer.prompt(f"New value of {name}", hide_input=True, err=True))
    credentials = open_vault(home, keys, environment(), SystemClock()).credentials
    typer.echo(f"{name} version {credentials.rotate(name, value, grace_s=seconds, by=BY)}")


def status(name: CredentialName, *, keys: Keys = "", home: Home = HOME, as_json: AsJson = False) -> None:
    """Show versions and consumers, and who is behind."""
    found = open_vault(home, keys, environment(), SystemClock()).credentials.status(name)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    ends = to_iso(found.older_ends)[:19] if found.older_ends else "-"
    typer.echo(f"{name} version {found.version}, older ends {ends}")
    table = Table(Column("consumer", no_wrap=True), "has version", "fetched")
    for one in found.consumers:
        table.add_row(
            printable(one.identity), str(one.version or "-"), to_iso(one.fetched)[:19] if one.fetched else "-"
        )
    Console().print(table, markup=False)


def cut(
    name: CredentialName,
    *,
    force: Annotated[bool, typer.Option("--force", help="Though somebody is behind.")] = False,
    keys: Keys = "",
    home: Home = HOME,
) -> None:
    """Forget versions whose grace is over."""
    gone = open_vault(home, keys, environment(), SystemClock()).credentials.cut(name, force=force, by=BY)
    typer.echo(f"forgotten: {', '.join(map(str, gone)) or 'none'}")


def _retire(vault: Any, tenant: str) -> list[str]:
    """Ends the older keys, after the grace in which what was read before is used up."""
    with counting("seconds until the older key ends") as count:
        for second in range(90):
            try:
                return list(vault.retire(tenant, by=BY))
            except ConflictError:
                while vault.rewrap(tenant):
                    pass
                count(second)
                time.sleep(1)
    raise ConflictError("vault.key.needed", "cards are stored under the older key still", hint="run this again")


def _period(text: str) -> tuple[str, int]:
    name, _, days = text.partition("=")
    if not name or not days.isdigit() or int(days) == 0:
        raise DefinitionError("vault.period.invalid", "not a crypto-period", hint="vault=90", at=text)
    return name, int(days)


def _show(held: list[Held]) -> None:
    table = Table(Column("key", no_wrap=True), "use", "check", "made", "age", "period", "state")
    for one in held:
        made = to_iso(one.created)[:10]
        row = (one.label, one.use, one.check, made, f"{one.age_days} d", f"{one.period_days} d", one.state)
        table.add_row(*(printable(str(cell)) for cell in row))
    Console().print(table, markup=False)
