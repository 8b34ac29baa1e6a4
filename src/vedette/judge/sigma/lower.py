"""A Sigma condition as an expression of the intermediate form, with Sigma's own law for what is missing.

Sigma knows two answers: a field that is absent or null does not match, and is matched by `not`. So every predicate is
wrapped in `Known`. `null` in a rule means absent or null; the empty text is neither.
Source: Sigma specification 2.1, "Detection" and "Modifiers" appendix; pySigma's types and pipelines.
"""

from __future__ import annotations

from collections.abc import Callable

from sigma.conditions import ConditionAND
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaRule
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
from vedette.judge.sigma.conditions import joined, parse
from vedette.judge.sigma.modifiers import CasedReference
from vedette.judge.sigma.selections import settle

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
        DefinitionError: `sigma.placeholder.unresolved`, `sigma.regex.refused`, `sigma.value.unsupported`, and what
            `conditions.parse` raises.
    """
    lowering = _Lowering(rename)
    parts = rule.detection.detections
    for part in parts.values():
        settle(part)
    texts = [condition.condition for condition in rule.detection.parsed_condition]
    return joined(nodes.Or, [parse(text, parts, lambda name: lowering.selection(parts[name])) for text in texts])


class _Lowering:
    def __init__(self, rename: Rename) -> None:
        self._rename = rename

    def selection(self, part: SigmaDetection) -> Node | None:
        """None when a pipeline has dropped every item."""
        items = [
            self.selection(item) if isinstance(item, SigmaDetection) else self._item(item)
            for item in part.detection_items
        ]
        asked = [item for item in items if item is not None]
        return joined(nodes.And if part.item_linking is ConditionAND else nodes.Or, asked) if asked else None

    def _item(self, item: SigmaDetectionItem) -> Node:
        if not item.value:
            # The placeholder of an empty list: nothing is among its values.
            found: Node = nodes.Constant(value=False)
        else:
            kind = nodes.And if item.value_linking is ConditionAND else nodes.Or
            found = joined(kind, [self._asked(item.field, value) for value in item.value])
        return Not(found) if item.negated else found

    def _asked(self, name: str | None, value: object) -> Node:
        return _keyword(value) if name is None else self._value(Field(self._rename(name)), value)

    def _value(self, field: Field, value: object) -> Node:  # noqa: C901, PLR0911, PLR0912 - one line per type
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
                return _time_part(field, Comparison.EQ, value)
            case SigmaCompareExpression(number=SigmaTimestampPart() as part):
                return _time_part(field, _COMPARISONS[value.op], part)
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
                other, cased = Field(self._rename(value.field)), isinstance(value, CasedReference)
                return Known(nodes.FieldMatch(field, _reference(value), other, cased))
            case _:
                raise _unsupported(f"a value of type `{type(value).__name__}`")


def _time_part(field: Field, op: Comparison, value: SigmaTimestampPart) -> Node:
    part = nodes.Part(value.timestamp_part.name.lower())
    return Known(nodes.TimePart(field, part, op, int(value.number)))


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
        case SigmaBool():
            return nodes.Keyword(TextMatch.CONTAINS, text_of(value.boolean))
        case SigmaRegularExpression():
            return nodes.KeywordRegex(*_regex(value))
        case _:
            raise _unsupported(f"a keyword of type `{type(value).__name__}`")
