"""What differs between two versions of rules, by meaning: clauses, levels, tags, tests; never by layout or comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from vedette.expr import nodes
from vedette.expr.nodes import Node
from vedette.expr.printer import to_text
from vedette.judge.correlation.correlator import condition_text
from vedette.judge.correlation.definition import Correlation
from vedette.judge.sigma.card import Card
from vedette.judge.sigma.load import RuleSet, all_of
from vedette.judge.sigma.rules import Rule


class Line(msgspec.Struct, frozen=True):
    """One difference."""

    what: str
    """Such as `clause of cloudtrail`, `level`, `tag`, `test`."""
    before: str = ""
    """Empty: it was not there."""
    after: str = ""
    """Empty: it is not there any more."""


class RuleDifference(msgspec.Struct, frozen=True):
    """One rule in two sets."""

    rule_id: str
    title: str
    change: str
    """`added`, `removed` or `changed`."""
    lines: tuple[Line, ...] = ()


def difference(old: RuleSet, new: RuleSet) -> list[RuleDifference]:
    """The rules that differ in meaning; what was only laid out anew does not."""
    before, after = ({one.id: one for one in all_of(rules)} for rules in (old, new))
    found = []
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if other is None:
            found.append(RuleDifference(name, before[name].title, "removed"))
        elif one is None:
            found.append(RuleDifference(name, other.title, "added"))
        elif lines := tuple(_lines(one, other)):
            found.append(RuleDifference(name, other.title, "changed", lines))
    return found


def _lines(old: Rule | Correlation, new: Rule | Correlation) -> Iterator[Line]:
    for name in ("title", "level", "status"):
        yield from _value(name, getattr(old, name), getattr(new, name))
    yield from _members("tag", dict.fromkeys(old.tags, ""), dict.fromkeys(new.tags, ""))
    yield from _meaning(old, new)
    yield from _cards(old.card, new.card)


def _meaning(old: Rule | Correlation, new: Rule | Correlation) -> Iterator[Line]:
    if isinstance(old, Correlation) and isinstance(new, Correlation):
        for name, value in _asked(old).items():
            yield from _value(name, value, _asked(new)[name])
    elif isinstance(old, Rule) and isinstance(new, Rule):
        for source in sorted(old.nodes.keys() | new.nodes.keys()):
            yield from _nodes(source, old.nodes.get(source), new.nodes.get(source))
    else:
        yield Line("kind", type(old).__name__.lower(), type(new).__name__.lower())


def _asked(one: Correlation) -> dict[str, str]:
    return {
        "correlation": f"{one.measure.kind} {condition_text(one)}",
        "timespan": f"{one.measure.span // 1_000_000} s",
        "rules": ", ".join(part.name for part in one.parts),
        "group-by": ", ".join(one.group_by),
        "generate": str(one.generate).lower(),
    }


def _nodes(source: str, old: Node | None, new: Node | None) -> Iterator[Line]:
    if old is None or new is None:
        yield Line("source", "" if old is None else source, "" if new is None else source)
    elif to_text(old) != to_text(new):
        clauses = (dict.fromkeys(_clauses(node), "") for node in (old, new))
        found = list(_members(f"clause of {source}", *clauses))
        # The same clauses, otherwise put together.
        yield from found or [Line(f"condition of {source}", to_text(old), to_text(new))]


def _clauses(node: Node, word: str = "") -> Iterator[str]:
    """The predicates of an expression, with `not` where they are denied."""
    if isinstance(node, nodes.Not):
        yield from _clauses(node.child, "" if word else "not ")
    elif isinstance(node, nodes.And | nodes.Or):
        for child in node.children:
            yield from _clauses(child, word)
    elif isinstance(node, nodes.Known):
        yield from _clauses(node.child, word)
    else:
        yield word + to_text(node)


def _cards(old: Card, new: Card) -> Iterator[Line]:
    for name in ("owner", "goal", "runbook", "risk", "budget", "group", "suppress"):
        yield from _value(name, getattr(old, name), getattr(new, name))
    tests = ({test.name: msgspec.json.encode(test).decode() for test in card.tests} for card in (old, new))
    yield from _members("test", *tests)


def _members(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Line]:
    """Names that came or went, and those whose content is another."""
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            yield Line(what, name, "")
        elif name not in old:
            yield Line(what, "", name)
        elif old[name] != new[name]:
            yield Line(what, name, f"{name} (changed)")


def _value(what: str, old: Any, new: Any) -> Iterator[Line]:
    if old != new:
        yield Line(what, _text(old), _text(new))


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
