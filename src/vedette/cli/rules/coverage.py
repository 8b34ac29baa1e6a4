"""Which techniques of ATT&CK a rule would tell of today: tested, fed by data that arrives, not degraded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.act.scores import fetch_scores
from vedette.cli._progress import progress
from vedette.cli.keys import parse_duration
from vedette.core.clock import MICROS, SystemClock
from vedette.core.content import shipped
from vedette.core.errors import DataError, NotFoundError
from vedette.core.render import printable
from vedette.core.settings import Settings
from vedette.judge.shipments import NOTHING
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.logsources import LogSources
from vedette.run.parts import Parts
from vedette.run.pipeline.quality import Quality
from vedette.run.rules.coverage import (
    REPORT,
    TESTS,
    Coverage,
    State,
    actor_rows,
    kept_tests,
    make_coverage,
    navigator_layer,
)
from vedette.run.rules.rule_tests import RuleTests, Tested
from vedette.run.rules.trend import Trend
from vedette.sense.intel.attack import Attack
from vedette.sense.intel.bundle import load_attack, need_attack
from vedette.sense.quality.profile import Problem
from vedette.sense.sources import Source, load_sources

EXAMPLES = """Examples:

  vedette intel import attack enterprise-attack.json        # once, or give --attack

  vedette rules coverage --home .vedette --rules my-rules/

  vedette rules coverage --home .vedette --navigator layer.json      # open it in ATT&CK Navigator

  vedette rules coverage --home .vedette --actor APT38               # its techniques, our coverage, our alerts

  vedette rules coverage --rules my-rules/ --plan --attack enterprise-attack.json --json

A technique is covered when a rule for it passes its tests, its sources sent something within --within, and nothing that
it rests on is degraded. `lost`: there are rules, and none of them counts; --lost says why.

Exit codes: 0 done; 2 no ATT&CK was imported, or a path cannot be opened."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a home knows."""

    arriving: frozenset[str]
    degraded: dict[str, tuple[Problem, ...]]
    hits: dict[str, int]
    off: dict[str, str]
    """Rule id -> stage, of rules that were shipped and are not live."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="coverage", epilog=EXAMPLES)(coverage)


def coverage(
    *,
    rules: Annotated[list[Path] | None, typer.Option(help="Rules; those of the product by default. Repeat it.")] = None,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Select rule files inside.")] = "",
    home: Annotated[Path, typer.Option(envvar="VEDETTE_HOME", help="Home: what arrives there.")] = Path(".vedette"),
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose data.")] = "default",
    within: Annotated[str, typer.Option(help="A source arrives when it sent something in this time.")] = "24h",
    plan: Annotated[bool, typer.Option("--plan", help="As if every source arrived; reads no home.")] = False,
    untested: Annotated[bool, typer.Option("--untested", help="Count rules without tests too.")] = False,
    attack: Annotated[Path | None, typer.Option(help="STIX bundle; the imported one by default.")] = None,
    crosswalk: Annotated[Path | None, typer.Option(help="With --attack: ids that changed since.")] = None,
    navigator: Annotated[Path | None, typer.Option(help="Write a layer for ATT&CK Navigator.")] = None,
    actor: Annotated[str, typer.Option(help="Only what this actor does: id, name or alias.")] = "",
    lost: Annotated[bool, typer.Option("--lost", help="List the rules that do not count, and why.")] = False,
    trend: Annotated[bool, typer.Option("--trend", help="Show earlier days too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which techniques a tested rule, on data that arrives, would tell of today."""
    known = load_attack(attack, crosswalk) if attack else need_attack(home)
    with _opened(home, plan=plan) as parts:
        sources = parts.sources if parts else load_sources()
        tests = _tests(rules, sources, only)
        loaded, tested = tests.rules, _tested(tests)
        place = _look(parts, loaded, tenant, parse_duration(within)) if parts else Place(frozenset(sources), {}, {}, {})
        found = make_coverage(
            loaded,
            known,
            arriving=place.arriving,
            tested=tested,
            degraded=place.degraded,
            off=place.off,
            untested=untested,
        )
        days = _kept(parts, tenant, found, tested) if parts else []
    if navigator:
        navigator.write_bytes(msgspec.json.format(msgspec.json.encode(navigator_layer(found, known))))
    shown = _shape(found, known, place, actor, days if trend else [])
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
    else:
        _print(shown, found, lost=lost)


def _tests(paths: list[Path] | None, sources: Mapping[str, Source], only: str) -> RuleTests:
    places = LogSources({name: source.logsource for name, source in sources.items()})
    roots = paths or [shipped("rules") / "sigma"]
    return RuleTests([file for path in roots for file in rule_files(path, only)], places, sources)


