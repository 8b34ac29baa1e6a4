"""Play an attack of known techniques against the rules: which of them nobody would tell of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._settings import settings_of
from vedette.cli.rules._sets import AsJson, Home, Only, files_of, places_of, set_of
from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.run.parts import Parts
from vedette.run.rules.replay import Replayed, parse_replay
from vedette.run.rules.replay import replay as play
from vedette.run.rules.trend import Trend
from vedette.sense.intel.bundle import load_attack, need_attack
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules replay purple-team.ndjson --home .vedette           # and keep the result for the trend

  vedette rules replay purple-team.ndjson --rules my-rules/ --attack enterprise-attack.json --json

A line: {"technique": "T1110.003", "event": {...}}, with `source`, `threat` (external or insider) and `case` if wanted.

Exit codes: 0 every technique is told of; 1 some are not; 2 a file or line cannot be read, or no ATT&CK was imported."""

MISSED = 1
"""Exit code when a technique raises no alert."""
REPORT = "replay"
"""Name of its trend."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="replay", epilog=EXAMPLES)(replay)


def replay(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Events with their techniques, one JSON object a line.")],
    *,
    rules: Annotated[list[Path] | None, typer.Option(help="Rules; those of the product by default. Repeat it.")] = None,
    only: Only = "",
    home: Home = None,
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose trend.")] = "default",
    attack: Annotated[
        Path | None, typer.Option(help="STIX bundle instead of the imported one; keeps no trend.")
    ] = None,
    crosswalk: Annotated[Path | None, typer.Option(help="With --attack: ids that changed since.")] = None,
    trend: Annotated[bool, typer.Option("--trend", help="Show earlier days too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play events of known techniques through the rules; list the techniques that raise no alert."""
    settings = settings_of(home)
    known = load_attack(attack, crosswalk) if attack else need_attack(settings.home)
    sources, clock = load_sources(), SystemClock()
    loaded = set_of(files_of(rules or [shipped("rules") / "sigma"], only), places_of(sources), clock.now())
    try:
        lines = parse_replay(path.read_bytes().splitlines())
    except OSError as error:
        raise DataError("replay.file.unreadable", f"cannot be read: {error.strerror}", at=str(path)) from error
    found = play(lines, loaded, sources, known)
    days: list[tuple[str, dict[str, Any]]] = []
    if not attack:
        with Parts(settings, clock=clock) as parts:
            kept = Trend(parts.state)
            kept.keep(tenant, REPORT, clock.now(), _figures(found))
            days = kept.of(tenant, REPORT) if trend else []
    if as_json:
        told = {**_figures(found), "techniques": found.techniques, "cases": _cases(found)}
        typer.echo(msgspec.json.encode({**told, "trend": [{"day": day, **one} for day, one in days]}).decode())
    else:
        _print(found, days)
    if found.missed:
        raise typer.Exit(MISSED)


def _figures(found: Replayed) -> dict[str, Any]:
    return {
        "attack": found.attack,
        "played": len(found.techniques),
        "missed": [one.technique for one in found.missed],
        "threats": {str(threat): figures for threat, figures in found.by_threat().items()},
    }


def _cases(found: Replayed) -> list[dict[str, Any]]:
    return [
        {
            "case": case.name,
            "stages": [
                {
                    "tactic": link.tactic.name if link.tactic else "",
                    "gap": not link.found,
                    "signals": [{"rule": one.rule_id, "title": one.title, "event": one.event_id} for one in link.found],
                }
                for link in case.chain
            ],
        }
        for case in found.cases
    ]


def _print(found: Replayed, days: list[tuple[str, dict[str, Any]]]) -> None:
    console = Console(markup=False, highlight=False, emoji=False)
    table = Table("technique", "name", "threat", "events", "told by")
    for one in found.techniques:
        rules = ", ".join(one.rules) or "nobody"
        table.add_row(*map(printable, (one.technique, one.name, str(one.threat), f"{one.events:,}", rules)))
    console.print(table)
    for case in _cases(found):
        typer.echo(printable(f"case {case['case']}"))
        for stage in case["stages"]:
            titles = ", ".join(dict.fromkeys(one["title"] for one in stage["signals"])) or "gap: nothing was told"
            typer.echo(printable(f"  {stage['tactic'] or 'no stage'}: {titles}"))
    for day, figures in days:
        typer.echo(f"{day}: {len(figures['missed'])} of {figures['played']} missed")
    split = ", ".join(f"{threat} {each['told']} of {each['played']}" for threat, each in found.by_threat().items())
    typer.echo(f"told: {split}; missed: {', '.join(one.technique for one in found.missed) or 'none'}")
