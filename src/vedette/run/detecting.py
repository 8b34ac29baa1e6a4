"""The stage that runs Sigma rules over events of the log and writes what fired to topic `signal`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from vedette.core.event import Event
from vedette.core.log import Log, Record
from vedette.core.signal import Signal
from vedette.expr.nodes import Node
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.detect import why
from vedette.judge.sigma.files import rule_files
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.judge.sigma.rules import Rule
from vedette.run.guard import guarded
from vedette.run.metrics import Meters
from vedette.run.storing import to_event
from vedette.run.stream import BATCH, Stage
from vedette.sense.sources import load_sources

GROUP = "detect"
TOPIC = "event"
SIGNALS = "signal"


class Detection:
    """A rule set over the stream. Not for several threads at once.

    Args:
        rules: What to look for.
        paths: Where the rules were read from, for what people wrote in them.
    """

    def __init__(self, rules: RuleSet, paths: Iterable[Path] = ()) -> None:
        self.rules = rules
        self.paths = tuple(paths)
        self._ready = Ready(rules)

    def signals(self, event: Event) -> list[Signal]:
        """What fired on an event; the same signals, with the same ids, each time."""
        return [_signal(rule, node, event) for rule, node in self._ready.fired(event.source, event.data)]


def load_detection(paths: Iterable[Path], *, only: str = "", cache: Path | None = None) -> Detection:
    """Reads Sigma rules from folders and archives.

    Raises:
        DataError, DefinitionError: When a path cannot be opened. A rule that cannot match is in `rules.skipped`.
    """
    roots = tuple(paths)
    places = LogSources({name: source.logsource for name, source in load_sources().items()})
    return Detection(load_cached([file for path in roots for file in rule_files(path, only)], places, cache), roots)


def _signal(rule: Rule, node: Node, event: Event) -> Signal:
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
    )


def detecting(log: Log, detection: Detection, meters: Meters) -> Stage:
    """Events to signals. A signal may be written again after a kill; its id is the same, and alerts count it once."""

    def step() -> int:
        return sum(_partition(log, detection, meters, part) for part in range(log.partitions(TOPIC)))

    return Stage(GROUP, TOPIC, step, lambda part: log.committed(GROUP, TOPIC, part))


def _partition(log: Log, detection: Detection, meters: Meters, part: int) -> int:
    records = log.read(TOPIC, part, log.committed(GROUP, TOPIC, part), BATCH)
    if not records:
        return 0
    for tenant, values in _by_tenant(_fired(records, detection, meters)).items():
        log.append(SIGNALS, tenant, values)
        meters.taken(SIGNALS, len(values))
    log.commit(GROUP, TOPIC, part, records[-1].offset + 1)
    return len(records)


def _fired(records: Sequence[Record], detection: Detection, meters: Meters) -> list[Signal]:
    found: list[Signal] = []
    for event in map(to_event, records):
        if isinstance(event, Event):
            # For each event: one that a matcher chokes on must not hide what the others hold.
            found += guarded(GROUP, partial(detection.signals, event), meters, [])
    return found


def _by_tenant(signals: Iterable[Signal]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for signal in signals:
        found.setdefault(signal.tenant, []).append(msgspec.json.encode(signal))
    return found
