"""Indicators that come in other forms than STIX: CSV, MISP events, and lists of a value a line.

What is no indicator is refused with its line, and the others are taken. An indicator's id is made from the collection
and its value, so a feed that is read again changes what it has and doubles nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.errors import DataError
from vedette.sense.intel.indicator import Indicator, Tlp, indicator_id
from vedette.sense.intel.patterns import Formula
from vedette.sense.intel.stix import Default, Object, Refused, parse_bundle
from vedette.sense.intel.values import Kind, canonical, guess
from vedette.sense.times import TimeFormat, parse_time

MAX_LINE = 65_536
"""Longest line of a list or CSV file, characters."""


class Form(StrEnum):
    """In which form indicators come."""

    STIX = "stix"
    CSV = "csv"
    """With a head; columns `value` (or `indicator`), `type`, `name`, `valid_from`, `valid_until`, `confidence`, `tlp`,
    `labels`; and MISP's own export."""
    MISP = "misp"
    """A MISP event, or several, as JSON."""
    LIST = "list"
    """A value a line; or kind, value and name between tabs."""


_COLUMNS = {
    "value": ("value", "indicator", "ioc"),
    "type": ("type", "kind"),
    "name": ("name", "comment", "family", "description"),
    "valid_from": ("valid_from", "first_seen"),
    "valid_until": ("valid_until", "expires"),
    "confidence": ("confidence",),
    "tlp": ("tlp",),
    "labels": ("labels", "tags"),
    "to_ids": ("to_ids",),
}
_MISP = {
    **dict.fromkeys(("ip-src", "ip-dst", "ip-src|port", "ip-dst|port", "ip", "ipport"), ""),
    **dict.fromkeys(("domain", "hostname", "hostname|port", "domain|ip"), ""),
    **dict.fromkeys(("url", "uri", "link"), Kind.URL),
    **dict.fromkeys(("email", "email-src", "email-dst", "target-email"), Kind.EMAIL),
    **dict.fromkeys((f"{name}{own}" for own in ("md5", "sha1", "sha256", "sha512") for name in ("", "filename|")), ""),
}
"""MISP's type -> the kind it can only be; empty: told by the value."""


def parse_feed(content: bytes, form: Form, default: Default) -> tuple[list[Object], list[Refused]]:
    """The objects of a file, and what of it could not be taken.

    Raises:
        DataError: `intel.stix.*`, `intel.csv.head`, `intel.misp.invalid`, `intel.feed.encoding`: nothing can be read.
    """
    if form is Form.STIX:
        return parse_bundle(content, default)
    if form is Form.MISP:
        return _taken(_misp(content), default)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("intel.feed.encoding", "not UTF-8", at=f"byte {error.start}") from error
    return _taken(_csv(text) if form is Form.CSV else _list(text), default)


def sniff_form(content: bytes) -> Form:
    """The form of a file, by its beginning."""
    start = content[:4_096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] in (b"{", b"["):
        return Form.MISP if b'"Event"' in start or b'"Attribute"' in start else Form.STIX
    head = start.split(b"\n", 1)[0].decode("utf-8", "replace").lower()
    cells = {cell.strip('" \r') for cell in head.replace(";", ",").split(",")}
    return Form.CSV if len(cells) > 1 and cells & set(_COLUMNS["value"]) else Form.LIST


Row = tuple[str, Mapping[str, str]]
"""A place, and what stands there by the names of `_COLUMNS`."""


def _taken(rows: Iterator[Row], default: Default) -> tuple[list[Object], list[Refused]]:
    found, refused = dict[str, Object](), list[Refused]()
    for at, row in rows:
        try:
            one = _object(row, default)
        except DataError as error:
            refused.append(Refused(at, error.code, error.message))
        else:
            found[one.id] = one
    return list(found.values()), refused


def _object(row: Mapping[str, str], default: Default) -> Object:
    formula = _formula(row["value"], row.get("type", "").strip().lower())
    own = indicator_id(default.collection, "\n".join(values[0] for values in formula))
    labels = row.get("labels", "").replace(";", ",").split(",")
    tlp = _tlp(row, labels, default)
    told = row.get("confidence", "")
    if told and not (told.isdecimal() and int(told) <= 100):  # noqa: PLR2004 - per cent
        raise DataError("intel.feed.confidence", f"no confidence from 0 to 100: `{told[:20]}`")
    indicator = Indicator(
        id=own,
        formula=formula,
        name=row.get("name", "")[:200],
        valid_from=_time(row.get("valid_from", "")) or default.now,
        valid_until=_time(row.get("valid_until", "")),
        confidence=int(told) if told else default.confidence,
        tlp=tlp,
        labels=tuple(dict.fromkeys(each.strip() for each in labels if each.strip() and "tlp:" not in each.lower())),
        held="not meant for detection (to_ids)" if row.get("to_ids", "1").lower() in {"0", "false"} else "",
        version=default.now,
    )
    return Object(id=own, type="indicator", version=default.now, indicator=indicator, tlp=tlp)


