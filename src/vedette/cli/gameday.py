"""Hold a game day: fire each rule's own test, and walk the way from its alert to the answer without doing anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vedette.cli._progress import progress
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.cli.rules import _sets
from vedette.core.content import shipped
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import all_of
from vedette.prove.audit import Outcome
from vedette.run.cases.gameday import Drill, Mark, hold, way_of
from vedette.run.rules.rule_tests import RuleTests
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette gameday                            # the shipped rules: which steps to their answers would fail here

  vedette gameday my-rules/ --show           # every step, also those that pass, and the runbook's own

  vedette gameday my-rules/ --json | jq '.drills[] | {title, failed: [.steps[] | select(.mark == "failed") | .name]}'

Starts no run and changes nothing but the audit trail, which keeps what failed. Exit codes: 0 nothing failed; 1 a step
failed; 2 a path cannot be opened."""

FAILED = 1
"""Exit code when a step failed."""
MAX_KEPT = 20
"""Most rules whose failed steps the audit record names."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("gameday", epilog=EXAMPLES)(gameday)


def gameday(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="[PATH...]", help="Rules; the shipped ones.")] = None,
    *,
    only: _sets.Only = "",
    sources: _sets.Sources = None,
    pipeline: _sets.Pipeline = None,
    by: Annotated[str, typer.Option(envvar=["VEDETTE_OPERATOR", "USER"], help="Who holds it.")] = "",
    show: Annotated[bool, typer.Option("--show", help="Print every step.")] = False,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Hold a game day over rules; name the steps that would fail when their alerts come."""
    known = load_sources(sources)
    files = [file for path in paths or [shipped("rules/sigma")] for file in rule_files(path, only)]
    tests = RuleTests(files, _sets.places_of(known, pipeline=pipeline), known)
    with Opened(home, tenant, config) as parts:
        drills = _held(tests, parts, by)
        failed = [drill for drill in drills if drill.failed]
        parts.audit.record(
            parts.tenant,
            "gameday.held",
            actor=by or "system",
            outcome=Outcome.FAILURE if failed else Outcome.SUCCESS,
            detail={"rules": str(len(drills)), "failed": str(len(failed)), "steps": _kept(failed)},
        )
    if as_json:
        show_json({"drills": drills, "rules": len(drills), "failed": len(failed)})
    else:
        _print(drills, show=show)
    if failed:
        raise typer.Exit(FAILED)


def _held(tests: RuleTests, parts: Opened, by: str) -> list[Drill]:
    drills = []
    with progress() as tell:
        total = sum(bool(one.card.tests) for one in all_of(tests.rules))
        for done, drill in enumerate(hold(tests, way_of(parts, parts.tenant, by)), 1):
            tell("drills", done, total)
            drills.append(drill)
    return drills


def _kept(failed: Sequence[Drill]) -> str:
    named = [f"{drill.rule_id}: {', '.join(step.name for step in drill.failed)}" for drill in failed[:MAX_KEPT]]
    return "; ".join(named)


def _print(drills: Sequence[Drill], *, show: bool) -> None:
    for drill in drills:
        steps = drill.steps if show else drill.failed
        if steps:
            line(f"{drill.title}" + (f"  {', '.join(drill.about)}" if drill.about else ""))
        for step in steps:
            line(f"  {step.mark:<8}{step.name}" + (f"  {step.note}" if step.note else ""))
    marks = [step.mark for drill in drills for step in drill.steps]
    answered = sum(bool(drill.playbooks) for drill in drills)
    line(
        f"{len(drills)} rules, {sum(bool(drill.failed) for drill in drills)} with a step that failed; {answered} with a"
        f" playbook, {marks.count(Mark.BY_HAND)} lines of runbooks are for people"
    )
