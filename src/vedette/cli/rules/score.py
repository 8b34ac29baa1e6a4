"""Which rules to keep, tune or retire: precision from people's verdicts, alerts, and what they cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from vedette.act.load import Minutes, fetch_minutes
from vedette.act.scores import fetch_scores
from vedette.act.worth import Worth, weigh
from vedette.cli._settings import settings_of
from vedette.cli.rules._sets import AsJson, Home, Only, files_of, places_of, set_of
from vedette.core.clock import SystemClock
from vedette.core.errors import NotFoundError
from vedette.core.render import printable
from vedette.judge.sigma.load import all_of
from vedette.run.parts import Parts
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules score --home .vedette

  vedette rules score my-rules/ --home .vedette --json | jq '.rules[] | select(.advice == "retire")'

keep: at least half of its judged alerts are right at the lower bound of the 90 % interval (Wilson). retire: less than a
tenth at the upper bound. tune: less than half at the upper bound. wait: too few verdicts to tell.

Exit codes: 0 done; 2 the home or a path cannot be opened."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="score", epilog=EXAMPLES)(score)


def score(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="[PATH...]", help="Rules to name; optional.")] = None,
    *,
    home: Home = None,
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose alerts.")] = "default",
    only: Only = "",
    as_json: AsJson = False,
) -> None:
    """Say of each rule whether to keep, tune or retire it, from what people found its alerts to be."""
    settings = settings_of(home)
    if not settings.home.is_dir():
        raise NotFoundError("rules.home.missing", f"there is no home `{settings.home}`")
    clock = SystemClock()
    titles: dict[str, str] = {}
    if paths:
        found = set_of(files_of(paths, only), places_of(load_sources()), clock.now())
        titles = {rule.id: rule.title for rule in all_of(found)}
    with Parts(settings, clock=clock) as parts:
        parts.triage  # noqa: B018 - makes the tables that are read
        minutes = fetch_minutes(parts.state, tenant)
        shadows: Counter[str] = Counter()
        for (rule, _), held in parts.alerts.shadows(tenant).items():
            shadows[rule] += held.alerts
        rows = weigh(fetch_scores(parts.state, tenant), minutes, titles=titles, shadows=shadows)
    if as_json:
        told = {"minutes_an_alert": minutes.usual, "measured_on": minutes.measured, "rules": rows}
        typer.echo(msgspec.json.encode(told).decode())
    else:
        _print(rows, minutes)


def _print(rows: list[Worth], minutes: Minutes) -> None:
    names = ("alerts", "open", "right", "precision", "minutes", "shadow", "advice")
    table = Table(Column("rule", min_width=20), *(Column(name, no_wrap=True) for name in names))
    for column in table.columns[1:-1]:
        column.justify = "right"
    for row in rows:
        share = "" if row.precision is None else f"{row.low:.0%}-{row.high:.0%}"
        counts = (f"{row.alerts:,}", f"{row.open:,}", f"{row.right:,}/{row.judged:,}")
        table.add_row(
            printable(row.title or row.rule_id),
            *counts,
            share,
            f"{row.minutes:,.0f}",
            f"{row.shadow:,}",
            str(row.advice),
        )
    Console(markup=False, highlight=False, emoji=False).print(table)
    basis = (
        f"the median of {minutes.measured:,} alerts" if minutes.measured else "an assumption: nobody took one in hand"
    )
    typer.echo(f"{minutes.usual:g} minutes an alert: {basis}")
