"""Attack replay: events of which is known what technique they are, and what our rules told of them.

A line of a replay is `{"technique": "T1110.003", "event": {...}}`, with `source` where records do not tell it, `threat`
(`external` or `insider`, external by default) and `case`, which joins steps of one attack. The events run through the
real source, matcher and correlator, in event time. A technique is told when a signal carries it, or its parent or one
of its sub-techniques, and rests on one of its events or comes in its case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.signal import Signal
from vedette.judge.sigma.load import RuleSet
from vedette.run.pipeline.detection import Detection
from vedette.run.rules.coverage import Threat
from vedette.run.rules.rule_tests import deliver
from vedette.sense.intel.attack import Attack, Link
from vedette.sense.sources import Source, sniff

MAX_LINES = 200_000
TENANT = "test"
"""As `deliver` judges it."""
_FAR = 1 << 60


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event of a replay."""

    technique: str
    event: dict[str, Any]
    source: str = ""
    threat: Threat = Threat.EXTERNAL
    case: str = ""


class Told(msgspec.Struct, frozen=True):
    """What became of one technique."""

    technique: str
    """Current id."""
    name: str
    threat: Threat
    events: int
    rules: tuple[str, ...]
    """Ids of the rules that told of it; empty: nobody did."""


class Case(msgspec.Struct, frozen=True):
    """One attack, stage by stage."""

    name: str
    chain: tuple[Link[Signal], ...]
    """Stages in the order of the matrix; one without signals is a gap."""


class Replayed(msgspec.Struct, frozen=True):
    """What a replay found."""

    attack: str
    techniques: tuple[Told, ...]
    cases: tuple[Case, ...]

    @property
    def missed(self) -> list[Told]:
        """Techniques that nobody told of."""
        return [one for one in self.techniques if not one.rules]

    def by_threat(self) -> dict[Threat, dict[str, int]]:
        """External and insider: techniques that were played, and of these told."""
        found = {}
        for threat in Threat:
            own = [one for one in self.techniques if one.threat is threat]
            found[threat] = {"played": len(own), "told": sum(bool(one.rules) for one in own)}
        return found


def parse_replay(lines: Iterable[bytes]) -> list[Line]:
    """The lines of a replay.

    Raises:
        DataError: `replay.line.invalid` with the line; `replay.file.too_long`.
    """
    found: list[Line] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(found) == MAX_LINES:
            raise DataError("replay.file.too_long", f"more than {MAX_LINES:,} lines")
        try:
            found.append(msgspec.json.decode(line, type=Line))
        except msgspec.DecodeError as error:
            hint = '{"technique": "T1110", "event": {...}}'
            raise DataError("replay.line.invalid", str(error), at=f"line {number}", hint=hint) from error
    return found


def replay(lines: Sequence[Line], rules: RuleSet, sources: Mapping[str, Source], attack: Attack) -> Replayed:
    """Plays an attack.

    Args:
        lines: Events with what they are.
        rules: The set.
        sources: The known sources.
        attack: Current ids, names and stages.

    Raises:
        DataError: What a source finds wrong with an event; `sources.name.unknown`.
    """
    played = [(_event(line, number, sources), line) for number, line in enumerate(lines, 1)]
    played.sort(key=lambda one: one[0].event_time)
    labels = {event.id: line for event, line in played}
    signals = deliver(Detection(rules, sources), [event for event, _ in played])
    told: dict[tuple[str, Threat], dict[str, None]] = {}
    counts: dict[tuple[str, Threat], int] = defaultdict(int)
    for _, line in played:
        key = attack.current(line.technique), line.threat
        counts[key] += 1
        told.setdefault(key, {})
    cases: dict[str, list[Signal]] = {line.case: [] for _, line in played if line.case}
    for signal in signals:
        own = [labels[name] for name in _events(signal) if name in labels]
        joined = {line.case for line in own if line.case}
        names = attack.ids(signal.tags)
        for (technique, threat), rules_told in told.items():
            rests = any(attack.current(line.technique) == technique and line.threat is threat for line in own)
            beside = any(
                line.case in joined and attack.current(line.technique) == technique and line.threat is threat
                for line in lines
            )
            if (rests or beside) and any(attack.alike(name, technique) for name in names):
                rules_told[signal.rule_id] = None
        for name in joined:
            cases[name].append(signal)
    return Replayed(
        attack.version,
        tuple(
            Told(name, _name(attack, name), threat, counts[name, threat], tuple(rules_told))
            for (name, threat), rules_told in sorted(told.items())
        ),
        tuple(
            Case(name, attack.chain(held, tags=lambda one: one.tags, time=lambda one: one.event_time))
            for name, held in sorted(cases.items())
        ),
    )


def _event(line: Line, number: int, sources: Mapping[str, Source]) -> Event:
    if line.source and line.source not in sources:
        raise DataError("sources.name.unknown", f"no such source `{line.source:.80}`", at=f"line {number}")
    raw = msgspec.json.encode(line.event)
    source = sources[line.source] if line.source else sniff([raw], sources)
    data = source.parse(raw)
    event = source.to_event(data, tenant=TENANT, stream="replay", offset=number, ingest_time=_FAR)
    # Records of one id are still each an event of the replay.
    return msgspec.structs.replace(event, id=f"{number}:{event.id}", seq=number)


def _events(signal: Signal) -> list[str]:
    noted = signal.why.get("events")
    return [one["id"] for one in noted] if isinstance(noted, list) else [signal.event_id]


def _name(attack: Attack, technique: str) -> str:
    found = attack.technique(technique)
    return found.name if found else ""
