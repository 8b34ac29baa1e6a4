"""The text of a node: stable, one line, the same for equal nodes and different for different ones.

Fields print as `Image`, `ocsf.actor.user.uid`, `:amount_in_usd:` and `::basket id::`; names that are no plain word
stand in backticks. Unprintable characters are escaped, so the text is safe to show.
"""

from __future__ import annotations

import json
import re

from vedette.expr import nodes
from vedette.expr.nodes import Field, Literal, Node, Operand, Space, TextMatch

_PLAIN = re.compile(r"[A-Za-z_@][\w@.$-]*", re.ASCII)
_RESERVED = frozenset("and or not known true false exists in cased any keyword matches".split())


def to_text(node: Node) -> str:
    """The text of a node."""
    return _text(node, _LOOSEST)


_LOOSEST, _OR, _AND, _UNARY = range(4)


def _text(node: Node, outer: int) -> str:
    match node:
        case nodes.And() | nodes.Or():
            return _group(node, outer)
        case nodes.Not():
            return f"not {_text(node.child, _UNARY)}"
        case nodes.Known():
            return f"known({_text(node.child, _LOOSEST)})"
        case _:
            return _predicate(node)


def _group(node: nodes.And | nodes.Or, outer: int) -> str:
    word, own = ("and", _AND) if isinstance(node, nodes.And) else ("or", _OR)
    if len(node.children) < 2:  # noqa: PLR2004 - a group of none or one has no word between its parts
        return f"{word}({', '.join(_text(child, _LOOSEST) for child in node.children)})"
    text = f" {word} ".join(_text(child, own) for child in node.children)
    return f"({text})" if outer >= own else text


def _predicate(node: Node) -> str:  # noqa: C901, PLR0911, PLR0912 - one return per node
    match node:
        case nodes.Constant():
            return "true" if node.value else "false"
        case nodes.Exists():
            return f"{field_text(node.field)} exists"
        case nodes.IsNull():
            return f"{field_text(node.field)} is null"
        case nodes.Text():
            return f"{field_text(node.field)} {_match(node.match, cased=node.cased)} {quote(node.value)}"
        case nodes.Regex():
            return f"{field_text(node.field)} {_regex(node.pattern, node.flags)}"
        case nodes.Cidr():
            return f"{field_text(node.field)} in network {quote(node.network)}"
        case nodes.Keyword():
            return f"any value {_match(node.match, cased=node.cased)} {quote(node.value)}"
        case nodes.KeywordRegex():
            return f"any value {_regex(node.pattern, node.flags)}"
        case nodes.FieldMatch():
            return f"{field_text(node.field)} {_match(node.match, cased=node.cased)} {field_text(node.other)}"
        case nodes.Compare():
            return f"{_operand(node.left)} {node.op}{_cased(cased=node.cased)} {_operand(node.right)}"
        case nodes.TimePart():
            return f"{node.part} of {field_text(node.field)} {node.op} {node.number}"
        case nodes.Among():
            return _among(node)
        case _:
            raise AssertionError(node)


def _among(node: nodes.Among) -> str:
    items = f"({', '.join(_value(item) for item in node.items)})"
    name = f" @{node.list_name}" if node.list_name else ""
    return f"{_operand(node.value)} in{_cased(cased=node.cased)}{name} {items}"


def _match(match: TextMatch, *, cased: bool) -> str:
    word = {TextMatch.EQUALS: "is", TextMatch.GLOB: "like"}.get(match, match.value)
    return word + _cased(cased=cased)


def _cased(*, cased: bool) -> str:
    return " cased" if cased else ""


def _regex(pattern: str, flags: str) -> str:
    return f"matches {quote(pattern)}" + (f" flags {quote(flags)}" if flags else "")


def _operand(operand: Operand) -> str:
    return field_text(operand) if isinstance(operand, Field) else _value(operand)


def _value(value: Literal | str | float) -> str:
    plain = value.value if isinstance(value, Literal) else value
    if isinstance(plain, str):
        return quote(plain)
    return str(plain).lower() if isinstance(plain, bool) else repr(plain)


def field_text(field: Field) -> str:
    """The text of a field: its name, marked with the space it is read from."""
    match field.space:
        case Space.ATTRIBUTE:
            return f":{_inner(field.name)}:"
        case Space.METADATA:
            return f"::{_inner(field.name)}::"
        case Space.OCSF:
            return f"ocsf.{_name(field.name)}"
        case Space.DATA:
            return f"`{_inner(field.name, '`')}`" if field.name.startswith("ocsf.") else _name(field.name)


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and name not in _RESERVED else f"`{_inner(name, '`')}`"


def _inner(name: str, end: str = ":") -> str:
    return quote(name)[1:-1].replace(end, f"\\u{ord(end):04x}")


def quote(text: str) -> str:
    """The text in double quotes with everything unprintable escaped as in JSON."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)
