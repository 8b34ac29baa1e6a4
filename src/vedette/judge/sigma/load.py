"""Loads a whole rule set: every file of every path, everything that is wrong collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.core.errors import DefinitionError
from vedette.expr.nodes import Node
from vedette.judge.correlation.definition import Correlation
from vedette.judge.detectors import Detector
from vedette.judge.sigma.documents import Skipped, Written, read, reason
from vedette.judge.sigma.files import RuleFile, rule_files
from vedette.judge.sigma.filters import Filter, Filters
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.rules import Rule, to_rule

if TYPE_CHECKING:  # pySigma is loaded when there are rules to parse, not when compiled ones are at hand
    from vedette.judge.sigma.correlations import Draft


@dataclass(frozen=True, slots=True)
class Plans:
    """Matchers made ready, as `Matcher.plan` gives them."""

    rules: tuple[Rule, ...]
    """Those they were made of: these very objects."""
    by_source: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules that can match, and every other rule with the reason."""

    rules: tuple[Rule, ...]
    skipped: tuple[Skipped, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    """Those that others refer to come first."""
    filters: tuple[Filter, ...] = ()
    """Those that apply, and those that have expired."""
    detectors: tuple[Detector, ...] = ()
    """Detectors written in Python that run beside the rules."""
    plans: Plans | None = field(default=None, compare=False, repr=False)
    """Matchers made ready in an earlier run; of no use to a set with other rules."""

    def of(self, source: str) -> list[tuple[Rule, Node]]:
        """The rules that read a source, each with its expression over that source's events."""
        return [(rule, rule.nodes[source]) for rule in self.rules if source in rule.nodes]

    def plan(self, source: str) -> bytes:
        """The matcher of a source made ready; empty when there is none for just these rules."""
        return self.plans.by_source.get(source, b"") if self.plans and self.plans.rules is self.rules else b""


def all_of(rules: RuleSet) -> list[Rule | Correlation]:
    """Rules and correlations of a set."""
    return [*rules.rules, *rules.correlations]


def load(paths: Sequence[Path], places: LogSources, *, only: str = "", today: date | None = None) -> RuleSet:
    """Parses and lowers every rule below some paths.

    Args:
        paths: Folders, `.tar.gz` archives or rule files.
        places: Where log sources are found, by which pipelines and lists.
        only: Glob that selects files inside each path.
        today: The day (UTC) by which filters expire; None: none does.

    Raises:
        DataError: `sigma.rules.missing`, `sigma.rules.unreadable`: a path that cannot be opened.
    """
    return build((file for path in paths for file in rule_files(path, only)), places, today)


def build(files: Iterable[RuleFile], places: LogSources, today: date | None = None) -> RuleSet:
    """Parses and lowers rule files that are already in hand. All are read first: filters may stand in any of them."""
    from vedette.judge.sigma.correlations import bind, fields_of

    documents = [one for file in files for one in read(file)]
    skipped = [one for one in documents if isinstance(one, Skipped)]
    written = [one for one in documents if isinstance(one, Written)]
    filters = Filters((one for one in written if one.is_filter), today)
    wanted = sorted({name for one in written if one.is_correlation for name in fields_of(one.document)})
    rules: list[Rule] = []
    drafts: list[Draft] = []
    for one in written:
        if one.is_correlation:
            drafts += _drafted(one, skipped)
        elif not one.is_filter:
            made = to_rule(one, places, filters, wanted)
            rules.append(made) if isinstance(made, Rule) else skipped.append(made)
    skipped += filters.skipped
    correlations, refused = bind(drafts, rules, skipped, places)
    return RuleSet(tuple(rules), (*skipped, *refused), tuple(correlations), filters.told())


def _drafted(one: Written, skipped: list[Skipped]) -> list[Draft]:
    from vedette.judge.sigma.correlations import draft

    try:
        return [draft(one.document, one.path, one.version, one.number, one.card)]
    except DefinitionError as error:
        name = str(one.document.get("id") or f"{one.path}#{one.document.get('name') or one.number}")
        skipped.append(Skipped(name, reason(error), one.path))
        return []
