"""From a rule's text to typed nodes: parse, check every name, operator and value, and say everything that is wrong."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from vedette.core.decision import Action
from vedette.core.errors import Problems, Span
from vedette.expr import nodes
from vedette.expr.nodes import Comparison, Field, Literal, Node, Space, TextMatch
from vedette.judge.payment.attributes import ATTRIBUTES, COUNTRIES, Attribute, Kind
from vedette.judge.payment.lists import EMPTY, ValueList, compared
from vedette.judge.payment.problems import Origin, RuleError, near

MAX_RULE_CHARS = 8_192
"""Longest rule text."""
MAX_NODES = 512
"""Most nodes of one rule: with bounded lists and no loops, this is the work a rule can do on one event."""
MAX_DEPTH = 64
"""Deepest nesting of one rule."""
MAX_INLINE_ITEMS = 1_000
"""Most items of a list written in a rule."""
MAX_KEY_CHARS = 100
"""Longest metadata key, prefix included."""

MAX_NUMBER_CHARS = 24
"""Longest number: sign, digits and point. More than any amount needs, and never infinite."""

_ACTIONS = {
    "challenge": Action.CHALLENGE,
    "request 3d secure": Action.CHALLENGE,
    "allow": Action.ALLOW,
    "block": Action.BLOCK,
    "review": Action.REVIEW,
}
_EXPECTED = {
    "ATTRIBUTE": "an attribute such as `:amount_in_usd:`",
    "METADATA": "metadata such as `::basket id::`",
    "OPERATOR": "an operator (= != < <= > >=)",
    "IN": "`in`",
    "MATCHER": "`includes` or `like`",
    "STRING": "text in single quotes",
    "NUMBER": "a number",
    "_AND": "`and`",
    "_OR": "`or`",
    "_NOT": "`not`",
    "_IF": "`if`",
    "_IS_MISSING": "`is_missing(...)`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "COMMA": "`,`",
    "$END": "the end of the rule",
    "ACTION": "an action (challenge, allow, block, review) and `if`",
}
_TEXTUAL = frozenset({Kind.TEXT, Kind.CASED, Kind.COUNTRY, Kind.STATE, Kind.METADATA})
_STATE = re.compile(r"[A-Za-z0-9]{1,3}")
_OPENED = re.compile(r":[A-Za-z][A-Za-z0-9_.]{0,80}(?![A-Za-z0-9_.:])")
"""An attribute that nobody closed."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A rule's text understood."""

    action: Action
    node: Node
    """Three-valued: unknown when a missing value decides it."""
    attributes: frozenset[Attribute]
    """What it names of the attribute table."""
    notes: tuple[tuple[str, str, Span], ...] = ()
    """What is allowed and yet cannot be meant: code, message, place."""


@functools.cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="rule", parser="lalr", propagate_positions=True, maybe_placeholders=False)


def lower(
    text: str,
    *,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
    lists: Mapping[str, ValueList] | None = None,
    origin: Origin = Origin(),  # noqa: B008 - a frozen value
) -> Lowered:
    """Parses and types one rule.

    Args:
        text: `{action} if {condition}`, over several lines if need be.
        attributes: Names the rule may use.
        lists: Lists it may name with `@`.
        origin: Where the text stands in its file.

    Raises:
        RuleError: `payment.rule.syntax`, `payment.rule.too_long`, `payment.rule.too_large`, when it cannot be read.
        Problems: Every `payment.name.*`, `payment.type.*`, `payment.value.*`, `payment.list.*` in it.
    """
    if len(text) > MAX_RULE_CHARS:
        message = f"a rule has at most {MAX_RULE_CHARS} characters, this one {len(text)}"
        raise RuleError("payment.rule.too_long", message, span=origin.span(1, 1, 1, 1))
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(error, text, origin) from None
    lowering = _Lowering(text, attributes, lists or {}, origin)
    return lowering.rule(tree)


