"""One rule as one SQL condition over the columns of `query`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, ip_network

import msgspec
from sqlglot import exp

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes, reference
from vedette.expr.nodes import Comparison, Field, Literal, Node, Space, TextMatch
from vedette.expr.patterns import Wild, flagged, glob_tokens, regex_refusal
from vedette.expr.sql.addresses import v4_pattern
from vedette.expr.truth import Truth
from vedette.expr.values import fold, number_of, text_of

_EXACT = 1 << 53
"""Below it a double is exact, so that comparing with any whole number as a double gives the exact answer."""
_ELEMENT = "x"
_OTHER = "y"
_ORDER: dict[Comparison, type[exp.Binary]] = {
    Comparison.EQ: exp.EQ,
    Comparison.NE: exp.NEQ,
    Comparison.LT: exp.LT,
    Comparison.LE: exp.LTE,
    Comparison.GT: exp.GT,
    Comparison.GE: exp.GTE,
}
_ANSWERS: dict[Truth, exp.Expr] = {Truth.TRUE: exp.true(), Truth.FALSE: exp.false(), Truth.UNKNOWN: exp.null()}

_UNKNOWN = exp.cast(exp.null(), "boolean")
"""Typed: an engine may not know what a NULL alone is compared as."""

LiteralValue = str | float | bool

Test = Callable[[exp.Expr], exp.Expr]
"""A condition on one text."""


class Form(StrEnum):
    """Which rows a condition is for."""

    ONE = "one"
    """No field that is read holds a list."""
    LISTS = "lists"
    """Some may."""


class Column(StrEnum):
    """What is read of a field."""

    VALUE = "v"
    """JSON text; NULL when absent."""
    TEXT = "t"
    """NULL when absent or null. In `Form.LISTS` the list of the elements' texts."""
    FOLDED = "f"
    ELEMENTS = "e"
    """The JSON texts of the elements; in `Form.LISTS` only."""


