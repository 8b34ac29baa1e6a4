"""Sources: what is known about one kind of record, read from a file of at most 30 lines.

A source file names the log source (in Sigma's words), how its records are recognised, where id, time and entities
stand, which OCSF class they are and which OCSF attribute each field fills, which columns the store promotes, and how
nested forms are flattened. `data` keeps the source's own field names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import orjson

from vedette.core.content import shipped
from vedette.core.documents import load_yaml
from vedette.core.errors import DataError, DefinitionError, Problems, Span, VedetteError
from vedette.core.event import Entity, Event
from vedette.sense.definition import ByField, Definition, Flatten
from vedette.sense.files import Chunk
from vedette.sense.forms import PARSERS, Form
from vedette.sense.forms import json as json_form
from vedette.sense.paths import Reader, compile_path
from vedette.sense.times import check_future, parse_time

MAX_FILE_LINES = 30
"""Longest source file: what needs more is a form, not a definition."""

SNIFF_RECORDS = 100
"""How many first records `sniff` looks at."""

MAX_ID = 256
"""Longest own id of a record, in characters; a longer one is replaced by the computed id."""

MAX_ENTITY_ID = 512
"""Longest entity id, in characters; a longer value names no entity."""

_AT = re.compile(r"at `(?:key in )?(\$[^`]*)`")
_ABSENT = (None, "", "-")


class Source:
    """One kind of record: decodes raw lines and makes events of them. Immutable, so any thread may use it.

    Args:
        definition: A valid definition.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name = definition.name
        self.logsource = definition.logsource
        self._parser = PARSERS[definition.form]
        self._whens = frozenset(step.when for step in definition.flatten)
        self._id = compile_path(definition.id) if definition.id else None
        self._times = tuple((compile_path(path), form) for path, form in definition.time.items())
        self._entities = tuple(
            (kind, compile_path(path)) for kind, paths in definition.entities.items() for path in paths
        )
        self._class = compile_choice(definition.class_uid) if isinstance(definition.class_uid, ByField) else None
        self.ocsf: dict[str, Reader] = {path: compile_map(rule) for path, rule in definition.ocsf.items()}
        """OCSF attribute -> reader of `data`."""

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    @property
    def class_uid(self) -> int:
        """The OCSF class all records have, or 0 when it depends on the record."""
        return self.definition.class_uid if isinstance(self.definition.class_uid, int) else 0

    @property
    def steps(self) -> tuple[Flatten, ...] | None:
        """How a decoded record is shaped, spaces in names apart; None when a line need not be JSON."""
        return self.definition.flatten if self.definition.form is Form.JSON else None

    def unwrap(self, chunk: Chunk) -> Chunk:
        """The chunk with delivered documents (`Definition.records`) opened: each record becomes a line of its own.

        Such a record has the line number of its document, and its offset plus the place in the list, which no other
        record can have. A document that cannot be opened stays one line, and is refused when it is parsed.
        """
        name = self.definition.records
        if not name or not any(_is_document(line, name) for line in chunk.lines):
            return chunk
        opened = [
            (line, number, offset + place)
            for whole, number, offset in zip(chunk.lines, chunk.numbers, chunk.offsets, strict=True)
            for place, line in enumerate(_open(whole, name))
        ]
        return Chunk(
            chunk.path,
            [line for line, _, _ in opened],
            [number for _, number, _ in opened],
            [offset for _, _, offset in opened],
            chunk.bad,
        )

    def parse(self, raw: bytes) -> dict[str, Any]:
        """Decodes and flattens one record.

        Raises:
            DataError: `sources.json.*`, `sources.access.syntax`, `sources.auditd.syntax`.
        """
        data = self._parser(raw)
        return self._shape(data) if self.definition.flatten or self.definition.squeeze else data

    def parse_many(self, lines: Sequence[bytes]) -> list[dict[str, Any] | DataError]:
        """Decodes and flattens records; a bad one gives its error in its place, and never stops the others.

        This is the hot path: 2 to 10 microseconds a record, most of it JSON decoding.
        """
        if self.definition.form is not Form.JSON:
            return [self._attempt(line) for line in lines]
        try:
            decoded = [orjson.loads(line) for line in lines]
        except orjson.JSONDecodeError:
            return [self._attempt(line) for line in lines]
        return self._checked(decoded, lines)

    def parse_chunk(self, chunk: Chunk) -> list[dict[str, Any] | DataError]:
        """`parse_many` of a chunk's lines; faster, since lines that follow upon each other need not be cut."""
        if chunk.text is None or self.definition.form is not Form.JSON:
            return self.parse_many(chunk.lines)
        try:
            decoded = list(map(orjson.loads, chunk.ended))
        except orjson.JSONDecodeError:
            return self.parse_many(chunk.lines)
        if set(map(type, decoded)) != {dict}:
            return self.parse_many(chunk.lines)
        chunk.none_blank(len(decoded))
        if not json_form.is_flat(chunk.text):
            return self._checked(decoded, chunk.ended)
        self._shape_all(decoded)
        return decoded

    def _checked(self, decoded: list[Any], lines: Sequence[bytes]) -> list[dict[str, Any] | DataError]:
        deep = json_form.MAX_DEPTH
        odd = [
            place
            for place, line in enumerate(lines)
            if type(decoded[place]) is not dict or line.count(b"{") + line.count(b"[") > deep
        ]
        for place in odd:
            decoded[place] = {}
        self._shape_all(decoded)
        for place in odd:
            decoded[place] = self._attempt(lines[place])
        return decoded

    def _shape_all(self, decoded: list[dict[str, Any]]) -> None:
        """`_shape` for each, in place; looks at all names at once, since most chunks have none to change."""
        if self._whens and not all(map(self._whens.isdisjoint, decoded)):
            for place, data in enumerate(decoded):
                if not self._whens.isdisjoint(data):
                    decoded[place] = self._shape(data)
        if self.definition.squeeze and " " in "".join(chain.from_iterable(decoded)):
            decoded[:] = [_squeeze(data) if " " in "".join(data) else data for data in decoded]

    def to_event(self, data: dict[str, Any], *, tenant: str, stream: str, offset: int, ingest_time: int) -> Event:
        """Wraps a decoded record.

        Args:
            data: From `parse` or `parse_many`.
            tenant: Whose it is.
            stream: Identity of the stream it was read from.
            offset: Byte offset of the record in that stream.
            ingest_time: When we read it, microseconds UTC.

        Returns:
            The event. Its id is the record's own where the source file names one and the record has it (text or whole
            number), else SHA-256 of tenant, source, stream and offset in hexadecimal: equal content at two places is
            two events, the same place read twice is one.

        Raises:
            DataError: `event.time.unparsable` when no time field is present or it cannot be read; `event.time.future`.
        """
        event_time = self._time(data)
        check_future(event_time, ingest_time)
        return Event(
            id=self._own_id(data) or computed_id(tenant, self.name, stream, offset),
            tenant=tenant,
            source=self.name,
            event_time=event_time,
            ingest_time=ingest_time,
            class_uid=self._class_of(data),
            entities=self.entities(data),
            raw_ref=f"{stream}@{offset}",
            data=data,
        )

    def recognises(self, data: Mapping[str, Any]) -> int:
        """How many field names of the definition's `detect` sets the record has; 0 when no set is complete."""
        return max(
            (len(names) for names in self.definition.detect if all(_has(data, name) for name in names)), default=0
        )

    def _attempt(self, line: bytes) -> dict[str, Any] | DataError:
        try:
            return self.parse(line)
        except DataError as error:
            return error

    def _shape(self, data: dict[str, Any]) -> dict[str, Any]:
        for step in self.definition.flatten:
            if step.when in data:
                data = _flatten(data, step)
        return _squeeze(data) if self.definition.squeeze and " " in "".join(data) else data

    def _time(self, data: dict[str, Any]) -> int:
        for read, form in self._times:
            value = read(data)
            if value not in _ABSENT:
                return parse_time(value, form)
        names = ", ".join(f"`{name}`" for name in self.definition.time)
        raise DataError("event.time.unparsable", f"no event time: none of {names} is present")

    def _own_id(self, data: dict[str, Any]) -> str:
        value = self._id(data) if self._id else None
        if isinstance(value, bool) or not isinstance(value, int | str):
            return ""
        text = str(value)
        return text if len(text) <= MAX_ID else ""

    def _class_of(self, data: dict[str, Any]) -> int:
        uid = self._class(data) if self._class else self.definition.class_uid
        return uid if isinstance(uid, int) else 0

    def entities(self, data: dict[str, Any]) -> tuple[Entity, ...]:
        """What a decoded record is about, in the order of the source file; absent ones are left out."""
        found: dict[tuple[str, str], None] = {}
        for kind, read in self._entities:
            value = read(data)
            if isinstance(value, str | int) and not isinstance(value, bool) and value not in _ABSENT:
                text = str(value)
                if len(text) <= MAX_ENTITY_ID:
                    found[kind, text] = None
        return tuple(Entity(kind, text) for kind, text in found)


