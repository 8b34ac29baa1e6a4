"""What the verbs of models share: options, days, history, and how values are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from vedette.core.clock import Clock
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.core.settings import Settings
from vedette.judge.models.history import Extras, Report, reading
from vedette.judge.models.model import Model
from vedette.judge.models.registry import KEY, PURPOSE, Registry
from vedette.prove.keys import KeyRing
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.table import event_times, read_table

EPOCH = date(1970, 1, 1)

Events = Annotated[
    list[Path], typer.Option("--events", metavar="FILE...", help="Labelled history: Parquet, CSV or NDJSON (.gz).")
]
More = Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further files of history.")]
Folder = Annotated[Path, typer.Option("--model", metavar="DIR", help="Model directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Home = Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
Kind = Annotated[str, typer.Option("--kind", metavar="COLUMN", help="Column that tells the kind of fraud.")]
Propensity = Annotated[
    str,
    typer.Option(metavar="COLUMN", help="Column with the probability that a payment was let through."),
]
Segment = Annotated[str, typer.Option(metavar="COLUMN", help="Column whose values the report tells apart.")]


def registry_of(settings: Settings, clock: Clock) -> Registry:
    """The registry of an installation."""
    return Registry(settings.home / "models", KeyRing(settings.keys_folder, PURPOSE, KEY), clock)


def to_day(text: str) -> int:
    """Days since 1970-01-01 of an ISO date.

    Raises:
        DataError: `model.date.invalid`.
    """
    try:
        return (date.fromisoformat(text) - EPOCH).days
    except ValueError as error:
        raise DataError("model.date.invalid", f"`{text:.40}` is no date", hint="write 2018-07-25") from error


def read(files: list[Path], features: FeatureSet, report: Report, extras: Extras = Extras()) -> pa.Table:  # noqa: B008
    """History of files, with notes on what was left out and what goes back in time."""
    report("reading", 0, 1)
    table = read_table(
        files,
        reading(features, extras),
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


def summary(model: Model) -> dict[str, Any]:
    """What is said of a model at a glance."""
    card = model.card
    kept = {name: card[name] for name in ("trained_on", "metrics", "features_version") if name in card}
    return {"id": model.id, "sha256": model.sha256, "features": len(model.features), **kept}


def show(values: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints values: one JSON object, or a line each."""
    if as_json:
        typer.echo(msgspec.json.encode(values).decode())
        return
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _flat(values, ""):
        table.add_row(printable(name), f"{value:.4f}" if isinstance(value, float) else printable(str(value)))
    Console().print(table, markup=False)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + name, value
