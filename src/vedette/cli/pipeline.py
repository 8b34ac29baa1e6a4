"""Run log files through the whole loop: log, store, detection, alerts and evidence; or tell how far each stage is."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from vedette.cli._rules import Lists, Pipeline, today
from vedette.cli._settings import settings_of
from vedette.cli.ingest import find_source
from vedette.core.clock import SystemClock
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.core.settings import Settings
from vedette.judge.sigma.pipelines import Pipelines, load_pipelines
from vedette.run.files import Files
from vedette.run.parts import Parts
from vedette.run.pipeline import quality
from vedette.run.pipeline.detection import Detection, load_detection
from vedette.run.pipeline.flow import Flow, flows, look
from vedette.run.pipeline.stream import Stage
from vedette.run.platform import Platform
from vedette.sense.ingest import Counts

RUN_EXAMPLES = """Examples:

  vedette pipeline run --source cloudtrail --sigma rules/sigma /var/log/aws/

  vedette pipeline run --sigma my-rules/ --follow /var/log/app/       # stop it with Ctrl-C

  vedette alerts                                                      # then look at what was found

Running it again over the same files counts every record as a duplicate and changes nothing, also after a kill."""

STATUS_EXAMPLES = """Examples:

  vedette pipeline status

  vedette pipeline status --for 10                     # what comes, what each stage takes, which one is slow

  vedette pipeline status --home /srv/vedette --json"""

Home = Annotated[Path | None, typer.Option(help="Folder of the product's data; that of the settings by default.")]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="pipeline", no_args_is_help=True, help=__doc__, epilog=RUN_EXAMPLES)
    verb.command("run", epilog=RUN_EXAMPLES)(run)
    verb.command("status", epilog=STATUS_EXAMPLES)(status)
    app.add_typer(verb)


def run(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Plain or gzip files, or folders of them.")],
    *,
    source: Annotated[str, typer.Option(metavar="NAME", help="Source of the records; else recognised.")] = "",
    sigma: Annotated[list[Path] | None, typer.Option(help="Folder or archive of Sigma rules; may be repeated.")] = None,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Select rule files inside.")] = "",
    pipeline: Pipeline = None,
    lists: Lists = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is added, until stopped.")] = False,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between looks at the files with --follow.")] = 1.0,
    tenant: Annotated[str, typer.Option(help="Whose records; that of the settings by default.")] = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run log files through the log into the store, and through the rules into alerts."""
    settings = settings_of(home, config)
    with _open(settings, _detection(settings, sigma, only, load_pipelines(pipeline or (), lists or ()))) as platform:
        whose = tenant or settings.tenant
        chosen = find_source(platform.sources, source) if source else None
        with _bar() as bar:
            files = Files(platform, whose, paths, source=chosen, tell=bar)
            files.look(growing=follow)
            if follow:
                with _stopped() as stop:
                    while not stop.wait(every):
                        files.look(growing=True)
            files.settle()
        report = _report(files)
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show(report)


def _detection(settings: Settings, sigma: Sequence[Path] | None, only: str, pipelines: Pipelines) -> Detection | None:
    if not sigma:
        return None
    return load_detection(sigma, only=only, cache=settings.home / "cache", pipelines=pipelines, today=today())


