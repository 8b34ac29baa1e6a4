"""A Sigma condition as an expression of the intermediate form, with Sigma's own law for what is missing.

Sigma knows two answers: a field that is absent or null does not match, and is matched by `not`. So every predicate is
wrapped in `Known`. `null` in a rule means absent or null; the empty text is neither.
Source: Sigma specification 2.1, "Detection" and "Modifiers" appendix; pySigma 1.x types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.rule import SigmaRule
from sigma.types import (
    CompareOperators,
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

from vedette.core.errors import DefinitionError
from vedette.expr import nodes
from vedette.expr.nodes import Comparison, Field, Known, Literal, Node, Not, TextMatch
from vedette.expr.patterns import glob_quote, regex_refusal
from vedette.expr.values import text_of

Rename = Callable[[str], str]
"""A rule's field name -> the name that the source's events use."""

_COMPARISONS = {
    CompareOperators.LT: Comparison.LT,
    CompareOperators.LTE: Comparison.LE,
    CompareOperators.GT: Comparison.GT,
    CompareOperators.GTE: Comparison.GE,
    CompareOperators.NEQ: Comparison.NE,
}
_FLAGS = {"IGNORECASE": "i", "MULTILINE": "m", "DOTALL": "s"}
_MANY, _ONE = SpecialChars.WILDCARD_MULTI, SpecialChars.WILDCARD_SINGLE


def lower(rule: SigmaRule, rename: Rename = str) -> Node:
    """The expression of a rule: any of its conditions.

    Args:
        rule: A parsed rule with the log source's conditions already in it.
        rename: Applied to every field name, also of field references.

    Raises:
        DefinitionError: `sigma.placeholder.unresolved`, `sigma.regex.refused`, `sigma.value.unsupported`,
            `sigma.condition.empty`.
        sigma.exceptions.SigmaError: What pySigma finds wrong with a condition.
    """
    lowering = _Lowering(rename)
    parts = [lowering.condition(condition.parsed) for condition in rule.detection.parsed_condition]
    return joined(nodes.Or, parts)


def joined(kind: type[nodes.And | nodes.Or], parts: Sequence[Node]) -> Node:
    """The parts under one node, without groups inside groups of the same kind; a single part stands alone."""
    flat: list[Node] = []
    for part in parts:
        flat += part.children if isinstance(part, kind) else [part]
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


class _Lowering:
    def __init__(self, rename: Rename) -> None:
        self._rename = rename

    def condition(self, item: object) -> Node:
        match item:
            case ConditionAND():
                return joined(nodes.And, [self.condition(part) for part in item.args])
            case ConditionOR():
                return joined(nodes.Or, [self.condition(part) for part in item.args])
            case ConditionNOT():
                return Not(self.condition(item.args[0]))
            case ConditionFieldEqualsValueExpression():
                return self._value(Field(self._rename(item.field)), item.value)
            case ConditionValueExpression():
                return _keyword(item.value)
            case _:
                # A selector such as `1 of x*` that names no selection leaves nothing behind.
                raise DefinitionError("sigma.condition.empty", "a part of the condition selects nothing")

    def _value(self, field: Field, value: object) -> Node:  # noqa: C901, PLR0911 - one line per type of the language
        match value:
            case SigmaExpansion():
                return joined(nodes.Or, [self._value(field, each) for each in value.values])
            case SigmaNull():
                return nodes.IsNull(field)
            case SigmaExists():
                return nodes.Exists(field) if value.exists else Not(nodes.Exists(field))
            case SigmaString():
                match, text = _text(value)
                return Known(nodes.Text(field, match, text, cased=isinstance(value, SigmaCasedString)))
            case SigmaTimestampPart():
                raise _unsupported(f"the modifier `{value.timestamp_part.name.lower()}`")
            case SigmaNumber():
                return Known(nodes.Text(field, TextMatch.EQUALS, text_of(value.number)))
            case SigmaBool():
                return Known(nodes.Text(field, TextMatch.EQUALS, text_of(value.boolean)))
            case SigmaRegularExpression():
                return Known(nodes.Regex(field, *_regex(value)))
            case SigmaCIDRExpression():
                return Known(nodes.Cidr(field, str(value.network)))
            case SigmaCompareExpression():
                return Known(nodes.Compare(field, _COMPARISONS[value.op], Literal(value.number.number)))
            case SigmaFieldReference():
                return Known(nodes.FieldMatch(field, _reference(value), Field(self._rename(value.field))))
            case _:
                raise _unsupported(f"a value of type `{type(value).__name__}`")


def _unsupported(what: str) -> DefinitionError:
    return DefinitionError("sigma.value.unsupported", f"{what} is not supported")


def _reference(value: SigmaFieldReference) -> TextMatch:
    if value.starts_with and value.ends_with:
        return TextMatch.CONTAINS
    if value.starts_with:
        return TextMatch.STARTS
    return TextMatch.ENDS if value.ends_with else TextMatch.EQUALS


def _text(value: SigmaString) -> tuple[TextMatch, str]:
    """The cheapest comparison that means the same as the string with its wildcards."""
    parts = value.s
    for part in parts:
        if isinstance(part, Placeholder):
            raise _unresolved(part.name)
    literals = [part for part in parts if isinstance(part, str)]
    match [part if isinstance(part, SpecialChars) else "" for part in parts]:
        case [] | [""]:
            return TextMatch.EQUALS, "".join(literals)
        case ["", SpecialChars.WILDCARD_MULTI]:
            return TextMatch.STARTS, literals[0]
        case [SpecialChars.WILDCARD_MULTI, ""]:
            return TextMatch.ENDS, literals[0]
        case [SpecialChars.WILDCARD_MULTI, "", SpecialChars.WILDCARD_MULTI]:
            return TextMatch.CONTAINS, literals[0]
        case _:
            return TextMatch.GLOB, "".join(_glob_part(part) for part in parts)


def _glob_part(part: object) -> str:
    return "*" if part is _MANY else "?" if part is _ONE else glob_quote(str(part))


def _regex(value: SigmaRegularExpression) -> tuple[str, str]:
    for part in value.regexp.s:
        if isinstance(part, Placeholder):
            raise _unresolved(part.name)
    pattern = str(value.regexp)
    flags = "".join(sorted(_FLAGS[flag.name] for flag in value.flags))
    if refusal := regex_refusal(pattern, flags):
        raise DefinitionError(
            "sigma.regex.refused",
            f"the regular expression `{pattern}` is refused: {refusal}",
            hint="look-around and backreferences cannot be matched in bounded time",
        )
    return pattern, flags


def _unresolved(name: str) -> DefinitionError:
    return DefinitionError("sigma.placeholder.unresolved", f"the placeholder `%{name}%` has no value")


def _keyword(value: object) -> Node:
    """A value without a field: searched for in every value of the event."""
    match value:
        case SigmaExpansion():
            return joined(nodes.Or, [_keyword(each) for each in value.values])
        case SigmaString():
            match, text = _text(value)
            cased = isinstance(value, SigmaCasedString)
            if match is TextMatch.GLOB:
                return nodes.Keyword(TextMatch.GLOB, f"*{text}*", cased)
            return nodes.Keyword(TextMatch.CONTAINS, text, cased)
        case SigmaNumber() if not isinstance(value, SigmaTimestampPart):
            return nodes.Keyword(TextMatch.CONTAINS, text_of(value.number))
        case SigmaRegularExpression():
            return nodes.KeywordRegex(*_regex(value))
        case _:
            raise _unsupported(f"a keyword of type `{type(value).__name__}`")
