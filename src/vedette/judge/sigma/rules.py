"""A Sigma rule as we run it, and what became of every rule file: loaded, or skipped with the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vedette.core.errors import VedetteError
from vedette.core.signal import Level
from vedette.expr.nodes import Node
from vedette.judge.sigma.card import NO_CARD, Card
from vedette.judge.sigma.documents import Skipped, Written, reason, to_logsource
from vedette.judge.sigma.filters import Filters, Narrowing
from vedette.judge.sigma.logsources import LogSources

if TYPE_CHECKING:  # pySigma is loaded when there are rules to parse, not when compiled ones are at hand
    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaRule

__all__ = ["DEFAULT_LEVEL", "Rule", "Skipped", "level_of", "status_of", "to_rule"]

DEFAULT_LEVEL = Level.MEDIUM
"""Level of a rule that states none or one that Sigma does not know."""


_WRONG = (VedetteError, AttributeError, TypeError, ValueError, KeyError, RecursionError)
"""pySigma checks most shapes itself, and raises `ValueError`; the rest of what YAML can spell surfaces as others."""


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
    """SHA-256 of the file it was written in; together with those of its filters and pipelines where it has any."""
    nodes: Mapping[str, Node] = field(hash=False)
    """Source name -> expression over that source's events."""
    name: str = ""
    """Sigma's `name`, by which correlations may refer to it."""
    renames: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    """Source name -> the rule's field name -> the event's, where they differ."""
    card: Card = field(default=NO_CARD, hash=False)
    """What our own key says of it."""


def to_rule(one: Written, places: LogSources, filters: Filters, wanted: Iterable[str] = ()) -> Rule | Skipped:
    """A rule bound to its log source and narrowed by the filters that apply to it, or why it cannot match.

    Args:
        one: Its document.
        places: Where log sources are found.
        filters: Of the set.
        wanted: Names of fields that correlations ask of it.
    """
    called = one.document.get("name")
    named = f"{one.path}#{called}" if called else one.path
    rule_id = str(one.document.get("id") or named)
    try:
        rule = _parsed(one.document)
        rule_id = str(rule.id or named)
        narrowed = filters.of(rule, rule_id)
        listed, mapped = places.renames(rule), places.pipelines.renamed(rule, wanted)
        nodes, refused = _placed(rule, one.document, places, narrowed)
    except _WRONG as error:
        return Skipped(rule_id, _why(error), one.path)
    for beside, why in refused:
        filters.refuse(beside, rule_id, why)
    versions = [beside.told.version for beside in narrowed if beside not in [other for other, _ in refused]]
    return Rule(
        id=rule_id,
        title=str(rule.title or ""),
        level=level_of(rule),
        status=status_of(rule),
        tags=tuple(str(tag) for tag in rule.tags),
        path=one.path,
        version=_version(one.version, *versions, *places.pipelines.versions),
        nodes=nodes,
        name=str(called or ""),
        renames={source: names for source in nodes if (names := _renames(listed.get(source, {}), mapped))},
        card=one.card,
    )


def _placed(
    rule: SigmaRule, document: dict[str, Any], places: LogSources, narrowed: Sequence[Narrowing]
) -> tuple[dict[str, Node], list[tuple[Narrowing, str]]]:
    """The rule's expressions; and the filters that it goes on without, each with the reason."""

    def place(some: Sequence[Narrowing], fresh: SigmaRule) -> dict[str, Node]:
        return places.place(fresh, [beside.beside(fresh) for beside in some])

    try:
        return place(narrowed, rule), []
    except _WRONG:
        if not narrowed:
            raise
    place((), _parsed(document))  # what is wrong with the rule itself
    refused: list[tuple[Narrowing, str]] = []
    for beside in narrowed:
        try:
            place([beside], _parsed(document))
        except _WRONG as error:
            refused.append((beside, _why(error)))
    without = [beside for beside, _ in refused]
    return place([beside for beside in narrowed if beside not in without], _parsed(document)), refused


def _why(error: Exception) -> str:
    return reason(error) if isinstance(error, VedetteError) else f"{type(error).__name__}: {error} [sigma.rule.invalid]"


def _renames(listed: Mapping[str, str], mapped: Mapping[str, str]) -> dict[str, str]:
    """A field's name goes through the pipelines, then through the table of log sources."""
    return {**listed, **{name: listed.get(to, to) for name, to in mapped.items()}}


def _parsed(document: dict[str, Any]) -> SigmaRule:
    """The rule of a document. A wrong date or tag does not stop it."""
    from sigma.rule import SigmaRule

    from vedette.judge.sigma.selections import to_detections

    logsource, detection = to_logsource(document), to_detections(document.get("detection"))
    facts, errors = SigmaRule.from_dict_common_params(document, collect_errors=True)
    return SigmaRule(logsource=logsource, detection=detection, errors=errors, **facts)


def _version(own: str, *others: str) -> str:
    return hashlib.sha256("\n".join((own, *others)).encode()).hexdigest() if others else own


def level_of(rule: SigmaRule | SigmaCorrelationRule) -> Level:
    """The level a rule states, or `DEFAULT_LEVEL`."""
    name = str(getattr(rule.level, "name", "")).lower()
    return Level(name) if name in set(Level) else DEFAULT_LEVEL


def status_of(rule: SigmaRule | SigmaCorrelationRule) -> str:
    """The status a rule states, or nothing."""
    return str(getattr(rule.status, "name", "") or "").lower()
