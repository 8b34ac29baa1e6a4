"""Reports of weaknesses from people outside: take them in, weigh them, keep their clocks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vedette.act.bounty.report import OPEN, Report, ReportState
from vedette.act.bounty.rubric import Facts
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json, span
from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable

EXAMPLES = """Examples:

  vedette bounty import reports.ndjson --by ana      # lines with title, text, reporter, asset, external_id

  vedette bounty triage br_5f0c... --cwe CWE-639 --verified --other-tenant --root "notes by id alone" --by ana

  vedette bounty extend br_5f0c... 7 "agreed by mail" --by ana

  vedette bounty move br_5f0c... fixed --by ana"""

By = Annotated[str, typer.Option("--by", help="Your name: who does it.")]
Which = Annotated[str, typer.Argument(metavar="REPORT", help="Id of a report.")]
MAX_LINES = 10_000


class Imported(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a file."""

    title: str
    text: str
    reporter: str
    asset: str
    external_id: str
    time: int = 0


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    group = typer.Typer(name="bounty", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    group.command("list", epilog=EXAMPLES)(list_reports)
    group.command("import", epilog=EXAMPLES)(import_reports)
    group.command("show", epilog=EXAMPLES)(show)
    group.command("triage", epilog=EXAMPLES)(triage)
    group.command("move", epilog=EXAMPLES)(move)
    group.command("extend", epilog=EXAMPLES)(extend)
    group.command("say", epilog=EXAMPLES)(say)
    app.add_typer(group)


def list_reports(
    *,
    state: Annotated[list[ReportState] | None, typer.Option(help="Only these states; repeat it.")] = None,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List reports, the next clock first."""
    with Opened(home, tenant, config) as parts:
        found, now = parts.bounty.find(parts.tenant, states=state or OPEN), parts.clock.now()
        standing = parts.bounty.standing(parts.tenant)
    if as_json:
        show_json({"data": found, "standing": standing})
        return
    table = Table(Column("report", no_wrap=True), "level", "state", "next clock", "title", box=None, pad_edge=False)
    for each in found:
        name, due = each.clock
        left = f"{name} {'OVERDUE' if due < now else f'{span(due - now)} left'}" if due else "-"
        level = each.weighed.level if each.weighed else "-"
        table.add_row(each.id, level, each.state, left, escape(printable(each.title)))
    Console().print(table if found else "no reports")


def import_reports(
    file: Annotated[Path, typer.Argument(help="A report a line, as JSON.", exists=True, dir_okay=False)],
    *,
    by: By,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Take in a file of reports, one a line; those whose `external_id` is known change nothing."""
    lines = file.read_bytes().splitlines()
    if len(lines) > MAX_LINES:
        raise DataError("bounty.import.size", f"at most {MAX_LINES} lines", at=str(file))
    read: list[Imported] = []
    for number, text in enumerate(lines, 1):
        try:
            read.append(msgspec.json.decode(text, type=Imported))
        except msgspec.MsgspecError as error:
            raise DataError("bounty.import.line", str(error), at=f"{file}:{number}") from error
    with Opened(home, tenant, config) as parts:
        for each in read:
            made = parts.bounty.file(parts.tenant, operator=by, **msgspec.structs.asdict(each))
            line(f"{made.id}  {made.state}  {made.title}")


def show(
    report: Which, *, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Show a report with its reasons, clocks, duplicates and thread."""
    with Opened(home, tenant, config) as parts:
        found = parts.bounty.get(parts.tenant, report)
        thread = parts.bounty.thread(parts.tenant, report)
        twins = parts.bounty.duplicates(parts.tenant, report)
    if as_json:
        show_json({"report": found, "thread": thread, "duplicates": twins})
        return
    _print(found)
    for each in twins:
        line(f"  duplicate {each}")
    for one in thread:
        line(f"  {to_iso(one.time)} {one.author}: {one.text}")


def triage(
    report: Which,
    *,
    by: By,
    cwe: Annotated[str, typer.Option(help="Such as CWE-79.")],
    verified: Annotated[bool, typer.Option(help="We made it happen.")] = False,
    vector: Annotated[str, typer.Option(help="CVSS 3.1 or 4.0.")] = "",
    other_tenant: Annotated[bool, typer.Option(help="It reaches another tenant.")] = False,
    self_only: Annotated[bool, typer.Option(help="It works only against oneself.")] = False,
    by_design: Annotated[bool, typer.Option(help="It is what the feature is for.")] = False,
    root: Annotated[str, typer.Option(help="Root cause: what shares it is a duplicate.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Weigh a report by the rubric."""
    facts = Facts(
        cwe=cwe,
        verified=verified,
        vector=vector,
        other_tenant=other_tenant,
        self_only=self_only,
        by_design=by_design,
    )
    with Opened(home, tenant, config) as parts:
        _print(parts.bounty.triage(parts.tenant, report, facts, root=root, operator=by))


def move(
    report: Which,
    state: Annotated[ReportState, typer.Argument(help="To which state.")],
    *,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; closing needs it.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Move a report to another state."""
    with Opened(home, tenant, config) as parts:
        _print(parts.bounty.move(parts.tenant, report, state, operator=by, reason=reason))


def extend(
    report: Which,
    days: Annotated[int, typer.Argument(min=1, help="How many more.")],
    reason: Annotated[str, typer.Argument(help="What was agreed.")],
    *,
    by: By,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Put the disclosure off, as was agreed with the reporter."""
    with Opened(home, tenant, config) as parts:
        _print(parts.bounty.extend(parts.tenant, report, days, reason=reason, operator=by))


def say(
    report: Which,
    text: Annotated[str, typer.Argument(help="What is said.")],
    *,
    by: By,
    internal: Annotated[bool, typer.Option(help="Not for the reporter.")] = False,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Add a line to the thread."""
    with Opened(home, tenant, config) as parts:
        parts.bounty.say(parts.tenant, report, text, author=by, internal=internal)
    line("added")


def _print(report: Report) -> None:
    level = report.weighed.level if report.weighed else "not weighed"
    line(f"{report.id}  {report.state}  {level}  {report.title}")
    for reason in report.weighed.reasons if report.weighed else ():
        line(f"  because {reason}")
    name, due = report.clock
    if due:
        line(f"  {name} due {to_iso(due)}")
    if report.original:
        line(f"  duplicate of {report.original}")