def _syntax_error(error: UnexpectedInput, text: str, origin: Origin) -> RuleError:
    lines = text.split("\n")
    line, col, width = error.line, error.column, 1
    if not 1 <= line <= len(lines):
        line, col = len(lines), len(lines[-1]) + 1
    expected: Sequence[str] = ()
    found = "this"
    if isinstance(error, UnexpectedToken):
        expected, width = sorted(error.accepts or error.expected), max(1, len(error.token))
        found = f"`{error.token!s:.40}`" if error.token.type != "$END" else "the end of the rule"
        if error.token.type == "$END":
            line, col = len(lines), len(lines[-1]) + 1
    elif isinstance(error, UnexpectedCharacters):
        expected = sorted(error.allowed or ())
        found = f"`{lines[line - 1][col - 1 : col]}`"
    return RuleError(
        "payment.rule.syntax",
        f"{found} does not belong here",
        hint=_syntax_hint(lines[line - 1][col - 1 :], expected),
        span=origin.span(line, col, line, col + width),
        source=lines[line - 1],
        col=col,
        width=width,
    )


def _syntax_hint(rest: str, expected: Sequence[str]) -> str:
    if rest.startswith("'"):
        return "text ends with a single quote on the same line; write \\' for a quote inside"
    if opened := _OPENED.match(rest):
        return f"an attribute ends with a colon too: `{opened[0]}:`"
    if rest.startswith(","):
        return "numbers have no thousands separator"
    if rest[:4].lower() == "not ":
        return "write `not` before the condition: `not :card_country: in ('US')`"
    if "ACTION" in expected:
        return "a rule is `{challenge|allow|block|review} if {condition}`"
    words = [_EXPECTED[name] for name in dict.fromkeys(expected) if name in _EXPECTED]
    return f"expected {', '.join(words[:-1])}{' or ' if len(words) > 1 else ''}{words[-1]}" if words else ""


@dataclass(frozen=True, slots=True)
class _Name:
    """What stands left of an operator, or right of it when it is no value."""

    field: Field
    kind: Kind
    attribute: Attribute | None
    token: Token


