"""A Sigma rule as we run it, and what became of every rule file: loaded, or skipped with the reason."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.modifiers import SigmaBase64OffsetModifier
from sigma.rule import SigmaDetection, SigmaRule
from sigma.rule.detection import EmptySigmaDetections
from sigma.rule.logsource import EmptyLogSource

from vedette.core.documents import Document, load_yaml
from vedette.core.errors import DefinitionError, Span, VedetteError
from vedette.core.signal import Level
from vedette.expr.nodes import Node
from vedette.judge.sigma.card import KEY, NO_CARD, Card, parse_card
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.logsources import LogSources

DEFAULT_LEVEL = Level.MEDIUM
"""Level of a rule that states none or one that Sigma does not know."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that can match."""

    id: str
    """Sigma's `id`; the path of the file where a rule has none. Rules that share an id count as one."""
    title: str
    level: Level
    status: str
    """As written: stable, test, experimental, deprecated, unsupported; all of them run."""
    tags: tuple[str, ...]
    path: str
    """Of its file, inside the folder or archive."""
    version: str
    """SHA-256 of the document the rule was written in."""
    nodes: Mapping[str, Node] = field(hash=False)
    """Source name -> expression over that source's events."""
    name: str = ""
    """Sigma's `name`, by which correlations may refer to it."""
    renames: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    """Source name -> the rule's field name -> the event's, where they differ."""
    card: Card = field(default=NO_CARD, hash=False)
    """What our own key says of it."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that cannot match, and why."""

    id: str
    reason: str
    path: str


