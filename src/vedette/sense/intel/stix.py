"""STIX 2.1 in and out: bundles and envelopes of objects, of which indicators become values to look for.

Every object is kept as it came, so that what goes out again is what came in. A pattern beyond what is matched, another
pattern language or a revoked indicator is kept too, held back with the reason. What is no STIX object is refused with
its place, and the others are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.sense.intel.indicator import USUAL, Indicator, Tlp, kind_of
from vedette.sense.intel.patterns import format_pattern, parse_pattern
from vedette.sense.times import TimeFormat, parse_time

MAX_BYTES = 256 * 1024 * 1024
"""Largest bundle."""
MAX_OBJECT = 1024 * 1024
"""Largest object of it."""
MAX_DEPTH = 64
"""Nesting of an object."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,249}--[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MARKING = "marking-definition--"
_TLP1 = {
    Tlp.CLEAR: "613f2e26-407d-48c7-9eca-b8e91df99dc9",
    Tlp.GREEN: "34098fce-860f-48ae-8e50-ebd3cc5e41da",
    Tlp.AMBER: "f88d31f6-486f-44da-b317-01333bde0b82",
    Tlp.RED: "5e57c739-391a-4eb3-b6be-7d15ca92d5ed",
}
_TLP2 = {
    Tlp.CLEAR: "94868c89-83c2-464b-929b-a1a8aa3c8487",
    Tlp.GREEN: "bab4a63c-aed9-4cf5-a766-dfca5abac2bb",
    Tlp.AMBER: "55d920b0-5e8b-4f79-9ee9-91f868d9b421",
    Tlp.AMBER_STRICT: "939a9414-2ddd-4d32-a0cd-375ea402b003",
    Tlp.RED: "e828b379-4e03-4974-9ac4-e53a884c97c1",
}
_MARKED = {_MARKING + own: tlp for table in (_TLP1, _TLP2) for tlp, own in table.items()}
_NAMED = {
    "malware": "malware",
    "tool": "tool",
    "intrusion-set": "actor",
    "threat-actor": "actor",
    "campaign": "campaign",
}


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """One STIX object of any type, or an indicator that came in another form."""

    id: str
    type: str
    version: int = 0
    """When its author changed it (`modified`, else `created`), microseconds UTC; 0 for an object that has neither."""
    spec: str = "2.1"
    body: str = ""
    """As it came, JSON; empty for one that came in another form."""
    indicator: Indicator | None = None
    tlp: Tlp = Tlp.AMBER
    about: str = ""
    """Of a sighting: the id it is of."""
    last: int = 0
    """Of a sighting: its newest event time, microseconds UTC."""


class Refused(msgspec.Struct, frozen=True):
    """What could not be taken, and why."""

    at: str
    code: str
    reason: str


class Default(msgspec.Struct, frozen=True):
    """What holds for what does not tell its own."""

    tlp: Tlp = Tlp.AMBER
    confidence: int = USUAL
    now: int = 0
    """Time of the import, microseconds UTC."""
    collection: str = ""


class _Reference(msgspec.Struct, frozen=True):
    source_name: str = ""
    external_id: str = ""


class _Phase(msgspec.Struct, frozen=True):
    phase_name: str = ""


class _Item(msgspec.Struct, frozen=True):
    """What is read of an object."""

    type: str
    id: str
    spec_version: str = ""
    created: str = ""
    modified: str = ""
    revoked: bool = False
    name: str = ""
    pattern: str = ""
    pattern_type: str = "stix"
    valid_from: str = ""
    valid_until: str = ""
    confidence: int | None = None
    labels: tuple[str, ...] = ()
    indicator_types: tuple[str, ...] = ()
    object_marking_refs: tuple[str, ...] = ()
    external_references: tuple[_Reference, ...] = ()
    kill_chain_phases: tuple[_Phase, ...] = ()
    relationship_type: str = ""
    source_ref: str = ""
    target_ref: str = ""
    sighting_of_ref: str = ""
    last_seen: str = ""


class _Holder(msgspec.Struct, frozen=True):
    objects: tuple[msgspec.Raw, ...] = ()
    type: str = "bundle"


_item = msgspec.json.Decoder(_Item).decode
_holder = msgspec.json.Decoder(_Holder).decode