def _tested(tests: RuleTests) -> list[Tested]:
    found: list[Tested] = []
    with progress() as report:
        for one in tests.run():
            found.append(one)
            report("testing", len(found), tests.count)
    return found


@contextmanager
def _opened(home: Path, *, plan: bool) -> Iterator[Parts | None]:
    if plan:
        yield None
        return
    if not home.is_dir():
        raise NotFoundError("rules.home.missing", f"there is no home `{home}`", hint="--plan looks at rules alone")
    with Parts(Settings(home=home), clock=SystemClock()) as parts:
        yield parts


def _look(parts: Parts, rules: RuleSet, tenant: str, within_s: float) -> Place:
    quality = Quality(parts.index, parts.clock, parts.sources, rules)
    while quality.consume(parts.log):
        pass
    since = parts.clock.now() - round(within_s * MICROS)
    arriving = frozenset(name for name, one in quality.arrivals(tenant).items() if one.last >= since)
    parts.alerts  # noqa: B018 - makes the tables that scores are read from
    hits = {rule: score.alerts for rule, score in fetch_scores(parts.state, tenant).items()}
    standings, owned = parts.shipments.standings(), parts.shipments.ids()
    off = {
        rule: str(one.stage) for unit, one in standings.items() if one.live == NOTHING for rule in owned.get(unit, ())
    }
    return Place(arriving, quality.degraded(tenant), hits, off)


def _kept(parts: Parts, tenant: str, found: Coverage, tested: list[Tested]) -> list[tuple[str, dict[str, Any]]]:
    trend, now = Trend(parts.state), parts.clock.now()
    trend.keep(tenant, TESTS, now, {"tests": msgspec.to_builtins(kept_tests(tested))})
    figures = {"attack": found.attack, **{str(state): count for state, count in found.counts().items()}}
    trend.keep(tenant, REPORT, now, figures)
    return trend.of(tenant, REPORT)


def _shape(
    found: Coverage, attack: Attack, place: Place, actor: str, days: list[tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "attack": found.attack,
        "arriving": sorted(place.arriving),
        "counts": {str(state): count for state, count in found.counts().items()},
        "threats": {str(threat): figures for threat, figures in found.by_threat().items()},
        "tactics": _tactics(found, attack),
    }
    if actor:
        group = attack.group(actor)
        if group is None:
            raise DataError("intel.actor.unknown", f"ATT&CK {attack.version} knows no actor `{actor:.80}`")
        rows = actor_rows(found, attack, group, place.hits)
        return {**shown, "actor": {"id": group.id, "name": group.name, "techniques": msgspec.to_builtins(rows)}}
    shown["techniques"] = [msgspec.to_builtins(cell) for cell in found.cells if cell.state is not State.NONE]
    shown["lost"] = [{"id": rule.id, "title": rule.title, "why": rule.why} for rule in found.rules if rule.why]
    if days:
        shown["trend"] = [{"day": day, **figures} for day, figures in days]
    return shown


def _tactics(found: Coverage, attack: Attack) -> list[dict[str, Any]]:
    return [
        {
            "id": tactic.id,
            "name": tactic.name,
            **{
                str(state): sum(tactic.short in cell.tactics and cell.state is state for cell in found.cells)
                for state in State
            },
        }
        for tactic in attack.tactics
    ]


def _print(shown: dict[str, Any], found: Coverage, *, lost: bool) -> None:
    console = Console(markup=False, highlight=False, emoji=False)
    if "actor" in shown:
        table = Table("technique", "name", "state", "rules", "alerts", title=printable(shown["actor"]["name"]))
        for row in shown["actor"]["techniques"]:
            cells = (row["technique"], row["name"], row["state"], str(len(row["rules"])), str(row["hits"]))
            table.add_row(*map(printable, cells))
        console.print(table)
        return
    table = Table("tactic", *(str(state) for state in State))
    for column in table.columns[1:]:
        column.justify = "right"
    for row in shown["tactics"]:
        table.add_row(printable(row["name"]), *(str(row[state]) for state in State))
    console.print(table)
    if lost:
        reasons = Table("rule that does not count", "why")
        for rule in found.rules:
            if rule.why:
                reasons.add_row(printable(rule.title), printable("; ".join(rule.why)))
        console.print(reasons)
    for day in shown.get("trend", []):
        typer.echo(f"{day['day']}: " + ", ".join(f"{day[state]} {state}" for state in State))
    counts = ", ".join(f"{count:,} {state}" for state, count in shown["counts"].items())
    typer.echo(f"ATT&CK {printable(shown['attack'])}: {counts}; data arrives of {len(shown['arriving'])} sources")
    for threat, each in shown["threats"].items():
        typer.echo(f"{threat}: {each['counting']} of {each['rules']} rules count, {each['techniques']} techniques")
