"""What every verb that loads Sigma rules offers: pipelines, lists, and the day by which filters expire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from vedette.core.clock import SystemClock, to_datetime
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.pipelines import load_pipelines
from vedette.sense.sources import Source

Pipeline = Annotated[
    list[Path] | None,
    typer.Option("--pipeline", metavar="FILE", help="pySigma pipeline in YAML for Sigma rules; may be repeated."),
]
Lists = Annotated[
    list[Path] | None,
    typer.Option("--lists", metavar="FILE", help="YAML or JSON lists for placeholders of `expand`; may be repeated."),
]


def log_sources(
    known: Mapping[str, Source], pipeline: Sequence[Path] | None = None, lists: Sequence[Path] | None = None
) -> LogSources:
    """Where the rules of a verb read, through its pipelines and with its lists.

    Raises:
        DataError, DefinitionError: What `load_pipelines` raises.
    """
    named = {name: source.logsource for name, source in known.items()}
    return LogSources(named, pipelines=load_pipelines(pipeline or (), lists or ()))


def today() -> date:
    """The day in UTC."""
    return to_datetime(SystemClock().now()).date()
