"""Scan for card numbers and secrets where they must not be: files now, and places on a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._progress import counting
from vedette.cli._settings import settings_of
from vedette.core.clock import MICROS, SystemClock, seconds_of, to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.prove.dlp import scrub
from vedette.prove.dlp.blocks import BLOCK, files_in, scan_block
from vedette.run.dataloss import Found, Place
from vedette.run.parts import Parts

EXAMPLES = """Examples:

  vedette dlp scan /var/log/shop                   # now; kind and place, never what stands there

  vedette dlp watch shop /var/log/shop --every 1d  # by the running server, a round a day

  vedette dlp watch log --every 1h                 # the product's own log; `tables` are the stored events

  vedette dlp status

  vedette dlp run                                  # rounds that are due, here and now, where no server runs

The product's own log and tables are scanned once a day from the start. What is found becomes an alert.

Exit codes of `scan`: 0 nothing; 1 something was found; 2 a path cannot be read."""

FOUND = 1
"""Exit code of `scan` when it found something."""
Home = Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Of the place.")]


class Standing(msgspec.Struct, frozen=True):
    """What `status` tells."""

    places: list[Place]
    found: list[Found]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    group = typer.Typer(name="dlp", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    for name, command in (("scan", scan), ("watch", watch), ("forget", forget), ("status", status), ("run", run)):
        group.command(name, epilog=EXAMPLES)(command)
    app.add_typer(group)


def scan(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Scan files and folders now; one line a finding."""
    found = 0
    for path in paths:
        if not path.exists():
            raise DataError("dlp.path.missing", f"there is nothing at `{path}`", at=str(path))
        for file in files_in(path):
            for kind, start, end in _in_file(file):
                found += 1
                row = {"path": scrub(str(file)), "kind": kind, "start": start, "end": end}
                text = msgspec.json.encode(row).decode() if as_json else f"{row['path']}:{start} {kind}"
                typer.echo(text if as_json else printable(text))
    if found:
        raise typer.Exit(FOUND)
    if not as_json:
        typer.echo("nothing found")


def _in_file(path: Path) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    start, size = 0, path.stat().st_size
    while start < size:
        some, after = scan_block(path, start, BLOCK)
        found += some
        start = max(after, start + 1)  # a file that shrinks meanwhile has an end all the same
    return found


def watch(
    name: Name,
    path: Annotated[Path | None, typer.Argument(help="Folder or file; none for `log` and `tables`.")] = None,
    *,
    every: Annotated[str, typer.Option(help="From round to round: `1h`, `1d`.")] = "1d",
    now: Annotated[bool, typer.Option("--now", help="Begin the first round at once.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Scan a place on a schedule, or change how often it is scanned."""
    seconds = seconds_of(every)
    if seconds is None:
        raise DataError("dlp.every.invalid", f"`{every:.40}` is no timespan", hint="such as `1h` or `1d`")
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        whole = str(path.resolve()) if path else ""
        place = parts.dataloss.watch(name, whole, every=seconds * MICROS, now=now)
    _show([place], [], as_json=as_json)


def forget(name: Name, *, home: Home = None) -> None:
    """Scan a folder no more; what was found there stays."""
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        parts.dataloss.forget(name)


def status(
    *,
    limit: Annotated[int, typer.Option(min=0, max=500, help="Most findings.")] = 20,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show where each place stands, and what was found, newest first."""
    settings = settings_of(home)
    with Parts(settings, clock=SystemClock()) as parts:
        _show(parts.dataloss.places(), parts.dataloss.found(settings.tenant, limit=limit), as_json=as_json)


def run(*, home: Home = None, as_json: AsJson = False) -> None:
    """Do the rounds that are due, here and now."""
    settings = settings_of(home)
    with Parts(settings, clock=SystemClock()) as parts:
        with counting("bytes") as tell:
            parts.dataloss.run(tell)
        _show(parts.dataloss.places(), parts.dataloss.found(settings.tenant, limit=20), as_json=as_json)


def _show(places: list[Place], found: list[Found], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(Standing(places, found)).decode())
        return
    for place in places:
        path = f" {place.path}" if place.path else ""
        told = f"{place.name}: {place.state}, last round {_time(place.finished)}, next {_time(place.due)}"
        typer.echo(printable(f"{told}, {place.scanned:,} bytes, {place.found:,} found{path}"))
    for one in found:
        typer.echo(printable(f"{_time(one.time)} {one.kind} in {one.place}: {one.item} byte {one.start:,}"))


def _time(micros: int) -> str:
    return f"{to_iso(micros)[:19]}Z" if micros else "never"
