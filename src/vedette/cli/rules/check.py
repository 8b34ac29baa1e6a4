"""Check rules without running them: what loads, what is skipped and why, what each becomes, what is likely wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._rules import Lists, Pipeline, log_sources, today
from vedette.cli.rules import _payment
from vedette.core.clock import MICROS
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.expr.printer import to_text
from vedette.judge.correlation.correlator import condition_text
from vedette.judge.correlation.definition import Correlation
from vedette.judge.sigma.documents import Written, read
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.filters import Filter
from vedette.judge.sigma.lints import Finding, Names, Severity, lint
from vedette.judge.sigma.lints.fields import known_names, names_of
from vedette.judge.sigma.load import RuleSet, build
from vedette.judge.sigma.logsources import load_table
from vedette.sense.files import read_lines
from vedette.sense.intel.attack import Attack
from vedette.sense.intel.bundle import kept_attack, load_attack
from vedette.sense.sources import Source, load_sources, sniff

EXAMPLES = """Examples:

  vedette rules check my-rules/

  vedette rules check my-rules/ --strict --attack enterprise-attack.json.gz   # for CI: a warning fails too

  vedette rules check my-rules/ --events yesterday.ndjson                     # are the fields there at all?

  vedette rules check sigma/rules.tar.gz --only 'rules/cloud/**' --json

  vedette rules check payment.yaml --source card_transactions                 # payment rules; what nothing provides

Exit codes: 0 every rule can match; 1 an error was found (with --strict: or a warning); 2 a path cannot be opened."""

FOUND = 1
"""Exit code when there is something to mend."""
MAX_EVENTS = 10_000
"""Most events read to learn field names."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="check", epilog=EXAMPLES)(check)


