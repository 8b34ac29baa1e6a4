"""What a rule of one's own must carry. A rule is one's own when it has a card; foreign ones are only counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vedette.judge.sigma.card import KEY
from vedette.judge.sigma.documents import Written
from vedette.judge.sigma.lints.finding import Finding, Severity, called
from vedette.judge.sigma.lints.tags import tags_of
from vedette.sense.intel.attack import technique_of


def card_findings(written: Sequence[Written]) -> Iterator[Finding]:
    """Each missing part as a warning; rules that only feed a correlation of the same file need nothing of their own."""
    feeding = _feeding(written)
    foreign = 0
    for one in written:
        if (one.path, str(one.document.get("name") or one.document.get("id") or "")) in feeding:
            continue
        if KEY not in one.document:
            foreign += 1
            continue
        for what, hint in _missing(one):
            message = f"has no {what}"
            yield Finding(Severity.WARNING, "sigma.lint.card", one.path, called(one), message, hint)
    if foreign:
        message = f"{foreign:,} documents have no card: no owner, runbook or tests"
        yield Finding(Severity.NOTE, "sigma.lint.card_missing", "", "", message, "docs/detection/start.md shows one")


def _missing(one: Written) -> Iterator[tuple[str, str]]:
    card = one.card
    if not card.owner:
        yield "owner", "vedette: {owner: TEAM}"
    if one.is_filter:
        if not card.reason:
            yield "reason", "vedette: {reason: ...}"
        if card.expires is None:
            yield "day on which it expires", "vedette: {expires: 2027-01-31}"
        return
    if not card.runbook.strip():
        yield "runbook", "vedette: {runbook: ...}: what to do when it fires"
    if not card.proven:
        kinds = {test.positive for test in card.tests}
        lacks = "tests" if not kinds else "test that leaves it quiet" if True in kinds else "test that makes it fire"
        yield lacks, "vedette: {tests: [...]}: one that fires and one that does not"
    if not one.document.get("falsepositives"):
        yield "falsepositives", "what is harmless and looks the same"
    if not any(map(technique_of, tags_of(one))):
        yield "ATT&CK technique", "tags: [attack.t....]"


def _feeding(written: Sequence[Written]) -> set[tuple[str, str]]:
    """Path and name of the rules that a correlation of their file uses and does not let speak for themselves."""
    found = set()
    for one in written:
        asked = one.document.get("correlation")
        if isinstance(asked, dict) and isinstance(asked.get("rules"), list) and not one.document.get("generate"):
            found |= {(one.path, str(name)) for name in asked["rules"] if not asked.get("generate")}
    return found