def parse_bundle(content: bytes, default: Default) -> tuple[list[Object], list[Refused]]:
    """The objects of a bundle or TAXII envelope, and what of it is none.

    Raises:
        DataError: `intel.stix.invalid`, `intel.stix.too_large`: nothing of it can be read.
    """
    if len(content) > MAX_BYTES:
        raise DataError("intel.stix.too_large", f"larger than {MAX_BYTES} bytes")
    try:
        content.decode()
        holder = _holder(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError("intel.stix.invalid", f"no STIX bundle: {error}") from error
    if holder.type != "bundle":
        raise DataError("intel.stix.invalid", f"`{holder.type[:40]}` is no bundle")
    found, refused, items = list[tuple[_Item, str]](), list[Refused](), dict[str, _Item]()
    for place, raw in enumerate(holder.objects):
        try:
            item = _read(bytes(raw))
        except DataError as error:
            refused.append(Refused(f"objects[{place}]", error.code, error.message))
        else:
            items[item.id] = item
            found.append((item, bytes(raw).decode()))
    told = _told(items)
    return [_object(item, body, told.get(item.id, ()), default) for item, body in found], refused


def parse_object(raw: bytes, default: Default) -> Object:
    """One object by itself.

    Raises:
        DataError: `intel.object.*`.
    """
    return _object(_read(raw), raw.decode(), (), default)


def to_stix(found: Object, *, created: int) -> dict[str, Any]:
    """An object as STIX: as it came, else made from what is known of it.

    Args:
        found: The object.
        created: When this version came, microseconds UTC.
    """
    if found.body:
        whole: dict[str, Any] = msgspec.json.decode(found.body)
        return whole
    own = found.indicator
    assert own is not None  # noqa: S101 - only indicators come in other forms
    when = _stamp(found.version or created)
    kinds = [[kind_of(value) for value in values] for values in own.formula]
    made: dict[str, Any] = {
        "type": "indicator",
        "spec_version": "2.1",
        "id": found.id,
        "created": when,
        "modified": when,
        "name": own.name or own.value,
        "pattern": format_pattern(own.formula, kinds),
        "pattern_type": "stix",
        "valid_from": _stamp(own.valid_from),
        "confidence": own.confidence,
        "object_marking_refs": [_MARKING + (_TLP1.get(own.tlp) or _TLP2[own.tlp])],
    }
    if own.valid_until:
        made["valid_until"] = _stamp(own.valid_until)
    if own.labels:
        made["labels"] = list(own.labels)
    return made


def to_bundle(objects: Iterable[Mapping[str, Any]], bundle_id: str) -> bytes:
    """A bundle of objects, as JSON."""
    return msgspec.json.encode({"type": "bundle", "id": f"bundle--{bundle_id}", "objects": list(objects)})


def _stamp(micros: int) -> str:
    """RFC 3339 with milliseconds, as STIX writes it."""
    return to_iso(micros)[:23] + "Z"


def _read(raw: bytes) -> _Item:
    if len(raw) > MAX_OBJECT:
        raise DataError("intel.object.too_large", f"larger than {MAX_OBJECT} bytes")
    try:
        item = _item(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError("intel.object.invalid", f"no STIX object: {error}") from error
    if not _ID.fullmatch(item.id) or not item.id.startswith(f"{item.type}--"):
        raise DataError("intel.object.id", f"no id of a `{item.type[:40]}`: `{item.id[:80]}`")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise DataError("intel.object.depth", f"nested deeper than {MAX_DEPTH}")
    for stamp in (item.modified, item.created, item.valid_from, item.valid_until, item.last_seen):
        _time(stamp)
    return item


def _depth(raw: bytes) -> int:
    """Most brackets open at a time; those inside texts count too, which only errs on the safe side."""
    deepest = depth = 0
    for byte in raw:
        depth += (byte in b"{[") - (byte in b"}]")
        deepest = max(deepest, depth)
    return deepest


def _time(text: str) -> int:
    if not text:
        return 0
    try:
        return parse_time(text, TimeFormat.ISO)
    except DataError as error:
        raise DataError("intel.object.time", f"no time: `{text[:40]}`") from error


def _object(item: _Item, body: str, told: Iterable[str], default: Default) -> Object:
    marks = [_MARKED[ref] for ref in item.object_marking_refs if ref in _MARKED]
    tlp = max(marks, key=list(Tlp).index, default=default.tlp)
    version = _time(item.modified) or _time(item.created)
    return Object(
        id=item.id,
        type=item.type,
        version=version,
        spec=item.spec_version or ("2.1" if not item.created and not item.modified else "2.0"),
        body=body,
        indicator=_indicator(item, tlp, version, told, default) if item.type == "indicator" else None,
        tlp=tlp,
        about=item.sighting_of_ref if item.type == "sighting" else "",
        last=_time(item.last_seen) or version,
    )


def _indicator(item: _Item, tlp: Tlp, version: int, told: Iterable[str], default: Default) -> Indicator:
    held = "revoked by its author" if item.revoked else ""
    formula: tuple[tuple[str, ...], ...] = ()
    try:
        formula = parse_pattern(item.pattern) if item.pattern_type == "stix" else ()
    except DataError as error:
        held = held or f"{error.message} [{error.code}]"
    if item.pattern_type != "stix":
        held = held or f"the pattern language `{item.pattern_type[:40]}` is not matched [intel.pattern.unsupported]"
    confidence = default.confidence if item.confidence is None else min(100, max(0, item.confidence))
    return Indicator(
        id=item.id,
        formula=formula,
        name=item.name[:200],
        valid_from=_time(item.valid_from) or version or default.now,
        valid_until=_time(item.valid_until),
        confidence=confidence,
        tlp=tlp,
        labels=tuple(dict.fromkeys((*item.labels, *item.indicator_types, *told))),
        held=held,
        version=version,
    )


def _told(items: Mapping[str, _Item]) -> dict[str, tuple[str, ...]]:
    """What relations of the bundle say an indicator indicates: `attack.t1566`, `malware:...`, `actor:...`."""
    found: dict[str, tuple[str, ...]] = {}
    for item in items.values():
        target = items.get(item.target_ref)
        if item.relationship_type != "indicates" or target is None:
            continue
        found[item.source_ref] = (*found.get(item.source_ref, ()), *_labels(target))
    return found


def _labels(target: _Item) -> Iterator[str]:
    if target.type == "attack-pattern":
        for one in target.external_references:
            if one.source_name == "mitre-attack" and one.external_id:
                yield f"attack.{one.external_id.lower()}"
    elif target.type in _NAMED and target.name:
        yield f"{_NAMED[target.type]}:{target.name[:100]}"
