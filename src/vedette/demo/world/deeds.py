"""What players do beside paying: lines they leave in logs, money they take back or out."""

from __future__ import annotations

from typing import Any, NamedTuple

from vedette.demo.world.charges import Draft


class Line(NamedTuple):
    """A record in some log."""

    time: int
    """Microseconds from midnight of the day."""
    source: str
    record: dict[str, Any]
    """Without its time, which is written when it is sent."""


class Return(NamedTuple):
    """A payment is asked back."""

    time: int
    payment: str
    amount: int


class Cash(NamedTuple):
    """A merchant asks for its money."""

    time: int
    merchant: int
    amount: int


Deed = Draft | Line | Return | Cash
