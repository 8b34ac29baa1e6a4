"""Check the ledger: recompute every balance from the raw rows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._settings import settings_of
from vedette.core.db import open_database
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.move.ledger.check import Report, check

EXAMPLES = """Examples:

  vedette ledger check

  vedette ledger check --database .vedette/money.db --json

  vedette ledger check --database postgresql://localhost/vedette

Exit code 1 when something is wrong."""
SCHEMA = "money"
DAMAGED = 1
"""Exit code when the check found something."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    group = typer.Typer(no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    group.callback()(_group)
    group.command(name="check", epilog=EXAMPLES)(run_check)
    app.add_typer(group, name="ledger")


def _group() -> None:
    """Check the ledger: recompute every balance from the raw rows."""


def run_check(
    database: Annotated[
        str, typer.Option(help="SQLite file or postgresql:// URL; that of the settings by default.")
    ] = "",
    config: Annotated[Path | None, typer.Option(help="Settings file.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of the product's data; VEDETTE_HOME.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recompute every balance from the raw rows and compare."""
    settings = settings_of(home, config)
    target = database or settings.database_url or str(settings.money_file)
    if not target.startswith("postgresql") and not Path(target).is_file():
        raise DataError("ledger.check.no_database", "no such file", hint="name it with --database", at=target)
    db = open_database(target, schema=SCHEMA)
    try:
        report = check(db)
    finally:
        db.close()
    if as_json:
        typer.echo(msgspec.json.encode({"ok": not report.found, **asdict(report)}).decode())
    else:
        _show(report)
    if report.found:
        raise typer.Exit(DAMAGED)


def _show(report: Report) -> None:
    console = Console()
    if report.found:
        table = Table("tenant", "what", "id", "detail")
        for finding in report.findings:
            table.add_row(*(printable(text) for text in (finding.tenant, finding.code, finding.id, finding.detail)))
        console.print(table)
    verdict = f"{report.found} problem(s)" if report.found else "every balance is the sum of its transfers"
    console.print(f"{report.accounts} accounts, {report.transfers} transfers: {verdict}")
