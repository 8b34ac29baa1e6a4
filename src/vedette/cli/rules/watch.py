"""Watch payment rules that are live: what each decided, and what became of the payments."""

from __future__ import annotations

from typing import Annotated

import typer

from vedette.cli._progress import counting
from vedette.cli._settings import settings_of
from vedette.cli.rules import _payment, _sets
from vedette.core.clock import SystemClock
from vedette.core.errors import NotFoundError
from vedette.judge.backtest.payments import live
from vedette.run.parts import Parts
from vedette.run.payments.past import fetch_past

EXAMPLES = """Examples:

  vedette rules watch --home .vedette --from 7d

  vedette rules watch --from 2026-03-01 --to 2026-03-08 --json | jq .now.rules

  vedette rules watch --point payouts                  # a decision point's rules

The counts are those of `rules backtest`: run over the same payments, a rule set that went live counts the same."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="watch", epilog=EXAMPLES)(run)


def run(
    *,
    since: Annotated[str, typer.Option("--from", help="Start: a date, a time, or `30d` ago.")] = "30d",
    until: Annotated[str, typer.Option("--to", help="End; now by default.")] = "",
    point: Annotated[str, typer.Option(help="Name of a decision point; payments by default.")] = "",
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose payments.")] = "default",
    home: _sets.Home = None,
    as_json: _sets.AsJson = False,
) -> None:
    """Count what live payment rules decided."""
    settings, clock = settings_of(home), SystemClock()
    if not settings.log_folder.is_dir():
        raise NotFoundError("rules.home.missing", f"there is no log in `{settings.home}`", hint="name a --home")
    now = clock.now()
    start, end = _sets.moment_of(since, now), _sets.moment_of(until, now) if until else now
    with Parts(settings, clock=clock) as parts, counting("decisions") as tell:
        report = live(fetch_past(parts.log, tenant, point=point, since=start, until=end, tell=tell))
    _payment.show(report, as_json=as_json, compared=False)