# A line of three dashes ends a document even inside a block of text, so splitting by lines is exact.
_DOCUMENT = re.compile(rb"^---(?=\s|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Written:
    """A correlation document, which can be bound only when all rules are known."""

    document: dict[str, Any] = field(hash=False)
    path: str
    version: str
    number: int
    """Its place in the file."""
    card: Card = NO_CARD


def parse(file: RuleFile, places: LogSources) -> Iterator[Rule | Skipped | Written]:
    """Every rule of one file, in order; whatever is wrong with one does not stop the others."""
    if file.problem:
        yield Skipped(file.path, f"{file.problem} [sigma.file.unreadable]", file.path)
        return
    documents: list[dict[str, Any]] = []
    cards: dict[int, Card] = {}
    above, broken = 0, False
    for part in _DOCUMENT.split(file.content):
        try:
            # The empty lines keep the line numbers of errors true.
            document = _document(b"\n" * above + part, file.path, cards)
        except DefinitionError as error:
            broken = True
            yield Skipped(file.path, _reason(error), file.path)
        else:
            documents += [document] if document else []
        above += part.count(b"\n")
    version = hashlib.sha256(file.content).hexdigest()
    correlations = [one for one in documents if "correlation" in one and "action" not in one]
    for number, one in enumerate(correlations, 1):
        yield Written(one, file.path, version, number, cards.get(id(one.get(KEY)), NO_CARD))
    documents = [one for one in documents if one not in correlations]
    if any("action" in one for one in documents):
        cards.clear()  # `action: global` writes into what later documents hold
    collection = _collection(documents)
    if isinstance(collection, str):
        yield Skipped(_id_of(documents, file), f"{collection} [sigma.rule.invalid]", file.path)
        return
    found = [*collection.rules, *collection.filters]
    if not found and not broken and not correlations:
        yield Skipped(file.path, "holds no rule [sigma.file.empty]", file.path)
    for one in found:
        yield _rule(one, file, places, version, cards)


def _document(text: bytes, path: str, cards: dict[int, Card]) -> dict[str, Any] | None:
    document = load_yaml(text, path=path)
    data = document.data
    if data is not None and not isinstance(data, dict):
        raise DefinitionError("sigma.rule.not_mapping", "a rule is a mapping", span=Span(path))
    if data and KEY in data:
        # By identity, which pySigma keeps; so the card is read where its places are known.
        cards[id(data[KEY])] = card_of(document)
    return data


def card_of(document: Document) -> Card:
    """The card of a Sigma document.

    Raises:
        DefinitionError: As `parse_card`, with the place.
    """
    return parse_card(document.data.get(KEY), lambda path: document.span(f"$.{KEY}{path[1:]}"))


def _collection(documents: list[dict[str, Any]]) -> SigmaCollection | str:
    try:
        return SigmaCollection.from_dicts(
            documents, collect_errors=True, collect_filters=True, resolve_references=False
        )
    except (SigmaError, AttributeError, TypeError, ValueError, KeyError, RecursionError) as error:
        # pySigma checks most shapes itself; the rest of what YAML can spell surfaces as one of these.
        return f"{type(error).__name__}: {error}"


def _rule(one: object, file: RuleFile, places: LogSources, version: str, cards: Mapping[int, Card]) -> Rule | Skipped:
    called = str(getattr(one, "name", None) or "")
    name = str(getattr(one, "id", None) or (f"{file.path}#{called}" if called else file.path))
    if not isinstance(one, SigmaRule):
        return Skipped(name, "a filter, not a rule on single events [sigma.filter.unsupported]", file.path)
    try:
        _check(one)
        renames = places.renames(one)
        nodes = places.place(one)
        card = _card(one, cards)
    except VedetteError as error:
        return Skipped(name, _reason(error), file.path)
    except (SigmaError, AttributeError, TypeError, KeyError, RecursionError) as error:
        return Skipped(name, f"{error} [sigma.condition.invalid]", file.path)
    return Rule(
        id=name,
        title=str(one.title or ""),
        level=level_of(one),
        status=str(getattr(one.status, "name", "") or "").lower(),
        tags=tuple(str(tag) for tag in one.tags),
        path=file.path,
        version=version,
        nodes=nodes,
        name=called,
        renames=renames,
        card=card,
    )


def _card(rule: SigmaRule, cards: Mapping[int, Card]) -> Card:
    written = rule.custom_attributes.get(KEY)
    found = cards.get(id(written))
    return parse_card(written) if found is None else found


def _check(rule: SigmaRule) -> None:
    """Refuses a rule whose parts that decide a match are broken; a wrong date or tag does not stop a rule.

    Raises:
        DefinitionError: `sigma.logsource.invalid`, `sigma.detection.invalid`.
    """
    problems = "; ".join(str(error) for error in rule.errors)
    if isinstance(rule.logsource, EmptyLogSource):
        raise DefinitionError("sigma.logsource.invalid", problems)
    if isinstance(rule.detection, EmptySigmaDetections):
        raise DefinitionError("sigma.detection.invalid", problems)
    for part in rule.detection.detections.values():
        _check_offsets(part)


def _check_offsets(part: SigmaDetection) -> None:
    """Refuses `base64offset` on other than ASCII, which pySigma 1.5 cuts by characters where it must by bytes.

    Raises:
        DefinitionError: `sigma.value.unsupported`.
    """
    for item in part.detection_items:
        if isinstance(item, SigmaDetection):
            _check_offsets(item)
        elif SigmaBase64OffsetModifier in item.modifiers:
            for value in item.original_value or ():
                if not str(value).isascii():
                    raise DefinitionError("sigma.value.unsupported", "`base64offset` of other than ASCII text")


def level_of(rule: SigmaRule | SigmaCorrelationRule) -> Level:
    """The level a rule states, or `DEFAULT_LEVEL`."""
    name = str(getattr(rule.level, "name", "")).lower()
    return Level(name) if name in set(Level) else DEFAULT_LEVEL


def _id_of(documents: list[dict[str, Any]], file: RuleFile) -> str:
    return next((str(each["id"]) for each in documents if each.get("id")), file.path)


def _reason(error: VedetteError) -> str:
    place = f"line {error.span.line}: " if error.span and error.span.line > 1 else ""
    return f"{place}{error.message} [{error.code}]"