def computed_id(tenant: str, source: str, stream: str, offset: int) -> str:
    """The id of a record that names none: from its place, never from its content."""
    return hashlib.sha256("\0".join((tenant, source, stream, str(offset))).encode()).hexdigest()


def compile_choice(choice: ByField) -> Reader:
    """A reader that gives the constant chosen by a field's value."""
    read, table = compile_path(choice.by), {str(key): value for key, value in choice.of.items()}
    return lambda data: table.get(str(read(data)), choice.otherwise)


def compile_map(rule: str | int | tuple[str, ...] | ByField) -> Reader:
    """A reader for one line of an OCSF map."""
    match rule:
        case ByField():
            return compile_choice(rule)
        case int():
            return lambda _data: rule
        case str():
            return compile_path(rule)
    readers = tuple(compile_path(path) for path in rule)

    def first(data: dict[str, Any]) -> Any:
        return next((value for read in readers if (value := read(data)) not in _ABSENT), None)

    return first


def load_sources(extra: Path | None = None) -> Mapping[str, Source]:
    """The shipped sources by name, and those of a folder of one's own.

    Args:
        extra: A folder of further `*.yaml` source files; one of the same name replaces the shipped one.

    Raises:
        Problems: Everything that is wrong with the files: `sources.file.*`, with the path.
    """
    files = [*sorted(shipped("sources").glob("*.yaml")), *(sorted(extra.glob("*.yaml")) if extra else ())]
    sources: dict[str, Source] = {}
    problems: list[VedetteError] = []
    for file in files:
        try:
            source = load_source(file.read_bytes(), path=str(file))
        except VedetteError as error:
            problems.append(error)
        else:
            sources[source.name] = source
    if problems:
        raise Problems(problems)
    return sources