class Printer:
    """Prints nodes, and remembers which fields and columns they read.

    Args:
        form: Which rows the conditions are for.
    """

    def __init__(self, form: Form = Form.ONE) -> None:
        self._lists = form is Form.LISTS
        self.fields: dict[str, int] = {}
        """Name -> number of its columns."""
        self.columns: dict[str, set[Column]] = {}
        """Name -> what is read of it."""
        self.leaves: set[bool] = set()
        """Whether keywords read the texts of all values: folded or not."""
        self.patterns: set[str] = set()
        """Regular expressions printed: each engine may refuse one."""

    def condition(self, node: Node) -> exp.Expr:
        """A condition that is true exactly where the node is; elsewhere it is false or NULL.

        Raises:
            UnsupportedError: `sql.space.unsupported`, `sql.match.unsupported`, `sql.regex.refused`.
        """
        return self._print(node, true_only=True)

    def answer(self, node: Node) -> exp.Expr:
        """The node's three-valued answer: true, false, or NULL for unknown. Raises as `condition`."""
        return self._print(node, true_only=False)

    def _print(self, node: Node, *, true_only: bool) -> exp.Expr:  # noqa: PLR0911 - one return per node
        match node:
            case nodes.Constant(value=value):
                return exp.Boolean(this=value)
            case nodes.And(children=below):
                return joined(exp.And, [self._print(child, true_only=true_only) for child in below])
            case nodes.Or():
                return self._any(node, true_only=true_only)
            case nodes.Not(child=nodes.Known(child=child)):
                return exp.Not(this=exp.Is(this=_paren(self._print(child, true_only=True)), expression=exp.true()))
            case nodes.Not(child=child):
                return exp.Not(this=_paren(self._print(child, true_only=False)))
            case nodes.Known(child=child) if true_only:
                return self._print(child, true_only=True)
            case nodes.Known(child=child):
                return exp.Is(this=_paren(self._print(child, true_only=True)), expression=exp.true())
            case _:
                return self._predicate(node)

    def _any(self, node: nodes.Or, *, true_only: bool) -> exp.Expr:
        """Alternatives; equal fields that must be one of some texts are one question."""
        if not true_only:
            return joined(exp.Or, [self._print(child, true_only=False) for child in node.children])
        parts: list[exp.Expr] = []
        equal: dict[tuple[str, bool], list[nodes.Text]] = {}
        for child in node.children:
            bare = child.child if isinstance(child, nodes.Known) else child
            if isinstance(bare, nodes.Text) and bare.match is TextMatch.EQUALS:
                equal.setdefault((bare.field.name, bare.cased), []).append(bare)
            else:
                parts.append(self._print(child, true_only=True))
        merged = [self._equal(some) if len(some) > 1 else self._predicate(some[0]) for some in equal.values()]
        return joined(exp.Or, [*merged, *parts])

    def _equal(self, some: Sequence[nodes.Text]) -> exp.Expr:
        first = some[0]
        texts = [_text(one.value if one.cased else fold(one.value)) for one in some]
        return self._test(first.field, lambda text: exp.In(this=text, expressions=texts), cased=first.cased)

    # Predicates

    def _predicate(self, node: Node) -> exp.Expr:  # noqa: C901, PLR0911 - one return per node
        match node:
            case nodes.Exists(field=field):
                return exp.Not(this=exp.Is(this=self._column(field, Column.VALUE), expression=exp.null()))
            case nodes.IsNull(field=field):
                absent = exp.Is(this=self._column(field, Column.VALUE), expression=exp.null())
                return joined(
                    exp.Or, [absent, exp.EQ(this=self._column(field, Column.VALUE), expression=_text("null"))]
                )
            case nodes.Text():
                return self._test(node.field, matcher(node.match, node.value, cased=node.cased), cased=node.cased)
            case nodes.Regex():
                return self._test(node.field, self._regex(node.pattern, node.flags), cased=True)
            case nodes.Cidr():
                return self._test(node.field, self._inside(node.network), cased=True)
            case nodes.TimePart():
                return self._test(node.field, self._time(node), cased=True)
            case nodes.Keyword():
                return self._keyword(matcher(node.match, node.value, cased=node.cased), cased=node.cased)
            case nodes.KeywordRegex():
                return self._keyword(self._regex(node.pattern, node.flags), cased=True)
            case nodes.FieldMatch():
                return self._fields(node)
            case nodes.Compare():
                return self._compare(node)
            case nodes.Among():
                return self._among(node)
            case _:
                raise AssertionError(node)

    def _test(self, field: Field, test: Test, *, cased: bool) -> exp.Expr:
        """NULL when the field is absent or null; else whether its text, or one of its elements', passes."""
        texts = self._column(field, Column.TEXT if cased else Column.FOLDED)
        return _one_of(texts, test) if self._lists else test(texts)

    def _keyword(self, test: Test, *, cased: bool) -> exp.Expr:
        self.leaves.add(not cased)
        return _one_of(exp.column("leaves" if cased else "leaves_folded"), test)

    def _regex(self, pattern: str, flags: str) -> Test:
        if refusal := regex_refusal(pattern, flags):
            raise UnsupportedError("sql.regex.refused", f"the regular expression `{pattern}` is refused: {refusal}")
        whole = flagged(pattern, flags)
        self.patterns.add(whole)
        return lambda text: exp.RegexpLike(this=text, expression=_text(whole))

    def _inside(self, network: str) -> Test:
        parsed = ip_network(network, strict=False)
        if isinstance(parsed, IPv4Network):
            pattern = v4_pattern(parsed)
            return lambda text: exp.RegexpLike(this=text, expression=_text(pattern))
        return lambda text: joined(
            exp.And,
            [exp.Contains(this=text, expression=_text(":")), _call("vedette_inside", text.copy(), _text(network))],
        )

    def _time(self, node: nodes.TimePart) -> Test:
        number = exp.Literal.number(node.number)

        def test(text: exp.Expr) -> exp.Expr:
            compared = _ORDER[node.op](
                this=_call("vedette_part", text, _text(str(node.part))), expression=number.copy()
            )
            known = exp.Not(this=exp.Is(this=text.copy(), expression=exp.null()))
            return exp.Case(ifs=[exp.If(this=known, true=exp.Coalesce(this=compared, expressions=[exp.false()]))])

        return test

    def _fields(self, node: nodes.FieldMatch) -> exp.Expr:
        if node.match is TextMatch.GLOB:
            raise UnsupportedError("sql.match.unsupported", "wildcards in a field that another is compared with")
        column = Column.TEXT if node.cased else Column.FOLDED
        left, right = self._column(node.field, column), self._column(node.other, column)
        test = _MATCHES[node.match]
        if not self._lists:
            return test(left, right)
        # A field that is absent makes the outer list NULL by itself; the inner one only when there is an element.
        inner = _one_of(right, lambda other: test(exp.column(_ELEMENT), other), _OTHER)
        missing = exp.Is(this=right.copy(), expression=exp.null())
        return exp.Case(ifs=[exp.If(this=missing, true=exp.null())], default=_one_of(left, lambda _text: inner))

    # Comparisons

    def _compare(self, node: nodes.Compare) -> exp.Expr:
        left, op, right = node.left, node.op, node.right
        if isinstance(left, Literal) and isinstance(right, Literal):
            return _ANSWERS[reference.compare(node, left.value, right.value)].copy()
        if isinstance(left, Literal) and isinstance(right, Field):
            return self._compare(nodes.Compare(right, _MIRRORED[op], left, cased=node.cased))
        if op is Comparison.NE:
            equal = self._compare(nodes.Compare(left, Comparison.EQ, right, cased=node.cased))
            return exp.Not(this=_paren(equal))
        if isinstance(left, Field) and isinstance(right, Literal) and _exact(right.value):
            return self._pairs(left, lambda value: _compared(value, op, right.value, cased=node.cased))
        return self._called_compare(node)

    def _called_compare(self, node: nodes.Compare) -> exp.Expr:
        """What SQL's own comparisons do not say."""
        left, op, right = node.left, node.op, node.right
        sides = (self._side(left), _text(str(op)), self._side(right), exp.Boolean(this=node.cased))
        return _call("vedette_compare", *sides)

    def _side(self, operand: nodes.Operand) -> exp.Expr:
        if isinstance(operand, Literal):
            return _text(msgspec.json.encode(operand.value).decode())
        return self._column(operand, Column.VALUE)

    def _pairs(self, field: Field, test: Test) -> exp.Expr:
        """The greatest of the answers for the elements; NULL when the field is absent or null."""
        if not self._lists:
            return test(self._column(field, Column.VALUE))
        elements = self._column(field, Column.ELEMENTS)
        some = _one_of(elements, test)
        unknown = _one_of(elements.copy(), lambda one: exp.Is(this=_paren(test(one)), expression=exp.null()))
        ifs = [exp.If(this=some, true=exp.true()), exp.If(this=unknown, true=exp.null())]
        missing = exp.If(this=exp.Is(this=elements.copy(), expression=exp.null()), true=exp.null())
        return exp.Case(ifs=[missing, *ifs], default=exp.false())

    def _among(self, node: nodes.Among) -> exp.Expr:
        if isinstance(node.value, Literal):
            return _ANSWERS[reference.among(node, node.value.value)].copy()
        parts = [
            self._print(
                nodes.Known(nodes.Compare(node.value, Comparison.EQ, Literal(item), cased=node.cased)), true_only=False
            )
            for item in node.items
        ]
        null = self._print(nodes.IsNull(node.value), true_only=True)
        return exp.Case(ifs=[exp.If(this=null, true=exp.null())], default=_paren(joined(exp.Or, parts)))

    # Columns

    def _column(self, field: Field, column: Column) -> exp.Column:
        if field.space is not Space.DATA:
            raise UnsupportedError(
                "sql.space.unsupported", f"stored events have no `{field.name}` of the space `{field.space}`"
            )
        number = self.fields.setdefault(field.name, len(self.fields))
        self.columns.setdefault(field.name, set()).add(column)
        return exp.column(f"{column}{number}")