@dataclass
class _Lowering:
    """One pass over one tree; collects problems instead of stopping at the first."""

    text: str
    attributes: Mapping[str, Attribute]
    lists: Mapping[str, ValueList]
    origin: Origin
    problems: list[RuleError] = attribute(default_factory=list)
    used: set[Attribute] = attribute(default_factory=set)
    notes: list[tuple[str, str, Span]] = attribute(default_factory=list)
    count: int = 0

    def rule(self, tree: Tree[Token]) -> Lowered:
        action, condition = cast("tuple[Token, Tree[Token]]", tree.children)
        words = re.sub(r"[\s_-]+", " ", str(action)).strip().lower()
        if words not in _ACTIONS:
            hint = near(words, _ACTIONS) or f"one of {', '.join(_ACTIONS)}"
            self._problem("payment.action.unknown", f"unknown action `{words:.40}`", action, hint)
        node = self._condition(condition, 0)
        if self.problems:
            raise Problems(self.problems) if len(self.problems) > 1 else self.problems[0]
        return Lowered(_ACTIONS[words], node, frozenset(self.used), tuple(self.notes))

    def _condition(self, tree: Tree[Token], depth: int) -> Node:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            what = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_NODES} conditions"
            raise RuleError(
                "payment.rule.too_large", f"a rule has at most {what}", hint="use a list", span=self._span(tree)
            )
        if tree.data in _LEAVES:
            return _LEAVES[tree.data](self, tree)
        below = tuple(self._condition(cast("Tree[Token]", child), depth + 1) for child in tree.children)
        if tree.data == "inverted":
            return nodes.Not(below[0], self._span(tree))
        group = nodes.And if tree.data == "conjunction" else nodes.Or
        return group(below, self._span(tree))

    def _flag(self, tree: Tree[Token]) -> Node:
        name = self._name(tree.children[0])
        if name and name.kind is not Kind.BOOLEAN:
            hint = f"{name.token} is a {name.kind}: compare it, or ask is_missing({name.token})"
            return self._wrong("payment.type.not_boolean", f"`{name.token}` alone is no condition", name.token, hint)
        if name is None:
            return nodes.Constant(value=False)
        # A boolean that nothing provides is false, so its absence must not reach NOT as unknown.
        return nodes.Known(nodes.Compare(name.field, Comparison.EQ, Literal(True), span=name.field.span))

    def _missing(self, tree: Tree[Token]) -> Node:
        name = self._name(tree.children[0])
        if name is None:
            return nodes.Constant(value=False)
        if name.kind is Kind.BOOLEAN:
            message = f"`{name.token}` is never missing: it is false when nothing provides it"
            self.notes.append(("payment.note.never_missing", message, name.field.span))
            return nodes.Constant(value=False, span=self._span(tree))
        return nodes.IsNull(name.field, self._span(tree))

    def _bareword(self, tree: Tree[Token]) -> Node:
        word = tree.children[0]
        hint = f"write `:{word}:`" if str(word).lower() in self.attributes else "an attribute is written `:name:`"
        return self._wrong("payment.name.bare", f"`{word!s:.60}` is no condition", word, hint)

    def _comparison(self, tree: Tree[Token]) -> Node:
        left, operator, right = tree.children
        name, op = self._name(left), Comparison(str(operator))
        if name is None or not self._takes_operator(name, operator, op):
            self._operand(right, None)
            return nodes.Constant(value=False)
        operand = self._operand(right, name)
        if operand is None:
            return nodes.Constant(value=False)
        if isinstance(operand, Literal) and name.attribute and not isinstance(operand.value, str):
            self._note_bounds(name.attribute, op, operand.value, self._span(tree))
        textual = isinstance(operand, Field) or isinstance(operand.value, str)
        if textual and isinstance(operand, Literal) and op not in {Comparison.EQ, Comparison.NE}:
            return self._wrong("payment.type.not_number", f"`{op}` compares numbers", right, "write a bare number")
        cased = textual and name.kind in {Kind.CASED, Kind.METADATA}
        return nodes.Compare(name.field, op, operand, cased, self._span(tree))

    def _takes_operator(self, name: _Name, operator: Tree[Token] | Token, op: Comparison) -> bool:
        if name.kind is Kind.BOOLEAN:
            hint = f"write `{name.token}` or `not {name.token}`"
            self._problem("payment.type.boolean", f"boolean `{name.token}` takes no operator", operator, hint)
            return False
        if op in {Comparison.EQ, Comparison.NE} or name.kind in {Kind.NUMBER, Kind.METADATA}:
            return True
        hint = "use =, != or in"
        message = f"`{op}` compares numbers, and `{name.token}` is a {name.kind}"
        self._problem("payment.type.not_ordered", message, operator, hint)
        return False

    def _membership(self, tree: Tree[Token]) -> Node:
        left, _, right = tree.children
        name = self._name(left)
        if name and name.kind is Kind.BOOLEAN:
            return self._wrong(
                "payment.type.boolean", f"boolean `{name.token}` takes no operator", left, "write it alone"
            )
        cased = name is not None and name.kind in {Kind.CASED, Kind.METADATA}
        items: tuple[str | int | float, ...]
        if isinstance(right, Token):
            items, alias = self._list_items(right, name), str(right)[1:]
        else:
            items, alias = self._inline_items(right, name), ""
        return nodes.Among(name.field, items, alias, cased, self._span(tree)) if name else nodes.Constant(value=False)

    def _list_items(self, token: Token, name: _Name | None) -> tuple[str, ...]:
        found = self.lists.get(str(token)[1:]) or EMPTY.get(str(token)[1:])
        if found is None:
            hint = near(str(token)[1:], {**EMPTY, **self.lists}, "@{}") or "name the list in the file of lists"
            self._problem("payment.list.unknown", f"unknown list `{token}`", token, hint)
            return ()
        if name and not found.matches(name.kind):
            hint = "choose a list of a type that fits the attribute"
            message = f"list `{token}` holds {found.item_type}, and `{name.token}` is a {name.kind}"
            self._problem("payment.list.type", message, token, hint)
        return compared(found)

    def _inline_items(self, tree: Tree[Token], name: _Name | None) -> tuple[str | int | float, ...]:
        if len(tree.children) > MAX_INLINE_ITEMS:
            message = f"a list in a rule has at most {MAX_INLINE_ITEMS} items"
            self._problem("payment.list.too_long", message, tree, "move it to a named list")
            return ()
        items: list[str | int | float] = []
        for child in tree.children:
            token = _only_token(child)
            if token.type in {"ATTRIBUTE", "METADATA"}:
                self._problem(
                    "payment.type.value", "a list holds texts and numbers", token, "compare attributes with ="
                )
                continue
            operand = self._operand(child, name)
            if isinstance(operand, Literal) and not isinstance(operand.value, bool):
                items.append(operand.value)
        return tuple(items)

    def _matching(self, tree: Tree[Token]) -> Node:
        left, operator, right = tree.children
        name, token = self._name(left), _only_token(right)
        word = str(operator).lower()
        if name and name.kind not in _TEXTUAL:
            hint = "use it on texts, countries, states and metadata"
            return self._wrong(
                "payment.type.not_text", f"`{word}` searches text, `{name.token}` is none", operator, hint
            )
        if token.type in {"ATTRIBUTE", "METADATA"} and word == "includes":
            other = self._name(right)
            if not name or not other:
                return nodes.Constant(value=False)
            cased = name.kind in {Kind.CASED, Kind.METADATA}
            return nodes.FieldMatch(name.field, TextMatch.CONTAINS, other.field, cased, self._span(tree))
        if token.type != "STRING":
            return self._wrong("payment.type.value", f"`{word}` takes text in single quotes", token, _quoted(token))
        if name is None:
            return nodes.Constant(value=False)
        kind, value = TextMatch.CONTAINS, _unquote(token)
        if word == "like":
            kind, value = TextMatch.GLOB, re.sub(r"([*?\\])", r"\\\1", value).replace("%", "*")
        return nodes.Text(name.field, kind, value, name.kind in {Kind.CASED, Kind.METADATA}, self._span(tree))

    def _name(self, tree: Tree[Token] | Token) -> _Name | None:
        token = _only_token(tree)
        span = self._span(token)
        if token.type == "METADATA":
            key = str(token)[2:-2]
            if not key.strip() or len(key) > MAX_KEY_CHARS:
                hint = f"a key has 1 to {MAX_KEY_CHARS} characters"
                self._problem("payment.name.metadata", "this is no metadata key", token, hint)
                return None
            return _Name(Field(key, Space.METADATA, span), Kind.METADATA, None, token)
        name = str(token)[1:-1]
        found = self.attributes.get(name) or self.attributes.get(name.lower())
        if found is None:
            hint = near(name, self.attributes, ":{}:") or f"your own keys are written `::{name}::`"
            self._problem("payment.name.unknown", f"unknown attribute `{token}`", token, hint)
            return None
        self.used.add(found)
        return _Name(Field(found.name, Space.ATTRIBUTE, span), found.kind, found, token)

    def _operand(self, tree: Tree[Token] | Token, name: _Name | None) -> Field | Literal | None:
        """The right side, checked against the left; None when it is wrong (and said) or the left is."""
        token = _only_token(tree)
        match token.type:
            case "ATTRIBUTE" | "METADATA":
                other = self._name(token)
                return other.field if other and name and self._comparable(name, other) else None
            case "STRING":
                return self._text(token, name)
            case "NUMBER":
                return self._number(token, name)
            case "LIST":
                self._problem("payment.type.value", f"`{token}` is a list", token, "a list stands after `in`")
            case _:
                self._problem("payment.type.value", f"`{token!s:.60}` is no value", token, _quoted(token))
        return None

    def _comparable(self, name: _Name, other: _Name) -> bool:
        kinds = {name.kind, other.kind}
        alike = Kind.METADATA in kinds or (name.kind is Kind.NUMBER) is (other.kind is Kind.NUMBER)
        if alike and Kind.BOOLEAN not in kinds and kinds != {Kind.COUNTRY, Kind.STATE}:
            return True
        message = f"`{name.token}` is a {name.kind} and `{other.token}` a {other.kind}"
        self._problem("payment.type.mismatch", message, other.token, "compare two of one type")
        return False

    def _text(self, token: Token, name: _Name | None) -> Literal | None:
        if name is None:
            return None
        value = _unquote(token)
        wrong = ""
        if name.kind is Kind.NUMBER:
            wrong = "write a bare number, such as 1000"
        elif name.kind is Kind.COUNTRY and value.upper() not in COUNTRIES:
            wrong = "countries are ISO 3166 two-letter codes such as 'CA'"
        elif name.kind is Kind.STATE and not _STATE.fullmatch(value):
            wrong = "states are ISO 3166-2 codes without the country, such as 'CA' or 'NSW'"
        elif name.attribute and name.attribute.values and _as_compared(value, name) not in name.attribute.values:
            wrong = (
                near(value.lower(), name.attribute.values, "'{}'")
                or f"one of {', '.join(sorted(name.attribute.values))}"
            )
        if wrong:
            code = "payment.type.not_number" if name.kind is Kind.NUMBER else "payment.value.unknown"
            self._problem(code, f"{token!s:.60} is no value of {name.kind} `{name.token}`", token, wrong)
            return None
        return Literal(value, self._span(token))

    def _number(self, token: Token, name: _Name | None) -> Literal | None:
        if name is None:
            return None
        if name.kind not in {Kind.NUMBER, Kind.METADATA}:
            message = f"`{name.token}` is a {name.kind}, {token:.40} a number"
            self._problem("payment.type.not_text", message, token, f"write '{token:.40}'")
            return None
        if len(token) > MAX_NUMBER_CHARS:
            message = f"a number has at most {MAX_NUMBER_CHARS} characters, this one {len(token)}"
            self._problem("payment.value.number", message, token, "write text that looks like a number in quotes")
            return None
        return Literal(float(token) if "." in token else int(token), self._span(token))

    def _note_bounds(self, used: Attribute, op: Comparison, value: float, span: Span) -> None:
        if not used.cap:
            return
        never = {Comparison.GT: value >= used.cap, Comparison.GE: value > used.cap, Comparison.EQ: value > used.cap}
        if never.get(op, False):
            message = f"`:{used.name}:` is at most {used.cap}, so this never holds"
            self.notes.append(("payment.note.never_holds", message, span))

    def _span(self, place: Tree[Token] | Token) -> Span:
        line, col, end_line, end_col = _position(place)
        return self.origin.span(line, col, end_line, end_col)

    def _problem(self, code: str, message: str, place: Tree[Token] | Token, hint: str = "") -> None:
        line, col, end_line, end_col = _position(place)
        source = self.text.split("\n")[line - 1]
        width = end_col - col if end_line == line else len(source) - col + 1
        span = self.origin.span(line, col, end_line, end_col)
        self.problems.append(RuleError(code, message, hint=hint, span=span, source=source, col=col, width=width))

    def _wrong(self, code: str, message: str, place: Tree[Token] | Token, hint: str) -> Node:
        self._problem(code, message, place, hint)
        return nodes.Constant(value=False)


