"""Run the tests that rules carry: Sigma rules, correlations and payment rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.cli.rules import _sets
from vedette.core.content import shipped
from vedette.core.render import printable
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_lists, load_rules
from vedette.judge.sigma.files import RuleFile, rule_files
from vedette.judge.sigma.load import all_of
from vedette.judge.sigma.rules import Skipped
from vedette.run.rules.rule_tests import RuleTests, Tested, run_payment_tests
from vedette.sense.features.definition import load_features
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules test my-rules/                      # every rule's tests; what failed, and which clause did not hold

  vedette rules test my-rules/ payment.rules --json | jq '.tests[] | select(.problem != "")'

A test stands in the rule, under `vedette: tests:`; docs/detection/start.md shows one.

Exit codes: 0 all passed; 1 a test failed or a rule cannot match; 2 a path cannot be opened."""

FAILED = 1
"""Exit code when something failed."""
_LIST = re.compile(rb"\s*(?:#[^\n]*\n\s*)*(?:- |-\n|\[)")
"""How a file of payment rules begins: it is a list."""


class Report(msgspec.Struct, frozen=True):
    """What was tested."""

    tests: tuple[Tested, ...]
    untested: tuple[str, ...]
    """Ids of rules that carry no tests."""
    skipped: tuple[Skipped, ...]
    """Rules that cannot match."""

    @property
    def failed(self) -> list[Tested]:
        """The tests that failed."""
        return [one for one in self.tests if not one.passed]


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="test", epilog=EXAMPLES)(run)


def run(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, archives or files of rules.")],
    *,
    only: _sets.Only = "",
    sources: _sets.Sources = None,
    pipeline: _sets.Pipeline = None,
    lists: Annotated[Path | None, typer.Option(help="Lists that payment rules name with @.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Also print the tests that passed.")] = False,
    as_json: _sets.AsJson = False,
) -> None:
    """Run the tests of rules; say of each that fails which clause did not hold."""
    report = _tested(paths, only, sources, lists, pipeline)
    if as_json:
        typer.echo(msgspec.json.encode(_shape(report)).decode())
    else:
        _print(report, show=show)
    if report.failed or report.skipped:
        raise typer.Exit(FAILED)


def _tested(
    paths: Sequence[Path], only: str, sources: Path | None, lists: Path | None, pipeline: Sequence[Path] | None
) -> Report:
    known = load_sources(sources)
    sigma: list[RuleFile] = []
    payment: list[Path] = []
    for path in paths:
        if path.suffix == ".rules":
            payment.append(path)
            continue
        for file in rule_files(path, only):
            here = path / file.path if path.is_dir() else path
            if _LIST.match(file.content) and here.is_file():
                payment.append(here)
            else:
                sigma.append(file)
    places = _sets.places_of(known, pipeline=pipeline)
    tests = RuleTests(sigma, places, known)
    rules = tests.rules
    found = [*_watched(tests), *(one for path in payment for one in _payment(path, lists))]
    tested = {one.rule_id for one in found}
    parts = {part.id for one in rules.correlations for part in one.parts}
    untested = tuple(one.id for one in all_of(rules) if one.id not in tested | parts)
    return Report(tuple(found), untested, rules.skipped)


def _watched(tests: RuleTests) -> Iterator[Tested]:
    with progress() as tell:
        for done, one in enumerate(tests.run(), 1):
            tell("tests", done, tests.count)
            yield one


def _payment(path: Path, lists: Path | None) -> Iterator[Tested]:
    names = [name for file in sorted(shipped("features").glob("*.yaml")) for name in load_features(file).names]
    rules = load_rules(
        path,
        attributes=with_features(names),
        lists=load_lists(lists) if lists else {},
        fields=binding_of("card_transactions").spelled(),
        tested=False,
    )
    return run_payment_tests(rules, str(path))


def _shape(report: Report) -> dict[str, object]:
    return {
        "passed": len(report.tests) - len(report.failed),
        "failed": len(report.failed),
        "tests": report.tests,
        "untested": report.untested,
        "skipped": [{"id": one.id, "path": one.path, "reason": one.reason} for one in report.skipped],
    }


def _print(report: Report, *, show: bool) -> None:
    if show:
        table = Table("", "rule", "test")
        for one in report.tests:
            table.add_row("pass" if one.passed else "FAIL", printable(one.title), printable(one.test))
        Console(markup=False, highlight=False, emoji=False).print(table)
    for one in report.failed:
        typer.echo(printable(f"FAIL {one.path}: {one.title}: {one.test}"))
        for line in (one.problem, *one.why):
            typer.echo(printable(f"  {line}"))
    for skipped in report.skipped:
        typer.echo(printable(f"FAIL {skipped.path}: {skipped.reason}"))
    rules = len({one.rule_id for one in report.tests})
    passed = len(report.tests) - len(report.failed)
    counts = f"{passed:,} tests of {rules:,} rules passed, {len(report.failed):,} failed"
    typer.echo(f"{counts}; {len(report.untested):,} rules have none, {len(report.skipped):,} cannot match")
