"""Which signals belong to one alert: the dedup key, the time window, the title. Pure; the store is in `alerts`.

The key is rule + entity (or the parts a `Grouping` names) + the window of event time the signal falls in. Windows are
fixed steps of event time, so the same signals make the same alerts in any order of arrival and however often each is
delivered. A group closes only by this law: when its window is over, later events make a new alert. That one member, or
the whole alert, was closed by a person changes nothing about the grouping.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.clock import DAY, MICROS
from vedette.core.event import Entity
from vedette.core.signal import Level, Signal
from vedette.judge.grouping import Grouping, Missing

MAX_AHEAD = DAY
"""A signal whose event time is further ahead of our clock counts as that far ahead, so that a wrong clock cannot keep
an entity's risk high for years."""

MAX_TITLE = 200
MAX_ENTITIES = 100
MAX_TAGS = 50
MAX_PART = 200
"""Longest key part kept as text; longer ones are hashed."""

ENTITY_ORDER = ("key", "user", "account", "customer", "card", "merchant", "device", "host", "terminal", "ip")
"""Which entity an alert is about when a signal names several; a type that is not listed comes last."""


class AlertState(StrEnum):
    """OCSF finding status."""

    NEW = "new"
    IN_PROGRESS = "in_progress"
    SUPPRESSED = "suppressed"
    """A person said that this group is noise; further signals are counted and change nothing."""
    RESOLVED = "resolved"
    """Done. A signal of a later event time opens the alert again."""

    @property
    def status_id(self) -> int:
        """OCSF status_id, 1 (new) to 4 (resolved)."""
        return list(AlertState).index(self) + 1


class Verdict(StrEnum):
    """What a person found an alert to be when they resolved it; OCSF `verdict`."""

    TRUE_POSITIVE = "true_positive"
    """What the rule is after."""
    FALSE_POSITIVE = "false_positive"
    """The rule was wrong."""
    BENIGN = "benign"
    """The rule was right, and it was allowed."""

    @property
    def verdict_id(self) -> int:
        """OCSF verdict_id."""
        return {Verdict.FALSE_POSITIVE: 1, Verdict.TRUE_POSITIVE: 2, Verdict.BENIGN: 5}[self]


DEFAULT = Grouping()


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Signals of one rule about one entity in one window of event time."""

    id: str
    """Deterministic: a hash of tenant and dedup key."""
    tenant: str
    rule_id: str
    rule_version: str
    title: str
    level: Level
    """Highest of its signals."""
    source: str
    entity: Entity | None
    """What it is about; None when no signal named one (then `fallbacks` says so)."""
    entities: tuple[Entity, ...]
    """All that its signals named, sorted, at most `MAX_ENTITIES`."""
    tags: tuple[str, ...] = ()
    first_time: int
    """Event time of its first signal, microseconds UTC."""
    last_time: int
    created_time: int
    """When its first signal was written to our log."""
    updated_time: int
    window_end: int
    """Events from this time on make a new alert."""
    signal_count: int = 1
    lead: str
    """Signal that title, source, version and `why` come from: the first by event time, then by id."""
    why: dict[str, Any] = {}
    fallbacks: tuple[str, ...] = ()
    """Codes of what could not be done as defined, e.g. `alerts.title.failed`; empty when all went well."""
    state: AlertState = AlertState.NEW
    state_time: int = 0
    """Event time up to which a person looked when they set the state."""
    reopened: int = 0
    assignee: str = ""
    """Id of the person who works on it; empty: nobody does."""
    verdict: Verdict | None = None
    """Of who resolved it; None while it is open, and when they said nothing."""
    suppressed_by: str = ""
    """Alert that its rule's own law suppresses it by; empty: none. People may still open it."""

    @property
    def severity_id(self) -> int:
        """OCSF severity_id, 1 to 5."""
        return self.level.severity_id

    def age(self, now: int) -> int:
        """Microseconds since its first signal reached us; 0 when the clock went back."""
        return max(0, now - self.created_time)


def to_alert(signal: Signal, grouping: Grouping, log_time: int) -> Alert:
    """The alert that one signal alone would make.

    Args:
        signal: What fired.
        grouping: Its rule's.
        log_time: When the signal was written to our log, microseconds UTC.
    """
    fallbacks: list[str] = []
    time = signal.event_time
    if time > log_time + MAX_AHEAD:
        time = log_time + MAX_AHEAD
        fallbacks.append("alerts.time.ahead")
    entity = lead_entity(signal, grouping)
    parts = _parts(signal, entity, grouping, fallbacks)
    width = max(1, grouping.window_s) * MICROS
    number = time // width
    return Alert(
        id=_id([signal.tenant, signal.rule_id, *parts, grouping.window_s, number]),
        tenant=signal.tenant,
        rule_id=signal.rule_id,
        rule_version=signal.rule_version,
        title=_title(signal, entity, grouping, fallbacks),
        level=signal.level,
        source=signal.source,
        entity=entity,
        entities=tuple(sorted(set(signal.entities)))[:MAX_ENTITIES],
        tags=tuple(sorted(set(signal.tags)))[:MAX_TAGS],
        first_time=time,
        last_time=time,
        created_time=log_time,
        updated_time=log_time,
        window_end=(number + 1) * width,
        lead=signal.id,
        why=signal.why,
        fallbacks=tuple(sorted(set(fallbacks))),
    )


