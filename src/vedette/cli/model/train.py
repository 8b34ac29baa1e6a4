"""Train a model on some days of labelled history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vedette.cli._progress import progress
from vedette.cli.model import _options
from vedette.core.errors import DataError
from vedette.judge.models import training
from vedette.judge.models.history import Extras
from vedette.judge.models.learners import ROUNDS, Imbalance, Learner, Method, Recipe
from vedette.sense.features.definition import load_features, shipped

EXAMPLES = """Examples:

  vedette model train --source card_transactions --events history.parquet --train-start 2018-07-25 --train-days 7 --delay-days 7 --out model/

  vedette model train --source card_transactions --events april.ndjson.gz --events may.ndjson.gz --train-start 2018-05-01 --train-days 30 --out model/

  vedette model train --events history.parquet --train-start 2018-07-25 --train-days 7 --learner logistic --out scorecard/

Features see all the history in the files, in the order given; rows after the training days are not read. The same
files and options give the same model, byte for byte."""  # noqa: E501 - a command stays on one line


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="train", epilog=EXAMPLES)(run)


def run(
    more: _options.More = None,
    *,
    events: _options.Events,
    train_start: Annotated[str, typer.Option(metavar="DATE", help="First training day, UTC.")],
    train_days: Annotated[int, typer.Option(min=1, max=3_660, help="Training days.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Model directory to write.")],
    source: Annotated[str, typer.Option(help="Source whose shipped features are used.")] = "card_transactions",
    delay_days: Annotated[int, typer.Option(min=0, max=365, help="Days until the truth about an event is known.")] = 7,
    features: Annotated[Path | None, typer.Option(metavar="FILE", help="Feature definitions of your own.")] = None,
    learner: Annotated[Learner, typer.Option(help="How the model is made.")] = Learner.LIGHTGBM,
    imbalance: Annotated[Imbalance, typer.Option(help="What is done about frauds being rare.")] = Imbalance.NONE,
    calibration: Annotated[Method, typer.Option(help="How raw scores become probabilities.")] = Method.BETA,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Trees of LightGBM.")] = ROUNDS,
    propensity: _options.Propensity = "",
    as_json: _options.Json = False,
) -> None:
    """Train a model on some days of labelled history."""
    definitions = load_features(features or shipped(source))
    if definitions.source != source:
        raise DataError("model.source.mismatch", f"the features are of `{definitions.source}`, not of `{source}`")
    start, extras = _options.to_day(train_start), Extras(propensity=propensity)
    with progress() as report:
        table = _options.read([*events, *(more or ())], definitions, report, extras)
        model = training.train(
            table,
            definitions,
            start=start,
            days=train_days,
            delay_days=delay_days,
            out=out,
            recipe=Recipe(learner, imbalance, calibration, rounds),
            extras=extras,
            report=report,
        )
    _options.show(_options.summary(model), as_json=as_json)