_LEAVES: Mapping[str, Callable[[_Lowering, Tree[Token]], Node]] = {
    "flag": _Lowering._flag,  # noqa: SLF001 - the table of this file's own methods
    "missing": _Lowering._missing,  # noqa: SLF001
    "comparison": _Lowering._comparison,  # noqa: SLF001
    "membership": _Lowering._membership,  # noqa: SLF001
    "matching": _Lowering._matching,  # noqa: SLF001
    "bareword": _Lowering._bareword,  # noqa: SLF001
}


def _as_compared(value: str, name: _Name) -> str:
    """A value as it is when it is compared: values of case-sensitive attributes are written as they are."""
    return value if name.kind is Kind.CASED else value.lower()


def _tokens(place: Tree[Token] | Token) -> Iterator[Token]:
    if isinstance(place, Token):
        yield place
    else:
        for child in place.children:
            yield from _tokens(child)


def _only_token(place: Tree[Token] | Token) -> Token:
    return next(_tokens(place))


def _position(place: Tree[Token] | Token) -> tuple[int, int, int, int]:
    where = place if isinstance(place, Token) else place.meta
    return where.line or 1, where.column or 1, where.end_line or 1, where.end_column or 1


def _unquote(token: Token) -> str:
    return re.sub(r"\\(['\\])", r"\1", str(token)[1:-1])


def _quoted(token: Token) -> str:
    inner = str(token).strip('"').replace("'", "\\'")
    return f"text stands in single quotes: '{inner:.60}'"
