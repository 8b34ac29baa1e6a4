"""Read files into the event store; what cannot be read goes to quarantine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from vedette.core.clock import SystemClock
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.sense.files import Chunk, list_files
from vedette.sense.ingest import Counts, Ingest
from vedette.sense.quarantine import Quarantine
from vedette.sense.sources import Source, load_sources
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette ingest --source cloudtrail /var/log/aws/

  vedette ingest access.log.gz                # the source is recognised from the first records

  vedette ingest --json --source windows captures.ndjson.gz

Reading the same files again stores nothing twice."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="ingest", epilog=EXAMPLES)(ingest)


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Plain or gzip files, or folders of them.")],
    *,
    source: Annotated[str, typer.Option(help="Name of the source (`vedette sources` lists them).")] = "",
    stream: Annotated[str, typer.Option(help="Name the stream, for a copy whose path has changed.")] = "",
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose records they are.")] = "default",
    home: Annotated[Path, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")] = Path(".vedette"),
    sources: Annotated[Path | None, typer.Option(help="Folder of further source files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Read files into the event store; what cannot be read goes to quarantine."""
    known = load_sources(sources)
    chosen = find_source(known, source) if source else None
    files = sum(len(list_files(path)) for path in paths)
    store = Store(home / "store")
    work = Ingest(store, Quarantine(store.folder), known, tenant=tenant, clock=SystemClock())
    with _bar(files) as bar:
        task = bar.add_task("reading", total=files, records=0)
        begun: set[Path] = set()

        def tell(chunk: Chunk) -> None:
            begun.add(chunk.path)
            records = bar.tasks[0].fields["records"] + chunk.count
            bar.update(task, completed=len(begun) - 1, description=printable(chunk.path.name)[:40], records=records)

        work.run(paths, source=chosen, stream=stream, progress=tell)
    _show(work.counts, as_json=as_json)


def find_source(known: Mapping[str, Source], name: str) -> Source:
    """The source of that name.

    Raises:
        DataError: `sources.name.unknown`, with the names there are.
    """
    if name not in known:
        raise DataError("sources.name.unknown", f"no source `{name}`", hint=f"one of {', '.join(known)}")
    return known[name]


def _bar(files: int) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty() or not files,
    )


def _show(counts: Mapping[str, Counts], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode({name: asdict(each) for name, each in counts.items()}).decode())
        return
    columns: Sequence[str] = ("read", "stored", "quarantined", "duplicate")
    table = Table("source", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, each in counts.items():
        table.add_row(name, *(f"{getattr(each, column):,}" for column in columns))
    Console().print(table)
    if any(each.quarantined for each in counts.values()):
        typer.echo('see why: vedette query "select source, code, count(*) from quarantine group by all"')
