"""A rule set ready to run: one matcher per source, built when the source is first seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vedette.expr.matcher import Matcher
from vedette.expr.nodes import Node
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.rules import Rule

Placed = tuple[Rule, Node]
"""A rule and its expression over one source's events."""


class Ready:
    """Matchers over a rule set. Not for several threads at once.

    Args:
        rules: What to look for.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._built: dict[str, tuple[Matcher, list[Placed]]] = {}

    def of(self, source: str) -> tuple[Matcher, list[Placed]]:
        """The matcher of a source, and the rules in the order of its numbers."""
        if source not in self._built:
            rules = self._rules.of(source)
            self._built[source] = Matcher([node for _, node in rules]), rules
        return self._built[source]

    def fired(self, source: str, data: Mapping[str, Any]) -> Iterator[Placed]:
        """The rules that fire on one event."""
        matcher, rules = self.of(source)
        return once(rules, matcher.match(data))


def once(rules: Sequence[Placed], numbers: Sequence[int]) -> Iterator[Placed]:
    """The rules of these numbers. Rules that share an id are one rule: an event counts once for it."""
    first = {rules[number][0].id: number for number in reversed(numbers)}
    return (rules[number] for number in first.values())
