"""Run one SELECT over stored events."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.core.render import printable
from vedette.sense.query import Answer, Budget, run_query
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette query "select source, code, count(*) from quarantine group by all"

  vedette query "select eventName, count(*) n from cloudtrail group by all order by n desc" --rows 10

  vedette query "select data->>'$.userAgent' agent from cloudtrail where eventName = ?" -p ConsoleLogin --json

Each source is a table; `quarantine` holds what could not be read. Columns: id, tenant, date, source, seq, event_time,
ingest_time, class_uid, entities, raw_ref, data (JSON text) and the source's promoted fields."""

_CELL = 120


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="query", epilog=EXAMPLES)(query)


def query(
    text: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT; `-` reads it from standard input.")],
    *,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="Value of the next `?`, or name=value for `$name`.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=1_000_000, help="Most rows to print.")] = 100,
    timeout: Annotated[float, typer.Option(min=0.01, max=3_600, help="Deadline in seconds.")] = 30.0,
    memory: Annotated[int, typer.Option(min=64, max=65_536, help="Memory limit in MB.")] = 1_024,
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose events.")] = "default",
    home: Annotated[Path, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")] = Path(".vedette"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Run one SELECT over stored events."""
    select = sys.stdin.read() if text == "-" else text
    budget = Budget(seconds=timeout, memory_mb=memory, rows=rows)
    answer = run_query(Store(home / "store"), tenant, select, parameters=_bound(select, parameter or []), budget=budget)
    _print_json(answer) if as_json else _print_table(answer)
    if answer.cut:
        typer.echo(f"only the first {rows} rows are shown; --rows gives more", err=True)


def _bound(select: str, given: list[str]) -> list[str] | dict[str, str]:
    """By name when the text has a `$name` for each, else by position."""
    named = [each.partition("=") for each in given]
    if given and all(sign and f"${name}" in select for name, sign, _ in named):
        return {name: value for name, _, value in named}
    return given


def _print_json(answer: Answer) -> None:
    for row in answer.table.to_pylist():
        typer.echo(msgspec.json.encode(row, enc_hook=str).decode())


def _print_table(answer: Answer) -> None:
    table = Table(*(printable(str(name)) for name in answer.table.column_names))
    for batch in answer.table.to_batches():
        for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            table.add_row(*(_cell(cell) for cell in cells))
    Console().print(table)
    typer.echo(f"{answer.table.num_rows} rows")


def _cell(value: Any) -> str:
    text = printable("" if value is None else str(value))
    # Square brackets are markup to the table: what a log says is only text.
    short = text if len(text) <= _CELL else f"{text[:_CELL]}…"
    return short.replace("[", "\\[")
