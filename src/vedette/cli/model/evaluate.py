"""Judge a model on later days of labelled history: the protocol's numbers alone."""

from __future__ import annotations

from typing import Annotated

import typer

from vedette.cli._progress import progress
from vedette.cli.model import _options
from vedette.judge.models import training
from vedette.judge.models.model import load_model

EXAMPLES = """Examples:

  vedette model evaluate --model model/ --events history.parquet --test-start 2018-08-08 --test-days 7 --json

Source and label delay come from the model. Customers already known to be compromised are left out; beside the model
stands the naive baseline that calls everything genuine. `vedette model report` tells much more."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="evaluate", epilog=EXAMPLES)(run)


def run(
    more: _options.More = None,
    *,
    model: _options.Folder,
    events: _options.Events,
    test_start: Annotated[str, typer.Option(metavar="DATE", help="First test day, UTC.")],
    test_days: Annotated[int, typer.Option(min=1, max=3_660, help="Test days.")] = 7,
    as_json: _options.Json = False,
) -> None:
    """Judge a model on later days of labelled history."""
    loaded = load_model(model)
    with progress() as report:
        table = _options.read([*events, *(more or ())], loaded.feature_set, report)
        metrics = training.judge(loaded, table, start=_options.to_day(test_start), days=test_days, report=report)
    _options.show(metrics, as_json=as_json)
