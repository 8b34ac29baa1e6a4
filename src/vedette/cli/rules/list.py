"""The shipped rules: their stages, since when, and what those in shadow would have raised."""

from __future__ import annotations

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.act.quieting import Shadow
from vedette.act.scores import Score, fetch_scores
from vedette.cli._settings import settings_of
from vedette.cli.rules import _sets
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.judge.shipments import Standing
from vedette.judge.sigma.load import all_of
from vedette.run.parts import Parts
from vedette.run.pipeline.rollout import Rollout

EXAMPLES = """Examples:

  vedette rules list --home .vedette

  vedette rules list --json | jq '.[] | select(.stage == "shadow")'"""


class Row(msgspec.Struct, frozen=True):
    """One rule of a shipped unit."""

    rule_id: str
    title: str
    stage: str
    percent: int
    live: str
    trial: str
    since: str
    operator: str
    note: str
    shadow_signals: int
    """Of the version on trial, while it ran in shadow."""
    shadow_alerts: int
    alerts: int
    """That the rule raised, in all its versions."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="list", epilog=EXAMPLES)(run)


def run(*, home: _sets.Home = None, as_json: _sets.AsJson = False) -> None:
    """List the shipped rules with their stages."""
    settings = settings_of(home)
    if not (settings.database_url or settings.state_file.is_file()):
        raise DataError("rules.home.missing", "there is no installation here", at=str(settings.home))
    with Parts(settings, clock=SystemClock()) as parts:
        edition = Rollout(None, parts.shipments, parts.clock, parts.sources, parts.cards).newest()
        shadows = parts.alerts.shadows(settings.tenant)
        scores = fetch_scores(parts.state, settings.tenant)
        titles = {name: one.title for name, one in (edition.rules | edition.correlated).items()}
        trials = {one.id: one.version for one in all_of(edition.trial.rules)}
        rows = [
            _row(name, titles.get(name, ""), standing, shadows.get((name, trials.get(name, ""))), scores.get(name))
            for name, standing in edition.standings.items()
            if name in titles or name == standing.unit
        ]
    if as_json:
        typer.echo(msgspec.json.encode(rows).decode())
        return
    table = Table("rule", "stage", "since", "by", "alerts", "shadow")
    for row in rows:
        stage = f"{row.stage} {row.percent} %" if row.percent else row.stage
        shadow = f"{row.shadow_alerts:,} of {row.shadow_signals:,} signals" if row.trial else ""
        cells = (row.title or row.rule_id, stage, row.since[:19], row.operator, f"{row.alerts:,}", shadow)
        table.add_row(*map(printable, cells))
    Console(markup=False, highlight=False, emoji=False).print(table)


def _row(name: str, title: str, standing: Standing, shadow: Shadow | None, score: Score | None) -> Row:
    return Row(
        rule_id=name,
        title=title,
        stage=standing.stage,
        percent=standing.percent,
        live=standing.live,
        trial=standing.trial,
        since=to_iso(standing.time),
        operator=standing.operator,
        note=standing.note,
        shadow_signals=shadow.signals if shadow else 0,
        shadow_alerts=shadow.alerts if shadow else 0,
        alerts=score.alerts if score else 0,
    )