def check(
    path: Annotated[Path, typer.Argument(help="Folder, `.tar.gz` or file of Sigma rules.")],
    *,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Select rule files, such as 'rules/windows/**'.")] = "",
    sources: Annotated[Path | None, typer.Option(help="Folder of further source files.")] = None,
    pipeline: Pipeline = None,
    lists: Lists = None,
    attack: Annotated[Path | None, typer.Option(help="ATT&CK bundle to judge ids by; else the home's.")] = None,
    crosswalk: Annotated[Path | None, typer.Option(help="Ids that changed since: old, tab, new.")] = None,
    home: Annotated[Path, typer.Option(help="Where ATT&CK was imported to.")] = Path(".vedette"),
    events: Annotated[Path | None, typer.Option(help="Events by which field names are judged.")] = None,
    source: Annotated[str, typer.Option(help="Payment rules: source of the payments they are for.")] = "product",
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Also print what each rule asks, per source, and notes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which rules load, why the others are skipped, and what in them is wrong, dear or missing."""
    if _payment.is_payment(path):
        _check_payment(path, lists[0] if lists else None, source, strict=strict, as_json=as_json)
        return
    held = load_sources(sources)
    files = list(rule_files(path, only))
    rules = build(files, log_sources(held, pipeline, lists), today())
    written = [one for file in files for one in read(file) if isinstance(one, Written)]
    found = lint(written, rules, sources=source_names(held, events), attack=attack_of(attack, crosswalk, home))
    if as_json:
        typer.echo(msgspec.json.encode(_shape(rules) | {"findings": found}).decode())
    else:
        _print(rules, show=show)
        _print_findings(found, show=show)
    if any(one.severity is Severity.ERROR or (strict and one.severity is Severity.WARNING) for one in found):
        raise typer.Exit(FOUND)


def _check_payment(path: Path, lists: Path | None, source: str, *, strict: bool, as_json: bool) -> None:
    found = _payment.check([path], lists, source)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        for note in found.notes:
            typer.echo(printable(f"{note.span}: rule {note.rule_id}: {note.message} [{note.code}]"))
        typer.echo(f"{len(found.rules)} rules, {len(found.notes)} notes")
    if strict and found.notes:
        raise typer.Exit(FOUND)


def attack_of(path: Path | None, crosswalk: Path | None, home: Path) -> Attack | None:
    """ATT&CK of a bundle, else that which was imported into a home."""
    if path:
        return load_attack(path, crosswalk)
    kept = kept_attack(home)
    return kept.attack if kept else None


def source_names(sources: Mapping[str, Source], events: Path | None) -> dict[str, Names]:
    """What is known of each source's field names, by its file, the log source table and a sample."""
    known = {name: set(known_names(source.definition)) for name, source in sources.items()}
    for entry in load_table():
        if entry.source in known:
            known[entry.source] |= {*entry.where, *entry.fields.values()}
    found = {name: Names(frozenset(names)) for name, names in known.items()}
    if events:
        name, seen, count = _sampled(events, sources)
        found[name] = Names(found[name].known, frozenset(seen), count)
    return found


def _sampled(path: Path, sources: Mapping[str, Source]) -> tuple[str, set[str], int]:
    lines = list(islice((line for chunk in read_lines(path) for line in chunk.lines), MAX_EVENTS))
    source = sniff(lines, sources)
    records = [data for data in source.parse_many(lines) if not isinstance(data, DataError)]
    seen: set[str] = set()
    for data in records:
        seen |= names_of(data)
    return source.name, seen, len(records)


def _shape(rules: RuleSet) -> dict[str, object]:
    return {
        "loaded": [
            {
                "id": rule.id,
                "title": rule.title,
                "path": rule.path,
                "sources": {source: to_text(node) for source, node in rule.nodes.items()},
            }
            for rule in rules.rules
        ]
        + [
            {"id": one.id, "title": one.title, "path": one.path, "correlation": _correlation(one)}
            for one in rules.correlations
        ],
        "skipped": [{"id": one.id, "path": one.path, "reason": one.reason} for one in rules.skipped],
        "filters": [_filter(one) for one in rules.filters],
    }


def _print(rules: RuleSet, *, show: bool) -> None:
    if show:
        for rule in rules.rules:
            typer.echo(printable(f"{rule.path}: {rule.title}"))
            for source, node in rule.nodes.items():
                typer.echo(printable(f"  {source}: {to_text(node)}"))
        for correlation in rules.correlations:
            typer.echo(printable(f"{correlation.path}: {correlation.title}"))
            for name, value in _correlation(correlation).items():
                typer.echo(printable(f"  {name}: {value}"))
    for exception in rules.filters:
        day = exception.card.expires
        until = f"applies{f' until {day}' if day else ''}" if exception.applies else f"expired on {day}, was applied"
        typer.echo(printable(f"filter {exception.path}: {exception.title}: {until} to {len(exception.rules):,} rules"))
    count = len(rules.rules) + len(rules.correlations)
    typer.echo(f"{count:,} rules can match, {len(rules.skipped):,} cannot")


def _print_findings(found: Iterable[Finding], *, show: bool) -> None:
    told = [one for one in found if show or one.severity is not Severity.NOTE or not one.path]
    if told:
        table = Table("", "where", "what")
        for one in told:
            hint = f"; {one.hint}" if one.hint else ""
            code = "" if one.message.endswith("]") else f" [{one.code}]"  # a reason for skipping ends with its own
            table.add_row(one.severity, printable(one.path), printable(f"{one.message}{hint}{code}"))
        Console(markup=False, highlight=False, emoji=False).print(table)
    counts = Counter(one.severity for one in found)
    typer.echo(", ".join(f"{counts[severity]:,} {severity}s" for severity in Severity))


def _filter(one: Filter) -> dict[str, object]:
    return {
        "id": one.id,
        "path": one.path,
        "owner": one.card.owner,
        "reason": one.card.reason,
        "expires": one.card.expires,
        "applies": one.applies,
        "rules": one.rules,
    }


def _correlation(one: Correlation) -> dict[str, str]:
    """What a correlation asks, in one line each."""
    return {
        "correlation": f"{one.measure.kind} {condition_text(one)} in {one.measure.span // MICROS} s",
        "rules": ", ".join(part.name for part in one.parts),
        "group-by": ", ".join(one.group_by) or "nothing",
    }
