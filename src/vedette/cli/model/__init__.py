"""Train fraud models, judge them in money, ship them in steps, and watch them."""

from __future__ import annotations

import importlib
from pathlib import Path

import typer

EXAMPLES = """Examples:

  vedette model train --events history.parquet --train-start 2018-07-25 --train-days 7 --delay-days 7 --out model/

  vedette model report --model model/ --events history.parquet --test-start 2018-08-08 --out report/

  vedette model ship model/ --shadow

  vedette model watch --model model/ --events today.parquet"""


def register(app: typer.Typer) -> None:
    """Adds the verbs: one file each, found by their names."""
    group = typer.Typer(no_args_is_help=True, epilog=EXAMPLES)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            importlib.import_module(f"vedette.cli.model.{path.stem}").register(group)
    app.add_typer(group, name="model", help=__doc__)
