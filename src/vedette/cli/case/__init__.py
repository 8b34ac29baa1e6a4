"""Work on cases: show them, keep and give out evidence, report, review, and turn what was learned into tests."""

from __future__ import annotations

import importlib
from pathlib import Path

import typer

EXAMPLES = """Examples:

  vedette case list --state in_progress

  vedette case show cs_5f0c...

  vedette case collect cs_5f0c... shell.log --how "copied from the host" --by ana

  vedette case export cs_5f0c... --to "the auditor" --by ana --out case.bundle --verifier verifier.py

  vedette case report cs_5f0c... --kind handover

  vedette case to-test cs_5f0c... --rule secret_read.yml"""


def register(app: typer.Typer) -> None:
    """Adds the verbs: one file each, found by their names."""
    group = typer.Typer(name="case", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            importlib.import_module(f"vedette.cli.case.{path.stem}").register(group)
    app.add_typer(group)
