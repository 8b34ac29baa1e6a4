"""Field paths: how a source file points into a record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Reader = Callable[[dict[str, Any]], Any]
"""Gives the value at a path of a record, or None when the path is absent or null."""


def compile_path(path: str) -> Reader:
    """A reader of one path.

    A field whose name is the whole path wins (`id.orig_h` as Zeek writes it); else the dots lead into nested objects,
    and a number into a list. No error is ever raised by a record's shape.

    Example:
        >>> read = compile_path("user.name")
        >>> read({"user": {"name": "ada"}}), read({"user.name": "bob"}), read({"user": 1})
        ('ada', 'bob', None)
    """
    if "." not in path:
        return lambda data: data.get(path)
    first, *steps = path.split(".")
    last = steps[0] if len(steps) == 1 else None

    def read(data: dict[str, Any]) -> Any:
        value = data.get(path)
        if value is not None:
            return value
        value = data.get(first)
        if last is not None and type(value) is dict:  # most paths, at half of the cost
            return value.get(last)
        return _walk(value, steps)

    return read


def _walk(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
