"""Hop: one thing that happened on the way of a request through the product."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class HopKind(StrEnum):
    """Where on the way it happened."""

    REQUEST = "request"
    DECISION = "decision"
    TRANSFER = "transfer"
    REFUND = "refund"
    DISPUTE = "dispute"
    WEBHOOK = "webhook"
    LABEL = "label"
    SIGNAL = "signal"
    ALERT = "alert"
    CASE = "case"
    RUN = "run"
    AUDIT = "audit"


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a trace."""

    time: int
    """When, microseconds UTC."""
    kind: HopKind
    id: str
    """Of the thing: a charge, a transfer, an alert."""
    text: str
    """For people, one line."""
    resource: str
    """What a caller must be allowed to read to see it."""
