"""Sigma filters: exceptions to rules, in files of their own, with an owner, a reason and an end.

A filter's condition must hold beside that of each rule it applies to. It applies to the rules it names, or to every
rule of its log source, in any file of the set. What it names is looked up in the fields of the rule it narrows.

A filter that cannot be applied to a rule, for want of a list or because it is wrong, does not apply, and is named with
its reason: an exception that is missing costs alerts that somebody sees, a missing rule costs what nobody sees.
Source: Sigma specification 2.1, "Sigma Filters".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from vedette.core.errors import DefinitionError
from vedette.judge.sigma.card import NO_CARD, Card
from vedette.judge.sigma.documents import Skipped, Written, reason, to_logsource

if TYPE_CHECKING:  # pySigma is loaded when there are rules to parse, not when compiled ones are at hand
    from sigma.rule import SigmaLogSource, SigmaRule

ANY = "any"
"""What `rules` says for every rule of the log source."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a rule set."""

    id: str
    title: str
    path: str
    """Of its file, inside the folder or archive."""
    version: str
    """SHA-256 of its file."""
    names: tuple[str, ...]
    """Ids and names of rules it names; empty: every rule of its log source."""
    card: Card = NO_CARD
    """Its owner and reason, and the last day on which it applies."""
    applies: bool = True
    """False once it has expired."""
    rules: tuple[str, ...] = ()
    """Ids of the rules that it narrows; of one that does not apply, those it would."""

    def applies_on(self, today: date | None) -> bool:
        """Whether it applies on a day; without a day nothing expires."""
        return today is None or self.card.expires is None or today <= self.card.expires


@dataclass(slots=True)
class Narrowing:
    """A filter as it is applied to rules."""

    told: Filter
    logsource: SigmaLogSource
    section: dict[str, Any]
    rules: list[str] = field(default_factory=list)

    def takes(self, rule: SigmaRule) -> bool:
        """True when it names the rule, or all of its log source."""
        names = self.told.names
        named = rule.name in names or str(rule.id).lower() in map(str.lower, names)
        return rule.logsource in self.logsource and (named or not names)

    def beside(self, rule: SigmaRule) -> SigmaRule:
        """What must hold beside a rule, as a rule of the same log source."""
        return replace(rule, detection=_detections(self.section))


class Filters:
    """The filters of a rule set.

    Args:
        written: Their documents.
        today: The day they are asked about; None: nothing expires.
    """

    def __init__(self, written: Iterable[Written], today: date | None = None) -> None:
        self.skipped: list[Skipped] = []
        """Filters that are wrong, and those that some rule could not be narrowed by."""
        self._drafts: list[Narrowing] = []
        for one in written:
            try:
                self._drafts.append(_draft(one, today))
            except DefinitionError as error:
                self.skipped.append(Skipped(_id(one), reason(error), one.path))

    def of(self, rule: SigmaRule, rule_id: str) -> list[Narrowing]:
        """Those that apply to a rule."""
        taken = [draft for draft in self._drafts if draft.takes(rule)]
        for draft in taken:
            draft.rules.append(rule_id)
        return [draft for draft in taken if draft.told.applies]

    def refuse(self, one: Narrowing, rule_id: str, why: str) -> None:
        """Notes that a rule goes on without a filter."""
        one.rules.remove(rule_id)
        told = Skipped(one.told.id, f"this filter does not apply: {why}", one.told.path)
        if told not in self.skipped:
            self.skipped.append(told)

    def told(self) -> tuple[Filter, ...]:
        """All of them, with the rules that were asked about."""
        return tuple(replace(draft.told, rules=tuple(draft.rules)) for draft in self._drafts)


def _id(one: Written) -> str:
    return str(one.document.get("id") or f"{one.path}#{one.number}")


def _draft(one: Written, today: date | None) -> Narrowing:
    section = one.document["filter"]
    if not isinstance(section, dict):
        raise DefinitionError("sigma.filter.invalid", "`filter` is a mapping")
    _detections(section)
    title = str(one.document.get("title") or "")
    told = Filter(_id(one), title, one.path, one.version, _names(section.get("rules")), one.card)
    return Narrowing(replace(told, applies=told.applies_on(today)), to_logsource(one.document), section)


def _detections(section: dict[str, Any]) -> Any:
    from vedette.judge.sigma.selections import to_detections

    return to_detections(section, others=("rules",))


def _names(rules: object) -> tuple[str, ...]:
    if rules in (ANY, []):
        return ()
    names: Sequence[object] = rules if isinstance(rules, list) else [rules]
    if not all(isinstance(name, str) and name for name in names):
        raise DefinitionError(
            "sigma.filter.invalid", "`rules` is `any`, or a list of ids and names of rules", hint="it must be there"
        )
    return tuple(map(str, names))