def merge(one: Alert, other: Alert) -> Alert:
    """Two alerts of one id as one. Commutative and associative: the order of arrival leaves no trace.

    People's part (state, its time, reopened, assignee, verdict) and what suppresses it are taken from `one`.
    """
    lead = min(one, other, key=lambda alert: (alert.first_time, alert.lead))
    return msgspec.structs.replace(
        lead,
        level=max(one.level, other.level, key=lambda level: level.severity_id),
        entities=tuple(sorted({*one.entities, *other.entities}))[:MAX_ENTITIES],
        tags=tuple(sorted({*one.tags, *other.tags}))[:MAX_TAGS],
        last_time=max(one.last_time, other.last_time),
        created_time=min(one.created_time, other.created_time),
        updated_time=max(one.updated_time, other.updated_time),
        signal_count=one.signal_count + other.signal_count,
        fallbacks=tuple(sorted({*one.fallbacks, *other.fallbacks})),
        state=one.state,
        state_time=one.state_time,
        reopened=one.reopened,
        assignee=one.assignee,
        verdict=one.verdict,
        suppressed_by=one.suppressed_by,
    )


def reopen(alert: Alert, last_time: int) -> Alert:
    """Opens a resolved alert again when a signal happened after what its resolver had seen."""
    if alert.state is AlertState.RESOLVED and last_time > alert.state_time:
        return msgspec.structs.replace(alert, state=AlertState.NEW, verdict=None, reopened=alert.reopened + 1)
    return alert


def group(
    signals: Iterable[tuple[Signal, int]], groupings: Mapping[str, Grouping] | None = None, default: Grouping = DEFAULT
) -> dict[str, Alert]:
    """Alerts by id of (signal, log time) pairs. A signal id counts once, in any order."""
    alerts: dict[str, Alert] = {}
    seen: set[tuple[str, str]] = set()
    for signal, log_time in signals:
        if (signal.tenant, signal.id) in seen:
            continue
        seen.add((signal.tenant, signal.id))
        alert = to_alert(signal, (groupings or {}).get(signal.rule_id, default), log_time)
        alerts[alert.id] = merge(alerts[alert.id], alert) if alert.id in alerts else alert
    return alerts


def key_text(signal: Signal, grouping: Grouping) -> str:
    """The dedup key of a signal as people write it, beside its rule and window: its parts, joined by ` | `.

    A part that is missing is empty; with `Missing.SEPARATE` it is the event's id.
    """
    parts = _parts(signal, lead_entity(signal, grouping), grouping, [])
    return " | ".join(part[1:] for part in parts)


def _parts(signal: Signal, entity: Entity | None, grouping: Grouping, fallbacks: list[str]) -> list[str]:
    return [_part(signal, entity, name, grouping.missing, fallbacks) for name in grouping.by]


def _id(parts: list[Any]) -> str:
    return "al_" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:26]


def lead_entity(signal: Signal, grouping: Grouping) -> Entity | None:
    """The entity that the alert of a signal is about."""
    if grouping.entity:
        return next((entity for entity in signal.entities if entity.type == grouping.entity), None)
    order = {name: place for place, name in enumerate(ENTITY_ORDER)}
    return min(signal.entities, key=lambda entity: order.get(entity.type, len(order)), default=None)


def _part(signal: Signal, entity: Entity | None, name: str, missing: Missing, fallbacks: list[str]) -> str:
    value = _read(signal, entity, name)
    if value is None:
        fallbacks.append(f"alerts.key.missing:{name}"[:MAX_PART])
        return "" if missing is Missing.GROUP else f"\x00{signal.event_id}"
    text = value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
    # The mark keeps a value apart from a missing one.
    return "=" + (text if len(text) <= MAX_PART else hashlib.sha256(text.encode()).hexdigest())


def _read(signal: Signal, entity: Entity | None, name: str) -> Any:
    if name == "entity":
        return entity.key if entity else None
    if name == "source":
        return signal.source
    if name == "title":
        return signal.title
    return signal.why.get(name.removeprefix("why.")) if name.startswith("why.") else None


_PLACE = re.compile(r"\$\{([^}]*)\}")


def _title(signal: Signal, entity: Entity | None, grouping: Grouping, fallbacks: list[str]) -> str:
    values = {name: _read(signal, entity, name) for name in _PLACE.findall(grouping.title)}
    if not grouping.title or any(value is None for value in values.values()):
        if grouping.title:
            fallbacks.append("alerts.title.failed")
        return signal.title[:MAX_TITLE]
    return _PLACE.sub(lambda place: str(values[place[1]]), grouping.title)[:MAX_TITLE]
