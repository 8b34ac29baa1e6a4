"""Why a rule fires or does not: clause by clause, with the least that would have to be different."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vedette.cli._rules import Lists, Pipeline
from vedette.cli.explain import explain_alert, explain_sigma, only, print_explained
from vedette.cli.ingest import find_source
from vedette.core.errors import DataError
from vedette.judge.sigma.explain import take
from vedette.judge.sigma.pipelines import load_pipelines
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules explain rule.yml --event events.ndjson --line 12        # this rule on that event

  vedette rules explain rule.yml --event events.ndjson                  # on the event that fires it, else the nearest

  vedette rules explain spray.yml --event signins.ndjson --group client.ipAddress=203.0.113.7

  vedette rules explain --home .vedette --alert al_01ab                 # what an alert rests on

Of a correlation the groups that come nearest are shown: how many of how many, in which window, which rule is missing.
`+` true, `-` false, `?` unknown. `lacks` is the least that would have to be different.

Exit codes: 0 explained; 2 a rule, a record or an alert is not there."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="explain", epilog=EXAMPLES)(explain)


def explain(
    path: Annotated[Path | None, typer.Argument(metavar="RULE", help="Rule file, folder or archive.")] = None,
    *,
    event: Annotated[list[Path] | None, typer.Option(help="File or folder of events; repeat it.")] = None,
    line: Annotated[int, typer.Option(min=0, help="Which record, from 1; 0: the one that comes nearest.")] = 0,
    rule_id: Annotated[str, typer.Option(help="Only the rule of that id.")] = "",
    group: Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Only that group; repeat it.")] = None,
    groups: Annotated[int, typer.Option(min=1, max=100, help="How many groups of a correlation.")] = 3,
    source: Annotated[str, typer.Option(help="Source of the events; recognised by default.")] = "",
    pipeline: Pipeline = None,
    lists: Lists = None,
    home: Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Home that holds the alert.")] = None,
    alert: Annotated[str, typer.Option(help="Id of an alert in that home.")] = "",
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose alert it is.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a rule or group.")] = False,
) -> None:
    """Say why a rule fires or does not: clause by clause with the values it read, and what it lacks."""
    if alert and home:
        shown = explain_alert(home, tenant, alert)
    elif path and event:
        known = load_sources()
        taken = list(take(event, known, find_source(known, source) if source else None))
        wanted = dict(_pair(text) for text in group or ())
        through = load_pipelines(pipeline or (), lists or ())
        shown = tuple(explain_sigma(path, taken, line=line, group=wanted, most=groups, pipelines=through))
    else:
        raise DataError(
            "explain.request.incomplete", "nothing to explain", hint="give RULE and --event, or --home and --alert"
        )
    print_explained(list(only(shown, rule_id)), as_json=as_json)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise DataError("explain.group.invalid", f"`{text:.80}` is no FIELD=VALUE")
    return name, value
