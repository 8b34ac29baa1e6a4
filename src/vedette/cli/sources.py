"""List the known sources, show one, or try one on a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli.ingest import find_source
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.render import printable
from vedette.sense.files import read_lines, stream_identity
from vedette.sense.ocsf import view
from vedette.sense.sources import Source, load_sources, sniff

TRY_RECORDS = 10_000
"""How many first records `try` judges the quality by."""

Folder = Annotated[Path | None, typer.Option("--sources", help="Folder of further source files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(invoke_without_command=True, help="List the known sources, show one, or try one on a file.")
    verb.callback(epilog="Examples:\n\n  vedette sources\n\n  vedette sources show cloudtrail")(list_sources)
    verb.command(name="show", epilog="Example: vedette sources show cloudtrail")(show)
    verb.command(name="try", epilog="Example: vedette sources try windows events.ndjson.gz")(try_source)
    app.add_typer(verb, name="sources")


def list_sources(context: typer.Context, sources: Folder = None, as_json: AsJson = False) -> None:
    """List the known sources."""
    if context.invoked_subcommand:
        return
    known = load_sources(sources)
    if as_json:
        typer.echo(msgspec.json.encode({name: _summary(each) for name, each in known.items()}).decode())
        return
    table = Table("source", "log source", "checked against", "about")
    for name, each in known.items():
        log = " / ".join(
            part for part in (each.logsource.product, each.logsource.category, each.logsource.service) if part
        )
        table.add_row(name, log, each.definition.origin.value, each.definition.about)
    Console().print(table)


def show(name: str, sources: Folder = None, as_json: AsJson = False) -> None:
    """Show what a source file says: how records are recognised and what is taken from them."""
    source = find_source(load_sources(sources), name)
    if as_json:
        typer.echo(msgspec.json.encode(_summary(source)).decode())
        return
    definition = source.definition
    typer.echo(f"{source.name}: {definition.about} ({definition.origin})")
    table = Table("what", "field", title="schema", title_justify="left")
    table.add_row("id", definition.id or "computed from the record's place")
    for path, form in definition.time.items():
        table.add_row("time", f"{path} ({form})")
    for kind, paths in definition.entities.items():
        table.add_row(f"entity {kind}", ", ".join(paths))
    for path, rule in definition.ocsf.items():
        table.add_row(f"ocsf.{path}", _rule(rule))
    table.add_row("promoted", ", ".join(definition.promote))
    Console().print(table)


def try_source(
    name: Annotated[str, typer.Argument(help="Name of a source, or `auto` to recognise it.")],
    file: Annotated[Path, typer.Argument(help="A file or folder of records.")],
    sources: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Read a file's first records without storing them: one parsed sample, and the quality of the rest."""
    known = load_sources(sources)
    report = _try(known, name, file)
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
        return
    sample = report.pop("sample")
    typer.echo(printable(msgspec.json.format(msgspec.json.encode(sample)).decode(), lines=True))
    for what, value in report.items():
        typer.echo(f"{what}: {printable(str(value))}")


def _try(known: Any, name: str, file: Path) -> dict[str, Any]:
    source: Source | None = None if name == "auto" else find_source(known, name)
    sample: Event | None = None
    read = parsed = recognised = with_entity = with_class = 0
    problems: Counter[str] = Counter()
    clock = SystemClock()
    for read_chunk in read_lines(file):
        source = source or sniff(read_chunk.lines, known)
        chunk = source.unwrap(read_chunk)
        stream = stream_identity(chunk.path, chunk.lines[0] if chunk.lines else b"")
        problems.update(bad.code for bad in chunk.bad)
        read += chunk.count
        for offset, data in zip(chunk.offsets, source.parse_many(chunk.lines), strict=True):
            try:
                if isinstance(data, DataError):
                    raise data
                event = source.to_event(data, tenant="try", stream=stream, offset=offset, ingest_time=clock.now())
            except DataError as error:
                problems[error.code] += 1
                continue
            parsed += 1
            recognised += source.recognises(data) > 0
            with_entity += bool(event.entities)
            with_class += event.class_uid > 0
            sample = sample or event
        if read >= TRY_RECORDS:
            break
    return {
        "source": source.name if source else None,
        "sample": _sample(sample, source) if sample and source else None,
        "read": read,
        "parsed": parsed,
        "recognised": recognised,
        "with_entity": with_entity,
        "with_class": with_class,
        "refused": dict(problems),
    }


def _sample(event: Event, source: Source) -> dict[str, Any]:
    return {
        "id": event.id,
        "event_time": to_iso(event.event_time),
        "class_uid": event.class_uid,
        "entities": [entity.key for entity in event.entities],
        "ocsf": view(event, source).to_dict(),
        "data": event.data,
    }


def _summary(source: Source) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(source.definition)
    return built


def _rule(rule: object) -> str:
    if isinstance(rule, tuple):
        return ", ".join(map(str, rule))
    if isinstance(rule, msgspec.Struct):
        return f"by {getattr(rule, 'by', '')}"
    return str(rule)
