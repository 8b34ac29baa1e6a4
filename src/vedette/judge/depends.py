"""What rules rest on: for each source the fields they read, and the rules that a source or a field would take along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from vedette.expr import nodes
from vedette.expr.nodes import Space
from vedette.judge.correlation.correlator import OCSF
from vedette.judge.correlation.definition import Correlation
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.rules import Rule
from vedette.sense.sources import Source


class Depends:
    """Rules by what they rest on. A correlation rests on what its rules rest on, and on its own fields.

    Args:
        rules: The set.
        sources: The known sources; their OCSF maps say which fields stand behind an OCSF attribute.
    """

    def __init__(self, rules: RuleSet, sources: Mapping[str, Source]) -> None:
        self._by_source: dict[str, dict[str, None]] = defaultdict(dict)
        self._by_field: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self._sources = sources
        outer: dict[str, list[Correlation]] = defaultdict(list)
        for correlation in rules.correlations:
            for part in correlation.parts:
                outer[part.id].append(correlation)
        for rule in rules.rules:
            owners = _owners(rule.id, outer)
            for source, node in rule.nodes.items():
                self._note(source, _fields(node), owners)
            for correlation in outer[rule.id]:
                self._grouped(rule, correlation, _owners(correlation.id, outer))

    def on(self, source: str, field: str = "") -> tuple[str, ...]:
        """Ids of the rules and correlations that rest on a source, or on one of its fields."""
        return tuple(self._by_field.get((source, field), ()) if field else self._by_source.get(source, ()))

    def fields(self, source: str) -> list[str]:
        """The source's own fields that rules read, those of most rules first."""
        own = {field: len(rules) for (name, field), rules in self._by_field.items() if name == source}
        return sorted(own, key=lambda field: (-own[field], field))

    def _grouped(self, rule: Rule, correlation: Correlation, owners: Iterable[str]) -> None:
        for part in correlation.parts:
            if part.id == rule.id:
                for source in rule.nodes:
                    self._note(source, (*part.fields_of(source), *part.values_of(source)), owners)

    def _note(self, source: str, names: Iterable[str], owners: Iterable[str]) -> None:
        self._by_source[source].update(dict.fromkeys(owners))
        for name in names:
            for field in self._own(source, name):
                self._by_field[source, field].update(dict.fromkeys(owners))

    def _own(self, source: str, name: str) -> tuple[str, ...]:
        """The source's fields behind a name."""
        if not name.startswith(OCSF) or source not in self._sources:
            return (name,)
        mapped = self._sources[source].definition.ocsf.get(name.removeprefix(OCSF), ())
        if isinstance(mapped, str):
            return (mapped,)
        return tuple(map(str, mapped)) if isinstance(mapped, tuple) else ()


def _owners(rule_id: str, outer: Mapping[str, list[Correlation]]) -> list[str]:
    """A rule and every correlation above it; none refers to itself."""
    found = [rule_id]
    for name in found:
        found += [one.id for one in outer.get(name, ()) if one.id not in found]
    return found


def _fields(node: nodes.Node) -> set[str]:
    return {
        OCSF + field.name if field.space is Space.OCSF else field.name
        for one in nodes.walk(node)
        for field in nodes.fields(one)
        if field.space in {Space.DATA, Space.OCSF}
    }
