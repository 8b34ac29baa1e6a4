"""The course of a case: its phase and state, notices, reports, the review, and the pace of responses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vedette.act.cases import CaseRole, CaseState, Phase
from vedette.act.cases.reports import Kind, Report, facts, make_report, to_html, to_markdown
from vedette.act.cases.review import Change, Part
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json, span
from vedette.cli.case.evidence import By, Case
from vedette.core.clock import MICROS, to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.run.cases.casefile import read_case
from vedette.run.cases.pacing import RulePace, fetch_pace

MOVE_EXAMPLES = """Examples:

  vedette case move cs_5f0c... --phase containment --by ana

  vedette case move cs_5f0c... --state closed --by ana"""

ROLE_EXAMPLES = """Example:

  vedette case role cs_5f0c... lea legal --by ana"""

NOTICE_EXAMPLES = """Examples:

  vedette case notice cs_5f0c...                          # the clocks that run

  vedette case notice cs_5f0c... gdpr_33 --by ana         # start it, from awareness on

  vedette case notice cs_5f0c... gdpr_33 --draft --by ana

  vedette case notice cs_5f0c... gdpr_33 --approve --by lea

  vedette case notice cs_5f0c... gdpr_33 --sent REF-17 --by ana"""

REPORT_EXAMPLES = """Examples:

  vedette case report cs_5f0c... --kind brief

  vedette case report cs_5f0c... --kind technical --html --out report.html

  vedette case report cs_5f0c... --kind brief --pdf --out brief.pdf"""

REVIEW_EXAMPLES = """Examples:

  vedette case review cs_5f0c... happened "A key was taken from a build log." --by ana

  vedette case review cs_5f0c... --change detection secret_read_from_new_place --by ana"""

PACE_EXAMPLES = """Example:

  vedette case pace --json"""


def register(group: typer.Typer) -> None:
    """Adds the verbs."""
    group.command("move", epilog=MOVE_EXAMPLES)(move)
    group.command("role", epilog=ROLE_EXAMPLES)(role)
    group.command("notice", epilog=NOTICE_EXAMPLES)(notice)
    group.command("report", epilog=REPORT_EXAMPLES)(report)
    group.command("review", epilog=REVIEW_EXAMPLES)(review)
    group.command("pace", epilog=PACE_EXAMPLES)(pace)


def move(
    case: Case,
    *,
    by: By,
    phase: Annotated[Phase | None, typer.Option(help="Enter this phase.")] = None,
    state: Annotated[CaseState | None, typer.Option(help="Go to this state.")] = None,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Move a case to another phase or state; what the law of the response forbids is refused."""
    with Opened(home, tenant, config) as parts:
        if phase is not None:
            parts.cases.set_phase(parts.tenant, case, phase, operator=by)
        if state is not None:
            parts.cases.set_state(parts.tenant, case, state, operator=by)
        found = parts.cases.get(parts.tenant, case)
        spent = parts.cases.phases(parts.tenant, case)
    line(f"{found.id}  {found.state}  {found.phase}")
    for each, micros in spent.items():
        line(f"  {each}  {span(micros)}  ({', '.join(each.functions)})")


