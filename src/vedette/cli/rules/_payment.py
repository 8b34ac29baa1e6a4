"""What the verbs of rules do with payment rules: find, load and show them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import counting
from vedette.cli.rules._sets import Period
from vedette.core.clock import SystemClock
from vedette.core.decision import Action, Decision
from vedette.core.errors import DefinitionError, NotFoundError
from vedette.core.log import Log
from vedette.core.render import printable
from vedette.core.settings import Settings
from vedette.judge.backtest.changes import Change
from vedette.judge.backtest.estimate import Estimate
from vedette.judge.backtest.outcomes import Group
from vedette.judge.backtest.payments import Move, Report, backtest
from vedette.judge.backtest.tally import Counted, Sum
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.provided import provided
from vedette.judge.decisions.recorder import DECISIONS, key_in_log
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_lists, load_rules
from vedette.judge.payment.rules import HIGHEST_RISK, Note, PaymentRules
from vedette.run.parts import Parts
from vedette.run.payments.past import fetch_past
from vedette.run.payments.shipped import shipped_sets

_LIST = re.compile(r"\s*(?:#[^\n]*\n\s*)*(?:- |-\n|\[)")
"""How a YAML file of payment rules begins: it is a list."""
SUFFIX = ".rules"
"""Of files with one payment rule a line."""
_FIRST = 64 * 1024
_HEADINGS = ("fraud", "refunded", "blocked", "fine")
"""What became of payments, in the order of `Group`."""
LOOKED = 200
"""Newest decisions that are asked which features there are."""


def is_payment(path: Path) -> bool:
    """Whether a file holds payment rules, as its name or its first lines say."""
    if path.suffix == SUFFIX:
        return True
    if not path.is_file() or path.suffix not in {".yaml", ".yml"}:
        return False
    with path.open("rb") as file:
        return bool(_LIST.match(file.read(_FIRST).decode("utf-8", "replace")))


def all_payment(paths: Sequence[Path]) -> bool:
    """Whether these are files of payment rules; a mixture is refused.

    Raises:
        DefinitionError: `rules.kinds.mixed`.
    """
    kinds = {is_payment(path) for path in paths}
    if len(kinds) > 1:
        raise DefinitionError("rules.kinds.mixed", "payment rules and Sigma rules are looked at one kind at a time")
    return kinds == {True}


def read_set(path: Path, lists: Path | None, names: Sequence[str], source: str = "card_transactions") -> PaymentRules:
    """A rule file, with features as names it may use."""
    held = load_lists(lists) if lists else {}
    return load_rules(path, attributes=with_features(names), lists=held, fields=binding_of(source).spelled())


def newest_names(log: Log, tenant: str, point: str = "") -> tuple[str, ...]:
    """Features that the newest recorded decisions hold."""
    key, end = key_in_log(tenant, point), log.end(DECISIONS, 0)
    for record in reversed(log.read(DECISIONS, 0, max(0, end - LOOKED), LOOKED)):
        if record.key == key and (names := tuple(msgspec.json.decode(record.value, type=Decision).features)):
            return names
    return ()


def backtest_recorded(
    rules: Path, against: Path | None, lists: Path | None, settings: Settings, period: Period
) -> Report:
    """Payment rules over what an installation has decided on.

    Raises:
        NotFoundError: `rules.home.missing`.
    """
    if not settings.log_folder.is_dir():
        raise NotFoundError(
            "rules.home.missing", f"there is no log in `{settings.home}`", hint="name a --home, or use `rules simulate`"
        )
    with Parts(settings, clock=SystemClock()) as parts, counting("decisions") as tell:
        names = newest_names(parts.log, settings.tenant)
        new = read_set(rules, lists, names, "product")
        old = read_set(against, lists, names, "product") if against else None
        since, until = period.since or 0, period.until if period.until is not None else 1 << 62
        return backtest(new, fetch_past(parts.log, settings.tenant, since=since, until=until, tell=tell), old=old)


class Checked(msgspec.Struct, frozen=True):
    """What was found of payment rules before any payment is looked at."""

    rules: tuple[str, ...]
    notes: tuple[Note, ...]


def check(paths: Sequence[Path], lists: Path | None, source: str) -> Checked:
    """Loads payment rules with their tests, and lists the names that nothing provides.

    Raises:
        Problems: Everything wrong with a file, with its place.
    """
    names = [name for each in shipped_sets(source) for name in each.names]
    sets = [read_set(path, lists, names, source) for path in paths]
    known = provided(source, names)
    return Checked(
        tuple(rule.id for each in sets for rule in each.rules if rule.id != HIGHEST_RISK),
        tuple(note for each in sets for note in each.check(known)),
    )


def to_money(amounts: Mapping[str, int]) -> str:
    """`12.50 EUR, 3.00 USD`; minor units are cents of a hundred but where the currency has others."""
    from vedette.core.money import EXPONENTS

    parts = []
    for currency, minor in amounts.items():
        digits = EXPONENTS.get(currency, 2)
        parts.append(f"{minor / 10**digits:,.{digits}f} {currency}")
    return ", ".join(parts) or "-"


def show(report: Report, *, as_json: bool, compared: bool = True) -> None:
    """The report as one JSON object, or as tables."""
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        print_payments(report, compared=compared)


def print_payments(report: Report, *, compared: bool = True) -> None:
    """The report as tables: rules, what moves, what it is worth. `compared`: whether there were two sets."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(_rules_table(report))
    if report.moves:
        console.print(_moves_table(report.moves))
    elif compared:
        typer.echo("no payment would get another answer")
    for line in _lines(report, compared=compared):
        typer.echo(printable(line))


