r"""Safe YAML and JSON: bounded size, depth and aliases, no duplicate keys, every error with its code, line and column.

Nothing here can make an object other than the plain values of the format. YAML keeps PyYAML's reading of scalars (YAML
1.1: `yes` is true, `2024-01-31` is a date), because Sigma rules are written for it.

Example:
    >>> document = load_yaml("title: Test\ndetection:\n  sel: [a, b]\n", path="rule.yml")
    >>> document.data["detection"]
    {'sel': ['a', 'b']}
    >>> str(document.span("$.detection.sel[1]"))
    'rule.yml:3:12'
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec
import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from vedette.core.errors import DataError, DefinitionError, Span

MAX_YAML_BYTES = 1024 * 1024
MAX_YAML_DEPTH = 64
MAX_YAML_NODES = 200_000
"""Counted with every alias written out, so that ten lines of aliases to aliases are seen for what they are."""
MAX_JSON_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 64

_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + name for name in ("null", "bool", "int", "float", "timestamp", "value")}
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\['(?P<quoted>(?:[^'\\]|\\.)*)'\]")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>\s*:)?|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# libyaml's parser where PyYAML was built with it: an order of magnitude faster, same values.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document: its values, and where each was written."""

    data: Any
    """Plain values: dict, list, str, int, float, bool, None, date, datetime."""
    path: str
    text: str = field(repr=False)
    index: int = 0
    """Place among the documents of its file."""

    def span(self, json_path: str = "$", *, key: bool = False) -> Span:
        """Where a value was written, or the nearest thing around it that was. The first call costs a second parse.

        Args:
            json_path: Such as `$.detection.sel[0]`; names with dots or brackets as `['a.b']`.
            key: The place of the value's own key instead, when it has one.
        """
        node = place = _composed(self.text, self.path)[self.index]
        for step in _STEP.finditer(json_path):
            found = _child(node, step)
            if found is None:
                return _span(place, self.path)
            place, node = found if key else (found[1], found[1])
        return _span(place, self.path)


def _child(node: Node | None, step: re.Match[str]) -> tuple[Node, Node] | None:
    """Key node and value node of one step; the value twice in a list."""
    if isinstance(node, SequenceNode) and step["index"]:
        items = node.value
        return (items[int(step["index"])],) * 2 if int(step["index"]) < len(items) else None
    if isinstance(node, MappingNode):
        quoted = step["quoted"]
        name = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else step["name"] or step["index"]
        return next(((k, v) for k, v in node.value if k.value == name), None)
    return None


def _span(node: Node | None, path: str) -> Span:
    if node is None:
        return Span(path)
    start, end = node.start_mark, node.end_mark
    return Span(path, start.line + 1, start.column + 1, end.line + 1, end.column + 1)


@functools.lru_cache(maxsize=2)
def _composed(text: str, path: str) -> tuple[Node | None, ...]:
    """The node trees of a text, kept for the next question: a loader asks for a place of each of its items."""
    return tuple(_compose(text, path))


def _compose(text: str, path: str) -> Iterator[Node | None]:
    """The node trees of a text, one a document; None for an empty text."""
    loader = _Loader(text)
    try:
        if not loader.check_node():
            yield None
        while loader.check_node():
            yield loader.get_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        span = Span(path, mark.line + 1, mark.column + 1) if mark else Span(path)
        problem = error.problem or error.context or "not YAML"
        raise DefinitionError("documents.yaml.invalid", problem, span=span) from error
    except yaml.reader.ReaderError as error:
        raise DefinitionError("documents.yaml.character", f"{error.reason} is not allowed", span=Span(path)) from error
    except RecursionError as error:
        raise DefinitionError(
            "documents.yaml.depth", f"nested deeper than {MAX_YAML_DEPTH}", span=Span(path)
        ) from error
    finally:
        loader.dispose()


