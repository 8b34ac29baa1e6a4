"""What other teams' programs read from here, as JSON Schema, and what would break them.

Of each shape the schemas of its published versions are kept in `content/schemas`. The present one must be readable by a
program that was written against any of them: fields may be added, and nothing that was promised may go or widen. A
change that cannot keep that gets a new version of the shape beside the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from vedette.act.grouping import Alert
from vedette.core.content import shipped
from vedette.core.decision import Decision
from vedette.core.errors import NotFoundError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.signal import Signal
from vedette.run.investigation.tracing import Trace

VERSION = 1
"""Of every shape, so far."""
SHAPES: Mapping[str, type[msgspec.Struct]] = {
    "event": Event,
    "signal": Signal,
    "alert": Alert,
    "decision": Decision,
    "label": Label,
    "trace": Trace,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ANY = "any"


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a shape as it is written now.

    Raises:
        NotFoundError: `schema.name.unknown`.
    """
    if name not in SHAPES:
        raise NotFoundError("schema.name.unknown", "no such shape", hint=f"one of {', '.join(SHAPES)}", at=name[:64])
    (shape,), parts = msgspec.json.schema_components([SHAPES[name]])
    return {"$schema": _DIALECT, "$id": f"urn:vedette:{name}:{VERSION}", **shape, "$defs": parts}


def published(name: str) -> list[dict[str, Any]]:
    """The kept schemas of a shape, oldest first."""
    return [msgspec.json.decode(path.read_bytes()) for path in sorted(shipped("schemas").glob(f"{name}.*.json"))]


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a program that reads by the old schema would trip over in what the new one describes; empty: nothing."""
    return list(_differences(_Pair(old, new), old, new, "$"))


class _Pair:
    """Two documents, to look references up in."""

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.old, self.new = old.get("$defs", {}), new.get("$defs", {})
        self.seen: set[tuple[str, str]] = set()


def _differences(pair: _Pair, old: Any, new: Any, place: str) -> Iterator[str]:
    known, given = _kinds(old, pair.old), _kinds(new, pair.new)
    if _ANY in known:
        return
    for kind in sorted(given.keys() - known.keys()):
        yield f"{place}: may be {kind}, which it never was"
    for kind in sorted(given.keys() & known.keys()):
        before, after = known[kind], given[kind]
        names = str(before.get("title", "")), str(after.get("title", ""))
        if all(names):
            if names in pair.seen:
                continue
            pair.seen.add(names)
        yield from _of_kind(pair, before, after, place)


def _of_kind(pair: _Pair, old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[str]:
    if "enum" in old:
        fresh = [value for value in new.get("enum", ["anything"]) if value not in old["enum"]]
        yield from (f"{place}: may be `{value}`, which it never was" for value in fresh)
    properties = new.get("properties", {})
    for name, before in old.get("properties", {}).items():
        if name not in properties:
            yield f"{place}.{name}: is gone"
        else:
            yield from _differences(pair, before, properties[name], f"{place}.{name}")
    required = new.get("required", ())
    left_out = [name for name in old.get("required", ()) if name in properties and name not in required]
    yield from (f"{place}.{name}: may be left out, which it never was" for name in left_out)
    for inner, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(old.get(inner), dict):
            yield from _differences(pair, old[inner], new.get(inner, {}), f"{place}{mark}")


def _kinds(node: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Kind of value -> the schema that describes it there."""
    if "$ref" in node:
        return _kinds(parts[str(node["$ref"]).rpartition("/")[2]], parts)
    options: Sequence[Mapping[str, Any]] = node.get("anyOf", ())
    if options:
        return {kind: part for option in options for kind, part in _kinds(option, parts).items()}
    if "enum" in node and "type" not in node:
        return {"string": node}
    return {str(node.get("type", _ANY)): node}