def _formula(text: str, kind: str) -> Formula:
    if kind and kind not in _MISP and kind not in set(Kind) | {"ipv4", "ipv6", "email", "hash", "sha-256", "sha-1"}:
        raise DataError("intel.feed.type", f"indicators of type `{kind[:40]}` are not matched")
    if kind == "domain|ip":
        return tuple((_value(part, ""),) for part in text.split("|"))
    if "|" in kind:
        text = text.rpartition("|")[2] if kind.startswith("filename|") else text.partition("|")[0]
    if kind == "ipport":
        text = text.rpartition(":")[0]
    only = _MISP.get(kind, "") or (kind if kind in set(Kind) else "")
    return ((_value(text, only),),)


def _value(text: str, only: str) -> str:
    if only:
        return canonical(Kind(only), text)
    found = guess(text)
    if found is None:
        raise DataError("intel.value.invalid", f"no value that can be looked for: `{text[:80]}`")
    return found.value


def _tlp(row: Mapping[str, str], labels: list[str], default: Default) -> Tlp:
    """The strictest marking of a row."""
    told = [row.get("tlp", ""), *(each for each in labels if each.strip().lower().startswith("tlp:"))]
    names = [each.strip().lower().removeprefix("tlp:").replace("white", "clear") for each in told if each.strip()]
    if unknown := next((name for name in names if name not in set(Tlp)), ""):
        raise DataError("intel.feed.tlp", f"no marking of TLP: `{unknown[:20]}`")
    return max(map(Tlp, names), key=list(Tlp).index, default=default.tlp)


def _time(text: str) -> int:
    plain = text.strip()
    if not plain:
        return 0
    try:
        form = TimeFormat.EPOCH_S if plain.isdecimal() else TimeFormat.ISO
        return parse_time(int(plain) if plain.isdecimal() else plain, form)
    except DataError as error:
        raise DataError("intel.feed.time", f"no time: `{plain[:40]}`") from error


def _csv(text: str) -> Iterator[Row]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    lines = (line for line in io.StringIO(text, newline="") if not line.startswith("#"))
    reader = csv.reader(lines, delimiter=delimiter)
    head = [cell.strip().lower() for cell in next(reader, [])]
    places = {name: head.index(known) for name, all_ in _COLUMNS.items() for known in all_ if known in head}
    if "value" not in places:
        raise DataError("intel.csv.head", "the first line names no column `value`", hint="value,type,name,valid_until")
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError("intel.csv.invalid", str(error), at=f"line {reader.line_num}") from error
        if any(cells):
            yield (
                f"line {reader.line_num}",
                {name: cells[at] if at < len(cells) else "" for name, at in places.items()},
            )


def _list(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.partition("#")[0].strip() if not line.startswith("/") else line.strip()
        if not plain or (number == 1 and plain.startswith("kind\t")):
            continue
        cells = plain[:MAX_LINE].split("\t")
        kind, value, name = (*cells, "", "")[:3] if len(cells) > 1 else ("", plain, "")
        yield f"line {number}", {"type": kind, "value": value, "name": name, "labels": name and f"malware:{name}"}


class _Tag(msgspec.Struct, frozen=True):
    name: str = ""


class _Attribute(msgspec.Struct, frozen=True):
    type: str
    value: str
    to_ids: bool = True
    comment: str = ""
    first_seen: str | None = None
    last_seen: str | None = None
    timestamp: str | int = ""
    Tag: tuple[_Tag, ...] = ()


class _Grouped(msgspec.Struct, frozen=True):
    Attribute: tuple[_Attribute, ...] = ()


class _Event(msgspec.Struct, frozen=True):
    info: str = ""
    Attribute: tuple[_Attribute, ...] = ()
    Object: tuple[_Grouped, ...] = ()
    Tag: tuple[_Tag, ...] = ()


class _Wrapped(msgspec.Struct, frozen=True):
    Event: _Event


class _Answer(msgspec.Struct, frozen=True):
    response: tuple[_Wrapped, ...]


_SHAPES: tuple[tuple[Any, Callable[[Any], tuple[_Event, ...]]], ...] = (
    (_Wrapped, lambda one: (one.Event,)),
    (_Answer, lambda one: tuple(each.Event for each in one.response)),
    (tuple[_Wrapped, ...], lambda one: tuple(each.Event for each in one)),
)


def _misp(content: bytes) -> Iterator[Row]:
    for kind, events in _SHAPES:
        try:
            found = events(msgspec.json.decode(content, type=kind))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
        return (row for number, event in enumerate(found) for row in _attributes(number, event))
    raise DataError("intel.misp.invalid", "no MISP event")


def _attributes(number: int, event: _Event) -> Iterator[Row]:
    both = [*event.Attribute, *(one for group in event.Object for one in group.Attribute)]
    for place, one in enumerate(both):
        tags = ",".join(tag.name.replace(",", " ") for tag in (*one.Tag, *event.Tag))
        yield (
            f"event {number}, attribute {place}",
            {
                "type": one.type,
                "value": one.value,
                "name": one.comment or event.info,
                "valid_from": one.first_seen or str(one.timestamp),
                "labels": tags,
                "to_ids": str(one.to_ids),
            },
        )
