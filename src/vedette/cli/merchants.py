"""Rules that merchants write for their own payments: check, backtest, ship and show them."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from vedette.cli._progress import counting
from vedette.cli._settings import settings_of
from vedette.cli.rules._payment import to_money, to_table
from vedette.cli.rules._sets import moment_of
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.judge.backtest.merchant import OwnReport
from vedette.judge.backtest.tally import Counted
from vedette.judge.payment.files import load_lists, load_rules
from vedette.judge.payment.merchants import join, lists_of, read_own
from vedette.judge.payment.own import OwnRules
from vedette.judge.payment.rules import PaymentRules
from vedette.run.parts import Parts
from vedette.run.payments.merchants import backtest_own, check_own, tell_shipped

EXAMPLES = """Examples:

  vedette merchants check shoes shop.rules                       # reads them, and runs their tests

  vedette merchants backtest shoes shop.rules --home .vedette --from 30d

  vedette merchants ship shoes shop.rules --lists lists.yaml --reason "resold gift cards"

  vedette merchants show shoes                                   # what stands, and every version

  vedette merchants ship shoes --none --reason "all taken back"

A rule of a merchant judges its own payments and no others, after the platform's rules in each class. A running server
takes a version within seconds."""

Merchant = Annotated[str, typer.Argument(help="Whose rules.")]
Rules = Annotated[Path, typer.Argument(metavar="FILE", help="File of its rules.")]
Lists = Annotated[Path | None, typer.Option(help="YAML file of its lists.")]
Home = Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
Tenant = Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose merchant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    group = typer.Typer(name="merchants", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    for name, command in (("check", check), ("backtest", backtest), ("ship", ship), ("show", show)):
        group.command(name, epilog=EXAMPLES)(command)
    app.add_typer(group)


def check(merchant: Merchant, rules: Rules, *, lists: Lists = None, as_json: AsJson = False) -> None:
    """Read rules, run their tests, and say what their author should look at."""
    found = check_own(_read(merchant, rules, lists))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for note in found.notes:
        typer.echo(printable(f"{note.span}: rule {note.rule_id}: {note.message}"))
    typer.echo(f"{len(found.rules)} rules, {len(found.notes)} notes")


def backtest(
    merchant: Merchant,
    rules: Rules,
    *,
    lists: Lists = None,
    platform: Annotated[Path | None, typer.Option(help="File of the platform's rules; else those built in.")] = None,
    since: Annotated[str, typer.Option("--from", help="Start: a date, a time, or `30d` ago.")] = "",
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Count what rules would have done with the merchant's past payments, beside those that stand."""
    new = _read(merchant, rules, lists)
    base = load_rules(platform) if platform else PaymentRules()
    with Parts(settings_of(home), clock=SystemClock()) as parts, counting("decisions") as tell:
        standing = parts.owned.standing(tenant, merchant)
        old = join(base, standing.read()) if standing else base
        start = moment_of(since, parts.clock.now()) if since else 0
        report = backtest_own(parts.log, tenant, merchant, new, platform=base, old=old, since=start, tell=tell)
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)


def ship(
    merchant: Merchant,
    rules: Annotated[Path | None, typer.Argument(metavar="FILE", help="File of its rules.")] = None,
    *,
    none: Annotated[bool, typer.Option("--none", help="Take all of its rules back.")] = False,
    lists: Lists = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "",
    by: Annotated[str, typer.Option(help="Who does it; the system's user by default.")] = "",
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Ship rules for the merchant's own payments, once their tests pass."""
    if (rules is None) is not none:
        raise DataError("merchants.ship.asked", "name a file of rules, or say `--none`")
    text = _text(rules) if rules else ""
    held = lists_of(load_lists(lists)) if lists else []
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        made = parts.owned.ship(tenant, merchant, text, held, operator=by or getpass.getuser(), reason=reason)
        tell_shipped(parts.audit, tenant, made)
    _show([made], as_json=as_json)


def show(merchant: Merchant, *, home: Home = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Show a merchant's rules as they stand, and every version."""
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        found = parts.owned.history(tenant, merchant)
    _show(found, as_json=as_json)
    if found and not as_json:
        typer.echo(printable(found[0].rules, lines=True).rstrip())


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("merchants.file.unreadable", f"cannot read `{path}`", at=str(path)) from error


def _read(merchant: str, rules: Path, lists: Path | None) -> PaymentRules:
    held: list[dict[str, Any]] = lists_of(load_lists(lists)) if lists else []
    return read_own(merchant, _text(rules), held)


def _show(found: list[OwnRules], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for one in found:
        why = f": {one.reason}" if one.reason else ""
        count = len(one.read().rules)
        told = f"{one.merchant} version {one.number}  {to_iso(one.time)[:19]}Z  {count} rules  {one.operator}{why}"
        typer.echo(printable(told))
    if not found:
        typer.echo("never shipped any")


def _print(report: OwnReport) -> None:
    groups = ("fraud", "refunded", "blocked", "fine")
    table = to_table("rule", "action", "change", "fires", *groups, "money", left=3)
    for rule in report.rules:
        table.add_row(printable(rule.id), rule.action.value, rule.change.value, *_cells(rule.fired))
    table.add_section()
    for move in report.moves:
        table.add_row("moves", move.before.value, move.after.value, *_cells(move.counted))
    Console(markup=False, highlight=False, emoji=False).print(table)
    if not report.moves:
        typer.echo("no payment would get another answer")
    span = f", {report.first[:10]} to {report.last[:10]}" if report.first else ""
    typer.echo(f"{report.payments:,} payments{span}")


def _cells(counted: Counted) -> tuple[str, ...]:
    parts = (counted.all, counted.disputed, counted.refunded, counted.blocked, counted.succeeded)
    return (*(f"{part.payments:,}" for part in parts), to_money(counted.all.amounts))
