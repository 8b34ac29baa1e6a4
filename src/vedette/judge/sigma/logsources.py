"""Log sources: which sources a Sigma rule reads, and what marks its events there.

Windows goes through pySigma's `sysmon_pipeline` and then `windows_logsource_pipeline`, which add Channel and EventID to
the rule. Every other log source is one that a source file names as its own, or one of `logsources.yaml`. A rule whose
log source nobody holds is refused, so that it neither matches everything nor vanishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from vedette.core.errors import DefinitionError
from vedette.expr.nodes import And, Field, Known, Node, Not, Or, Text, TextMatch
from vedette.expr.values import text_of
from vedette.judge.sigma.conditions import joined
from vedette.judge.sigma.pipelines import NO_PIPELINES, Lists, Pipelines

if TYPE_CHECKING:  # pySigma is loaded when there are rules to parse, not when compiled ones are at hand
    from sigma.processing.pipeline import ProcessingPipeline
    from sigma.rule import SigmaRule

_TABLE = Path(__file__).with_name("logsources.yaml")
_WINDOWS = "windows"


class Named(Protocol):
    """What a source file says about its log source, in Sigma's words; an empty word says nothing."""

    @property
    def product(self) -> str: ...  # noqa: D102
    @property
    def category(self) -> str: ...  # noqa: D102
    @property
    def service(self) -> str: ...  # noqa: D102
    @property
    def service_from(self) -> str: ...  # noqa: D102


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the table: a log source, and the source that holds its events."""

    source: str = ""
    product: str = ""
    category: str = ""
    service: str = ""
    where: dict[str, str | int] = {}
    """What marks the log source's events among the source's."""
    fields: dict[str, str] = {}
    """The rule's field name -> the event's."""
    values: dict[str, dict[str, str | int]] = {}
    """The rule's field name -> whole value as rules write it -> as events do. Parts of values stay as they are."""
    because: str = ""
    """Of an entry without a source: why nothing holds the log source."""