def role(
    case: Case,
    person: Annotated[str, typer.Argument(help="Id of a person.")],
    case_role: Annotated[CaseRole, typer.Argument(metavar="ROLE", help="What they do in this case.")],
    *,
    by: By,
    take: Annotated[bool, typer.Option(help="Take it from them.")] = False,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Give a person a role in a case."""
    with Opened(home, tenant, config) as parts:
        change = parts.circle.take if take else parts.circle.give
        change(parts.tenant, case, person, case_role, operator=by)
        for member in parts.circle.members(parts.tenant, case):
            line(f"{member.role}  {member.person}")


def notice(
    case: Case,
    name: Annotated[str, typer.Argument(metavar="[NOTICE]", help="Id of a notice.")] = "",
    *,
    by: Annotated[str, typer.Option("--by", help="Your name: who does it.")] = "",
    draft: Annotated[bool, typer.Option(help="Write the draft from the case.")] = False,
    approve: Annotated[bool, typer.Option(help="Approve the draft.")] = False,
    sent: Annotated[str, typer.Option(help="It was sent: the reference you got.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Clocks of who must be told: start one, draft it, approve it, say that it was sent."""
    with Opened(home, tenant, config) as parts:
        clocks, owner = parts.clocks, parts.tenant
        if name and not by:
            raise DataError("cases.operator.missing", "say who you are", hint="--by NAME")
        if name and draft:
            clocks.draft(owner, case, name, facts(read_case(parts, owner, case)), operator=by)
        elif name and approve:
            clocks.approve(owner, case, name, operator=by)
        elif name and sent:
            clocks.send(owner, case, name, reference=sent, operator=by)
        elif name:
            clocks.start(owner, case, name, operator=by)
        found, now = clocks.find(owner, case), parts.clock.now()
    if as_json:
        show_json(found)
        return
    for each in found:
        left = "OVERDUE" if each.overdue(now) else f"{span(max(0, each.due - now))} left"
        line(f"{each.id}  {each.state}  due {to_iso(each.due)}  {left}")
        if name == each.id and each.text:
            typer.echo(printable(each.text, lines=True))
    if not found:
        line("no clock runs")


def report(
    case: Case,
    *,
    kind: Annotated[Kind, typer.Option(help="Which report.")] = Kind.TECHNICAL,
    html: Annotated[bool, typer.Option("--html", help="HTML instead of Markdown.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="PDF instead of Markdown; needs --out.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; the terminal by default.")] = None,
    reader: Annotated[str, typer.Option("--for", help="Id of the person it is for: may hold what they may read.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Write a report from the case: brief, technical, handover or review. Privileged notes stay out of it."""
    with Opened(home, tenant, config) as parts:
        made = make_report(read_case(parts, parts.tenant, case, reader=reader), kind)
    if pdf:
        _write_pdf(made, kind, out)
        return
    text = to_html(made) if html else to_markdown(made)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text, encoding="utf-8")
        line(f"{kind} report in {out}")


def _write_pdf(made: Report, kind: Kind, out: Path | None) -> None:
    if out is None:
        raise DataError("cases.report.out", "a PDF is no text for a terminal", hint="name a file: --out report.pdf")
    from vedette.act.cases.pdf import to_pdf

    out.write_bytes(to_pdf(made))
    line(f"{kind} report in {out}")


def review(
    case: Case,
    part: Annotated[str, typer.Argument(metavar="[PART]", help="happened, contained, found or changed.")] = "",
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="What it says.")] = "",
    *,
    by: By,
    change: Annotated[
        tuple[Change, str] | None, typer.Option(help="What was changed for good: its kind and its id.")
    ] = None,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Write the review after an incident, part by part; an incident is not closed without it."""
    with Opened(home, tenant, config) as parts:
        if part:
            if part not in set(Part):
                raise DataError("cases.review.part", f"`{part[:40]}` is no part", hint=f"one of {', '.join(Part)}")
            parts.reviews.write(parts.tenant, case, Part(part), text, operator=by)
        if change is not None:
            parts.reviews.change(parts.tenant, case, change[0], change[1], operator=by)
        missing = parts.reviews.get(parts.tenant, case).missing
    line(f"missing: {', '.join(missing)}" if missing else "the review is complete")


def pace(*, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """Times to detect, acknowledge and contain, and the share of false alerts, by rule; computed from events."""
    with Opened(home, tenant, config) as parts:
        found = fetch_pace(parts, parts.tenant)
    if as_json:
        show_json(found)
        return
    columns = ("cases", "detect", "acknowledge", "contain", "judged", "false")
    table = Table("rule", *(Column(name, justify="right") for name in columns), box=None, pad_edge=False)
    for name, one in (("all", found.total), *found.rules.items()):
        table.add_row(escape(printable(name)), *_cells(one))
    Console().print(table)


def _cells(one: RulePace) -> list[str]:
    times = [
        span(round(value * MICROS)) if value is not None else "-" for value in (one.mttd_s, one.mtta_s, one.mttc_s)
    ]
    wrong = f"{one.false_share:.0%}" if one.false_share is not None else "-"
    return [str(one.cases), *times, str(one.judged), wrong]
