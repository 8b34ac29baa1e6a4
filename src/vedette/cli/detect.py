"""Run Sigma rules over log files; print counts, a table, or one match a line."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from vedette.cli._rules import Lists, Pipeline, log_sources, today
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.core.signal import Level, Signal
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.detect import Detector, Match, Tally
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import RuleSet
from vedette.sense.files import Chunk
from vedette.sense.sources import Source, load_sources

if TYPE_CHECKING:
    from vedette.judge.indicators import Lookout

CACHE = Path("~/.cache/vedette/rules")

EXAMPLES = """Examples:

  vedette detect --rules sigma/rules.tar.gz --only 'rules/windows/**' events.ndjson.gz

  vedette detect --rules my-rules/ --source cloudtrail --json trail/   # one match a line

  vedette detect --rules my-rules/ --indicators .vedette events.ndjson    # and what is known to be bad

  vedette detect --rules my-rules/ --counts events.ndjson              # one JSON object

Exit codes: 0 done, matches or not; 2 when rules or input cannot be opened. Rules that cannot match are named in
`skipped`; records that cannot be read are counted as quarantined."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="detect", epilog=EXAMPLES)(detect)


def detect(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Plain or gzip files, or folders of them.")],
    *,
    rules: Annotated[list[Path], typer.Option(help="Folder, `.tar.gz` or file of Sigma rules; may be repeated.")],
    only: Annotated[
        str, typer.Option(metavar="GLOB", help="Select rule files inside, such as 'rules/windows/**'.")
    ] = "",
    source: Annotated[str, typer.Option(metavar="NAME", help="Source of the records; else recognised.")] = "",
    sources: Annotated[Path | None, typer.Option(help="Folder of further source files.")] = None,
    pipeline: Pipeline = None,
    lists: Lists = None,
    counts: Annotated[bool, typer.Option("--counts", help="Print one JSON object of counts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one match a line as JSON.")] = False,
    indicators: Annotated[
        Path | None, typer.Option(metavar="HOME", help="Look for the indicators of that folder's library too.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=64, help="Processes for large plain files; the output is the same.")
    ] = 1,
    cache: Annotated[
        Path, typer.Option(envvar="VEDETTE_CACHE", help="Where compiled rules are kept; made when missing.")
    ] = CACHE,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compile the rules afresh and keep nothing.")] = False,
) -> None:
    """Run Sigma rules over log files; print counts, a table, or one match a line."""
    known = load_sources(sources)
    if source and source not in known:
        raise DataError("sources.name.unknown", f"no source `{source}`", hint=f"one of {', '.join(known)}")
    files = [file for path in rules for file in rule_files(path, only)]
    if not files:
        wanted = f"`{printable(only)}` matches none of the rule files" if only else "there is no rule file"
        typer.echo(
            f"warning: {wanted}; globs are over the paths inside {printable(', '.join(map(str, rules)))}", err=True
        )
    places = log_sources(known, pipeline, lists)
    loaded = load_cached(files, places, None if no_cache else cache.expanduser(), today())
    detector = Detector(
        loaded,
        known,
        source=known[source] if source else None,
        now=SystemClock().now(),
        jobs=jobs,
        lookout=_lookout(indicators, known) if indicators else None,
    )
    gc.freeze()  # Thousands of rules need not be looked at again and again for garbage.
    with _progress(detector.tally) as tell:
        found = detector.run(paths, tell)
        if counts:
            _drain(found)
        elif as_json:
            _print_matches(found)
            return
        else:
            seen = {}
            for match in found:
                about = match if isinstance(match, Signal) else match.rule
                seen[_rule_id(match)] = (about.level, about.title)
    if counts:
        typer.echo(msgspec.json.encode(to_counts(loaded, detector.tally)).decode())
    else:
        _print_table(loaded, detector.tally, seen)


def _lookout(home: Path, known: Mapping[str, Source]) -> Lookout:
    """What looks for a library's indicators; all of them are read here, so that worker processes share them."""
    # An installation's databases take a third of a second to import, which most runs over files never need.
    from vedette.cli._response import Opened
    from vedette.judge.indicators import Lookout
    from vedette.run.intel.indicators import Watches

    with Opened(home, "") as here:
        watches = Watches(here.library, here.clock)
        watch = watches.fresh(here.tenant)
        library, tenant = here.library, here.tenant
    return Lookout(lambda _tenant: watch, lambda _tenant, seq: library.at(tenant, seq), known, tenant)


def to_counts(rules: RuleSet, tally: Tally) -> dict[str, object]:
    """The object that `--counts` prints."""
    return {
        "events": tally.events,
        "quarantined": tally.quarantined,
        "rules": {
            "loaded": len(rules.rules) + len(rules.correlations),
            "skipped": [{"id": one.id, "reason": one.reason} for one in rules.skipped],
        },
        "matches": dict(sorted(tally.matches.items())),
    }


def _rule_id(found: Match | Signal) -> str:
    return found.rule_id if isinstance(found, Signal) else found.rule.id


def _drain(found: Iterator[Match | Signal]) -> None:
    for _ in found:
        pass


def _print_matches(found: Iterator[Match | Signal]) -> None:
    now = SystemClock().now()
    for one in found:
        shape = _signal_shape(one) if isinstance(one, Signal) else _match_shape(one, now)
        typer.echo(msgspec.json.encode(shape).decode("utf-8", "replace"))


def _match_shape(match: Match, now: int) -> dict[str, object]:
    event = match.event(now)
    return {
        "rule_id": match.rule.id,
        "title": match.rule.title,
        "level": match.rule.level,
        "event_id": event.id,
        "source": match.source.name,
        "line": match.line,
        "time": to_iso(event.event_time) if event.event_time else None,
        "entities": event.entities,
        "why": match.why(),
    }


def _signal_shape(signal: Signal) -> dict[str, object]:
    """A correlation's signal in the same shape; its event is the last of the window, its line that event's."""
    events = signal.why.get("events", [])
    return {
        "rule_id": signal.rule_id,
        "title": signal.title,
        "level": signal.level,
        "event_id": signal.event_id,
        "source": signal.source,
        "line": events[-1]["place"] if events else None,
        "time": to_iso(signal.event_time),
        "entities": signal.entities,
        "why": signal.why,
    }


def _print_table(rules: RuleSet, tally: Tally, seen: dict[str, tuple[Level, str]]) -> None:
    table = Table("level", "events", "rule", "id")
    table.columns[1].justify = "right"
    table.columns[3].no_wrap = True
    order = sorted(seen, key=lambda name: (-seen[name][0].severity_id, -tally.matches[name], name))
    for name in order:
        level, title = seen[name]
        table.add_row(level, f"{tally.matches[name]:,}", printable(title), printable(name))
    console = Console(markup=False, highlight=False, emoji=False)
    if seen:
        console.print(table)
    loaded = len(rules.rules) + len(rules.correlations)
    typer.echo(
        f"{tally.events:,} events ({tally.quarantined:,} quarantined), {loaded:,} rules"
        f" ({len(rules.skipped):,} skipped), {len(seen):,} rules matched {tally.matches.total():,} times"
    )
    for line in _skipped_summary(rules):
        typer.echo(line)


def _skipped_summary(rules: RuleSet, most: int = 5) -> Sequence[str]:
    reasons: dict[str, int] = {}
    for one in rules.skipped:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    ordered = sorted(reasons.items(), key=lambda pair: -pair[1])
    lines = [f"  skipped {count:,}: {printable(reason)}" for reason, count in ordered[:most]]
    return [*lines, f"  and {len(ordered) - most} more reasons; see --counts"] if len(ordered) > most else lines


@contextmanager
def _progress(tally: Tally) -> Iterator[Callable[[Chunk], None]]:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}  {task.fields[events]:,} events  {task.fields[matches]:,} matches"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("loading", events=0, matches=0)

        def tell(chunk: Chunk) -> None:
            name = printable(chunk.path.name)[:40]
            bar.update(task, description=name, events=tally.events, matches=tally.matches.total())

        yield tell
