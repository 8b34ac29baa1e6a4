"""Fill online features with labelled history, so that the first decision knows the past."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.core.clock import SystemClock, from_datetime
from vedette.core.errors import DataError
from vedette.core.settings import load_settings
from vedette.judge.models.model import load_model
from vedette.run.backfill import backfill as run_backfill

EXAMPLES = """Examples:

  vedette features backfill --model model/ --events history.parquet

  vedette features backfill --model model/ --events may.csv --events june.csv --until 2026-07-01 --json

Stop the service before it. The state is what the service would hold had it taken every event, and every label when it
became known; events that its log has are replayed over it at the next start. Again replaces the history."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="features", help=__doc__, no_args_is_help=True, epilog=EXAMPLES)
    verb.command(name="backfill", epilog=EXAMPLES)(backfill)
    app.add_typer(verb)


def backfill(
    *,
    events: Annotated[list[Path], typer.Option(metavar="FILE", help="Labelled history: Parquet, CSV, NDJSON (.gz).")],
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model whose features and label delay count.")],
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Labels known later have not come yet; now by default.")
    ] = "",
    tenant: Annotated[str, typer.Option(help="Whose features; that of the settings by default.")] = "",
    home: Annotated[Path | None, typer.Option(help="Folder of the product's data; VEDETTE_HOME.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fill a tenant's online features with labelled history."""
    environ = dict(os.environ)  # noqa: TID251 - the one place that hands the environment on
    if home is not None:
        environ["VEDETTE_HOME"] = str(home)
    settings = load_settings(None, environ)
    loaded = load_model(model)
    with progress() as report:
        done = run_backfill(
            settings,
            tenant or settings.tenant,
            events,
            loaded.feature_set,
            delay=loaded.label_delay,
            until=_time(until) if until else SystemClock().now(),
            report=report,
        )
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
        return
    table = Table(box=None, show_header=False)
    for name, value in asdict(done).items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else value)
    Console().print(table)


def _time(text: str) -> int:
    try:
        return from_datetime(datetime.fromisoformat(text))
    except ValueError as error:
        hint = "write 2026-07-01 or 2026-07-01T12:00:00"
        raise DataError("features.time.invalid", f"`{text:.40}` is no time", hint=hint) from error
