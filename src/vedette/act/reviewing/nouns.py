"""What the review queue speaks of."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from vedette.act.reviewing.agreement import Agreement, Pair
from vedette.core.decision import Reason
from vedette.core.event import Entity
from vedette.core.label import Label


class ItemState(StrEnum):
    """Where an item stands."""

    OPEN = "open"
    DONE = "done"
    WITHDRAWN = "withdrawn"
    """The event was decided on again, with another answer, before anybody looked."""
    LABELLED = "labelled"
    """A label came another way, such as from a dispute, before people had said what it was."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What of the decision an item keeps; the record itself stays in the log."""

    event_id: str
    source: str
    """Of the event: `product`, or the name of a decision point."""
    event_time: int
    amount_minor: int | None = None
    currency: str = ""
    score: float | None = None
    merchant: str = ""
    entities: tuple[Entity, ...] = ()
    reasons: tuple[Reason, ...] = ()


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One decision to look at."""

    id: str
    tenant: str
    state: ItemState
    about: About
    created_time: int
    """When the decision was written to our log, microseconds UTC."""
    exposure_minor: int
    """What is at stake, minor units of the law's currency."""
    cost_minor: int
    """Expected cost: what the queue is ordered by."""
    eyes: int
    """How many people must agree."""
    given: int = 0
    """Verdicts so far."""
    disputed: bool = False
    """Two people said different things: a third decides."""
    holder: str = ""
    """Who has claimed it; empty: nobody, or their lease is over."""
    lease_until: int = 0
    fence: int = 0
    """Number of its last claim: only who names it may judge."""
    fraud: bool | None = None
    """What it was found to be; None while it is open."""
    done_time: int = 0
    taken_back: int = 0
    """How often what was said of it was taken back."""

    def age(self, now: int) -> int:
        """Microseconds that it has waited, or did wait."""
        return max(0, (self.done_time or now) - self.created_time)


class Opinion(msgspec.Struct, frozen=True):
    """What one person said."""

    reviewer: str
    fraud: bool
    note: str
    time: int
    fence: int


class TakenBack(msgspec.Struct, frozen=True):
    """What was said of an item and stands no more."""

    person: str
    """Who took it back."""
    time: int
    why: str
    fraud: bool | None
    """What it had been found to be; None when it had not come to that."""
    done_time: int
    """When it was: the time of the label that went out."""
    said: tuple[Opinion, ...]


class News(msgspec.Struct, frozen=True):
    """What came of the event another way."""

    kind: str
    """`dispute`, `refund` or `verdict`, as labels name it; `refund made`, `dispute opened` and so on for money."""
    time: int
    """When it was learned, microseconds UTC."""
    fraud: bool | None
    """None: it does not say."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The queue in numbers."""

    open: int = 0
    held: int = 0
    """Open ones under a lease that lasts."""
    disputed: int = 0
    overdue: int = 0
    """Open ones that have waited longer than the law allows."""
    oldest_s: int = 0
    cost_minor: int = 0
    """Expected cost of all open ones."""
    currency: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """How far reviewers agree."""

    sample: Agreement
    """Over the items that were drawn for it: what stands for all."""
    every: Agreement
    """Over all items that two people looked at, large ones included."""
    pairs: list[Pair]


class Owed(msgspec.Struct, frozen=True):
    """A verdict whose label is not known to be in the log yet."""

    tenant: str
    item_id: str
    event_id: str
    fraud: bool
    time: int
    """When it was given, microseconds UTC."""
    fence: int = 0
    """Of the claim under which it was settled."""

    @property
    def label(self) -> Label:
        """The label of the decided event."""
        return Label(
            event_id=self.event_id, tenant=self.tenant, fraud=self.fraud, observed_time=self.time, kind="verdict"
        )
