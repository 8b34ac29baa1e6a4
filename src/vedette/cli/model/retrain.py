"""Retrain on a sliding window when it is due: a challenger, judged, registered and put in shadow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._progress import progress
from vedette.cli._settings import settings_of
from vedette.cli.model import _options
from vedette.core.clock import SystemClock
from vedette.core.render import printable
from vedette.judge.models.history import Extras
from vedette.judge.models.learners import ROUNDS, Learner, Recipe
from vedette.run.jobs.retrain import Cadence, Retraining
from vedette.run.parts import Parts
from vedette.sense.features.definition import load_features, shipped

EXAMPLES = """Examples:

  vedette model retrain --events history.parquet --window-days 30 --every-days 7

  vedette model retrain --events history.parquet --now --json

Run it as often as you like, from any scheduler: without --now it does something only when the last challenger's window
ended --every-days ago. A killed run goes on where it was; the same history gives the same model. What serves stays:
the challenger decides in shadow until `vedette model ship` takes it further.

Exit codes: 0 done, or not due; 1 the challenger's own report speaks against it, and it was not put in shadow."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="retrain", epilog=EXAMPLES)(run)


def run(
    more: _options.More = None,
    *,
    events: _options.Events,
    source: Annotated[str, typer.Option(help="Source whose shipped features are used.")] = "card_transactions",
    features: Annotated[Path | None, typer.Option(metavar="FILE", help="Feature definitions of your own.")] = None,
    window_days: Annotated[int, typer.Option(min=1, max=3_660, help="Training days.")] = 30,
    test_days: Annotated[int, typer.Option(min=1, max=365, help="Days it is judged on.")] = 7,
    delay_days: Annotated[int, typer.Option(min=0, max=365, help="Days until the truth is known.")] = 7,
    every_days: Annotated[int, typer.Option(min=1, max=3_660, help="How often a challenger is due.")] = 7,
    learner: Annotated[Learner, typer.Option(help="How the model is made.")] = Learner.LIGHTGBM,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Trees of LightGBM.")] = ROUNDS,
    propensity: _options.Propensity = "",
    now: Annotated[bool, typer.Option("--now", help="Whether or not it is due.")] = False,
    home: _options.Home = None,
    as_json: _options.Json = False,
) -> None:
    """Retrain when it is due."""
    definitions, extras = load_features(features or shipped(source)), Extras(propensity=propensity)
    cadence = Cadence(window_days=window_days, test_days=test_days, delay_days=delay_days, every_days=every_days)
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        work = Retraining(parts, definitions, cadence=cadence, recipe=Recipe(learner, rounds=rounds), extras=extras)
        with progress() as report:
            table = _options.read([*events, *(more or ())], definitions, report, extras)
            found = work.run(table, report=report) if now or work.due(table) else None
    if as_json:
        typer.echo(msgspec.json.encode({"challenger": found}).decode())
    elif found is None:
        typer.echo("not due")
    else:
        stage = found.standing.stage if found.standing and not found.obstacles else "not on trial"
        typer.echo(printable(f"{found.model}: average precision {found.ap:.4f}, {stage}, job {found.job.id[:16]}"))
        for one in found.obstacles:
            typer.echo(printable(f"{one.gate}: {one.message}"))
    if found and found.obstacles:
        raise typer.Exit(1)
