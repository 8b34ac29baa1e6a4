"""What changed between two versions of a set of rules, whatever their language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol


class Change(StrEnum):
    """Of one rule."""

    SAME = "same"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


class Versioned(Protocol):
    """What can be compared."""

    @property
    def id(self) -> str:
        """Its name, the same in every version."""

    @property
    def version(self) -> str:
        """Hash of its content."""


class RuleGroup(Protocol):
    """A set of rules."""

    @property
    def rules(self) -> Iterable[Versioned]:
        """Its rules."""


def versions_of(rules: RuleGroup | None) -> dict[str, str]:
    """Id -> version of each rule."""
    return {rule.id: rule.version for rule in rules.rules} if rules else {}


def change_of(name: str, mine: Mapping[str, str], theirs: Mapping[str, str], *, known: bool = True) -> Change:
    """What became of a rule.

    Args:
        name: Its id.
        mine: Versions of the new set.
        theirs: Versions of the old one.
        known: False where of the old set only the ids are known; a rule of both is then taken for the same.
    """
    if name not in theirs:
        return Change.ADDED
    if name not in mine:
        return Change.REMOVED
    return Change.CHANGED if known and mine[name] != theirs[name] else Change.SAME
