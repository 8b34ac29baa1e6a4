"""Nodes as nested functions: what `expr.reference` says, without walking the tree for each event.

Payment rules use a dozen kinds of nodes over a handful of values, so one closure a node is enough: a rule costs a
microsecond or so. Lists as values are rare and are left to the reference. A node that is not here is refused when the
rule is loaded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes, reference
from vedette.expr.nodes import Comparison, Field, Literal, Node, Space
from vedette.expr.patterns import glob_matches, glob_tokens
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, Reader, fold, number_of, text_of

Values = Mapping[str, object]
"""`key_of` a field (`:amount_in_usd:`, `::terminal::`) -> value; a key that is not there is missing, so is None."""

Evaluator = Callable[[Values], Truth]

FALSE, UNKNOWN, TRUE = Truth.FALSE, Truth.UNKNOWN, Truth.TRUE
_NUMBERS = frozenset({int, float})
_NEGATED = (TRUE, UNKNOWN, FALSE)
_ORDER = {
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.GT: operator.gt,
    Comparison.GE: operator.ge,
}


def key_of(field: Field) -> str:
    """The field as rules write it: `:name:` for an attribute, `::key::` for metadata."""
    return f"::{field.name}::" if field.space is Space.METADATA else f":{field.name}:"


def reader_of(values: Values) -> Reader:
    """The values as the reader that `expr.reference` wants."""
    return lambda field: values.get(key_of(field), MISSING)


def compile_node(node: Node) -> Evaluator:  # noqa: C901, PLR0911 - one return per node
    """A function from values to the node's truth; equal to `expr.reference.evaluate`.

    Raises:
        UnsupportedError: `payment.node.unsupported`.
    """
    match node:
        case nodes.Constant():
            answer = TRUE if node.value else FALSE
            return lambda _values: answer
        case nodes.And():
            return _and(tuple(compile_node(child) for child in node.children))
        case nodes.Or():
            return _or(tuple(compile_node(child) for child in node.children))
        case nodes.Not():
            child = compile_node(node.child)
            return lambda values: _NEGATED[child(values)]
        case nodes.Known():
            known = compile_node(node.child)
            return lambda values: TRUE if known(values) is TRUE else FALSE
        case nodes.IsNull():
            key = key_of(node.field)
            return lambda values: TRUE if values.get(key) is None else FALSE
        case nodes.Text():
            return _text(node)
        case nodes.FieldMatch():
            return _by_reference(node)
        case nodes.Compare():
            return _compare(node)
        case nodes.Among():
            return _among(node)
        case _:
            raise UnsupportedError(
                "payment.node.unsupported", f"payment rules have no `{type(node).__name__}`", span=node.span
            )


def _by_reference(node: Node) -> Evaluator:
    return lambda values: reference.evaluate(node, reader_of(values))


def _and(children: tuple[Evaluator, ...]) -> Evaluator:
    def evaluate(values: Values) -> Truth:
        lowest = TRUE
        for child in children:
            answer = child(values)
            if answer is FALSE:
                return FALSE
            if answer is UNKNOWN:
                lowest = UNKNOWN
        return lowest

    return evaluate


def _or(children: tuple[Evaluator, ...]) -> Evaluator:
    def evaluate(values: Values) -> Truth:
        highest = FALSE
        for child in children:
            answer = child(values)
            if answer is TRUE:
                return TRUE
            if answer is UNKNOWN:
                highest = UNKNOWN
        return highest

    return evaluate


def _text(node: nodes.Text) -> Evaluator:
    key = key_of(node.field)
    holds = _matcher(node.match, node.value if node.cased else fold(node.value))
    slow = _by_reference(node)

    def evaluate(values: Values) -> Truth:
        value = values.get(key)
        if value is None:
            return UNKNOWN
        if isinstance(value, list | tuple):
            return slow(values)
        text = text_of(value)
        return TRUE if holds(text if node.cased else fold(text)) else FALSE

    return evaluate


def _matcher(match: nodes.TextMatch, value: str) -> Callable[[str], bool]:
    match match:
        case nodes.TextMatch.EQUALS:
            return lambda text: text == value
        case nodes.TextMatch.STARTS:
            return lambda text: text.startswith(value)
        case nodes.TextMatch.ENDS:
            return lambda text: text.endswith(value)
        case nodes.TextMatch.CONTAINS:
            return lambda text: value in text
        case nodes.TextMatch.GLOB:
            tokens = glob_tokens(value)
            return lambda text: glob_matches(tokens, text)


def _compare(node: nodes.Compare) -> Evaluator:
    field, literal = node.left, node.right
    if not isinstance(field, Field) or not isinstance(literal, Literal):
        return _compare_fields(node)
    key, value = key_of(field), literal.value
    if isinstance(value, str | bool):
        return _compare_text(node, key, text_of(value))
    return _compare_number(node, key, value)


def _compare_number(node: nodes.Compare, key: str, wanted: float) -> Evaluator:
    ordered, slow = _ORDER[node.op], _by_reference(node)

    def evaluate(values: Values) -> Truth:
        value = values.get(key)
        # What is equal to itself is not not-a-number; truth values are of another type.
        if (type(value) is float or type(value) is int) and value == value:  # noqa: PLR0124
            return TRUE if ordered(value, wanted) else FALSE
        return UNKNOWN if value is None else slow(values)

    return evaluate


def _compare_text(node: nodes.Compare, key: str, wanted: str) -> Evaluator:
    same = {Comparison.EQ: (FALSE, TRUE), Comparison.NE: (TRUE, FALSE)}.get(node.op, (UNKNOWN, UNKNOWN))
    wanted, slow = (wanted if node.cased else fold(wanted)), _by_reference(node)

    def evaluate(values: Values) -> Truth:
        value = values.get(key)
        if type(value) is str:
            return same[(value if node.cased else fold(value)) == wanted]
        return UNKNOWN if value is None else slow(values)

    return evaluate


def _compare_fields(node: nodes.Compare) -> Evaluator:
    return _by_reference(node)


def _among(node: nodes.Among) -> Evaluator:
    if not isinstance(node.value, Field):
        return _by_reference(node)
    key, slow = key_of(node.value), _by_reference(node)
    folded = (lambda text: text) if node.cased else fold
    texts = frozenset(folded(item) for item in node.items if isinstance(item, str))
    numbers = frozenset(number_of(item) for item in node.items) - {None}
    bare_numbers = frozenset(item for item in node.items if not isinstance(item, str))

    def evaluate(values: Values) -> Truth:
        value = values.get(key)
        if value is None:
            return UNKNOWN
        if type(value) is str:
            held = folded(value) in texts or (bool(bare_numbers) and number_of(value) in bare_numbers)
        elif type(value) in _NUMBERS:
            held = value in numbers
        else:
            return slow(values)
        return TRUE if held else FALSE

    return evaluate
