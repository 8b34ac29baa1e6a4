"""Write, check, test, ship and tune rules."""

from __future__ import annotations

import importlib
from pathlib import Path

import typer

EXAMPLES = """Examples:

  vedette rules check my-rules/

  vedette rules check --help"""


def register(app: typer.Typer) -> None:
    """Adds the verbs: one file each, found by their names."""
    group = typer.Typer(no_args_is_help=True, epilog=EXAMPLES)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            importlib.import_module(f"vedette.cli.rules.{path.stem}").register(group)
    app.add_typer(group, name="rules", help="Write, check, test, ship and tune rules.")
