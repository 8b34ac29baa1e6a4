"""A stolen card is spent: the fraud of every day, a few payments by somebody who has one card."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed
from vedette.demo.world.nouns import Answer, Outcome
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Machine, Stage
from vedette.demo.world.tide import SECOND


class StolenCard(Player):
    """Buys what can be sold again, from an address near the victim when it can."""

    kind: ClassVar[str] = "stolen_card"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self.left = int(rng.geometric(0.4))
        self.card = self.props.card()
        self.machine = self._machine()
        self.account = self.props.mint.id("cus")
        self.age = float(rng.exponential(25))
        self.merchant = self.props.merchant(liked=True)
        self.greed = float(rng.normal(0.25, 0.5))
        self.own(f"card:{self.card.token}", f"device:{self.machine.device}", f"ip:{self.machine.address}")
        self.own(f"customer:{self.account}")

    def _machine(self) -> Machine:
        return self.props.machine(self.card.place if self.props.chance(0.75) else None)

    def move(self, now: float) -> Iterable[Deed]:
        """Buys once."""
        if self.props.chance(0.4):
            self.merchant = self.props.merchant(liked=True)
        yield self.props.charge(
            now,
            merchant=self.merchant,
            amount=self.props.amount(self.merchant, self.greed),
            customer=self.account,
            card=self.card,
            machine=self.machine,
            age=self.age,
            fails=0.06,
        )
        self.left -= 1
        self.done = self.left <= 0
        self.next = now + (60 + float(self.rng.exponential(1_200))) * SECOND

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """Tries something smaller once, then leaves."""
        if outcome.status is not Answer.CAPTURED:
            self.greed -= 0.6
            self.left = min(self.left, 1)
