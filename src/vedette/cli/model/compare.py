"""Compare two models on the same later days: what the second changes, in money and people, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vedette.cli._progress import progress
from vedette.cli.model import _options
from vedette.judge.models.compare import compare
from vedette.judge.models.costs import Costs
from vedette.judge.models.metrics import ROUNDS
from vedette.judge.models.model import load_model

EXAMPLES = """Examples:

  vedette model compare champion/ challenger/ --events history.parquet --test-start 2018-08-08

  vedette model compare champion/ challenger/ --events history.parquet --test-start 2018-08-08 --json

Both are judged on the same rows; the interval is of the difference, so what they share cancels out.
Exit codes: 0 the challenger is not worse; 1 it is, beyond chance."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="compare", epilog=EXAMPLES)(run)


def run(
    champion: Annotated[Path, typer.Argument(metavar="DIR", help="What serves now.")],
    challenger: Annotated[Path, typer.Argument(metavar="DIR", help="What might.")],
    *,
    events: _options.Events,
    test_start: Annotated[str, typer.Option(metavar="DATE", help="First test day, UTC.")],
    test_days: Annotated[int, typer.Option(min=1, max=3_660, help="Test days.")] = 7,
    rounds: Annotated[int, typer.Option(min=20, max=10_000, help="Resamples of the intervals.")] = ROUNDS,
    as_json: _options.Json = False,
) -> None:
    """Compare two models on the same later days."""
    first, second = load_model(champion), load_model(challenger)
    with progress() as report:
        table = _options.read(list(events), first.feature_set, report)
        found = compare(
            first,
            second,
            table,
            start=_options.to_day(test_start),
            days=test_days,
            costs=Costs(),
            rounds=rounds,
            report=report,
        )
    _options.show(found, as_json=as_json)
    if found["ap"]["high"] < 0:
        raise typer.Exit(1)
