"""Rule sets, periods and records as the verbs of rules name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli import _rules
from vedette.cli._progress import counting
from vedette.core.clock import DAY, from_datetime, to_datetime
from vedette.core.errors import DataError
from vedette.core.settings import Settings
from vedette.judge.sigma.files import RuleFile, rule_files
from vedette.judge.sigma.load import RuleSet, build
from vedette.judge.sigma.logsources import LogSources
from vedette.run.rules.records import Batch, of_files, of_store
from vedette.sense.sources import Source
from vedette.sense.store import Store

Only = Annotated[str, typer.Option(metavar="GLOB", help="Select rule files, such as 'cloud/**'.")]
Sources = Annotated[Path | None, typer.Option(help="Folder of further source files.")]
Exceptions = Annotated[list[Path] | None, typer.Option(help="Folder or file of exceptions (Sigma filters); repeat it.")]
Lists = _rules.Lists
Pipeline = _rules.Pipeline
Home = Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
EXCEPTIONS = "exceptions"
"""Folder beside the rules whose filters count as exceptions without being named."""

_AGO = re.compile(r"(\d{1,5})([dh])")


def files_of(paths: Sequence[Path], only: str = "", exceptions: Sequence[Path] | None = None) -> list[RuleFile]:
    """Rule files below some paths, and those of exceptions: of `exceptions/` beside the rules, and of what is named."""
    beside = [path.parent / EXCEPTIONS for path in paths if path.name != EXCEPTIONS]
    named = [*(exceptions or ()), *(path for path in dict.fromkeys(beside) if path.is_dir())]
    return [
        *(file for path in paths for file in rule_files(path, only)),
        *(file for path in named for file in rule_files(path)),
    ]


def places_of(
    sources: Mapping[str, Source], lists: Sequence[Path] | None = None, pipeline: Sequence[Path] | None = None
) -> LogSources:
    """Where log sources are found, by which lists and through which pipelines."""
    return _rules.log_sources(sources, pipeline, lists)


def set_of(files: Sequence[RuleFile], places: LogSources, now: int) -> RuleSet:
    """A rule set as of a moment, microseconds UTC: exceptions past their day do not apply."""
    return build(files, places, to_datetime(now).date())


def moment_of(text: str, now: int) -> int:
    """A moment as people write it: `2026-03-01`, `2026-03-01T12:00:00Z`, `30d` or `12h` ago. Microseconds UTC.

    Raises:
        DataError: `rules.period.invalid`.
    """
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * (DAY if ago[2] == "d" else DAY // 24)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "such as `2026-03-01`, `2026-03-01T12:00:00Z` or `30d` for 30 days ago"
        raise DataError("rules.period.invalid", f"`{text:.40}` is no moment", hint=hint) from error
    return from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


class Period(msgspec.Struct, frozen=True):
    """A span of event time, microseconds UTC."""

    since: int | None
    until: int | None


@contextmanager
def records(
    paths: Sequence[Path],
    settings: Settings,
    sources: Mapping[str, Source],
    period: Period,
    reads: Callable[[str], bool],
) -> Iterator[Iterator[Batch]]:
    """The records of files, or those of the installation's store; with a bar.

    Raises:
        DataError: `rules.records.missing` when there are neither files nor a store.
    """
    with counting("records") as tell:
        if paths:
            yield of_files(paths, sources, tell=tell)
            return
        if not settings.store_folder.is_dir():
            hint = "name files of records, or a --home that has taken some in"
            raise DataError("rules.records.missing", "nothing to run over", hint=hint, at=str(settings.home))
        read = {name: source for name, source in sources.items() if reads(name)}
        since, until = period.since or 0, period.until if period.until is not None else 1 << 55
        yield of_store(Store(settings.store_folder), settings.tenant, read, since=since, until=until, tell=tell)
