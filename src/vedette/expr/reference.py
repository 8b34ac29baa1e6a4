"""The reference evaluator: slow, obvious, three-valued. It defines each node; engines are tested against it.

A field that is absent or null makes a predicate unknown. A list is compared element by element and one match is enough;
an empty list matches nothing, which is false, not unknown.
"""

from __future__ import annotations

import ipaddress
import itertools
import operator
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from vedette.expr import nodes
from vedette.expr.nodes import Comparison, Field, Literal, Node, Operand, TextMatch
from vedette.expr.patterns import compile_regex, glob_matches, glob_tokens
from vedette.expr.truth import Truth, truth
from vedette.expr.values import MISSING, Reader, elements, fold, number_of, part_of, text_of, time_of, utf8

__all__ = ["MISSING", "Clause", "among", "compare", "evaluate", "time_part_holds", "trace"]

_ORDER = {
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.GT: operator.gt,
    Comparison.GE: operator.ge,
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One node with the answer it gave and what it read: the tree that `explain` prints."""

    node: Node
    truth: Truth
    values: tuple[tuple[Field, object], ...] = ()
    """What this node itself read, `MISSING` where the event has no such field."""
    children: tuple[Clause, ...] = ()


def evaluate(node: Node, read: Reader, values: Collection[object] = ()) -> Truth:
    """The truth of a node for one event.

    Args:
        node: What to evaluate. Items of a list named by `Among.list_name` must already be in it.
        read: Gives the value of a field, None for null, `MISSING` when absent.
        values: Every scalar of the event (`values.leaves`), read by keyword nodes only.

    Raises:
        re2.error: For a pattern that RE2 refuses, and ValueError for a network that is none: `check` before.
    """
    below = nodes.children(node)
    if below or isinstance(node, nodes.And | nodes.Or):
        return _combine(node, [evaluate(child, read, values) for child in below])
    return _predicate(node, read, values)


def trace(node: Node, read: Reader, values: Collection[object] = ()) -> Clause:
    """Like `evaluate`, keeping the answer of every node below and the values each one read. Nothing is cut short."""
    below = tuple(trace(child, read, values) for child in nodes.children(node))
    if below or isinstance(node, nodes.And | nodes.Or):
        return Clause(node, _combine(node, [clause.truth for clause in below]), (), below)
    seen = tuple((field, read(field)) for field in nodes.fields(node))
    return Clause(node, _predicate(node, read, values), seen)


def _combine(node: Node, answers: list[Truth]) -> Truth:
    match node:
        case nodes.And():
            return min(answers, default=Truth.TRUE)
        case nodes.Or():
            return max(answers, default=Truth.FALSE)
        case nodes.Not():
            return answers[0].negate()
        case nodes.Known():
            return truth(answers[0] is Truth.TRUE)
        case _:
            raise AssertionError(node)


def _predicate(node: Node, read: Reader, values: Iterable[object]) -> Truth:  # noqa: PLR0911 - one return per node
    match node:
        case nodes.Constant():
            return truth(node.value)
        case nodes.Exists():
            return truth(read(node.field) is not MISSING)
        case nodes.IsNull():
            return truth(_is_null(read(node.field)))
        case nodes.Text() | nodes.Regex() | nodes.Cidr() | nodes.TimePart():
            value = read(node.field)
            return Truth.UNKNOWN if _is_null(value) else truth(any(_holds(node, text_of(x)) for x in elements(value)))
        case nodes.Keyword() | nodes.KeywordRegex():
            return truth(any(_holds(node, text_of(value)) for value in values))
        case nodes.FieldMatch():
            return _field_match(node, read(node.field), read(node.other))
        case nodes.Compare():
            return compare(node, _operand(node.left, read), _operand(node.right, read))
        case nodes.Among():
            return among(node, _operand(node.value, read))
        case _:
            raise AssertionError(node)


def _is_null(value: object) -> bool:
    return value is MISSING or value is None


def _operand(operand: Operand, read: Reader) -> object:
    return operand.value if isinstance(operand, Literal) else read(operand)


_OfText = nodes.Text | nodes.Regex | nodes.Cidr | nodes.TimePart | nodes.Keyword | nodes.KeywordRegex
"""Predicates that see a value by its text alone."""


def _holds(node: _OfText, text: str) -> bool:
    match node:
        case nodes.Text() | nodes.Keyword():
            return _text_holds(node.match, text, node.value, cased=node.cased)
        case nodes.Regex() | nodes.KeywordRegex():
            return compile_regex(node.pattern, node.flags).search(utf8(text)) is not None
        case nodes.Cidr():
            return _inside(text, node.network)
        case nodes.TimePart():
            return time_part_holds(node, time_of(text))


def _text_holds(match: TextMatch, text: str, value: str, *, cased: bool) -> bool:
    if not cased:
        text, value = fold(text), fold(value)
    match match:
        case TextMatch.EQUALS:
            return text == value
        case TextMatch.STARTS:
            return text.startswith(value)
        case TextMatch.ENDS:
            return text.endswith(value)
        case TextMatch.CONTAINS:
            return value in text
        case TextMatch.GLOB:
            return glob_matches(glob_tokens(value), text)


def _inside(text: str, network: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address in ipaddress.ip_network(network, strict=False)


def time_part_holds(node: nodes.TimePart, time: datetime | None) -> bool:
    """The answer of a comparison with a part of a time; false without one."""
    return time is not None and bool(_ORDER[node.op](part_of(time, node.part), node.number))


def _field_match(node: nodes.FieldMatch, value: object, other: object) -> Truth:
    if _is_null(value) or _is_null(other):
        return Truth.UNKNOWN
    pairs = itertools.product(elements(value), elements(other))
    return truth(any(_text_holds(node.match, text_of(x), text_of(y), cased=node.cased) for x, y in pairs))


def compare(node: nodes.Compare, left: object, right: object) -> Truth:
    """The answer of a comparison for the values of its two sides."""
    if _is_null(left) or _is_null(right):
        return Truth.UNKNOWN
    if node.op is Comparison.NE:
        equal = nodes.Compare(node.left, Comparison.EQ, node.right, cased=node.cased)
        return compare(equal, left, right).negate()
    pairs = itertools.product(elements(left), elements(right))
    return max((truth(_ordered(x, node.op, y, cased=node.cased)) for x, y in pairs), default=Truth.FALSE)


def _ordered(left: object, op: Comparison, right: object, *, cased: bool) -> bool | None:
    """The comparison of two single values; None when they cannot be compared."""
    if isinstance(left, str | bool) and isinstance(right, str | bool):
        return (
            _text_holds(TextMatch.EQUALS, text_of(left), text_of(right), cased=cased) if op is Comparison.EQ else None
        )
    x, y = number_of(left), number_of(right)
    if x is None or y is None:
        return None
    return bool(_ORDER[op](x, y))


def among(node: nodes.Among, value: object) -> Truth:
    """The answer of a list membership for the value of its operand."""
    if _is_null(value):
        return Truth.UNKNOWN
    pairs = itertools.product(elements(value), node.items)
    return truth(any(_ordered(x, Comparison.EQ, item, cased=node.cased) for x, item in pairs))
