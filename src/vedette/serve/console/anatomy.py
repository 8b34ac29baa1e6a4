"""A decision taken apart for its page: what the model added up, its inputs beside the usual ones, what is linked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vedette.act.grouping import Alert
from vedette.core.decision import Decision
from vedette.core.errors import NotFoundError, VedetteError
from vedette.core.event import Entity
from vedette.core.signal import Level
from vedette.judge.decisions.rebuild import decider_of, event_of, rebuild
from vedette.judge.decisions.register import Place
from vedette.judge.decisions.usual import Range
from vedette.judge.explain import DecisionExplanation, explain_decision
from vedette.judge.models.model import Model
from vedette.move.charge import Charge
from vedette.run.platform import Platform
from vedette.serve.console.format import words

STEPS = 9
"""Largest contributions that have a bar of their own."""
RECENT = 200
"""Decisions about an entity that its usual values come from."""
RECENT_ALL = 1_000
LINKED = 5
"""Alerts shown for each entity."""
_EDGE, _INNER = 4.0, 92.0
"""Where a range bar begins and how wide it is, of 100."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value beside a range, as places from 0 to 100."""

    low: float
    middle: float
    high: float
    at: float | None
    outside: bool
    count: int


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One input of the decision."""

    name: str
    value: float | None
    weight: float | None
    """Log odds it added; None without the model."""
    entity: Entity | None
    """Whose usual values stand beside it."""
    own: Bar | None
    own_range: Range | None
    everyone: Bar | None
    everyone_range: Range | None


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What the page shows."""

    explanation: DecisionExplanation | None
    """None when the rules are other ones now."""
    why_not: VedetteError | None
    """Why the rules' clauses cannot be shown."""
    waterfall: dict[str, Any] | None
    """Data of the chart; None without the model."""
    features: list[FeatureRow]
    """Largest contribution first."""
    replay: VedetteError | None
    """What rebuilding the decision from its record found; None: equal bit for bit."""
    entities: tuple[Entity, ...] = field(default=())


def take_apart(platform: Platform, record: Decision, entities: Sequence[Entity]) -> Anatomy:
    """Recomputes what the record leads to, and reads what is usual; changes nothing."""
    rules = platform.desk.rules_of(record)
    scorer = platform.desk.scorer_of(record) if record.model else None
    model = scorer if isinstance(scorer, Model) else None
    explanation, why_not = None, None
    try:
        explanation = explain_decision(record, rules)
    except VedetteError as error:
        why_not = error
    replay = None
    try:
        rebuild(record, model=scorer, rules=rules)
    except VedetteError as error:
        replay = error
    weights = contributions(platform, record)
    return Anatomy(
        explanation=explanation,
        why_not=why_not,
        waterfall=to_waterfall(record, weights, model) if weights and model else None,
        features=_feature_rows(platform, record, entities, weights or {}),
        replay=replay,
        entities=tuple(entities),
    )


def contributions(platform: Platform, record: Decision) -> dict[str, float] | None:
    """Log odds that each input added, computed again; None when the model of the record is not here."""
    if record.model is None or record.score is None or not record.features:
        return None
    scorer = platform.desk.scorer_of(record)
    try:
        decider = decider_of(record, model=scorer, rules=platform.desk.rules_of(record))
    except VedetteError:
        return None
    found = decider.assess(decider.features.fetch(event_of(record)) if decider.features else None)
    names = scorer.features if scorer else ()
    return dict(zip(names, decider.contributions(found).tolist(), strict=True)) if found else None


def to_waterfall(record: Decision, weights: Mapping[str, float], model: Model) -> dict[str, Any]:
    """From the average payment's log odds to this one's: the largest steps, and all others as one."""
    ordered = sorted(((name, weight) for name, weight in weights.items() if weight), key=lambda item: -abs(item[1]))
    steps = [{"label": f"{words(name)}{_beside(record, name)}", "value": weight} for name, weight in ordered[:STEPS]]
    rest = ordered[STEPS:]
    if rest:
        steps.append({"label": f"{len(rest)} others", "value": sum(weight for _, weight in rest)})
    return {
        "kind": "waterfall",
        "start": model.bias,
        "start_label": "average payment",
        "end_label": "this payment",
        "unit": "log odds",
        "steps": steps,
    }


