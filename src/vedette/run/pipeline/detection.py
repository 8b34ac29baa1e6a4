"""A rule set over the stream: event in, signals out, and what it brings to correlations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec

from vedette.core.event import Event
from vedette.core.signal import Signal
from vedette.expr.nodes import Node
from vedette.judge.correlation.correlator import Contribution, Correlator, Order
from vedette.judge.detectors import detected, installed
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.detect import why
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.pipelines import NO_PIPELINES, Pipelines
from vedette.judge.sigma.ready import Placed, Ready
from vedette.judge.sigma.rules import Rule
from vedette.sense.sources import Source, load_sources


class Detection:
    """A rule set over the stream. Not for several threads at once.

    Args:
        rules: What to look for.
        sources: The known sources.
        paths: Where the rules were read from, for what people wrote in them.
        places: Where their log sources are; None: only where the sources say.
        again: The same rules as of another day (UTC), by which exceptions end; None: they never change.
        stage: Place of tags in the order of an attack; None: the risk of entities is told by time.
    """

    def __init__(
        self,
        rules: RuleSet,
        sources: Mapping[str, Source] | None = None,
        paths: Iterable[Path] = (),
        *,
        places: LogSources | None = None,
        again: Callable[[date], RuleSet] | None = None,
        stage: Order | None = None,
    ) -> None:
        self.rules = rules
        self.places = places
        self._again = again
        self.sources = load_sources() if sources is None else sources
        self.paths = tuple(paths)
        self.correlator = Correlator(rules.correlations, self.sources, stage=stage)
        self._ready = Ready(rules)

    def judge(self, event: Event) -> tuple[list[Signal], list[Contribution]]:
        """What rules on single events say of an event, and what they bring to correlations; the same each time."""
        signals, contributions = self.told(event, list(self._ready.fired(event.source, event.data)))
        return [*signals, *detected(self.rules.detectors, event)], contributions

    def told(self, event: Event, fired: Sequence[Placed]) -> tuple[list[Signal], list[Contribution]]:
        """What the rules that fired on an event say, and what they bring to correlations."""
        if not fired:
            return [], []
        quiet = self.correlator.quiet
        signals = [to_signal(rule, node, event) for rule, node in fired if rule.id not in quiet]
        return signals, self.correlator.contributions(event, (rule.id for rule, _ in fired))

    def on(self, day: date) -> RuleSet:
        """The rules as of a day (UTC): exceptions past their end no longer apply."""
        ends = any(one.card.expires for one in self.rules.filters)
        return self._again(day) if self._again and ends else self.rules

    def reads(self, source: str) -> bool:
        """True when a rule reads a source."""
        return bool(self._ready.of(source)[1]) or any(source in one.sources for one in self.rules.detectors)


def load_detection(
    paths: Iterable[Path],
    *,
    only: str = "",
    cache: Path | None = None,
    pipelines: Pipelines = NO_PIPELINES,
    today: date | None = None,
) -> Detection:
    """Reads Sigma rules from folders and archives.

    Args:
        paths: Folders, archives and files.
        only: Glob that selects files inside each.
        cache: Where compiled rules are kept; None: nowhere.
        pipelines: What every rule goes through, and the lists of placeholders.
        today: The day (UTC) by which filters expire; None: none does.

    Raises:
        DataError, DefinitionError: When a path cannot be opened. A rule that cannot match is in `rules.skipped`.
    """
    roots = tuple(paths)
    sources = load_sources()
    places = LogSources({name: source.logsource for name, source in sources.items()}, pipelines=pipelines)
    files = [file for path in roots for file in rule_files(path, only)]

    def on(day: date | None) -> RuleSet:
        return replace(load_cached(files, places, cache, day), detectors=installed())

    return Detection(on(today), sources, roots, places=places, again=on if today else None)


def to_signal(rule: Rule, node: Node, event: Event) -> Signal:
    """What a rule that fired on an event says."""
    return Signal(
        id=hashlib.sha256(msgspec.json.encode([event.tenant, rule.id, rule.version, event.id])).hexdigest()[:32],
        tenant=event.tenant,
        rule_id=rule.id,
        rule_version=rule.version,
        title=rule.title,
        level=rule.level,
        event_id=event.id,
        event_time=event.event_time,
        source=event.source,
        entities=event.entities,
        tags=rule.tags,
        why=why(node, event.data),
        alert=rule.card.alert,
    )
