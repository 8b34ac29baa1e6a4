"""Sigma correlation documents: parsed by pySigma, then bound to the rules they refer to, in any file of the set."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionNOT,
    SigmaCorrelationRule,
    SigmaCorrelationTimespan,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)
from sigma.exceptions import (
    SigmaCorrelationConditionError,
    SigmaCorrelationRuleError,
    SigmaCorrelationTypeError,
    SigmaError,
    SigmaTimespanError,
)

from vedette.core.clock import MICROS
from vedette.core.errors import DefinitionError
from vedette.expr.values import number_of
from vedette.judge.correlation.definition import Condition, Correlation, Kind, Measure, Number, Part, Weight
from vedette.judge.correlation.patterns import Pattern
from vedette.judge.correlation.window import GROUP_MOMENTS
from vedette.judge.sigma.card import NO_CARD, Card
from vedette.judge.sigma.documents import Skipped
from vedette.judge.sigma.extensions import check_ours, plain, to_knobs
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.rules import Rule, level_of, status_of

MAX_PARTS = 100
"""Most rules that one correlation refers to."""
MAX_PATTERNS = 64
"""Most alternatives of an extended condition once it is written out."""
MAX_COUNT = GROUP_MOMENTS * 9 // 10
"""Highest lower bound of a count: a group never holds fewer of its newest moments."""

_FATAL = (SigmaCorrelationConditionError, SigmaCorrelationRuleError, SigmaCorrelationTypeError, SigmaTimespanError)
_BROKEN = (SigmaError, AttributeError, TypeError, ValueError, KeyError, UnboundLocalError, RecursionError)
"""What pySigma raises for shapes that YAML can spell."""
_BOUNDS = frozenset(Condition.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Draft:
    """A correlation as it is written, not yet bound to its rules."""

    id: str
    name: str
    path: str
    version: str
    """SHA-256 of the file."""
    parsed: SigmaCorrelationRule = field(compare=False)
    raw: Mapping[str, Any] = field(compare=False)
    """The `correlation` section."""
    card: Card = NO_CARD


def draft(document: dict[str, Any], path: str, version: str, number: int, card: Card = NO_CARD) -> Draft:
    """Parses one correlation document.

    Args:
        document: As YAML gave it.
        path: Of its file.
        version: Of its file.
        number: Its place in the file, which names it where it has neither id nor name.
        card: What our own key says of it.

    Raises:
        DefinitionError: `sigma.correlation.invalid` with everything that pySigma finds wrong.
    """
    raw = document.get("correlation")
    if not isinstance(raw, dict):
        raise DefinitionError("sigma.correlation.invalid", "`correlation` is a mapping")
    condition = raw.get("condition")
    if raw.get("type") in set(filter(lambda kind: kind.ours, Kind)):
        document = {**document, "correlation": plain(raw)}
    elif isinstance(condition, dict):
        # pySigma knows one bound; the specification also knows ranges. The bounds are read below, all of them.
        first = next((name for name in condition if name in _BOUNDS), None)
        known = {name: value for name, value in condition.items() if name == first or name not in _BOUNDS}
        document = {**document, "correlation": {**raw, "condition": known}}
    try:
        parsed = SigmaCorrelationRule.from_dict(document, collect_errors=True)
    except _BROKEN as error:
        raise DefinitionError("sigma.correlation.invalid", f"{error}") from error
    problems = [str(error) for error in parsed.errors if isinstance(error, _FATAL)]
    if problems or not isinstance(parsed.timespan, SigmaCorrelationTimespan):
        raise DefinitionError("sigma.correlation.invalid", "; ".join(problems) or "`timespan` is needed")
    name = str(parsed.name or "")
    return Draft(str(parsed.id or f"{path}#{name or number}"), name, path, version, parsed, raw, card)


def fields_of(document: Mapping[str, Any]) -> Iterator[str]:
    """The names of fields that a correlation document asks of its rules: `group-by`, `aliases` and `field`."""
    for name, value in document.items():
        if name in ("group-by", "aliases", "field"):
            yield from _words(value)
        elif isinstance(value, Mapping):
            yield from fields_of(value)


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _words(part)


def bind(
    drafts: Sequence[Draft], rules: Sequence[Rule], skipped: Sequence[Skipped], places: LogSources
) -> tuple[list[Correlation], list[Skipped]]:
    """Correlations that can run, those that others refer to first, and the rest with the reason of each.

    Args:
        drafts: Of the whole set.
        rules: That can match.
        skipped: That cannot; a correlation over one of them says so.
        places: Names of fields in the sources.
    """
    binding = _Binding(drafts, rules, skipped, places)
    refused: list[Skipped] = []
    for one in drafts:
        try:
            binding.correlation(one)
        except DefinitionError as error:
            refused.append(Skipped(one.id, f"{error.message} [{error.code}]", one.path))
    return list(weighed(binding.bound.values(), rules)), refused


def weighed(correlations: Iterable[Correlation], rules: Iterable[Rule]) -> tuple[Correlation, ...]:
    """The correlations, those of risk with what each of all rules and other correlations adds."""
    held = tuple(correlations)
    if all(one.measure.kind is not Kind.RISK for one in held):
        return held
    adding: list[Rule | Correlation] = [*rules, *(one for one in held if one.measure.kind is not Kind.RISK)]
    weights = {one.id: Weight(points, one.title, one.tags) for one in adding if (points := one.card.points(one.level))}
    return tuple(
        msgspec.structs.replace(one, measure=msgspec.structs.replace(one.measure, weights=weights))
        if one.measure.kind is Kind.RISK
        else one
        for one in held
    )


class _Binding:
    def __init__(
        self, drafts: Sequence[Draft], rules: Sequence[Rule], skipped: Sequence[Skipped], places: LogSources
    ) -> None:
        self.bound: dict[str, Correlation] = {}
        self._places = places
        self._skipped = {one.id: one.reason for one in skipped}
        self._rules: dict[str, list[Rule]] = {}
        self._drafts: dict[str, Draft] = {}
        self._names: dict[str, dict[str, str]] = {}
        """Name or id -> id -> path of the file it stands in."""
        for rule in rules:
            self._rules.setdefault(rule.id, []).append(rule)
            self._know(rule.id, rule.name, rule.path)
        for one in drafts:
            self._drafts.setdefault(one.id, one)
            self._know(one.id, one.name, one.path)
        self._open: list[str] = []

    def _know(self, own: str, name: str, path: str) -> None:
        for word in {own.lower(), name} - {""}:
            self._names.setdefault(word, {})[own] = path

    def correlation(self, one: Draft) -> Correlation:
        """Binds one, after those it refers to.

        Raises:
            DefinitionError: Why it cannot run.
        """
        if one.id in self.bound and self._drafts[one.id] is one:
            return self.bound[one.id]
        if self._drafts[one.id] is not one or one.id in self._rules:
            raise DefinitionError("sigma.correlation.repeated", "another rule has this id")
        if one.id in self._open:
            raise DefinitionError("sigma.correlation.cycle", "refers to itself, over " + " > ".join(self._open))
        self._open.append(one.id)
        try:
            self.bound[one.id] = found = self._bind(one)
        finally:
            self._open.pop()
        return found

    def _bind(self, one: Draft) -> Correlation:
        parsed = one.parsed
        kind = Kind(one.raw["type"]) if one.raw.get("type") in set(Kind) else Kind(parsed.type.name.lower())
        if kind is Kind.RISK:
            return self._risk(one)
        references = _references(parsed)
        names = [_text(reference.reference) for reference in references]
        condition, wanted = _condition(one.raw.get("condition"), kind, len(names))
        patterns = _patterns(parsed, kind, names)
        if patterns:
            condition = Condition(gte=min(len(pattern.wanted) for pattern in patterns))
        _check(kind, condition, wanted, len(names))
        group_by = tuple(parsed.group_by or ())
        aliases = {
            alias.alias: {ref.reference: name for ref, name in alias.mapping.items()} for alias in parsed.aliases
        }
        parts, versions = [], []
        for name in names:
            part, version = self._part(one, name, group_by, wanted, aliases)
            parts.append(part)
            versions.append(version)
        span, share = parsed.timespan.seconds * MICROS, _percentile(one.raw, kind)
        measure = Measure(kind, span, condition, len(parts), share, patterns, knobs=to_knobs(one.raw, kind, span))
        return _bound(
            one,
            measure,
            group_by,
            version=hashlib.sha256(msgspec.json.encode([one.version, *versions])).hexdigest(),
            parts=tuple(parts),
            field=wanted,
            generate=bool(parsed.generate),
        )

    def _risk(self, one: Draft) -> Correlation:
        """The risk of entities: every rule and correlation that gives signals adds to it."""
        parsed = one.parsed
        span = parsed.timespan.seconds * MICROS
        condition, _ = _condition(one.raw.get("condition"), Kind.RISK, 0)
        if not condition.rising or not condition.bounds or not parsed.group_by:
            message = "needs `group-by` with types of entities, and a condition of `gte` or `gt` points"
            raise DefinitionError("sigma.correlation.invalid", message)
        measure = Measure(Kind.RISK, span, condition, 0, knobs=to_knobs(one.raw, Kind.RISK, span))
        return _bound(one, measure, tuple(parsed.group_by), version=one.version)

    def _part(
        self,
        one: Draft,
        name: str,
        group_by: Sequence[str],
        wanted: Sequence[str],
        aliases: Mapping[str, Mapping[str, str]],
    ) -> tuple[Part, str]:
        """The part, and the version of the rule it is."""
        own = self._find(one, name)
        fields = [aliases[each].get(name, each) if each in aliases else each for each in group_by]
        values = [aliases[each].get(name, each) if each in aliases else each for each in wanted]
        if own in self._drafts and own not in self._rules:
            inner = self.correlation(self._drafts[own])
            for each in (*fields, *values):
                if each not in inner.group_by:
                    raise DefinitionError(
                        "sigma.correlation.field", f"`{each}` is no `group-by` field of the correlation `{name}`"
                    )
            return Part(own, name, {"": tuple(fields)}, {"": tuple(values)}), inner.version
        sources = {source: rule for rule in self._rules[own] for source in rule.nodes}
        spelled = {
            source: (self._spelled(rule, source, fields), self._spelled(rule, source, values))
            for source, rule in sources.items()
        }
        return (
            Part(
                own,
                name,
                {"": tuple(fields), **{source: pair[0] for source, pair in spelled.items()}},
                {"": tuple(values), **{source: pair[1] for source, pair in spelled.items()}},
            ),
            "".join(rule.version for rule in self._rules[own]),
        )

    def _spelled(self, rule: Rule, source: str, fields: Iterable[str]) -> tuple[str, ...]:
        renames = rule.renames.get(source, {})
        return tuple(self._places.spelled(source, renames.get(name, name)) for name in fields)

    def _find(self, one: Draft, name: str) -> str:
        found = self._names.get(name) or self._names.get(name.lower(), {})
        near = {own for own, path in found.items() if path == one.path}
        if len(found) == 1 or len(near) == 1:
            return next(iter(near or found))
        if found:
            raise DefinitionError("sigma.correlation.ambiguous", f"several rules are named `{name}`")
        if name in self._skipped:
            message = f"rests on `{name}`, which cannot match: {self._skipped[name]}"
            raise DefinitionError("sigma.correlation.rule_skipped", message)
        like = difflib.get_close_matches(name, self._names, 1)
        hint = f"; `{like[0]}` is there" if like else ""
        raise DefinitionError("sigma.correlation.unknown_rule", f"no rule that can match is `{name}`{hint}")


def _bound(
    one: Draft,
    measure: Measure,
    group_by: tuple[str, ...],
    *,
    version: str,
    parts: tuple[Part, ...] = (),
    field: tuple[str, ...] = (),
    generate: bool = False,
) -> Correlation:
    parsed = one.parsed
    return Correlation(
        id=one.id,
        title=str(parsed.title or ""),
        level=level_of(parsed),
        status=status_of(parsed),
        tags=tuple(str(tag) for tag in parsed.tags),
        path=one.path,
        version=version,
        measure=measure,
        parts=parts,
        group_by=group_by,
        field=field,
        generate=generate,
        name=one.name,
        card=one.card,
    )


def _references(parsed: SigmaCorrelationRule) -> list[SigmaRuleReference]:
    references = parsed.rules or []
    if not references and isinstance(parsed.condition, SigmaExtendedCorrelationCondition):
        references = [SigmaRuleReference(name) for name in parsed.condition.get_referenced_rules()]
    if not references:
        raise DefinitionError("sigma.correlation.invalid", "`rules` names no rule")
    if len(references) > MAX_PARTS:
        raise DefinitionError("sigma.correlation.too_large", f"more than {MAX_PARTS} rules")
    return references


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise DefinitionError("sigma.correlation.invalid", f"`{value}` under `rules` is no name or id")


def _condition(raw: object, kind: Kind, parts: int) -> tuple[Condition, tuple[str, ...]]:
    """The bounds and the field of a condition; all rules of a temporal one that states none."""
    if not isinstance(raw, dict):
        return Condition(gte=parts), ()
    bounds: dict[str, Number] = {}
    for name in _BOUNDS & raw.keys():
        bound = number_of(raw[name])
        if bound is None:
            raise DefinitionError("sigma.correlation.invalid", f"`{name}` is no number")
        bounds[name] = bound
    fields = raw.get("field")
    names = fields if isinstance(fields, list) else [] if fields is None else [fields]
    if not all(isinstance(name, str) for name in names) or (kind.numeric and len(names) != 1):
        raise DefinitionError("sigma.correlation.invalid", "`field` names one field")
    return Condition(**bounds), tuple(names)


def _check(kind: Kind, condition: Condition, wanted: Sequence[str], parts: int) -> None:
    if kind.looks_back:
        check_ours(kind, condition, wanted)
        return
    lowest = max(condition.gt or 0, condition.gte or 0, condition.eq or 0)
    if not condition.bounds:
        raise DefinitionError("sigma.correlation.invalid", "`condition` states no bound")
    if kind in {Kind.TEMPORAL, Kind.TEMPORAL_ORDERED}:
        if lowest > parts or condition.gt == parts:
            raise DefinitionError("sigma.correlation.unreachable", f"asks for more than the {parts} rules it names")
    elif not kind.numeric and lowest > MAX_COUNT:
        raise DefinitionError("sigma.correlation.too_large", f"counts to more than {MAX_COUNT:,}")
    if kind is Kind.VALUE_COUNT and not wanted:
        raise DefinitionError("sigma.correlation.invalid", "`field` is needed")


def _percentile(raw: Mapping[str, Any], kind: Kind) -> Number:
    if kind is not Kind.VALUE_PERCENTILE:
        return 0
    condition = raw.get("condition")
    found = number_of(condition.get("percentile")) if isinstance(condition, dict) else None
    if found is None or not 0 <= found <= 100:  # noqa: PLR2004 - per cent
        raise DefinitionError("sigma.correlation.invalid", "`percentile` is a number from 0 to 100")
    return found


def _patterns(parsed: SigmaCorrelationRule, kind: Kind, names: Sequence[str]) -> tuple[Pattern, ...]:
    """An extended condition as alternatives; none where all rules must be there, as without a condition."""
    if not isinstance(parsed.condition, SigmaExtendedCorrelationCondition):
        return ()
    places = {name: number for number, name in enumerate(names)}
    found = _alternatives(parsed.condition.parsed, places, negated=False)
    kept = [one for one in found if not any(other != one and other.within(one) for other in found)]
    if not kept:
        raise DefinitionError("sigma.correlation.unreachable", "asks that a rule fires and does not fire")
    if not all(one.wanted for one in kept):
        raise DefinitionError("sigma.correlation.unsupported", "holds when no rule fires at all: nothing begins it")
    if kind is Kind.TEMPORAL_ORDERED and kept == [Pattern(frozenset(places.values()))]:
        return ()
    return tuple(sorted(kept, key=lambda one: (len(one.wanted), sorted(one.wanted), sorted(one.unwanted))))


def _alternatives(item: object, places: Mapping[str, int], *, negated: bool) -> set[Pattern]:
    """Alternatives of a condition; those that contradict themselves are left out."""
    if isinstance(item, SigmaRuleReference):
        own = frozenset({places[item.reference]})
        return {Pattern(frozenset(), own) if negated else Pattern(own)}
    args: list[object] = list(getattr(item, "args", ()))
    if isinstance(item, CorrelationConditionNOT):
        return _alternatives(args[0], places, negated=not negated)
    parts = [_alternatives(one, places, negated=negated) for one in args]
    found = parts[0]
    for part in parts[1:]:
        if isinstance(item, CorrelationConditionAND) is not negated:
            both = {Pattern(a.wanted | b.wanted, a.unwanted | b.unwanted) for a in found for b in part}
            found = {one for one in both if not one.wanted & one.unwanted}
        else:
            found = found | part
        if len(found) > MAX_PATTERNS:
            raise DefinitionError("sigma.correlation.too_large", f"more than {MAX_PATTERNS} alternatives")
    return found