_MIRRORED = {
    Comparison.EQ: Comparison.EQ,
    Comparison.NE: Comparison.NE,
    Comparison.LT: Comparison.GT,
    Comparison.LE: Comparison.GE,
    Comparison.GT: Comparison.LT,
    Comparison.GE: Comparison.LE,
}
_MATCHES: dict[TextMatch, Callable[[exp.Expr, exp.Expr], exp.Expr]] = {
    TextMatch.EQUALS: lambda text, value: exp.EQ(this=text, expression=value),
    TextMatch.STARTS: lambda text, value: exp.StartsWith(this=text, expression=value),
    TextMatch.ENDS: lambda text, value: exp.EndsWith(this=text, expression=value),
    TextMatch.CONTAINS: lambda text, value: exp.Contains(this=text, expression=value),
    TextMatch.GLOB: lambda text, value: exp.Escape(
        this=exp.Like(this=text, expression=value), expression=_text(_ESCAPE)
    ),
}
_ESCAPE = "!"
"""Not the backslash, which patterns of paths are full of."""


def matcher(match: TextMatch, value: str, *, cased: bool) -> Test:
    """The comparison of a text, already folded unless `cased`, with a value of a rule."""
    wanted = value if cased else fold(value)
    if match is TextMatch.GLOB:
        wanted = "".join(_LIKE[token] if isinstance(token, Wild) else _quoted(token) for token in glob_tokens(wanted))
    return lambda text: _MATCHES[match](text, _text(wanted))


