"""What a case taught: its events as a test of a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vedette.cli._response import Config, Home, Opened, Tenant, line
from vedette.cli.case.evidence import Case
from vedette.run.cases.fixtures import add_to_rule, events_of, to_line, to_test

EXAMPLES = """Examples:

  vedette case to-test cs_5f0c... --source cloudtrail

  vedette case to-test cs_5f0c... --source cloudtrail --rule rules/secret_read.yml

  vedette rules test rules/secret_read.yml      # fails until the rule finds what it missed"""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command("to-test", epilog=EXAMPLES)(to_fixture)


def to_fixture(
    case: Case,
    *,
    source: Annotated[list[str] | None, typer.Option(help="Only events of this source; repeat it.")] = None,
    name: Annotated[str, typer.Option(help="Of the test; the case by default.")] = "",
    rule: Annotated[Path | None, typer.Option(help="Rule file to add it to; the terminal by default.")] = None,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Turn a case's events into a test that a rule must pass from now on."""
    with Opened(home, tenant, config) as parts:
        found = events_of(parts, parts.tenant, case)
        test = to_test(found, parts.sources.values(), name or f"case {case}", only=source or ())
    if rule is None:
        line(to_line(test))
        return
    text = rule.read_text(encoding="utf-8")
    rule.write_text(add_to_rule(text, test, str(rule)), encoding="utf-8")
    line(f"{len(test['steps'])} events as a test in {rule}")