def _beside(record: Decision, name: str) -> str:
    value = record.features.get(name)
    return " (missing)" if value is None else f" = {value:.4g}"


def _feature_rows(
    platform: Platform, record: Decision, entities: Sequence[Entity], weights: Mapping[str, float]
) -> list[FeatureRow]:
    if not record.features:
        return []
    by_type = {entity.type: entity for entity in entities}
    default = by_type.get("customer") or by_type.get("card")
    owner = owners(platform.desk.scoring.model, by_type)
    before = Place(record.time, record.seq)

    def usual(entity: Entity | None, limit: int) -> dict[str, Range]:
        return platform.register.usual(record.tenant, before, record.features_version, entity=entity, limit=limit)

    everyone = usual(None, RECENT_ALL)
    wanted = {owner.get(name, default) for name in record.features} - {None}
    own = {entity: usual(entity, RECENT) for entity in wanted}
    rows = []
    for name, value in record.features.items():
        entity = owner.get(name, default)
        mine, all_of = (own[entity].get(name) if entity else None), everyone.get(name)
        rows.append(
            FeatureRow(
                name=name,
                value=value,
                weight=weights.get(name),
                entity=entity,
                own=to_bar(value, mine),
                own_range=mine,
                everyone=to_bar(value, all_of),
                everyone_range=all_of,
            )
        )
    return sorted(rows, key=lambda row: (-abs(row.weight or 0.0), row.name))


def owners(model: Model | None, by_type: Mapping[str, Entity]) -> dict[str, Entity]:
    """Feature -> the entity of this payment that it is about."""
    views = model.feature_set.views if model else ()
    return {feature.name: by_type[view.entity] for view in views if view.entity in by_type for feature in view.features}


def to_bar(value: float | None, usual: Range | None) -> Bar | None:
    """Where a value and its range lie on a bar that holds them both; None without a range."""
    if usual is None or not all(map(math.isfinite, usual[:3])):
        return None
    ends = [usual.low, usual.high, *([value] if value is not None else [])]
    start, width = min(ends), max(ends) - min(ends)

    def place(number: float) -> float:
        return round(_EDGE + _INNER * ((number - start) / width if width else 0.5), 2)

    outside = value is not None and not usual.low <= value <= usual.high
    at = None if value is None else place(value)
    return Bar(place(usual.low), place(usual.middle), place(usual.high), at, outside, usual.seen)


# What is linked


@dataclass(frozen=True, slots=True)
class Linked:
    """An alert about one of the decision's entities."""

    alert: Alert
    entity: Entity
    same_event: bool
    """A signal of it is about this very event."""


def linked_alerts(platform: Platform, record: Decision, entities: Sequence[Entity]) -> list[Linked]:
    """Alerts about the decision's entities, those about this event first, then the gravest."""
    found: dict[str, Linked] = {}
    for entity in entities:
        for alert in platform.alerts.find(record.tenant, entity=entity, limit=LINKED):
            if alert.id not in found:
                signals = platform.alerts.signals(record.tenant, alert.id)
                same = any(signal.event_id == record.event_id for signal in signals)
                found[alert.id] = Linked(alert, entity, same)
    order = list(Level)
    return sorted(found.values(), key=lambda each: (not each.same_event, -order.index(each.alert.level)))


def linked_charge(platform: Platform, record: Decision) -> Charge | None:
    """The charge that was decided on; None for other events."""
    charge_id = record.event.get("charge")
    if not isinstance(charge_id, str):
        return None
    try:
        return platform.charges.get(record.tenant, charge_id)
    except NotFoundError:
        return None
