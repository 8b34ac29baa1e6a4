"""Watch a model on events or on the decisions of an installation: drift, broken features, an estimate before labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.cli._settings import settings_of
from vedette.cli.model import _options
from vedette.core.clock import DAY, SystemClock, to_iso
from vedette.core.decision import Decision
from vedette.core.render import printable
from vedette.judge.decisions.recorder import DECISIONS, REPLAY_RECORDS
from vedette.judge.models.drift import Level
from vedette.judge.models.model import load_model
from vedette.judge.models.watching import EVERY, Window, over_decisions, over_events
from vedette.run.parts import Parts

EXAMPLES = """Examples:

  vedette model watch --model model/ --events history.parquet --since 2018-08-01

  vedette model watch --model model/ --every 20000          # the decisions of this installation

  vedette model watch --model model/ --events today.ndjson --json

Population stability index of each feature and of the score against the training rows: 0.1 is watched, 0.25 asks for
action. A feature that is missing, frozen or in another unit is named as broken. The estimate needs no labels.

Exit codes: 0 nothing asks for action; 1 something does."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="watch", epilog=EXAMPLES)(run)


def run(
    *,
    model: _options.Folder,
    events: Annotated[list[Path] | None, typer.Option("--events", metavar="FILE", help="Events; repeat it.")] = None,
    since: Annotated[str, typer.Option(metavar="DATE", help="Windows begin here; what is before feeds features.")] = "",
    every: Annotated[int, typer.Option(min=500, help="Payments of a window.")] = EVERY,
    home: _options.Home = None,
    as_json: _options.Json = False,
) -> None:
    """Watch a model."""
    loaded = load_model(model)
    if events:
        with progress() as report:
            table = _options.read(list(events), loaded.feature_set, report)
        start = _options.to_day(since) * DAY if since else 0
        found = list(over_events(loaded, table, every=every, since=start))
    else:
        with Parts(settings_of(home), clock=SystemClock()) as parts:
            found = list(over_decisions(loaded, _decisions(parts), every=every))
    if as_json:
        typer.echo(msgspec.json.encode({"windows": found}).decode())
    else:
        _show(found)
    if any(window.watched.level in (Level.ACT, Level.BROKEN) for window in found):
        raise typer.Exit(1)


def _decisions(parts: Parts) -> Iterator[Decision]:
    log = parts.log
    for partition in range(log.partitions(DECISIONS)):
        at = 0
        while records := log.read(DECISIONS, partition, at, REPLAY_RECORDS):
            for record in records:
                yield msgspec.json.decode(record.value, type=Decision)
            at = records[-1].offset + 1


def _show(found: list[Window]) -> None:
    table = Table("from", "payments", "level", "estimated precision", "recall", "what", box=None)
    for window in found:
        watched = window.watched
        what = "; ".join(f"{one.name} ({one.index:.2f}): {one.text}" for one in watched.findings[:3])
        estimate = watched.estimate
        table.add_row(
            to_iso(window.since)[:16],
            f"{watched.rows:,}",
            str(watched.level),
            f"{estimate.get('precision', 0.0):.3f}",
            f"{estimate.get('recall', 0.0):.3f}",
            printable(what),
        )
    Console().print(table, markup=False)
