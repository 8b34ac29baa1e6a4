"""Show and change the lists that payment rules name: block lists that learn, and lists of your own."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._settings import settings_of
from vedette.cli.rules._sets import moment_of
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.judge.payment.kept import ListChange
from vedette.judge.payment.lists import ItemType
from vedette.run.parts import Parts
from vedette.run.pipeline.learning import tell

EXAMPLES = """Examples:

  vedette lists show                                                  # every list, and how much it holds

  vedette lists add email_blocklist mule@example.com --reason "named by the police"

  vedette lists add vip_customers cus_17 cus_18 --type customer_id --until 2027-01-01

  vedette lists changes card_fingerprint_blocklist                    # who put what there, and why

  vedette lists undo 12 --reason "the payer was honest"

Items that reviewers and refunds taught are in the same lists. A running server takes a change within seconds."""

Home = Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
Tenant = Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose lists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the change.")]
By = Annotated[str, typer.Option(help="Who does it; the system's user by default.")]
Alias = Annotated[str, typer.Argument(metavar="LIST", help="Name of the list, without the `@`.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    group = typer.Typer(name="lists", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    for name, command in (("show", show), ("add", add), ("remove", remove), ("changes", changes), ("undo", undo)):
        group.command(name, epilog=EXAMPLES)(command)
    app.add_typer(group)


@contextmanager
def _parts(home: Path | None) -> Iterator[Parts]:
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        yield parts


def show(
    alias: Annotated[str, typer.Argument(metavar="LIST", help="Print its items; every list's size without one.")] = "",
    *,
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show the lists, or the items of one."""
    with _parts(home) as parts:
        held = parts.lists.held(tenant, parts.clock.now())
    if alias and alias not in held:
        raise DataError("payment.list.unknown", f"nothing was added to a list `@{alias:.100}`")
    shown = [held[alias]] if alias else list(held.values())
    if as_json:
        rows = [{"alias": one.alias, "item_type": one.item_type, "items": one.items} for one in shown]
        typer.echo(msgspec.json.encode(rows).decode())
    elif alias:
        for item in held[alias].items:
            typer.echo(printable(item))
    else:
        for one in shown:
            typer.echo(printable(f"@{one.alias}  {one.item_type}  {len(one.items):,} items"))


def add(
    alias: Alias,
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="What to add.")],
    *,
    kind: Annotated[ItemType | None, typer.Option("--type", help="What the items of a new list are.")] = None,
    until: Annotated[str, typer.Option(help="A date or time from when on they count no more.")] = "",
    reason: Reason = "",
    by: By = "",
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Add items to a list; a list that is not there is made when its type is given."""
    with _parts(home) as parts:
        expires = moment_of(until, parts.clock.now()) if until else 0
        made = parts.lists.add(
            tenant, alias, items, operator=by or getpass.getuser(), item_type=kind, reason=reason, expires=expires
        )
        _told(parts, made, as_json=as_json)


def remove(
    alias: Alias,
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="What to take out.")],
    *,
    reason: Reason = "",
    by: By = "",
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Take items out of a list."""
    with _parts(home) as parts:
        made = parts.lists.remove(tenant, alias, items, operator=by or getpass.getuser(), reason=reason)
        _told(parts, made, as_json=as_json)


def undo(
    change: Annotated[int, typer.Argument(help="Number of the change.")],
    *,
    reason: Reason = "",
    by: By = "",
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Take one change back."""
    with _parts(home) as parts:
        made = parts.lists.undo(tenant, change, operator=by or getpass.getuser(), reason=reason)
        _told(parts, [made], as_json=as_json)


def changes(
    alias: Annotated[str, typer.Argument(metavar="LIST", help="Of one list; of all by default.")] = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most changes.")] = 50,
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show who changed what and why, newest first."""
    with _parts(home) as parts:
        found = parts.lists.changes(tenant, alias, limit)
    _print(found, as_json=as_json)


def _told(parts: Parts, made: Sequence[ListChange], *, as_json: bool) -> None:
    for change in made:
        tell(parts.audit, change)
    _print(made, as_json=as_json)


def _print(found: Sequence[ListChange], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for one in found:
        expires = f", until {to_iso(one.expires)[:10]}" if one.expires else ""
        why = f": {one.reason}" if one.reason else ""
        what = f"{one.action} @{one.alias} {one.item}{expires}"
        typer.echo(printable(f"{one.seq}  {to_iso(one.time)[:19]}Z  {what}  {one.operator}{why}"))
    if not found:
        typer.echo("nothing changed")
