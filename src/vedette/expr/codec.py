"""Nodes as plain lists and back, for storing compiled rule sets. Spans are not kept: they are not part of equality."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any, get_args

from vedette.core.errors import DataError
from vedette.expr import nodes
from vedette.expr.nodes import Comparison, Field, Literal, Node, Part, Space, TextMatch

_NODES: dict[str, type] = {kind.__name__: kind for kind in get_args(Node)}
_PARTS = {
    kind: tuple(part.name for part in dataclasses.fields(kind) if part.name != "span")
    for kind in (*_NODES.values(), Field, Literal)
}
_ENUMS: dict[str, type[StrEnum]] = {"match": TextMatch, "op": Comparison, "part": Part, "space": Space}
_PLAIN = (str, int, float, bool)


def encode(node: Node) -> list[Any]:
    """A node as nested lists of text, numbers and truth values."""
    encoded: list[Any] = _encode(node)
    return encoded


def _encode(value: Any) -> Any:
    if type(value) in _PARTS:
        return [type(value).__name__, *(_encode(getattr(value, name)) for name in _PARTS[type(value)])]
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def decode(plain: Any) -> Node:
    """The node that was encoded.

    Raises:
        DataError: `expr.codec.invalid`: not what `encode` gives.
    """
    try:
        return _decode(plain)
    except (TypeError, ValueError, KeyError, IndexError, RecursionError) as error:
        raise DataError("expr.codec.invalid", "not an encoded node") from error


def _decode(plain: Any) -> Node:
    kind = _NODES[plain[0]]
    names = _PARTS[kind]
    if len(plain) != len(names) + 1:
        raise ValueError(plain[0])
    made: Node = kind(**{name: _part(name, value, kind) for name, value in zip(names, plain[1:], strict=True)})
    return made


def _part(name: str, value: Any, kind: type) -> Any:
    if name == "children":
        return tuple(_decode(child) for child in value)
    if name == "child":
        return _decode(value)
    if name in _ENUMS:
        return _ENUMS[name](value)
    if name in ("field", "other", "left", "right") or (kind is nodes.Among and name == "value"):
        return _operand(value)
    if name == "items":
        return tuple(_plain(item) for item in value)
    return _plain(value)


def _operand(plain: Any) -> Field | Literal:
    kind, *parts = plain
    if kind == "Field":
        name, space = parts
        return Field(str(name), Space(space))
    (value,) = parts
    if kind != "Literal":
        raise ValueError(kind)
    return Literal(_plain(value))


def _plain(value: Any) -> Any:
    if not isinstance(value, _PLAIN):
        raise TypeError(type(value))
    return value