def load_source(text: bytes, *, path: str) -> Source:
    """One source file.

    Raises:
        DefinitionError: `sources.file.too_long`, `sources.file.invalid`, `sources.file.column`, `documents.yaml.*`.
    """
    place = Span(path)
    if len(text.splitlines()) > MAX_FILE_LINES:
        raise DefinitionError("sources.file.too_long", f"longer than {MAX_FILE_LINES} lines", span=place)
    document = load_yaml(text, path=path)
    try:
        definition = msgspec.convert(document.data, Definition)
    except msgspec.ValidationError as error:
        found = _AT.search(str(error))
        message = str(error)[:1].lower() + str(error)[1:]
        raise DefinitionError(
            "sources.file.invalid", message, span=document.span(found[1]) if found else place
        ) from error
    if not definition.name.isidentifier() or not definition.name.islower():
        raise DefinitionError("sources.file.invalid", f"`{definition.name}` is no lower-case name", span=place)
    if not definition.detect or not definition.time:
        raise DefinitionError("sources.file.invalid", "`detect` and `time` need at least one entry", span=place)
    return Source(definition)


def sniff(first_records: Sequence[bytes], sources: Mapping[str, Source]) -> Source:
    """Guesses the source of some records.

    Args:
        first_records: Raw lines; the first `SNIFF_RECORDS` count.
        sources: The candidates.

    Returns:
        The source that recognises most records; of equals, the one that recognises them by more fields, then the first.

    Raises:
        DataError: `sources.sniff.unknown` when none recognises any.
    """
    scores = {name: _score(source, first_records[:SNIFF_RECORDS]) for name, source in sources.items()}
    best = max(scores, key=lambda name: scores[name], default="")
    if not best or scores[best] == (0, 0):
        raise DataError(
            "sources.sniff.unknown",
            "no source recognises these records",
            hint=f"name one with --source: {', '.join(sources)}",
        )
    return sources[best]


def recognise(first_records: Sequence[bytes], sources: Mapping[str, Source]) -> Source | None:
    """As `sniff`; None where no source recognises any of them."""
    try:
        return sniff(first_records, sources)
    except DataError:
        return None


def _score(source: Source, records: Sequence[bytes]) -> tuple[int, int]:
    chunk = Chunk(Path(), list(records), range(len(records)), [0] * len(records))
    known = [
        fields
        for data in source.parse_many(source.unwrap(chunk).lines[:SNIFF_RECORDS])
        if not isinstance(data, DataError) and (fields := source.recognises(data))
    ]
    return len(known), sum(known)


def _has(data: Mapping[str, Any], name: str) -> bool:
    return name in data or ("." in name and compile_path(name)(dict(data)) is not None)


def _is_document(line: bytes, name: str) -> bool:
    return line[: len(name) + 16].replace(b" ", b"").startswith(b'{"' + name.encode() + b'":[')


def _open(line: bytes, name: str) -> list[bytes]:
    """The records of one document, or the line itself when it is none."""
    if not _is_document(line, name):
        return [line]
    try:
        return [orjson.dumps(record) for record in orjson.loads(line)[name]]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        # Not JSON, or too deep to write again: parsing it as one record says which.
        return [line]


def _flatten(data: dict[str, Any], step: Flatten) -> dict[str, Any]:
    flat = dict(data)
    for name in step.decode:
        if isinstance(flat.get(name), str):
            flat[name] = _decoded(flat[name])
    for name in step.lift:
        inner = flat.get(name)
        if isinstance(inner, dict):
            del flat[name]
            for key, value in inner.items():
                flat.setdefault(key, value)
    for old, new in step.rename.items():
        if old in flat:
            flat[new] = flat.pop(old)
    return flat


def _decoded(text: str) -> Any:
    try:
        return json_form.parse(text.encode("utf-8", "surrogatepass"))
    except DataError:
        return text


def _squeeze(data: dict[str, Any]) -> dict[str, Any]:
    """Names without spaces; of two names that become one, the one that was written without spaces wins."""
    squeezed = {name.replace(" ", ""): value for name, value in data.items() if " " in name}
    return {**squeezed, **{name: value for name, value in data.items() if " " not in name}}
