"""Bust-out: a merchant that was quiet for weeks charges stolen cards all day and asks for the money at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Cash, Deed
from vedette.demo.world.nouns import Answer, Outcome
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage


class BustOut(Player):
    """Sells nothing to people who do not know; lowers its amounts when declined, and takes the money early."""

    kind: ClassVar[str] = "bust_out"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        ranked = stage.merchants.ranked()
        self.merchant = int(rng.choice(ranked[len(ranked) * 55 // 100 : len(ranked) * 95 // 100]))
        self.left = int(rng.integers(45, 150))
        self.gap = 0.93 / self.left
        self.greed = float(rng.normal(0.7, 0.3))
        self.machines = [self.props.machine() for _ in range(int(rng.integers(3, 12)))]
        self.taken = 0
        """Minor units."""
        self.declined = 0
        self.own(f"merchant:{stage.merchants.ids[self.merchant]}")
        self.own(*(f"device:{machine.device}" for machine in self.machines))
        self.own(*(f"ip:{machine.address}" for machine in self.machines))

    def move(self, now: float) -> Iterable[Deed]:
        """Charges one card; the last move asks for the money."""
        if self.left <= 0:
            self.done = True
            if self.taken:
                yield from self._cash(now)
            return
        self.left -= 1
        card = self.props.card()
        machine = self.machines[int(self.rng.integers(len(self.machines)))]
        customer = self.props.mint.id("cus")
        self.own(f"card:{card.token}", f"customer:{customer}")
        self.next = now + float(self.rng.uniform(0.5, 1.5) * self.gap)
        yield self.props.charge(
            now,
            merchant=self.merchant,
            amount=self.props.amount(self.merchant, self.greed),
            customer=customer,
            card=card,
            machine=machine,
            age=float(self.rng.exponential(20)),
        )

    def _cash(self, now: float) -> Iterable[Deed]:
        amount = int(self.taken * 0.9)
        currency = self.stage.merchants.currency(self.merchant)
        merchant = self.stage.merchants.ids[self.merchant]
        yield self.event(now, "payout.requested", merchant=merchant, amount_minor=amount, currency=currency)
        yield Cash(self.stage.tide.moment(now) + 1_000_000, self.merchant, amount)

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """Counts what came in; when too much is declined it leaves with that."""
        if outcome.status is Answer.CAPTURED:
            self.taken += draft.amount
            self.declined = 0
            return
        self.declined += 1
        self.greed -= 0.08
        place = int(self.rng.integers(len(self.machines)))
        self.machines[place] = self.props.machine()
        self.own(f"device:{self.machines[place].device}", f"ip:{self.machines[place].address}")
        if self.declined >= 12:
            self.left = 0
