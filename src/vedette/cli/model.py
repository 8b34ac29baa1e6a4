"""Train a fraud model from labelled history, judge it on later days, show its card."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.judge.models import training
from vedette.judge.models.model import Model, load_model
from vedette.sense.features.definition import FeatureSet, load_features, shipped
from vedette.sense.features.table import event_times, read_table

EPOCH = date(1970, 1, 1)

TRAIN_EXAMPLES = """Examples:

  vedette model train --source card_transactions --events history.parquet --train-start 2018-07-25 --train-days 7 --delay-days 7 --out model/

  vedette model train --source card_transactions --events april.ndjson.gz --events may.ndjson.gz --train-start 2018-05-01 --train-days 30 --out model/

Features see all the history in the files, in the order given; rows after the training days are not read. The same
files and options give the same model, byte for byte."""  # noqa: E501 - a command stays on one line

EVALUATE_EXAMPLES = """Examples:

  vedette model evaluate --model model/ --events history.parquet --test-start 2018-08-08 --test-days 7 --json

Source and label delay come from the model. Customers already known to be compromised are left out; beside the model
stands the naive baseline that calls everything genuine."""

SHOW_EXAMPLES = """Example:

  vedette model show --model model/"""

Events = Annotated[
    list[Path], typer.Option("--events", metavar="FILE...", help="Labelled history: Parquet, CSV or NDJSON (.gz).")
]
More = Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further files of history.")]
Folder = Annotated[Path, typer.Option("--model", metavar="DIR", help="Model directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="model", help=__doc__, no_args_is_help=True, epilog=TRAIN_EXAMPLES)
    verb.command(name="train", epilog=TRAIN_EXAMPLES)(train)
    verb.command(name="evaluate", epilog=EVALUATE_EXAMPLES)(evaluate)
    verb.command(name="show", epilog=SHOW_EXAMPLES)(show)
    app.add_typer(verb)


def train(
    more: More = None,
    *,
    events: Events,
    train_start: Annotated[str, typer.Option(metavar="DATE", help="First training day, UTC.")],
    train_days: Annotated[int, typer.Option(min=1, max=3_660, help="Training days.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Model directory to write.")],
    source: Annotated[str, typer.Option(help="Source whose shipped features are used.")] = "card_transactions",
    delay_days: Annotated[int, typer.Option(min=0, max=365, help="Days until the truth about an event is known.")] = 7,
    features: Annotated[Path | None, typer.Option(metavar="FILE", help="Feature definitions of your own.")] = None,
    as_json: Json = False,
) -> None:
    """Train a model on some days of labelled history."""
    definitions = load_features(features or shipped(source))
    if definitions.source != source:
        raise DataError("model.source.mismatch", f"the features are of `{definitions.source}`, not of `{source}`")
    start = to_day(train_start)
    with progress() as report:
        table = _read([*events, *(more or ())], definitions, report)
        model = training.train(
            table, definitions, start=start, days=train_days, delay_days=delay_days, out=out, report=report
        )
    _show(_summary(model), as_json=as_json)


def evaluate(
    more: More = None,
    *,
    model: Folder,
    events: Events,
    test_start: Annotated[str, typer.Option(metavar="DATE", help="First test day, UTC.")],
    test_days: Annotated[int, typer.Option(min=1, max=3_660, help="Test days.")] = 7,
    as_json: Json = False,
) -> None:
    """Judge a model on later days of labelled history."""
    loaded = load_model(model)
    with progress() as report:
        table = _read([*events, *(more or ())], loaded.feature_set, report)
        metrics = training.judge(loaded, table, start=to_day(test_start), days=test_days, report=report)
    _show(metrics, as_json=as_json)


def show(*, model: Folder, as_json: Json = False) -> None:
    """Show a model's card."""
    loaded = load_model(model)
    _show(dict(loaded.card) if as_json else _summary(loaded), as_json=as_json)


def to_day(text: str) -> int:
    """Days since 1970-01-01 of an ISO date.

    Raises:
        DataError: `model.date.invalid`.
    """
    try:
        return (date.fromisoformat(text) - EPOCH).days
    except ValueError as error:
        raise DataError("model.date.invalid", f"`{text:.40}` is no date", hint="write 2018-07-25") from error


def _read(files: list[Path], features: FeatureSet, report: training.Report) -> pa.Table:
    report("reading", 0, 1)
    table = read_table(
        files,
        features,
        left_out=lambda file, count: typer.echo(
            f"note: left out {count} rows of {printable(str(file))}: no usable {features.event_time}", err=True
        ),
    )
    report("reading", 1, 1)
    times = event_times(table, features)
    if backwards := int((times[1:] < times[:-1]).sum()):
        typer.echo(
            f"warning: {backwards} rows are older than the row before them; features take rows in the order given,"
            " so name files oldest first",
            err=True,
        )
    return table


def _summary(model: Model) -> dict[str, Any]:
    card = model.card
    kept = {name: card[name] for name in ("trained_on", "metrics", "features_version") if name in card}
    return {"id": model.id, "sha256": model.sha256, "features": len(model.features), **kept}


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(values).decode())
        return
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _flat(values, ""):
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else printable(str(value)))
    Console().print(table)


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + name, value
