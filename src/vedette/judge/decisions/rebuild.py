"""Rebuild: a recorded decision made again from its record, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from vedette.core.clock import Clock
from vedette.core.decision import Decision, ModelRef
from vedette.core.errors import ConflictError, DataError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.parts import Features, Policy, Reasoning, Scorer, Vector
from vedette.judge.payment.rules import PaymentRules


class _NoClock(Clock):
    """Rebuilding takes its times from the record."""

    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0


class Recorded(Features):
    """Features as a record holds them."""

    def __init__(self, record: Decision) -> None:
        self._values = record.features

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the record's order."""
        return tuple(self._values)

    def fetch(self, event: Event) -> Vector:  # noqa: ARG002 - the record is of one event
        """The recorded values."""
        return np.array([math.nan if value is None else value for value in self._values.values()], np.float64)

    def apply(self, event: Event) -> None:
        """A record does not change."""

    def learn(self, label: Label) -> None:
        """A record does not change."""


def event_of(record: Decision) -> Event:
    """The event that was decided on."""
    return Event(
        id=record.event_id,
        tenant=record.tenant,
        source=record.source,
        event_time=record.time,
        ingest_time=record.time,
        seq=record.seq,
        data=record.event,
    )


def decider_of(record: Decision, *, model: Scorer | None, rules: PaymentRules) -> Decider:
    """A decider that has what the record's had: its features and its policy.

    Raises:
        ConflictError: `decision.rebuild.model`, `decision.rebuild.rules` when they are not those of the record.
        DataError: `decision.rebuild.record` when the record cannot be one of this model.
    """
    if record.rules_version != rules.version:
        raise ConflictError(
            "decision.rebuild.rules",
            f"the record was made with rules {record.rules_version:.12}, these are {rules.version:.12}",
            hint="rebuild with the rule set of the record's rules_version",
            at=record.event_id,
        )
    held = ModelRef(model.id, model.sha256) if model else None
    if record.model != held:
        raise ConflictError(
            "decision.rebuild.model",
            f"the record was made with model {_name(record.model)}, this is {_name(held)}",
            hint="rebuild with the model of that hash",
            at=record.event_id,
        )
    scored = model is not None and bool(record.features)
    if model is not None and scored and any(name not in record.features for name in model.features):
        raise DataError("decision.rebuild.record", "the record lacks inputs of its model", at=record.event_id)
    try:
        policy, reasoning = Policy(record.policy or Policy.OPEN), Reasoning(record.reasoning)
    except ValueError:
        raise DataError("decision.rebuild.record", "the record names no policy", at=record.event_id) from None
    return Decider(
        features=Recorded(record) if record.features else None,
        model=model if scored else None,
        rules=rules,
        clock=_NoClock(),
        policy=policy,
        reasoning=reasoning,
        features_version=record.features_version,
        known=record.risks,
        control=record.propensity if record.propensity < 1 else 0.0,
    )


def rebuild(record: Decision, *, model: Scorer | None, rules: PaymentRules) -> Decision:
    """Makes a decision again from its record, and compares every field with it.

    Args:
        record: From the log.
        model: The one it was made with; None when it was made without.
        rules: The set it was made with.

    Returns:
        The decision, equal to the record bit for bit.

    Raises:
        ConflictError: `decision.rebuild.model`, `decision.rebuild.rules`: another version was given.
        DataError: `decision.rebuild.differs` when the record is not what these inputs lead to, with the first field
            that differs; `decision.rebuild.record`.
    """
    decider, event = decider_of(record, model=model, rules=rules), event_of(record)
    vector = decider.features.fetch(event) if decider.features else None
    assessment = decider.assess(vector) if record.fallback is None else None
    again = decider.answer(event, vector, assessment, fallback=record.fallback)
    again = msgspec.structs.replace(again, latency_us=record.latency_us, model=record.model)
    for name in Decision.__struct_fields__:
        if not same(getattr(again, name), getattr(record, name)):
            raise DataError(
                "decision.rebuild.differs",
                f"`{name}` of the record is not what its inputs lead to",
                hint="the record, the model or the rules were changed after the decision",
                at=f"{record.event_id} $.{name}",
            )
    return again


def same(left: Any, right: Any) -> bool:
    """Equal to the bit: as JSON, which spells every float exactly and tells -0.0 from 0.0."""
    return msgspec.json.encode(left) == msgspec.json.encode(right)


def _name(model: ModelRef | None) -> str:
    return f"`{model.id}` {model.sha256:.12}" if model else "none"
