"""The control group: a small share of what the score would block is let through, to know what blocking is worth.

A model that blocks what it suspects never learns whether it was right: the payment has no outcome. Of the payments that
are let through the outcome comes, and each stands for 1 / share of them in training and in figures.
"""

from __future__ import annotations

import hashlib

from vedette.core.decision import Reason
from vedette.core.event import Event

SCORES = frozenset({"risk_score", "risk_level"})
"""Attributes that a rule reads the score by."""
RELEASED = Reason(
    "control.released", "let through as one of the control group, though the score asked to block it", 0.0
)
_WHOLE = 1 << 53


def in_control(event: Event, share: float) -> bool:
    """Whether an event is in the control group. The same answer for the same event at its place in the log.

    The place is part of it, because who sends a payment may choose its id and must not choose this.

    Args:
        event: With its place in the log.
        share: Of the events, 0..1.
    """
    digest = hashlib.sha256(f"control\x00{event.tenant}\x00{event.seq}\x00{event.id}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) < share * _WHOLE
