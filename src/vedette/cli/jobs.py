"""Run rules over stored events as jobs that survive a kill; schedule them; find and fill gaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.cli._settings import settings_of
from vedette.core.clock import MICROS, SystemClock, from_datetime, seconds_of, to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.core.settings import Settings
from vedette.judge.sigma.history import Engine
from vedette.run.jobs.ledger import Job
from vedette.run.jobs.running import Jobs
from vedette.run.jobs.schedules import Cause, Gap, Schedule, Schedules
from vedette.run.parts import Parts
from vedette.run.rules.history import reach
from vedette.sense.history import Span
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette jobs run detect --rules my-rules/ --from 2026-03-01 --to 2026-04-01 --jobs 2

  vedette jobs schedule hourly --rules my-rules/ --every 1h --lateness 1d --since 2026-03-01

  vedette jobs run due            # every few minutes, from cron or a timer

  vedette jobs gaps

A job that was killed goes on where it was when the same command is given again; one that is done does nothing."""

GAPS = 1
"""Exit code of `gaps` when there are any."""

Home = Annotated[Path | None, typer.Option(help="Folder of the product's data; that of the settings by default.")]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]
Tenant = Annotated[str, typer.Option(help="Whose events; that of the settings by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Rules = Annotated[list[Path], typer.Option(help="Folder, `.tar.gz` or file of Sigma rules; may be repeated.")]
Only = Annotated[str, typer.Option(metavar="GLOB", help="Select rule files inside.")]
By = Annotated[Engine, typer.Option(help="What judges events: `sql` for a few rules, `matcher` for many.")]
Count = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes that work on it.")]


class Opened(NamedTuple):
    """What the verbs work with."""

    settings: Settings
    parts: Parts
    store: Store
    schedules: Schedules
    tenant: str


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="jobs", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    runs = typer.Typer(
        name="run", no_args_is_help=True, help="Run a job to its end, or go on with it.", epilog=EXAMPLES
    )
    runs.command("detect", epilog=EXAMPLES)(detect)
    runs.command("due", epilog=EXAMPLES)(due)
    verb.add_typer(runs)
    verb.command("list", epilog=EXAMPLES)(list_jobs)
    verb.command("show", epilog=EXAMPLES)(show)
    verb.command("schedule", epilog=EXAMPLES)(schedule)
    verb.command("unschedule", epilog=EXAMPLES)(unschedule)
    verb.command("gaps", epilog=EXAMPLES)(gaps)
    app.add_typer(verb)


def detect(
    *,
    rules: Rules,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="First event time: a date or ISO 8601.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Event time to stop before.")],
    only: Only = "",
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated.")] = None,
    engine: By = Engine.MATCHER,
    jobs: Count = 1,
    again: Annotated[bool, typer.Option("--again", help="Judge anew what is done.")] = False,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run rules over a span of stored events, part by part; what they find becomes alerts, each once."""
    span = span_of(start, end)
    with opened(home, config, tenant) as here, _bar("judging") as tell:
        running = Jobs(here.parts, here.store, workers=jobs, progress=tell)
        spec, edition = running.spec(
            list(map(str, rules)), span, tenant=here.tenant, only=only, sources=source or (), engine=engine
        )
        done, _ = running.run(spec, edition, again=again)
    _print(_shape(done), as_json=as_json)


def due(
    *,
    jobs: Count = 1,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Judge every interval that is due, was missed, or got events late."""
    with opened(home, config, tenant) as here, _bar("judging") as tell:
        running = Jobs(here.parts, here.store, workers=jobs, progress=tell)
        done = [
            {"schedule": one.name, **_shape(job), "intervals": _causes(covered)}
            for one in here.schedules.all(here.tenant)
            for job, covered in here.schedules.run(one, running)
        ]
    if as_json:
        typer.echo(msgspec.json.encode({"jobs": done}).decode())
        return
    for each in done:
        causes = ", ".join(f"{count} {cause}" for cause, count in each["intervals"].items())
        typer.echo(f"{each['schedule']}: {causes}: {each['fresh']:,} new signals of {each['signals']:,}")
    if not done:
        typer.echo("nothing is due")


def list_jobs(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most jobs to show, newest first.")] = 20,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first, with how far each is."""
    with opened(home, config, tenant) as here:
        found = [_shape(job) for job in Jobs(here.parts, here.store).ledger.jobs(here.tenant, limit)]
    if as_json:
        typer.echo(msgspec.json.encode({"jobs": found}).decode())
        return
    table = Table("job", "state", "from", "to", "parts", "signals", "new", "schedule")
    for each in found:
        span = (each["from"][:16], each["to"][:16])
        parts = f"{each['parts_done']}/{each['parts']}"
        table.add_row(
            each["id"][:12], each["state"], *span, parts, *map(str, (each["signals"], each["fresh"])), each["cause"]
        )
    Console(markup=False).print(table)


def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id, or enough of its start.")],
    *,
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show a job part by part."""
    with opened(home, config, "") as here:
        ledger = Jobs(here.parts, here.store).ledger
        found = ledger.job(job)
        parts = [
            {
                "source": part.source or "correlations",
                "from": to_iso(part.start),
                "to": to_iso(part.end),
                "done": bool(part.done),
                "events": part.events,
                "signals": part.signals,
                "fresh": part.fresh,
            }
            for part in ledger.parts(found.id)
        ]
    shape = {**_shape(found), "rules": found.spec.rules, "only": found.spec.only, "list": parts}
    if as_json:
        typer.echo(msgspec.json.encode(shape).decode())
        return
    _print(shape, as_json=False)
    table = Table("source", "from", "done", "events", "signals", "new")
    for each in parts:
        done = "yes" if each["done"] else "no"
        table.add_row(
            str(each["source"]),
            str(each["from"])[:16],
            done,
            *map(str, (each["events"], each["signals"], each["fresh"])),
        )
    Console(markup=False).print(table)


def schedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    *,
    rules: Rules,
    every: Annotated[str, typer.Option(metavar="TIMESPAN", help="Width of an interval, such as `5m` or `1h`.")],
    since: Annotated[str, typer.Option(metavar="TIME", help="From when on no interval may be missing.")],
    lateness: Annotated[
        str, typer.Option(metavar="TIMESPAN", help="For how long late events are looked for, such as `1d`.")
    ] = "1d",
    only: Only = "",
    engine: By = Engine.MATCHER,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Add or replace a schedule; `jobs run due` then judges its intervals."""
    with opened(home, config, tenant) as here:
        made = Schedule(
            tenant=here.tenant,
            name=name,
            rules=tuple(str(path.absolute()) for path in rules),
            only=only,
            every=timespan(every),
            lateness=timespan(lateness),
            since=time_of(since),
            engine=engine,
        )
        Jobs(here.parts, here.store).spec(made.rules, Span(0, 0), tenant=here.tenant, only=only)
        here.schedules.put(made)
    shape = {
        "name": name,
        "every_s": made.every // MICROS,
        "lateness_s": made.lateness // MICROS,
        "since": to_iso(made.since),
    }
    typer.echo(
        msgspec.json.encode(shape).decode()
        if as_json
        else f"{printable(name)}: every {every}, since {to_iso(made.since)}"
    )


def unschedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which schedule.")],
    *,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Forget a schedule and what it covered; jobs and alerts stay."""
    with opened(home, config, tenant) as here:
        here.schedules.drop(here.tenant, name)
    typer.echo(f"{printable(name)} is forgotten")


def gaps(
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Look for late events beyond the lateness too.")] = False,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List the intervals that no job has covered, and those that hold more events than were judged."""
    with opened(home, config, tenant) as here:
        jobs = Jobs(here.parts, here.store)
        found: list[tuple[Schedule, Gap]] = []
        for one in here.schedules.all(here.tenant):
            spec, edition = jobs.spec(one.rules, Span(0, 0), tenant=here.tenant, only=one.only)
            there = here.schedules.gaps(one, spec.sources, ahead=reach(*edition.sets).ahead, deep=deep)
            found += [(one, gap) for gap in there if gap.cause is not Cause.DUE]
    shown = stretches(found)
    if as_json:
        typer.echo(msgspec.json.encode({"gaps": shown}).decode())
    elif not shown:
        typer.echo("no gaps")
    else:
        table = Table("schedule", "from", "to", "cause", "intervals", "events")
        for each in shown:
            table.add_row(*(str(value).removesuffix(":00.000000Z") for value in each.values()))
        Console(markup=False).print(table)
    if shown:
        raise typer.Exit(GAPS)


def stretches(gaps: Iterable[tuple[Schedule, Gap]]) -> list[dict[str, Any]]:
    """Gaps that follow each other, of one schedule and cause, as one."""
    found: list[dict[str, Any]] = []
    for one, gap in gaps:
        start, end = to_iso(gap.start), to_iso(gap.end)
        last = found[-1] if found else {}
        if (last.get("schedule"), last.get("to"), last.get("cause")) == (one.name, start, gap.cause):
            last.update(to=end, intervals=last["intervals"] + 1, events=last["events"] + gap.events)
            continue
        made = {"schedule": one.name, "from": start, "to": end, "cause": gap.cause}
        found.append({**made, "intervals": 1, "events": gap.events})
    return found


@contextmanager
def opened(home: Path | None, config: Path | None, tenant: str) -> Iterator[Opened]:
    """The installation that the options name."""
    settings = settings_of(home, config)
    with Parts(settings, clock=SystemClock()) as parts:
        store = Store(settings.store_folder)
        yield Opened(settings, parts, store, Schedules(parts.state, store, parts.clock), tenant or settings.tenant)


def span_of(start: str, end: str) -> Span:
    """The span between two times.

    Raises:
        DataError: `jobs.span.empty`, and what `time_of` raises.
    """
    span = Span(time_of(start), time_of(end))
    if span.empty:
        raise DataError("jobs.span.empty", f"`{end}` is not after `{start}`")
    return span


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?", re.ASCII)


def time_of(text: str) -> int:
    """A date or ISO 8601 time, in UTC where it names no offset; microseconds.

    Raises:
        DataError: `jobs.time.invalid`.
    """
    try:
        if _DATE.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except ValueError:
        pass
    raise DataError("jobs.time.invalid", f"`{text[:64]}` is no time", hint="such as 2026-03-01 or 2026-03-01T09:30:00Z")


def timespan(text: str) -> int:
    """A timespan such as `5m`, microseconds.

    Raises:
        DataError: `jobs.timespan.invalid`.
    """
    seconds = seconds_of(text)
    if seconds is None:
        raise DataError("jobs.timespan.invalid", f"`{text[:64]}` is no timespan", hint="such as 30s, 5m, 1h, 1d")
    return seconds * MICROS


def _causes(covered: Sequence[Gap]) -> dict[str, int]:
    return {str(cause): count for cause in Cause if (count := sum(gap.cause is cause for gap in covered))}


def _shape(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "tenant": job.spec.tenant,
        "from": to_iso(job.spec.start),
        "to": to_iso(job.spec.end),
        "engine": job.spec.engine,
        "sources": job.spec.sources,
        "parts": job.parts,
        "parts_done": job.parts_done,
        "events": job.events,
        "signals": job.signals,
        "fresh": job.fresh,
        "cause": job.spec.cause.partition(" ")[0],
    }


def _print(shape: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(shape).decode())
        return
    typer.echo(f"{shape['id']}: {shape['state']}, {shape['parts_done']} of {shape['parts']} parts")
    typer.echo(f"{shape['events']:,} events fired, {shape['signals']:,} signals, {shape['fresh']:,} of them new")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    with progress() as report:
        yield partial(report, what)
