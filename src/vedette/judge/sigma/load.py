"""Loads a whole rule set: every file of every path, everything that is wrong collected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vedette.core.errors import DefinitionError
from vedette.expr.nodes import Node
from vedette.judge.correlation.definition import Correlation
from vedette.judge.sigma.correlations import Draft, bind, draft
from vedette.judge.sigma.files import RuleFile, rule_files
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.rules import Rule, Skipped, Written, parse


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules that can match, and every other rule with the reason."""

    rules: tuple[Rule, ...]
    skipped: tuple[Skipped, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    """Those that others refer to come first."""

    def of(self, source: str) -> list[tuple[Rule, Node]]:
        """The rules that read a source, each with its expression over that source's events."""
        return [(rule, rule.nodes[source]) for rule in self.rules if source in rule.nodes]


def load(paths: Sequence[Path], places: LogSources, *, only: str = "") -> RuleSet:
    """Parses and lowers every rule below some paths.

    Args:
        paths: Folders, `.tar.gz` archives or rule files.
        places: Where log sources are found.
        only: Glob that selects files inside each path.

    Raises:
        DataError: `sigma.rules.missing`, `sigma.rules.unreadable`: a path that cannot be opened.
    """
    return build((file for path in paths for file in rule_files(path, only)), places)


def build(files: Iterable[RuleFile], places: LogSources) -> RuleSet:
    """Parses and lowers rule files that are already in hand."""
    rules: list[Rule] = []
    skipped: list[Skipped] = []
    drafts: list[Draft] = []
    for file in files:
        for one in parse(file, places):
            if isinstance(one, Rule):
                rules.append(one)
            elif isinstance(one, Written):
                drafts += _drafted(one, skipped)
            else:
                skipped.append(one)
    correlations, refused = bind(drafts, rules, skipped, places)
    return RuleSet(tuple(rules), (*skipped, *refused), tuple(correlations))


def _drafted(one: Written, skipped: list[Skipped]) -> list[Draft]:
    try:
        return [draft(one.document, one.path, one.version, one.number, one.card)]
    except DefinitionError as error:
        name = str(one.document.get("id") or f"{one.path}#{one.document.get('name') or one.number}")
        skipped.append(Skipped(name, f"{error.message} [{error.code}]", one.path))
        return []
