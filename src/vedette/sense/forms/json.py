"""One JSON object a line.

The laws: UTF-8; numbers must be finite; an integer of more than 64 bits becomes a float; of a name that stands twice in
one object the last value counts; objects and lists nest at most `MAX_DEPTH` deep.
"""

from __future__ import annotations

from typing import Any

import orjson

from vedette.core.errors import DataError
from vedette.expr.spotter import Spotter

MAX_DEPTH = 100
"""Deepest nesting of a record; real logs stay under 20. Bounds the recursion of everything that walks records."""

_NESTED = Spotter([rb'":[\[\{ \t\r\n]', rb'"[ \t\r\n]+:'])
"""A name before a value that is nested, or may be: the quotes inside a text are not told from others."""


def parse(raw: bytes) -> dict[str, Any]:
    """Decodes one record.

    Raises:
        DataError: `sources.json.encoding`, `sources.json.depth`, `sources.json.syntax`, `sources.json.not_object`.
    """
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _refused(error) from error
    return check(raw, data)


def is_flat(text: bytes) -> bool:
    """True only when no value of any record is an object or a list; false also when records are written with spaces.

    Args:
        text: Records, known to be JSON.
    """
    return not _NESTED.holds(text)


def check(raw: bytes, data: Any) -> dict[str, Any]:
    """The decoded value as an object of bounded depth. Cheap unless the record has more brackets than `MAX_DEPTH`.

    Raises:
        DataError: `sources.json.not_object`, `sources.json.depth`.
    """
    if type(data) is not dict:
        raise DataError("sources.json.not_object", f"a record is an object, this is a {type(data).__name__}")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and depth(data) > MAX_DEPTH:
        raise DataError("sources.json.depth", f"nested more than {MAX_DEPTH} deep")
    return data


def depth(data: Any) -> int:
    """How deep objects and lists nest; 0 for a plain value. Does not recurse."""
    level, layer = 0, [data]
    while layer := [each for each in layer if isinstance(each, dict | list)]:
        level += 1
        layer = [inner for each in layer for inner in (each.values() if isinstance(each, dict) else each)]
    return level


def _refused(error: orjson.JSONDecodeError) -> DataError:
    if "UTF-8" in error.msg:
        return DataError("sources.json.encoding", "not UTF-8")
    if "depth limit" in error.msg:
        return DataError("sources.json.depth", f"nested more than {MAX_DEPTH} deep", at=f"char {error.pos}")
    return DataError("sources.json.syntax", error.msg.partition(": line")[0], at=f"char {error.pos}")
