"""The JSON form of a decision: what `vedette decide --json` and `POST /v1/decisions` give."""

from __future__ import annotations

import msgspec

from vedette.core.decision import Decision, ModelRef, Reason, RuleResult


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True):
    """The public part of a decision, in the order of the contract."""

    event_id: str
    action: str
    score: float | None
    risk_score: int | None
    reasons: tuple[Reason, ...]
    rules: tuple[RuleResult, ...]
    model: ModelRef | None
    features: dict[str, float | None]
    fallback: str | None
    seq: int


_encode = msgspec.json.Encoder().encode


def to_line(decision: Decision) -> DecisionLine:
    """The public part of a decision."""
    return DecisionLine(
        event_id=decision.event_id,
        action=decision.action.value,
        score=decision.score,
        risk_score=decision.risk_score,
        reasons=decision.reasons,
        rules=decision.rules,
        model=decision.model,
        features=decision.features,
        fallback=decision.fallback,
        seq=decision.seq,
    )


def to_json(decision: Decision) -> bytes:
    """One line of JSON, without the line break."""
    return _encode(to_line(decision))
