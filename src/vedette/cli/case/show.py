"""List cases and show one: alerts, evidence, tasks and the timeline."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vedette.act.cases import CaseState
from vedette.act.timeline import Entry
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.core.clock import to_iso
from vedette.core.render import printable

LIST_EXAMPLES = """Examples:

  vedette case list

  vedette case list --state in_progress --json"""

SHOW_EXAMPLES = """Example:

  vedette case show cs_5f0c..."""


def register(group: typer.Typer) -> None:
    """Adds the verbs."""
    group.command("list", epilog=LIST_EXAMPLES)(list_cases)
    group.command("show", epilog=SHOW_EXAMPLES)(show)


def list_cases(
    *,
    state: Annotated[list[CaseState] | None, typer.Option(help="Only these states; repeat it.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List cases, the newest change first."""
    with Opened(home, tenant, config) as parts:
        found = parts.cases.find(parts.tenant, states=state or (), limit=limit)
    if as_json:
        show_json(found)
        return
    table = Table(
        Column("case", no_wrap=True, min_width=29),
        "level",
        "state",
        "phase",
        "title",
        "alerts",
        "changed",
        box=None,
        pad_edge=False,
    )
    for case in found:
        cells = (case.id, case.level, case.state, case.phase, case.title)
        table.add_row(*(escape(printable(str(c))) for c in cells), str(len(case.alerts)), to_iso(case.updated_time))
    Console().print(table if found else "no cases")


def show(
    case: Annotated[str, typer.Argument(metavar="CASE", help="Id of the case.")],
    *,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show a case: alerts, evidence, tasks and the timeline."""
    with Opened(home, tenant, config) as parts:
        found = parts.cases.get(parts.tenant, case)
        timeline = parts.cases.timeline(parts.tenant, case)
        evidence = parts.cases.evidence(parts.tenant, case)
        tasks = parts.work.tasks(parts.tenant, case)
    if as_json:
        show_json({"case": found, "timeline": timeline, "evidence": evidence, "tasks": tasks})
        return
    line(f"{found.id}  {found.level}  {found.state}  {found.phase}  {found.title}")
    for alert in found.alerts:
        line(f"  alert {alert}")
    for each in evidence:
        line(f"  evidence {each.what} sha256:{each.digest} {each.reference}")
    for task in tasks:
        line(f"  task [{'x' if task.done else ' '}] {task.title}")
    for entry in timeline:
        line(describe(entry))


def describe(entry: Entry) -> str:
    """One line of a timeline."""
    body: dict[str, Any] = msgspec.to_builtins(entry.body)
    kind = body.pop("kind")
    details = " ".join(
        f"{name}={value}" for name, value in body.items() if value not in ("", None) and name != "result"
    )
    return f"{entry.seq:>4} {to_iso(entry.time)} {entry.operator}: {kind} {details}"
