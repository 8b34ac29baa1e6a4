"""Refund abuse: a ring buys with its own cards, keeps the goods and claims the money back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed, Return
from vedette.demo.world.nouns import Answer, Outcome
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND


class RefundAbuse(Player):
    """A few accounts behind one address; nearly everything they buy is claimed not to have come."""

    kind: ClassVar[str] = "refund_abuse"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self.base = self.props.machine()
        shared = self.props.chance(0.6)
        members = int(rng.integers(3, 7))
        self.members = [
            (
                self.props.mint.id("cus"),
                self.props.card()._replace(token=self.props.mint.id("tok"), place=self.base.place),
                self.base if shared else self.base._replace(device=self.props.mint.id("dev")),
                float(rng.exponential(40)),
            )
            for _ in range(members)
        ]
        self.left = int(rng.integers(14, 34))
        self.gap = 0.9 / self.left
        self.buys = begin
        """Tide of the next purchase."""
        self.bought: deque[tuple[float, Draft, str]] = deque()
        """When to claim, what, and the payment's id."""
        self.own(f"ip:{self.base.address}", *(f"customer:{member[0]}" for member in self.members))
        self.own(*(f"card:{member[1].token}" for member in self.members))
        self.own(*(f"device:{member[2].device}" for member in self.members))

    def move(self, now: float) -> Iterable[Deed]:
        """Claims what is due, and buys when it is time to."""
        while self.bought and self.bought[0][0] <= now:
            _, draft, payment = self.bought.popleft()
            yield from self._claim(now, draft, payment)
        if self.left > 0 and self.buys <= now:
            self.left -= 1
            self.buys = now + float(self.rng.uniform(0.3, 1.7)) * self.gap
            yield self._buy(now)
        self.next = now + 300 * SECOND
        self.done = self.next >= 1

    def _buy(self, now: float) -> Draft:
        customer, card, machine, age = self.members[int(self.rng.integers(len(self.members)))]
        merchant = self.props.merchant(liked=True)
        amount = self.props.amount(merchant, 0.2)
        return self.props.charge(
            now, merchant=merchant, amount=amount, customer=customer, card=card, machine=machine, age=age
        )._replace(distance=float(self.rng.exponential(6)))

    def _claim(self, now: float, draft: Draft, payment: str) -> Iterable[Deed]:
        yield self.event(
            now,
            "refund.requested",
            merchant=self.stage.merchants.ids[draft.merchant],
            customer=draft.customer,
            source=draft.card,
            device=draft.device,
            ip=draft.address,
            amount_minor=draft.amount,
            currency=self.stage.merchants.currency(draft.merchant),
            reason="not_received",
        )
        yield Return(self.stage.tide.moment(now) + 1_000_000, payment, draft.amount)

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """What was paid is claimed back later, nearly always."""
        if outcome.status is Answer.CAPTURED and self.props.chance(0.9):
            due = self.stage.tide.tide(draft.time) + (1_800 + float(self.rng.exponential(3_600))) * SECOND
            self.bought.append((due, draft, payment))