class LogSources:
    """Finds the sources of a rule.

    Args:
        sources: Name of each source -> what its file says about its log source.
        table: Further entries; those of sources that are not there are left out.
        pipelines: What every rule goes through besides: the user's pipelines and lists.
    """

    def __init__(
        self,
        sources: Mapping[str, Named],
        table: tuple[Entry, ...] | None = None,
        pipelines: Pipelines = NO_PIPELINES,
    ) -> None:
        self.pipelines = pipelines
        entries = load_table() if table is None else table
        self._sources = dict(sources)
        self._table = tuple(entry for entry in entries if entry.source in sources)
        self._refused = {_words_of(entry): entry.because for entry in entries if entry.because}
        self._windows = tuple(name for name, named in sources.items() if named.product == _WINDOWS)

    def through(self, given: Iterable[Mapping[str, Any]]) -> LogSources:
        """The same, with other pipelines."""
        found = copy(self)
        found.pipelines = self.pipelines.through(given)
        return found

    def with_lists(self, lists: Lists) -> LogSources:
        """The same, with further lists or others in their place."""
        found = copy(self)
        found.pipelines = self.pipelines.with_lists(lists)
        return found

    @property
    def digest_parts(self) -> bytes:
        """Everything about the mapping that decides what a rule means; part of a compiled rule set's key."""
        named = [
            (name, one.product, one.category, one.service, one.service_from) for name, one in self._sources.items()
        ]
        return msgspec.json.encode([sorted(named), self._table, self.pipelines.versions])

    def place(self, rule: SigmaRule, beside: Sequence[SigmaRule] = ()) -> dict[str, Node]:
        """Source name -> the rule's expression over that source's events.

        The rules themselves are changed by the pipelines; they are parsed afresh for every load.

        Args:
            rule: The rule.
            beside: What must hold too: filters, as rules of the same log source.

        Raises:
            DefinitionError: `sigma.logsource.unmapped`, `sigma.pipeline.failed`, and what `lower` raises.
        """
        text, rules = describe(rule), (rule, *beside)
        for one in rules:
            self.pipelines.before(one)
        listed, windows = self._listed(rule), rule.logsource.product == _WINDOWS
        if windows and not listed:
            return self._place_windows(rules, self._unmapped(rule, text))
        for one in rules:
            self.pipelines.after(one)
        entries = listed if windows else [*self._own(rule), *listed]
        if not entries:
            raise self._unmapped(rule, text)
        placed: dict[str, dict[Node, None]] = {}
        for entry in entries:
            placed.setdefault(entry.source, {})[self._narrowed(rules, entry)] = None
        return {source: joined(Or, list(parts)) for source, parts in placed.items()}

    def renames(self, rule: SigmaRule) -> dict[str, dict[str, str]]:
        """Source name -> the rule's field name -> the event's, where a listed source spells it otherwise."""
        found: dict[str, dict[str, str]] = {}
        for entry in self._listed(rule):
            if entry.fields:
                found.setdefault(entry.source, {}).update(entry.fields)
        return found

    def spelled(self, source: str, name: str) -> str:
        """A field's name as the events of a source spell it."""
        return _squeeze(name) if source in self._windows else name

    def _place_windows(self, rules: Sequence[SigmaRule], unmapped: DefinitionError) -> dict[str, Node]:
        from sigma.rule import SigmaDetectionItem

        from vedette.judge.sigma.lower import lower

        for rule in rules:
            before = set(rule.detection.detections)
            _mappings().apply(rule)
            added = (part for name, part in rule.detection.detections.items() if name not in before)
            items = (item for part in added for item in part.detection_items)
            if "Channel" not in {item.field for item in items if isinstance(item, SigmaDetectionItem)}:
                raise unmapped
            self.pipelines.after(rule)
        node = joined(And, [lower(rule, rename=_squeeze) for rule in rules])
        return dict.fromkeys(self._windows, node)

    def _own(self, rule: SigmaRule) -> list[Entry]:
        """Sources whose own file names this log source: every word of the rule is one the source says."""
        product, category, service = _words(rule)
        found = []
        for name, named in self._sources.items():
            by_field = bool(service and named.service_from)
            if (product and product != named.product) or (category and category != named.category):
                continue
            if service and not by_field and service != named.service:
                continue
            if by_field and not product and not category:
                continue  # a service on its own, such as `apache`, says nothing about whose it is
            found.append(Entry(source=name, where={named.service_from: service} if by_field else {}))
        return found

    def _listed(self, rule: SigmaRule) -> list[Entry]:
        words = _words(rule)
        return [entry for entry in self._table if _words_of(entry) == words]

    def _narrowed(self, rules: Sequence[SigmaRule], entry: Entry) -> Node:
        from vedette.judge.sigma.lower import lower

        def rename(name: str) -> str:
            return self.spelled(entry.source, entry.fields.get(name, name))

        spelling = {
            rename(name): {key.casefold(): text_of(to) for key, to in of.items()} for name, of in entry.values.items()
        }
        asked = [lower(rule, rename=rename) for rule in rules]
        if spelling:
            asked = [_respelled(node, spelling) for node in asked]
        marks: list[Node] = [
            Known(Text(Field(name), TextMatch.EQUALS, text_of(value))) for name, value in entry.where.items()
        ]
        return joined(And, [*marks, *asked])

    def _unmapped(self, rule: SigmaRule, text: str) -> DefinitionError:
        because = self._refused.get(_words(rule), "")
        return DefinitionError(
            "sigma.logsource.unmapped",
            f"no source holds the log source `{text}`" + (f": {because}" if because else ""),
        )


@cache
def _mappings() -> ProcessingPipeline:
    """pySigma's, for Windows."""
    from sigma.pipelines.sysmon import sysmon_pipeline
    from sigma.pipelines.windows import windows_logsource_pipeline

    return sysmon_pipeline() + windows_logsource_pipeline()


def load_table() -> tuple[Entry, ...]:
    """The shipped table."""
    return msgspec.yaml.decode(_TABLE.read_bytes(), type=tuple[Entry, ...])


def describe(rule: SigmaRule) -> str:
    """The log source in one word: `product/category/service`, without the parts that are not given."""
    return "/".join(word for word in _words(rule) if word) or "none"


def _words(rule: SigmaRule) -> tuple[str, str, str]:
    source = rule.logsource
    return source.product or "", source.category or "", source.service or ""


def _words_of(entry: Entry) -> tuple[str, str, str]:
    return entry.product, entry.category, entry.service


def _squeeze(name: str) -> str:
    """Field names of Windows events are matched without their spaces."""
    return name.replace(" ", "")


def _respelled(node: Node, spelling: Mapping[str, Mapping[str, str]]) -> Node:
    """The expression with whole values of some fields as the events spell them."""
    match node:
        case And(children=children):
            return And(tuple(_respelled(child, spelling) for child in children))
        case Or(children=children):
            return Or(tuple(_respelled(child, spelling) for child in children))
        case Not(child=child):
            return Not(_respelled(child, spelling))
        case Known(child=child):
            return Known(_respelled(child, spelling))
        case Text(field=field, match=TextMatch.EQUALS, value=value):
            to = spelling.get(field.name, {}).get(value.casefold(), value)
            return node if to == value else Text(field, TextMatch.EQUALS, to, cased=node.cased)
        case _:
            return node
