"""Ship rules to an installation: checked, tested and backtested, in shadow first, then for a share, then for all."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._settings import settings_of
from vedette.cli.model.ship import run as ship_part
from vedette.cli.rules import _payment, _sets
from vedette.cli.rules.check import attack_of, source_names
from vedette.core.clock import SystemClock
from vedette.core.errors import ConflictError, DataError
from vedette.core.render import printable
from vedette.core.settings import Settings
from vedette.judge.detectors import Detector, installed
from vedette.judge.shipments import WHOLE, Document, Shipped, Standing
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.lints import lint
from vedette.judge.sigma.load import RuleSet, all_of
from vedette.judge.sigma.logsources import LogSources
from vedette.run.parts import Parts
from vedette.run.rules import gates
from vedette.run.rules.backtest import backtest
from vedette.run.rules.gates import Obstacle
from vedette.run.rules.rule_tests import RuleTests
from vedette.sense.sources import Source, load_sources

EXAMPLES = """Examples:

  vedette rules ship my-rules/trail.yml --shadow            # counts what it would raise, raises nothing

  vedette rules ship my-rules/trail.yml --percent 10        # for a tenth of the entities; others keep what is live

  vedette rules ship my-rules/trail.yml --live --note "quiet for a week"

  vedette rules ship my-rules/ --shadow --check             # only asks whether it might be shipped

  vedette rules ship payment.rules --shadow                 # payment rules, as `vedette model ship --rules` does

  vedette rules ship my-rules/host.yml --pipeline fields.yml --shadow

  vedette rules ship --detector large_amount --percent 10   # of an installed package

A rule is shipped when it passes `rules check --strict`, says what it is after and what it may cost, passes its tests,
and stays within its budget over the stored events. The running installation takes it within seconds, without a restart.

Exit codes: 0 shipped, or there already; 1 something stands in the way; 2 a path cannot be opened."""

REFUSED = 1
"""Exit code when a gate is not passed."""
PERIOD = "30d"


class Outcome(msgspec.Struct, frozen=True):
    """What became of one file."""

    path: str
    title: str
    version: str
    stage: str
    percent: int
    seq: int
    """Number of the change; 0: it was there already, or nothing was to be shipped."""
    pipelines: dict[str, str] = {}
    """Path of each pipeline that went with it -> SHA-256 of its content."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="ship", epilog=EXAMPLES)(run)


def run(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Rule files, or folders of them.")
    ] = None,
    *,
    detector: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="An installed detector in Python; repeat it.")
    ] = None,
    home: _sets.Home = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Count, raise nothing (the default).")] = False,
    percent: Annotated[int | None, typer.Option(min=1, max=99, help="For a share of the entities.")] = None,
    live: Annotated[bool, typer.Option("--live", help="For all.")] = False,
    since: Annotated[str, typer.Option("--from", help="Start of the backtest.")] = PERIOD,
    waive: Annotated[str, typer.Option(metavar="REASON", help="Ship in spite of what stands in the way.")] = "",
    check_only: Annotated[bool, typer.Option("--check", help="Ask the gates and ship nothing.")] = False,
    note: Annotated[str, typer.Option(help="Why; kept with the change.")] = "",
    by: Annotated[str, typer.Option(help="Who ships; the system's user by default.")] = "",
    exceptions: _sets.Exceptions = None,
    lists: _sets.Lists = None,
    pipeline: _sets.Pipeline = None,
    sources: _sets.Sources = None,
    as_json: _sets.AsJson = False,
) -> None:
    """Ship rules to a stage, when they pass their gates."""
    if paths and _payment.all_payment(paths):
        if len(paths) > 1:
            raise DataError("rules.ship.several", "payment rules are shipped as one file", hint="put them into one")
        ship_part(
            rules=paths[0],
            shadow=shadow,
            percent=percent,
            live=live,
            waive=waive,
            note=note,
            by=by,
            home=home,
            as_json=as_json,
        )
        return
    if sum((shadow, live, percent is not None)) > 1:
        raise DataError("rules.ship.stage", "one of --shadow, --percent and --live")
    share = WHOLE if live else percent or 0
    now, settings, known = SystemClock().now(), settings_of(home), load_sources(sources)
    places = _sets.places_of(known, lists, pipeline)
    if not (paths or detector):
        raise DataError("rules.ship.nothing", "name rule files, or a detector")
    files = _sets.files_of(paths, "", exceptions) if paths else []
    rules = replace(_sets.set_of(files, places, now), detectors=_detectors(detector or ()))
    period = _sets.Period(_sets.moment_of(since, now), now)
    found = list(_obstacles(_Asked(files, rules, places, known), settings, period))
    outcomes: list[Outcome] = []
    pipelines = [Shipped(str(path), path.read_bytes()) for path in pipeline or ()]
    if not check_only and (waive or not found):
        text = "; ".join(part for part in (note, f"waived: {waive}" if waive and found else "") if part)
        documents = gates.documents_of(rules, files, pipelines)
        outcomes = _ship(settings, documents, share, by or getpass.getuser(), text)
    _print(outcomes, found, as_json=as_json)
    if found and not waive:
        raise typer.Exit(REFUSED)


