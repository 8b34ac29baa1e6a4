"""The documents of a rule file: parted, with what is global merged in, each a rule, a correlation or a filter.

Source: Sigma specification 2.1, "Rule Collection".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vedette.core.documents import Document, load_yaml
from vedette.core.errors import DefinitionError, Span, VedetteError
from vedette.judge.sigma.card import KEY, NO_CARD, Card, parse_card
from vedette.judge.sigma.files import RuleFile

if TYPE_CHECKING:  # pySigma is loaded when there are rules to parse, not when compiled ones are at hand
    from sigma.rule import SigmaLogSource

# A line of three dashes ends a document even inside a block of text, so splitting by lines is exact.
_DOCUMENT = re.compile(rb"^---(?=\s|$)", re.MULTILINE)


class Action(StrEnum):
    """What a document of a collection does instead of being a rule."""

    GLOBAL = "global"
    """Is merged into every rule that follows, over what that says itself; several add up."""
    RESET = "reset"
    """Ends what is global."""
    REPEAT = "repeat"
    """Is merged over the rule before, which gives a further rule."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that cannot match, and why."""

    id: str
    reason: str
    path: str


@dataclass(frozen=True, slots=True)
class Written:
    """One document, read but not understood."""

    document: dict[str, Any] = field(hash=False)
    path: str
    """Of its file, inside the folder or archive."""
    version: str
    """SHA-256 of its file."""
    number: int
    """Its place among the correlations or filters of the file."""
    card: Card = NO_CARD

    @property
    def is_correlation(self) -> bool:
        """True for a correlation, which can be bound only when all rules are known."""
        return "correlation" in self.document

    @property
    def is_filter(self) -> bool:
        """True for a filter, which must be known before the rules that it narrows."""
        return "filter" in self.document


def read(file: RuleFile) -> Iterator[Written | Skipped]:
    """Every document of one file, in order; whatever is wrong with one does not stop the others."""
    if file.problem:
        yield Skipped(file.path, f"{file.problem} [sigma.file.unreadable]", file.path)
        return
    version = hashlib.sha256(file.content).hexdigest()
    collection, found, special, above = _Collection(), 0, 0, 0
    for part in _DOCUMENT.split(file.content):
        try:
            # The empty lines keep the line numbers of errors true.
            page = load_yaml(b"\n" * above + part, path=file.path)
            document = collection.take(_mapping(page))
            card = _card(document, page)
        except DefinitionError as error:
            found += 1
            yield Skipped(file.path, reason(error), file.path)
        else:
            if document:
                found += 1
                special += "correlation" in document or "filter" in document
                yield Written(document, file.path, version, special, card)
        above += part.count(b"\n")
    if not found:
        yield Skipped(file.path, "holds no rule [sigma.file.empty]", file.path)


def _mapping(page: Document) -> dict[str, Any]:
    if page.data is not None and not isinstance(page.data, dict):
        raise DefinitionError("sigma.rule.not_mapping", "a rule is a mapping", span=Span(page.path))
    return page.data or {}


def _card(document: dict[str, Any], page: Document) -> Card:
    """The card of a rule. What is global stands in another document, so nothing can be said of its place."""
    written = document.get(KEY)
    if written is None or written is not page.data.get(KEY):
        return parse_card(written)
    return parse_card(written, lambda path: page.span(f"$.{KEY}{path[1:]}"))


class _Collection:
    """What the documents before say about the ones that follow."""

    def __init__(self) -> None:
        self._common: dict[str, Any] = {}
        self._before: dict[str, Any] = {}

    def take(self, document: dict[str, Any]) -> dict[str, Any]:
        """The rule that a document gives; empty when it gives none."""
        if not document or "correlation" in document or "filter" in document:
            return document
        action, rest = document.get("action"), {name: value for name, value in document.items() if name != "action"}
        match action:
            case None:
                self._before = merged(document, self._common)
                return self._before
            case Action.GLOBAL:
                self._common = merged(self._common, rest)
            case Action.RESET:
                self._common = {}
            case Action.REPEAT:
                if not self._before:
                    raise DefinitionError("sigma.rule.invalid", "there is no rule before it to repeat")
                self._before = merged(self._before, rest)
                return self._before
            case _:
                raise DefinitionError("sigma.rule.invalid", f"there is no action `{action}`")
        return {}


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one: mappings inside are merged too, of anything else the second one's stands."""
    made = dict(under)
    for name, value in over.items():
        below = made.get(name)
        made[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return made


def to_logsource(document: Mapping[str, Any]) -> SigmaLogSource:
    """The log source of a rule or filter.

    Raises:
        DefinitionError: `sigma.logsource.invalid`.
    """
    from sigma.exceptions import SigmaError
    from sigma.rule import SigmaLogSource

    section = document.get("logsource")
    if not isinstance(section, Mapping):
        raise DefinitionError("sigma.logsource.invalid", "there is no mapping `logsource`")
    try:
        return SigmaLogSource.from_dict(dict(section))
    except SigmaError as error:
        raise DefinitionError("sigma.logsource.invalid", str(error)) from error


def reason(error: VedetteError) -> str:
    """What `Skipped` says of an error."""
    place = f"line {error.span.line}: " if error.span and error.span.line > 1 else ""
    hint = f"; {error.hint}" if error.hint else ""
    return f"{place}{error.message}{hint} [{error.code}]"
