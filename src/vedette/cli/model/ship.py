"""Ship a model, payment rules or features to an installation: in shadow first, then for a share, then for all."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from vedette.cli._settings import settings_of
from vedette.cli.model import _options
from vedette.core.clock import SystemClock
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.judge.models.registry import Entry
from vedette.judge.shipments import WHOLE, Document, Standing
from vedette.run.parts import Parts
from vedette.run.payments.trials import Part, file_document, model_document
from vedette.run.rules.gates import Gate, Obstacle, model_obstacles

EXAMPLES = """Examples:

  vedette model ship model/ --shadow                                  # decides beside what is live, answers nobody

  vedette model ship model/ --percent 10 --report report/report.json  # answers a tenth of the customers

  vedette model ship card_transactions-3f1c9a2b7d40 --live --report report/report.json --note "a quiet week at 10 %"

  vedette model ship --rules payment.rules --shadow

  vedette model ship --features features.yaml --percent 5

A model is registered with a signed entry. Before it answers anybody it needs a report of its own that finds nothing
against it; what serves should be a candidate of that report too. One part is on trial at a time. The running
installation takes it within seconds and takes it back by itself when a guard-rail breaks: declines, misses, latency,
drift, failures. A part that went live is compared with what it replaced for a day.

Exit codes: 0 shipped; 1 something stands in the way; 2 a path cannot be opened."""

REFUSED = 1


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="ship", epilog=EXAMPLES)(run)


def run(
    name: Annotated[str, typer.Argument(metavar="[DIR|ID]", help="Model directory, or id of a registered model.")] = "",
    *,
    rules: Annotated[Path | None, typer.Option(metavar="FILE", help="Payment rules instead of a model.")] = None,
    features: Annotated[Path | None, typer.Option(metavar="FILE", help="Features instead of a model.")] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Decide beside, answer nobody (the default).")] = False,
    percent: Annotated[int | None, typer.Option(min=1, max=99, help="Answer a share of the customers.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Answer everybody.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="What `vedette model report` wrote.")] = None,
    waive: Annotated[str, typer.Option(metavar="REASON", help="Ship in spite of what stands in the way.")] = "",
    note: Annotated[str, typer.Option(help="Why; kept with the change.")] = "",
    by: Annotated[str, typer.Option(help="Who ships; the system's user by default.")] = "",
    home: _options.Home = None,
    as_json: _options.Json = False,
) -> None:
    """Ship a model, payment rules or features to a stage, when nothing stands in the way."""
    if sum((shadow, live, percent is not None)) > 1:
        raise DataError("model.ship.stage", "one of --shadow, --percent and --live")
    if sum((bool(name), rules is not None, features is not None)) != 1:
        raise DataError("model.ship.part", "name one model, or --rules FILE, or --features FILE")
    share, operator = WHOLE if live else percent or 0, by or getpass.getuser()
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        obstacles: list[Obstacle] = []
        if name:
            entry = _registered(parts, name, operator, note)
            document = model_document(entry)
            obstacles = _against(parts, entry, report) if share else []
        else:
            path = rules or features
            document = file_document(Part.RULES if rules else Part.FEATURES, path or Path())
        obstacles += _busy(parts, document)
        standing = None
        if waive or not obstacles:
            text = "; ".join(part for part in (note, f"waived: {waive}" if waive and obstacles else "") if part)
            standing = parts.scoring_shipments.ship(document, percent=share, operator=operator, note=text)
            tell(parts, "model.ship", standing, document.title)
    _print(document, standing, obstacles, as_json=as_json)
    if standing is None:
        raise typer.Exit(REFUSED)


def _registered(parts: Parts, name: str, operator: str, note: str) -> Entry:
    """The entry of a directory, made now if need be, or of a registered model."""
    folder = Path(name)
    return parts.models.add(folder, operator=operator, note=note) if folder.is_dir() else parts.models.find(name)


def _against(parts: Parts, entry: Entry, report: Path | None) -> list[Obstacle]:
    if report is None:
        return [Obstacle(Gate.REPORT, entry.id, "no report: see `vedette model report`")]
    try:
        found = msgspec.json.decode(report.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError("model.report.unreadable", f"cannot read `{report}`") from error
    standing = parts.scoring_shipments.standings().get(Part.MODEL)
    serving = ""
    if standing and len(standing.live) == len(entry.sha256):
        held = parts.scoring_shipments.document(standing.live)
        serving = msgspec.json.decode(held.files[0].content, type=Entry).sha256
    return list(model_obstacles(entry.id, found, sha256=entry.sha256, serving=serving))


def _busy(parts: Parts, document: Document) -> list[Obstacle]:
    """Two trials at once would be judged by each other's doing."""
    part = document.ids[0]
    others = [one.unit for one in parts.scoring_shipments.standings().values() if one.trial and one.unit != part]
    text = "is on trial: promote it or take it back first"
    return [Obstacle(Gate.CHECK, document.title, f"`{other}` {text}") for other in others]


def tell(parts: Parts, action: str, standing: Standing, title: str) -> None:
    """Writes a change to the audit trail."""
    detail = {"stage": str(standing.stage), "percent": str(standing.percent), "title": title[:200]}
    detail |= {"change": str(standing.seq), "note": standing.note[:200]}
    tenant = parts.settings.tenant
    parts.audit.record(tenant, action, actor=standing.operator, target=standing.unit, origin="cli", detail=detail)


def _print(document: Document, standing: Standing | None, obstacles: list[Obstacle], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode({"shipped": standing, "obstacles": obstacles}).decode())
        return
    for one in obstacles:
        typer.echo(printable(f"{one.gate}: {one.rule}: {one.message}"))
    if standing is None:
        typer.echo("nothing was shipped")
        return
    stage = f"{standing.stage} {standing.percent} %" if standing.percent else str(standing.stage)
    typer.echo(printable(f"{standing.unit}: {document.title}: {stage}, change {standing.seq}"))