def _detectors(names: Sequence[str]) -> tuple[Detector, ...]:
    known = {one.id: one for one in installed()}
    for name in names:
        if name not in known:
            raise DataError(
                "rules.ship.detector", f"no detector `{name:.60}` is installed", hint=", ".join(known) or "none is"
            )
    return tuple(known[name] for name in names)


class _Asked(msgspec.Struct, frozen=True):
    """What is to be shipped."""

    files: Sequence[RuleFile]
    rules: RuleSet
    places: LogSources
    sources: Mapping[str, Source]


def _obstacles(asked: _Asked, settings: Settings, period: _sets.Period) -> Iterator[Obstacle]:
    rules, attack = asked.rules, attack_of(None, None, settings.home)
    findings = lint(gates.written_of(asked.files), rules, sources=source_names(asked.sources, None), attack=attack)
    yield from gates.check_obstacles(findings)
    yield from gates.spec_obstacles(rules, asked.files)
    yield from gates.test_obstacles(RuleTests(asked.files, asked.places, asked.sources).run())
    if settings.store_folder.is_dir():

        def reads(source: str) -> bool:
            return any(source in rule.nodes for rule in rules.rules) or any(
                source in one.sources for one in rules.detectors
            )

        with _sets.records([], settings, asked.sources, period, reads) as batches:
            report = backtest(rules, batches, asked.sources, since=period.since, until=period.until)
        yield from gates.backtest_obstacles(report, (one.id for one in (*all_of(rules), *rules.detectors)))


def _ship(
    settings: Settings, documents: Mapping[str, Document], percent: int, operator: str, note: str
) -> list[Outcome]:
    found = []
    with Parts(settings, clock=SystemClock()) as parts:
        held = parts.shipments.standings()
        owned = {name: held[unit] for unit, names in parts.shipments.ids().items() if unit in held for name in names}
        for path, document in documents.items():
            standing = owned.get(document.ids[0])
            seq = 0
            if standing is None or not _there(standing, document.version, percent):
                standing = parts.shipments.ship(document, percent=percent, operator=operator, note=note)
                seq = standing.seq
                tell(parts, "rules.ship", standing, document.version)
            through = {one.path: one.digest for one in document.pipelines}
            found.append(
                Outcome(path, document.title, document.version, standing.stage, standing.percent, seq, through)
            )
    return found


def _there(standing: Standing, version: str, percent: int) -> bool:
    """Whether a version is at that stage already."""
    if percent == WHOLE:
        return standing.live == version and not standing.trial
    if standing.live == version:
        raise ConflictError("rules.ship.live", "this version is live already", hint="`rules rollback` takes it back")
    return (standing.trial, standing.percent) == (version, percent)


def tell(parts: Parts, action: str, standing: Standing, version: str) -> None:
    """Writes a change to the audit trail."""
    detail = {"stage": str(standing.stage), "percent": str(standing.percent), "version": version[:64]}
    detail |= {"change": str(standing.seq), "note": standing.note[:200]}
    tenant, target = parts.settings.tenant, standing.unit
    parts.audit.record(tenant, action, actor=standing.operator, target=target, origin="cli", detail=detail)


def _print(outcomes: Sequence[Outcome], found: Sequence[Obstacle], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode({"shipped": outcomes, "obstacles": found}).decode())
        return
    for one in found:
        typer.echo(printable(f"{one.gate}: {one.rule}: {one.message}"))
    for done in outcomes:
        stage = f"{done.stage} {done.percent} %" if done.percent else done.stage
        change = f"change {done.seq}" if done.seq else "there already"
        typer.echo(printable(f"{done.path}: {done.title}: {stage}, version {done.version[:12]}, {change}"))
        for name, digest in done.pipelines.items():
            typer.echo(printable(f"  through {name}, {digest[:12]}"))
    if not outcomes:
        typer.echo("nothing was shipped" if found else "nothing stands in the way")
