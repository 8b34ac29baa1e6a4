"""Show a model's card: of a directory, or of a registered model by its id."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vedette.cli._settings import settings_of
from vedette.cli.model import _options
from vedette.core.clock import SystemClock
from vedette.judge.models.model import load_model

EXAMPLES = """Examples:

  vedette model show --model model/

  vedette model show card_transactions-3f1c9a2b7d40 --json      # registered: its entry's signature is checked"""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="show", epilog=EXAMPLES)(run)


def run(
    name: Annotated[str, typer.Argument(metavar="[ID]", help="Id or start of the hash of a registered model.")] = "",
    *,
    model: Annotated[Path | None, typer.Option("--model", metavar="DIR", help="Model directory.")] = None,
    home: _options.Home = None,
    as_json: _options.Json = False,
) -> None:
    """Show a model's card."""
    if (model is None) == (not name):
        raise typer.BadParameter("name either a registered model or --model DIR")
    loaded = load_model(model) if model else _options.registry_of(settings_of(home), SystemClock()).load(name)
    _options.show(dict(loaded.card) if as_json else _options.summary(loaded), as_json=as_json)