_LIKE = {Wild.ANY: "%", Wild.ONE: "_"}


def _quoted(text: str) -> str:
    return "".join(_ESCAPE + char if char in {_ESCAPE, "%", "_"} else char for char in text)


def _exact(value: LiteralValue) -> bool:
    number = number_of(value)
    return number is None or (math.isfinite(number) and abs(number) < _EXACT)


def _compared(value: exp.Expr, op: Comparison, wanted: LiteralValue, *, cased: bool) -> exp.Expr:
    """One value, as JSON text, beside a literal; NULL when they cannot be compared."""
    number = number_of(wanted)
    ordered = (
        _ORDER[op](this=_call("vedette_number", value), expression=_double(number))
        if number is not None
        else _UNKNOWN.copy()
    )
    if not isinstance(wanted, str | bool):
        return ordered
    worded = joined(
        exp.Or,
        [
            exp.StartsWith(this=value.copy(), expression=_text('"')),
            exp.In(this=value.copy(), expressions=[_text("true"), _text("false")]),
        ],
    )
    text = _call("vedette_text", value.copy())
    equal: exp.Expr = _UNKNOWN.copy()
    if op is Comparison.EQ:
        test = matcher(TextMatch.EQUALS, text_of(wanted), cased=cased)
        equal = test(text if cased else _call("vedette_fold", text))
    return exp.Case(ifs=[exp.If(this=worded, true=equal)], default=ordered)


def _double(number: float) -> exp.Expr:
    return exp.cast(_text(repr(float(number))), "double")


def _one_of(texts: exp.Expr, test: Test, name: str = _ELEMENT) -> exp.Expr:
    """Whether one element passes; NULL where there is no list."""
    each = exp.Lambda(this=test(exp.column(name)), expressions=[exp.to_identifier(name)])
    passed = exp.ArraySize(this=exp.ArrayFilter(this=texts, expression=each))
    return exp.GT(this=passed, expression=exp.Literal.number(0))


def joined(kind: type[exp.Connector], parts: Sequence[exp.Expr]) -> exp.Expr:
    """The parts side by side; none of them is true for `And`, false for `Or`."""
    if not parts:
        return exp.Boolean(this=kind is exp.And)
    whole = _paren(parts[0]) if len(parts) > 1 else parts[0]
    for part in parts[1:]:
        whole = kind(this=whole, expression=_paren(part))
    return whole


def _paren(part: exp.Expr) -> exp.Expr:
    return exp.Paren(this=part) if isinstance(part, exp.Connector | exp.Not | exp.Binary | exp.Is) else part


def _text(value: str) -> exp.Expr:
    return exp.Literal.string(value)


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))
