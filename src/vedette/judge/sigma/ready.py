"""A rule set ready to run: one matcher per source, built when the source is first seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from vedette.expr.matcher import Matcher
from vedette.expr.nodes import Node
from vedette.judge.indicators import Lookout
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.rules import Rule
from vedette.sense.sources import Source

if TYPE_CHECKING:
    from vedette.expr.matcher.skimmer import Skimmer

Placed = tuple[Rule, Node]
"""A rule and its expression over one source's events."""


class Ready:
    """Matchers over a rule set. Not for several threads at once.

    Args:
        rules: What to look for.
        lookout: Indicators to look for beside them; None: none.
    """

    def __init__(self, rules: RuleSet, lookout: Lookout | None = None) -> None:
        self._rules = rules
        self.skims = False
        """Rule lines out before they are decoded: pays from some hundred thousand lines on."""
        self._skimmers: dict[str, Skimmer | None] = {}
        self._known: dict[str, int] = {}
        """Source -> the newest indicator of which its skimmer asked."""
        self.lookout = lookout
        self._built: dict[str, tuple[Matcher, Sequence[Placed]]] = {}

    def of(self, source: str) -> tuple[Matcher, Sequence[Placed]]:
        """The matcher of a source, and the rules in the order of its numbers."""
        if source not in self._built:
            rules = _Placed([rule for rule in self._rules.rules if source in rule.nodes], source)
            matcher = Matcher(rules.nodes, plan=self._rules.plan(source))
            matcher.prepare()
            self._built[source] = matcher, rules
        return self._built[source]

    def skimmer(self, source: Source) -> Skimmer | None:
        """What rules out lines of a source; None when `skims` is off, or its lines have to be decoded."""
        if not self.skims:
            return None
        if source.name not in self._skimmers:
            steps = source.steps
            asked = self.lookout.asks(source.name) if self.lookout else {}
            self._skimmers[source.name] = None if steps is None else self.of(source.name)[0].skimmer(steps, asked)
        found = self._skimmers[source.name]
        if found is not None and self.lookout is not None:
            # Of a value that is remembered nothing was known before, and something may be now.
            known = self.lookout.newest()
            if self._known.setdefault(source.name, known) != known:
                self._known[source.name] = known
                found.forget()
        return found

    def fired(self, source: str, data: Mapping[str, Any]) -> Iterator[Placed]:
        """The rules that fire on one event."""
        matcher, rules = self.of(source)
        return once(rules, matcher.match(data))


class _Placed(Sequence[Placed]):
    """The rules of one source; an expression is loaded when it is asked for."""

    def __init__(self, rules: list[Rule], source: str) -> None:
        self._rules = rules
        self._source = source

    def nodes(self) -> list[Node]:
        return [rule.nodes[self._source] for rule in self._rules]

    @overload
    def __getitem__(self, number: int) -> Placed: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Placed]: ...
    def __getitem__(self, number: int | slice) -> Placed | Sequence[Placed]:
        if isinstance(number, slice):
            return _Placed(self._rules[number], self._source)
        rule = self._rules[number]
        return rule, rule.nodes[self._source]

    def __len__(self) -> int:
        return len(self._rules)


def once(rules: Sequence[Placed], numbers: Sequence[int]) -> Iterator[Placed]:
    """The rules of these numbers. Rules that share an id are one rule: an event counts once for it."""
    first = {rules[number][0].id: number for number in reversed(numbers)}
    return (rules[number] for number in first.values())