def _lines(report: Report, *, compared: bool) -> Iterator[str]:
    """What stands below the tables."""
    yield from (line for move in report.moves for line in _examples(move))
    for rule in report.rules if compared else ():
        if rule.text and rule.change is not Change.SAME:
            yield f"{rule.id} ({rule.change}): {rule.text}"
        if rule.estimate:
            yield f"{rule.id}: {_worth(rule.estimate)}"
    if report.stopped:
        yield f"blocked: {_worth(report.stopped)}"
    if report.stopped_before and compared:
        yield f"blocked before: {_worth(report.stopped_before)}"
    span = f"{report.first[:10]} to {report.last[:10]}" if report.first else "no time"
    yield f"{report.payments:,} payments, {span}; {report.known:,} with a known truth, {report.frauds:,} of them fraud"
    yield from (f"note: {note.span}: rule {note.rule_id}: {note.message}" for note in report.notes)


def to_table(*headings: str, left: int) -> Table:
    """A table without lines between rows; columns from `left` on hold numbers."""
    table = Table(*headings, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.columns[0].min_width = 16
    for place, column in enumerate(table.columns):
        column.no_wrap = place > 0
        column.justify = "right" if place >= left else "left"
    return table


def _rules_table(report: Report) -> Table:
    table = to_table("rule", "action", "change", "fires", *_HEADINGS, "money", left=3)
    for rule in report.rules:
        held = report.now.rules.get(rule.id) or report.before.rules[rule.id]
        fired = held.fired
        money = to_money(fired.all.amounts)
        table.add_row(printable(rule.id), rule.action.value, rule.change.value, *_counts(fired), money)
    table.add_section()
    for action in Action:
        now, before = report.now.actions[action.value], report.before.actions[action.value].all.payments
        if now.all.payments or before:
            change = "" if before == now.all.payments else f"{now.all.payments - before:+,}"
            table.add_row("in all", action.value, change, *_counts(now), to_money(now.all.amounts))
    return table


def _counts(counted: Counted) -> tuple[str, ...]:
    parts: tuple[Sum, ...] = (counted.all, *(getattr(counted, group.value) for group in Group))
    return tuple(f"{part.payments:,}" for part in parts)


def _moves_table(moves: Sequence[Move]) -> Table:
    table = to_table("moves from", "to", "payments", *_HEADINGS, "money", left=2)
    for move in moves:
        table.add_row(move.before.value, move.after.value, *_counts(move.counted), to_money(move.counted.all.amounts))
    return table


def _examples(move: Move) -> Iterator[str]:
    for one in move.examples:
        amount = to_money({one.currency: one.amount_minor}) if one.amount_minor is not None else "no amount"
        risk = "" if one.risk_score is None else f", risk {one.risk_score}"
        why = ", ".join(one.rules) or "no rule"
        payment = f"{one.event_id} at {one.time[:19]}Z, {amount}{risk}, {one.group}"
        yield f"  {move.before} -> {move.after}: {payment} ({why})"


def _worth(worth: Estimate) -> str:
    spread = f"{worth.genuine_low:,.0f} to {worth.genuine_high:,.0f}"
    return (
        f"about {worth.frauds:,.0f} frauds ({to_money(worth.prevented)}) and {worth.genuine:,.0f} honest payments"
        f" ({spread}; {to_money(worth.lost)}): {worth.false_positive_rate:.3%} of all honest ones"
    )