class _Builder:
    """Turns one node tree into plain values, counting as it goes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def _refuse(self, code: str, message: str, node: Node, hint: str = "") -> NoReturn:
        raise DefinitionError(f"documents.yaml.{code}", message, span=_span(node, self._path), hint=hint)

    def build(self, node: Node, depth: int = 0) -> Any:
        """The value of a node. An alias is written out each time, and counted each time."""
        self._nodes += 1
        if self._nodes > MAX_YAML_NODES:
            self._refuse("aliases", f"more than {MAX_YAML_NODES} values once aliases are written out", node)
        if depth > MAX_YAML_DEPTH:
            self._refuse("depth", f"nested deeper than {MAX_YAML_DEPTH}", node)
        tag = node.tag
        if isinstance(node, ScalarNode):
            return node.value if tag == _TAG + "str" else self._scalar(node)
        if isinstance(node, SequenceNode) and tag == _TAG + "seq":
            return [self.build(item, depth + 1) for item in node.value]
        if isinstance(node, MappingNode) and tag == _TAG + "map":
            return self._mapping(node, depth)
        return self._refuse("tag", f"the tag `{tag}` is not allowed", node, "write plain text, numbers, lists and maps")

    def _scalar(self, node: ScalarNode) -> Any:
        if node.tag not in _PLAIN:
            self._refuse("tag", f"the tag `{node.tag}` is not allowed", node, "quote the value to keep it as text")
        try:
            value = self._scalars.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError) as error:
            raise DefinitionError(
                "documents.yaml.value",
                f"`{node.value[:40]}` is not a {node.tag.removeprefix(_TAG)}",
                span=_span(node, self._path),
                hint="quote the value to keep it as text",
            ) from error
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse("number", f"`{node.value}` is not a finite number", node)
        return value

    def _mapping(self, node: MappingNode, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged = {**self._merge(value_node, depth), **merged}
                continue
            if not isinstance(key_node, ScalarNode):
                self._refuse("key", "a key must be a single value", key_node)
            key = self.build(key_node, depth + 1)
            if key in found:
                self._refuse("duplicate_key", f"the key `{key_node.value[:80]}` is written twice", key_node)
            found[key] = self.build(value_node, depth + 1)
        return {**merged, **found} if merged else found

    def _merge(self, node: Node, depth: int) -> dict[Any, Any]:
        """What `<<:` brings in; of several maps the first wins."""
        parts = self.build(node, depth + 1)
        maps = parts if isinstance(parts, list) else [parts]
        if not all(isinstance(part, dict) for part in maps):
            self._refuse("merge", "`<<` takes a map or a list of maps", node)
        return {key: value for part in reversed(maps) for key, value in part.items()}


def _text(raw: str | bytes, path: str) -> str:
    if len(raw) > MAX_YAML_BYTES:
        raise DefinitionError("documents.yaml.too_large", f"larger than {MAX_YAML_BYTES} bytes", span=Span(path))
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, col = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise DefinitionError("documents.yaml.encoding", "not UTF-8", span=Span(path, line, col)) from error


def load_yaml_all(text: str | bytes, *, path: str = "") -> list[Document]:
    """Every document of a text (`---` stands between them).

    Args:
        text: UTF-8, at most `MAX_YAML_BYTES`.
        path: For error messages and spans.

    Raises:
        DefinitionError: `documents.yaml.` + `too_large`, `encoding`, `character`, `invalid`, `depth`, `aliases`, `tag`,
            `key`, `duplicate_key`, `merge`, `value` (such as a thirteenth month), `number` (not finite).
    """
    decoded = _text(text, path)
    nodes = _compose(decoded, path)
    return [
        Document(None if node is None else _Builder(path).build(node), path, decoded, index)
        for index, node in enumerate(nodes)
    ]


def load_yaml(text: str | bytes, *, path: str = "") -> Document:
    """The one document of a text; its data is None when the text is empty.

    Raises:
        DefinitionError: As `load_yaml_all`, and `documents.yaml.several` when there is more than one document.
    """
    documents = load_yaml_all(text, path=path)
    if len(documents) > 1:
        raise DefinitionError("documents.yaml.several", f"{len(documents)} documents, expected one", span=Span(path))
    return documents[0]


def load_json(raw: bytes, *, max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Plain values of one JSON text (RFC 8259). Whole numbers of any size stay whole.

    Raises:
        DataError: `documents.json.` + `too_large`, `encoding`, `invalid`, `depth`, `duplicate_key`, `number` (NaN,
            Infinity, or beyond a float), `surrogate` (half a character, which no UTF-8 can hold).
    """
    if len(raw) > max_bytes:
        raise DataError("documents.json.too_large", f"{len(raw)} bytes, at most {max_bytes}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise DataError("documents.json.encoding", "not UTF-8", at=f"byte {error.start}") from error
    if raw.count(b"[") + raw.count(b"{") > max_depth:
        _check_depth(text, max_depth)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_float)
    except json.JSONDecodeError as error:
        raise DataError(
            "documents.json.invalid", error.msg.lower(), span=Span("", error.lineno, error.colno)
        ) from error
    except _DuplicateKeyError as error:
        key, span = _find_duplicate(text)
        raise DataError("documents.json.duplicate_key", f"the key `{key[:80]}` is written twice", span=span) from error
    except ValueError as error:
        raise DataError(
            "documents.json.number", "a number is not finite or too long", span=_find_number(text)
        ) from error
    if first := _SURROGATE.search(raw):
        try:
            msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            # The decoder does not tell which one; it is this escape or a later one.
            raise DataError(
                "documents.json.surrogate",
                "half a surrogate pair is not a character",
                at=f"from byte {first.start()}",
            ) from error
    return value


class _DuplicateKeyError(KeyError):
    """Leaves the decoder; `load_json` then looks for the place."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value


def _at(text: str, place: int) -> Span:
    return Span("", text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place))


def _check_depth(text: str, limit: int) -> None:
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        first = token[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > limit:
            raise DataError("documents.json.depth", f"nested deeper than {limit}", span=_at(text, token.start()))


def _find_duplicate(text: str) -> tuple[str, Span]:
    """The first key that its object already has. Only for a text in which there is one."""
    keys: list[set[str]] = []
    for token in _JSON_TOKEN.finditer(text):
        first = token[0][0]
        if first in "[{":
            keys.append(set())
        elif first in "]}":
            keys.pop()
        elif token["key"]:
            key = json.loads(token[0][: -len(token["key"])])
            if key in keys[-1]:
                return key, _at(text, token.start())
            keys[-1].add(key)
    return "", Span()


def _find_number(text: str) -> Span:
    """The first value outside a string that is no finite number of a length Python reads."""
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity|[0-9][0-9.eE+-]*)', text):
        if token[0][0] == '"':
            continue
        if len(token[0]) > 4_000 or not math.isfinite(float(token[0])):  # noqa: PLR2004 - below Python's own limit of 4,300 digits
            return _at(text, token.start())
    return Span()
