"""What became of payments: disputed, refunded, blocked or succeeded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from vedette.core.decision import Action, Decision
from vedette.core.event import Event
from vedette.core.label import Label

_STOPPED = {Action.BLOCK, Action.CHALLENGE}


class Group(StrEnum):
    """Each payment is in one; the first that fits."""

    DISPUTED = "disputed"
    """Somebody said it was fraud: a dispute, an early warning, a reviewer, a refund marked fraudulent."""
    REFUNDED = "refunded"
    """The merchant gave some or all of it back."""
    BLOCKED = "blocked"
    """It was blocked, or asked for a proof and came no further."""
    SUCCEEDED = "succeeded"


class Past(NamedTuple):
    """One payment of the past."""

    record: Decision
    group: Group
    fraud: bool | None
    """The truth; None while nobody said it."""


class Outcomes:
    """What is known of payments, gathered from labels and refunds; memory is one entry for each that is known."""

    def __init__(self) -> None:
        self._truth: dict[str, tuple[int, bool]] = {}
        self._refunded: set[str] = set()

    def learn(self, label: Label) -> None:
        """Takes the truth about a payment; of several the one that was learned last counts."""
        held = self._truth.get(label.event_id)
        if held is None or held[0] <= label.observed_time:
            self._truth[label.event_id] = label.observed_time, label.fraud
        if label.kind == "refund":
            self._refunded.add(label.event_id)

    def refunded(self, charge: str) -> None:
        """Takes a refund: of a charge by its id, or of a payment by the id of its event."""
        self._refunded.add(charge)

    def see(self, event: Event) -> None:
        """Takes an event of money that moved: a refund says so."""
        charge = event.data.get("charge")
        if event.data.get("type") == "refund" and isinstance(charge, str):
            self.refunded(charge)

    def of(self, record: Decision) -> Past:
        """The payment with what became of it."""
        known = self._truth.get(record.event_id)
        fraud = known[1] if known else None
        if fraud:
            return Past(record, Group.DISPUTED, fraud)
        if record.event_id in self._refunded or record.event.get("charge") in self._refunded:
            return Past(record, Group.REFUNDED, fraud)
        return Past(record, Group.BLOCKED if record.action in _STOPPED else Group.SUCCEEDED, fraud)


def past_of(records: Iterable[Decision], outcomes: Outcomes) -> Iterator[Past]:
    """Recorded decisions with what became of each."""
    return map(outcomes.of, records)
