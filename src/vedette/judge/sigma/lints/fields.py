"""Field names that no event has.

The law, chosen to be right more often than complete:

* With events at hand (`Names.seen`), a field is unknown when none of them has it and the source file does not name it.
* Without, only a likely slip is told: a name that few rules use, and that differs from one the source file names, or
  that many rules use, in case, separators or a single letter. Field names are case-sensitive, so such a rule is silent.
* Fields of a rule's own firing tests are known: the tester has shown that they match.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from vedette.expr.nodes import Space, fields, walk
from vedette.judge.sigma.lints.finding import Finding, Severity
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.rules import Rule
from vedette.sense.definition import ByField, Definition

COMMON = 3
"""A name that as many rules use is taken for right."""
MIN_LENGTH = 6
"""Shorter names differ in one letter too often."""
MAX_NAMES = 50_000
"""Most names kept of one sample, so that events with keys made of data stay bounded."""

_SEPARATORS = re.compile(r"[\s._-]+")


class Names(msgspec.Struct, frozen=True):
    """What is known of the field names of a source."""

    known: frozenset[str] = frozenset()
    """The source file's and the log source table's."""
    seen: frozenset[str] = frozenset()
    """Of events at hand."""
    events: int = 0
    """How many those are."""


def field_findings(rules: RuleSet, sources: Mapping[str, Names]) -> Iterator[Finding]:
    """A warning for each field that a rule asks for in vain, once a rule."""
    used: dict[str, Counter[str]] = defaultdict(Counter)
    asked = [(rule, {source: _asked(rule, source) for source in rule.nodes}) for rule in rules.rules]
    for _, by_source in asked:
        for source, names in by_source.items():
            used[source].update(names)
    right = {source: _right(source, counted, sources) for source, counted in used.items()}
    for rule, by_source in asked:
        told: set[str] = set()
        tested = _tested(rule)
        for source, names in by_source.items():
            for name in sorted(names - tested - told):
                said = _said(name, source, sources.get(source, Names()), right[source], used[source][name])
                # The log source table asks for a source's other spellings beside the rule's own.
                if said and said[1] not in {_hint(other) for other in names}:
                    told.add(name)
                    yield Finding(Severity.WARNING, "sigma.lint.field_unknown", rule.path, rule.id, *said)


def _said(name: str, source: str, names: Names, right: Mapping[str, set[str]], uses: int) -> tuple[str, str] | None:
    if name in names.known or name in names.seen:
        return None
    if names.events:
        message = f"none of {names.events:,} events of `{source}` has the field `{name}`"
        return message, _hint(_near(name, right))
    if uses >= COMMON or not (near := _near(name, right)):
        return None
    return f"the field `{name}` of `{source}` is likely a slip", _hint(near)


def _hint(near: str) -> str:
    return f"did you mean `{near}`?" if near else ""


def _asked(rule: Rule, source: str) -> set[str]:
    return {field.name for node in walk(rule.nodes[source]) for field in fields(node) if field.space is Space.DATA}


def _tested(rule: Rule) -> set[str]:
    """The names in events of the rule's firing tests."""
    return {name for test in rule.card.tests if test.positive for step in test.steps for name in names_of(step.event)}


def _right(source: str, used: Counter[str], sources: Mapping[str, Names]) -> dict[str, set[str]]:
    """Names that are taken for right, by their plain form."""
    names = sources.get(source, Names())
    common = {name for name, count in used.items() if count >= COMMON}
    found: dict[str, set[str]] = defaultdict(set)
    for name in names.known | names.seen | common:
        found[_plain(name)].add(name)
    return found


def _near(name: str, right: Mapping[str, set[str]]) -> str:
    """A right name that this one was likely meant to be; empty for none."""
    plain = _plain(name)
    if plain in right:
        return min(right[plain])
    if len(plain) < MIN_LENGTH:
        return ""
    return next((min(right[other]) for other in sorted(right) if _one_letter(plain, other)), "")


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).casefold()


def _one_letter(one: str, other: str) -> bool:
    """True when one letter is missing, added, changed or swapped with its neighbour; digits are names, not slips."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    a, b = one[start:], other[start:]
    if (a[:1] + b[:1]).strip("0123456789") != a[:1] + b[:1]:
        return False
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def names_of(event: Mapping[str, Any]) -> set[str]:
    """Every name by which a value of an event can be asked for, objects and their parts alike."""
    found: set[str] = set()
    layer: list[tuple[str, Any]] = [("", event)]
    while layer and len(found) < MAX_NAMES:
        prefix, value = layer.pop()
        if isinstance(value, Mapping):
            for key, inner in value.items():
                name = f"{prefix}.{key}" if prefix else str(key)
                found.add(name)
                layer.append((name, inner))
        elif isinstance(value, list | tuple):
            layer += [(prefix, inner) for inner in value]
    return found


def known_names(definition: Definition) -> frozenset[str]:
    """Every field name that a source file says."""
    found = {definition.id, *definition.time, *definition.promote, definition.logsource.service_from}
    for paths in (*definition.entities.values(), *definition.detect):
        found.update(paths)
    for step in definition.flatten:
        found.update(step.rename.values())
    for rule in (definition.class_uid, *definition.ocsf.values()):
        match rule:
            case ByField():
                found.add(rule.by)
            case str():
                found.add(rule)
            case tuple():
                found.update(rule)
    return frozenset(found - {""})
