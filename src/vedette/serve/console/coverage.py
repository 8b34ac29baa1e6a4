"""Coverage: which techniques of ATT&CK a rule would tell of today, by tactic."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from vedette.run.intel.actors import coverage_of
from vedette.run.rules.coverage import REPORT, TESTS, Cell, Coverage, State
from vedette.run.rules.trend import Trend
from vedette.sense.intel.attack import Attack, Tactic
from vedette.sense.intel.bundle import kept_attack
from vedette.sense.quality.profile import Problem
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

MAX_LOST = 25
"""Most rules that do not count which are listed."""
_SIGNS = {State.COVERED: "●", State.PARTIAL: "◐", State.LOST: "○"}
"""So that a state is told by more than its colour."""
SHOWN_DAYS = 90

router = APIRouter(tags=["console"], include_in_schema=False)


class Column(msgspec.Struct, frozen=True):
    """One tactic of the matrix."""

    tactic: Tactic
    cells: tuple[Cell, ...]
    """Techniques that a rule names, covered ones first."""
    none: int
    """Techniques that no rule names."""
    covered: int


@router.get("/rules/coverage")
def show_coverage(
    request: Request, visitor: Annotated[Visitor, look("rules", "read")], platform: Served
) -> HTMLResponse:
    """The matrix, what took rules out of it, what is wrong with the data, and the days before."""
    imported = kept_attack(platform.settings.home)
    problems: list[Problem] = platform.quality.problems(visitor.tenant)
    if imported is None:
        return show(request, visitor, "coverage.html", attack=None, problems=problems)
    trend = Trend(platform.state)
    held = trend.of(visitor.tenant, TESTS)
    found = coverage_of(platform, visitor.tenant, imported.attack)
    lost = [rule for rule in found.rules if rule.why and rule.techniques]
    return show(
        request,
        visitor,
        "coverage.html",
        attack=imported.attack,
        counts=found.counts(),
        threats=found.by_threat(),
        columns=_columns(found, imported.attack),
        problems=problems,
        signs=_SIGNS,
        lost=sorted(lost, key=lambda rule: (rule.why, rule.title))[:MAX_LOST],
        lost_count=len(lost),
        tested=held[-1][0] if held else "",
        chart=_chart(trend.of(visitor.tenant, REPORT)[-SHOWN_DAYS:]),
    )


def _columns(found: Coverage, attack: Attack) -> list[Column]:
    order = list(State)
    columns = []
    for tactic in attack.tactics:
        own = [cell for cell in found.cells if tactic.short in cell.tactics]
        named = sorted((cell for cell in own if cell.state is not State.NONE), key=lambda one: order.index(one.state))
        covered = sum(cell.state is State.COVERED for cell in own)
        columns.append(Column(tactic, tuple(named), len(own) - len(named), covered))
    return columns


def _chart(days: list[tuple[str, dict[str, Any]]]) -> dict[str, Any] | None:
    """Techniques by state and day; None before there are two days."""
    if len(days) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    series = [
        {"name": str(state), "data": [figures.get(state, 0) for _, figures in days]}
        for state in (State.COVERED, State.PARTIAL, State.LOST)
    ]
    return {"kind": "lines", "x": [day for day, _ in days], "series": series, "unit": "techniques"}
