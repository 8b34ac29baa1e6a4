"""Decision: the recorded answer for one event."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import msgspec


class Action(StrEnum):
    """What to do with a payment, mildest first."""

    ALLOW = "allow"
    CHALLENGE = "challenge"
    """Ask the payer for one more proof (3-D Secure), then go on."""
    REVIEW = "review"
    """Charge it, and have a person look."""
    BLOCK = "block"


class Reason(msgspec.Struct, frozen=True):
    """Why a decision is what it is."""

    code: str
    """Stable: `model.<feature>`, `rule.<id>`, `fallback.<part>`."""
    text: str
    """For people; holds no other tenant's data and no card number."""
    weight: float
    """Contribution to the raw score (log odds) for model reasons; 0 for rules and fallbacks."""


class RuleResult(msgspec.Struct, frozen=True):
    """What one payment rule said."""

    id: str
    action: Action
    result: str
    """`fired`, `quiet` or `unknown` (a missing attribute decided it)."""


class ModelRef(msgspec.Struct, frozen=True):
    """Which model scored: its name and the SHA-256 of its flattened trees."""

    id: str
    sha256: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision per event and idempotency key; everything needed to rebuild it bit for bit is in the record."""

    event_id: str
    tenant: str
    action: Action
    score: float | None
    """Calibrated probability of fraud, 0..1, higher is riskier; None when no model answered (see `fallback`)."""
    risk_score: int | None
    """`min(99, floor(100 * score))`; None without a score."""
    reasons: tuple[Reason, ...] = ()
    """Largest absolute weight first."""
    rules: tuple[RuleResult, ...] = ()
    model: ModelRef | None = None
    features: dict[str, float | None] = {}
    """Feature name -> value read at this decision's place in the log; None where the feature is missing."""
    risks: dict[str, int] = {}
    """Attribute such as `key_risk` -> risk of the entity when this was decided, 0..99, of those that a rule reads."""
    fallback: str | None = None
    """Code of the part that missed its share of the deadline, when the answer came from the merchant's policy."""
    policy: str = ""
    """The policy that answered, `open`, `closed` or `review`; empty without a fallback."""
    reasoning: str = "always"
    """For which decisions the model's reasons were recorded: `always`, `flagged` (not for `allow`) or `never`."""
    challenge: bool = False
    """True when a challenge rule fired, whatever the action: a challenge never hides another class, nor is it lost."""
    seq: int = 0
    """Place of the event in the log; features saw only what came before it."""
    time: int = 0
    """Event time of the decided event, microseconds UTC."""
    rules_version: str = ""
    """SHA-256 of the rule set."""
    features_version: str = ""
    """SHA-256 of the feature definitions."""
    latency_us: int = 0
    """Time from the request in hand to the answer in hand, microseconds. Not part of the digest."""
    source: str = ""
    """Source of the event, which says where its attributes stand."""
    event: dict[str, Any] = {}
    """The event's data as it was decided on."""
    propensity: float = 1.0
    """Probability with which a payment such as this was let through: below 1 where the score asked to block it and a
    control group is kept, whether or not it is in that group. Its inverse is the weight of the payment in training."""


def to_risk_score(score: float) -> int:
    """0..99 from a probability, as payment rules see it."""
    return min(99, math.floor(100 * score))
