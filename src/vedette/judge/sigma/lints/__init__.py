"""Lints: what is likely wrong, dear or missing in rules that load well enough. Findings are values, never exceptions.

The laws, one file each: `fields` (names nobody writes), `regexes` (what cannot be matched cheaply), `tags` (ATT&CK ids
that do not stand), `cards` (what a rule of one's own must carry) and `twins` (the same rule twice).

Example:
    >>> from vedette.judge.sigma.load import RuleSet
    >>> [finding.code for finding in lint([], RuleSet(()), sources={})]
    ['sigma.lint.attack_missing']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vedette.judge.sigma.documents import Written
from vedette.judge.sigma.lints.cards import card_findings
from vedette.judge.sigma.lints.fields import Names, field_findings
from vedette.judge.sigma.lints.finding import Finding, Severity
from vedette.judge.sigma.lints.regexes import regex_findings
from vedette.judge.sigma.lints.tags import tag_findings
from vedette.judge.sigma.lints.twins import twin_findings
from vedette.judge.sigma.load import RuleSet
from vedette.sense.intel.attack import Attack

__all__ = ["Finding", "Names", "Severity", "lint"]


def lint(
    documents: Iterable[Written], rules: RuleSet, *, sources: Mapping[str, Names], attack: Attack | None = None
) -> tuple[Finding, ...]:
    """Everything there is to say about some rules, worst first, then by path.

    Args:
        documents: As they are written.
        rules: The same, loaded.
        sources: Source name -> what is known of its field names.
        attack: By which ids are judged; None: they are not, and a note says so.
    """
    written: Sequence[Written] = tuple(documents)
    skipped = (Finding(Severity.ERROR, "sigma.lint.skipped", one.path, one.id, one.reason) for one in rules.skipped)
    found = [
        *skipped,
        *twin_findings(written, rules),
        *tag_findings(written, attack),
        *regex_findings(rules),
        *field_findings(rules, sources),
        *card_findings(written),
    ]
    order = list(Severity)
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (order.index(one.severity), one.path, one.code)))
