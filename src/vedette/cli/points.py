"""Decision points: check the file of one, try it on events, and see which there are."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._settings import settings_of
from vedette.core.clock import SystemClock
from vedette.core.decision import Decision
from vedette.core.errors import DataError, VedetteError
from vedette.core.render import printable
from vedette.judge.decisions.files import read_rows
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.lines import to_json
from vedette.judge.decisions.opening import open_books
from vedette.judge.decisions.passing import PassingLog
from vedette.judge.models.model import load_model
from vedette.judge.points.loader import load_point
from vedette.judge.points.point import Point
from vedette.run.parts import Parts

EXAMPLES = """Examples:

  vedette points list

  vedette points check payouts.yaml --strict                # for CI: a name that nothing provides fails too

  vedette points try payouts.yaml payouts.ndjson            # what it would decide, and why

  cp payouts.yaml .vedette/points/                          # then `vedette serve` decides on it

POST /v1/decisions takes the point's name as `source`.

Exit codes: 0 done; 1 something to look at; 2 the file is wrong."""

FOUND = 1
"""Exit code when there is something to look at."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    group = typer.Typer(name="points", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    group.command("list", epilog=EXAMPLES)(show)
    group.command("check", epilog=EXAMPLES)(check)
    group.command("try", epilog=EXAMPLES)(attempt)
    app.add_typer(group)


def show(
    *,
    home: Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Its `points/` are listed too.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the points: those that are shipped, and a home's own."""
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        points = list(parts.points.values())
    if as_json:
        typer.echo(msgspec.json.encode([_shape(point) for point in points]).decode())
    for point in points if not as_json else ():
        typer.echo(printable(f"{point.name}: {point.about}"))


def check(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Point files.")],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on notes too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a point file makes, what is wrong with it, and which names nothing provides."""
    points = [load_point(path) for path in paths]
    if as_json:
        typer.echo(msgspec.json.encode([_shape(point) for point in points]).decode())
    for point in points if not as_json else ():
        for line in _lines(point):
            typer.echo(printable(line))
    if strict and any(True for point in points for _ in point.notes()):
        raise typer.Exit(FOUND)


def attempt(
    path: Annotated[Path, typer.Argument(metavar="POINT", help="The point's file.")],
    events: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Events: NDJSON, CSV or Parquet.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Decide on events as the point would; nothing is kept."""
    point, counts = load_point(path), Counter[str]()
    for found in _decisions(point, events):
        if isinstance(found, VedetteError):
            counts["refused"] += 1
            typer.echo(printable(f"refused: {found}"), err=True)
            continue
        counts[found.action.value] += 1
        if as_json:
            typer.echo(to_json(found).decode())
        else:
            typer.echo(printable(_line(found)))
    if not as_json:
        typer.echo(", ".join(f"{count:,} {what}" for what, count in counts.most_common()) or "no event")


def _decisions(point: Point, files: Sequence[Path]) -> Iterator[Decision | VedetteError]:
    clock = SystemClock()
    model = load_model(point.model) if point.model else None
    with tempfile.TemporaryDirectory(prefix="vedette-points-") as folder:
        books = open_books(
            Path(folder),
            features=model.feature_set if model else point.features,
            model=model,
            rules=point.rules,
            clock=clock,
            policy=point.policy,
            log=PassingLog(clock),
            lane=point,
        )
        for row in (row for file in files for row in read_rows(file, point.source)):
            try:
                if isinstance(row.data, DataError):
                    raise row.data
                event = to_event(row.data, point.source, tenant="default", ingest_time=clock.now())
                yield books.recorder.decide(event)
            except VedetteError as error:
                yield error
        books.recorder.close()


def _line(decision: Decision) -> str:
    risk = "" if decision.risk_score is None else f", risk {decision.risk_score}"
    why = "; ".join(reason.text for reason in decision.reasons) or "nothing speaks against it"
    return f"{decision.event_id}: {decision.action}{risk}: {why}"


def _shape(point: Point) -> dict[str, object]:
    notes = [{"rule": note.rule_id, "message": note.message, "place": str(note.span)} for note in point.notes()]
    return {
        "point": point.name,
        "about": point.about,
        "version": point.version,
        "features": point.features.names if point.features else (),
        "score": "model" if point.model else "scorecard" if point.card else "",
        "rules": [rule.id for rule in point.rules.rules],
        "queue": point.queue,
        "notes": notes,
    }


def _lines(point: Point) -> Iterator[str]:
    scored = "a model" if point.model else f"{len(point.card.odds)} conditions" if point.card else "nothing"
    counted = len(point.features.names) if point.features else 0
    parts = f"{counted} features, scored by {scored}, {len(point.rules.rules)} rules"
    yield f"{point.name}: {parts}, version {point.version[:12]}"
    yield from (f"note: {note.span}: {note.rule_id}: {note.message}" for note in point.notes())
