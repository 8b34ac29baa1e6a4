"""Compiled rule sets on disk, by the hash of everything that decides them.

A cache file is a checksum and plain data; nothing in it can run. A file that is damaged, foreign or unwritable costs
time, never an answer: the set is built again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import msgspec

from vedette.core.signal import Level
from vedette.expr.codec import decode, encode
from vedette.expr.matcher import Matcher
from vedette.expr.nodes import Node
from vedette.judge.correlation.definition import Correlation
from vedette.judge.sigma.card import Card
from vedette.judge.sigma.documents import Skipped
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.filters import Filter
from vedette.judge.sigma.load import Plans, RuleSet, build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.rules import Rule

KEPT = 16
"""Most cache files kept; the ones used longest ago go first."""

_SUFFIX = ".rules"
_PACKAGES = ("pysigma", "pysigma-pipeline-sysmon", "pysigma-pipeline-windows", "google-re2")
_ROOM = Path(__file__).parents[2]
_CODE = (
    "expr/nodes.py",
    "expr/codec.py",
    "expr/patterns.py",
    "expr/values.py",
    "expr/matcher",
    "judge/grouping.py",
    "judge/sigma",
    "judge/correlation",
)
"""What decides how rules are lowered; a change in any of it makes every cache file foreign."""


class _Stored(msgspec.Struct, array_like=True):
    """A rule with its expressions as plain lists; equal expressions are stored once."""

    id: str
    title: str
    level: Level
    status: str
    tags: tuple[str, ...]
    path: str
    version: str
    places: dict[str, int]
    name: str
    renames: dict[str, dict[str, str]]
    card: Card


class _Set(msgspec.Struct, array_like=True):
    nodes: list[msgspec.Raw]
    rules: list[_Stored]
    skipped: list[Skipped]
    correlations: list[Correlation]
    filters: list[Filter]
    plans: dict[str, bytes]
    """Source -> its matcher made ready."""


def load_cached(
    files: Iterable[RuleFile], places: LogSources, folder: Path | None, today: date | None = None
) -> RuleSet:
    """`load.build`, or what it gave for the same files, log sources and program before.

    Args:
        files: Rule files with their content.
        places: Where log sources are found.
        folder: Where compiled sets are kept; None to build every time.
        today: The day (UTC) by which filters expire; None: none does.
    """
    held = list(files)
    if folder is None:
        return build(held, places, today)
    path = folder / (_key(held, places) + _SUFFIX)
    found = _read(path)
    if found is None or any(one.applies != one.applies_on(today) for one in found.filters):
        found = build(held, places, today)
        sources = {source for rule in found.rules for source in rule.nodes}
        plans = {source: Matcher([node for _, node in found.of(source)]).plan for source in sorted(sources)}
        found = replace(found, plans=Plans(found.rules, plans))
        _write(path, found)
    return found


def _key(files: list[RuleFile], places: LogSources) -> str:
    digest = hashlib.sha256(msgspec.json.encode([f"{name} {version(name)}" for name in _PACKAGES]))
    for path in (_ROOM / part for part in _CODE):
        for code in sorted(path.iterdir()) if path.is_dir() else [path]:
            digest.update(code.read_bytes() if code.is_file() else b"")
    digest.update(places.digest_parts)
    for file in files:
        content = hashlib.sha256(file.content).hexdigest()
        digest.update(msgspec.json.encode([file.path, content, file.problem]))
    return digest.hexdigest()


def _read(path: Path) -> RuleSet | None:
    try:
        raw = path.read_bytes()
        if hashlib.sha256(raw[32:]).digest() != raw[:32]:
            return None
        stored = msgspec.msgpack.decode(raw[32:], type=_Set)
        nodes = _Decoded(stored.nodes)
        rules = tuple(_restored(one, nodes) for one in stored.rules)
        os.utime(path)
    except (OSError, msgspec.DecodeError):
        return None
    plans = Plans(rules, stored.plans)
    return RuleSet(rules, tuple(stored.skipped), tuple(stored.correlations), tuple(stored.filters), plans=plans)


class _Decoded:
    """Expressions that are decoded when they are first asked for: most runs need those of a few rules."""

    def __init__(self, raw: list[msgspec.Raw]) -> None:
        self._raw = raw
        self._nodes: dict[int, Node] = {}

    def node(self, place: int) -> Node:
        if place not in self._nodes:
            self._nodes[place] = decode(msgspec.msgpack.decode(self._raw[place]))
        return self._nodes[place]


class _Nodes(Mapping[str, Node]):
    """Source -> expression of one rule."""

    __slots__ = ("_decoded", "_places")

    def __init__(self, places: dict[str, int], decoded: _Decoded) -> None:
        self._places = places
        self._decoded = decoded

    def __getitem__(self, source: str) -> Node:
        return self._decoded.node(self._places[source])

    def __contains__(self, source: object) -> bool:
        return source in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"_Nodes({list(self._places)})"


def _restored(one: _Stored, nodes: _Decoded) -> Rule:
    facts = (one.id, one.title, one.level, one.status, one.tags, one.path, one.version)
    return Rule(*facts, _Nodes(one.places, nodes), one.name, one.renames, one.card)


def _write(path: Path, rules: RuleSet) -> None:
    numbers: dict[int, int] = {}
    nodes: list[msgspec.Raw] = []
    stored = []
    for rule in rules.rules:
        for node in rule.nodes.values():
            if id(node) not in numbers:
                numbers[id(node)] = len(nodes)
                nodes.append(msgspec.Raw(msgspec.msgpack.encode(encode(node))))
        held = {source: numbers[id(node)] for source, node in rule.nodes.items()}
        facts = (rule.id, rule.title, rule.level, rule.status, rule.tags, rule.path, rule.version)
        renames = {source: dict(names) for source, names in rule.renames.items()}
        stored.append(_Stored(*facts, held, rule.name, renames, rule.card))
    plans = dict(rules.plans.by_source) if rules.plans else {}
    whole = _Set(nodes, stored, list(rules.skipped), list(rules.correlations), list(rules.filters), plans)
    payload = msgspec.msgpack.encode(whole)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".new", delete=False) as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        Path(file.name).replace(path)
        _prune(path.parent)
    except OSError:
        return  # A cache that cannot be written is a slower start, not an error.


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("*" + _SUFFIX), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[KEPT:]:
        file.unlink(missing_ok=True)