def status(
    *,
    home: Home = None,
    config: Config = None,
    seconds: Annotated[
        float,
        typer.Option("--for", min=0, max=3600, metavar="SECONDS", help="Watch so long: rates, and the slow stage."),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Tell where each stage is in the log, how far behind its end, and with --for which stage is the slow one."""
    settings = settings_of(home, config)
    if not settings.log_folder.is_dir():
        hint = "`vedette pipeline run` starts one"
        raise DataError("pipeline.log.missing", "there is no log yet", hint=hint, at=str(settings.log_folder))
    with Parts(settings, clock=SystemClock()) as parts:
        stages = _stages(parts)
        first = last = look(parts.log, stages, parts.clock.monotonic())
        if seconds:
            threading.Event().wait(seconds)
            last = look(parts.log, stages, parts.clock.monotonic())
    rows = flows(stages, first, last)
    if as_json:
        told = {row.stage: _row(row, last.places[row.stage], rates=seconds > 0) for row in rows}
        typer.echo(msgspec.json.encode(told).decode())
        return
    table = Table(
        Column("stage", no_wrap=True),
        "topic",
        "place",
        "lag",
        *(("comes/s", "takes/s", "grows/s", "") if seconds else ()),
    )
    for row in rows:
        rates = (f"{row.arriving:,.1f}", f"{row.taking:,.1f}", f"{row.growing:+,.1f}", "slow" if row.slow else "")
        table.add_row(
            row.stage, row.topic, f"{last.places[row.stage]:,}", f"{row.waiting:,}", *(rates if seconds else ())
        )
    Console().print(table)


def _row(row: Flow, place: int, *, rates: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"topic": row.topic, "place": place, "lag": row.waiting}
    if rates:
        shown |= {"arriving": row.arriving, "taking": row.taking, "growing": row.growing, "left_s": row.left_s}
        shown["slow"] = row.slow
    return shown


def _stages(parts: Parts) -> list[Stage]:
    """The stages, to be looked at; their places are read from the log, state.db and index.db alone."""
    log = parts.log
    places: dict[tuple[str, str], Callable[[int], int]] = {
        ("store", "event"): partial(log.committed, "store", "event"),
        ("detect", "event"): partial(log.committed, "detect", "event"),
        ("detect_decisions", "decision"): partial(log.committed, "detect", "decision"),
        ("alerts", "signal"): parts.alerts.place,
        ("reviews", "decision"): parts.review_intake.place,
        ("register", "decision"): parts.register.place,
        ("sightings", "event"): parts.sightings.place,
        (quality.NAME, quality.TOPIC): partial(parts.index.place, quality.NAME),
    }
    return [Stage(name, topic, lambda: 0, place) for (name, topic), place in places.items()]


@contextmanager
def _open(settings: Settings, detection: Detection | None) -> Iterator[Platform]:
    platform = Platform(settings, clock=SystemClock(), detection=detection)
    try:
        yield platform
    finally:
        platform.close()


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a request to end sets, so that the turn in hand is finished."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, lambda *_: stop.set()) for each in signals]
    try:
        yield stop
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


@contextmanager
def _bar() -> Iterator[Any]:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}  {task.fields[records]:,} records"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("reading", records=0)
        yield lambda what, records: bar.update(task, description=printable(what)[:40], records=records)


def _report(files: Files) -> dict[str, Any]:
    return {
        "sources": {name: _renamed(each) for name, each in files.counts.items()},
        "stages": files.stages,
        "signals": files.signals,
        "alerts": {"made": files.alerts_made, "all": files.alerts_all},
        "evidence": {"size": files.evidence},
    }


def _renamed(counts: Counts) -> Mapping[str, int]:
    """What a store has stored, a log has appended."""
    return {"appended" if name == "stored" else name: count for name, count in asdict(counts).items()}


def _show(report: Mapping[str, Any]) -> None:
    columns: Sequence[str] = ("read", "appended", "quarantined", "duplicate")
    table = Table("source", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, each in report["sources"].items():
        table.add_row(name, *(f"{each[column]:,}" for column in columns))
    Console().print(table)
    for name, each in report["stages"].items():
        typer.echo(f"{name}: {', '.join(f'{count:,} {what}' for what, count in each.items())}")
    made, known = report["alerts"]["made"], report["alerts"]["all"]
    typer.echo(f"{made:,} new alerts, {known:,} in all; {report['evidence']['size']:,} records in the evidence tree")
    if any(each["quarantined"] for each in report["sources"].values()):
        typer.echo('see why: vedette query "select source, code, count(*) from quarantine group by all"')
