"""Gift-card day: before a holiday many people buy cards of the same worth, some of them many at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.deeds import Deed
from vedette.demo.world.merchants import GIFT_CARDS
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND


class GiftCards(Player):
    """Equal amounts all day long; one buyer in six buys for a whole team, one card after the other."""

    kind: ClassVar[str] = "gift_card_day"
    honest: ClassVar[bool] = True

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        sellers = np.flatnonzero(stage.merchants.category == GIFT_CARDS)
        self.merchant = int(rng.choice(sellers if len(sellers) else stage.merchants.ranked()[:5]))
        self.buyers = max(3, int(len(stage.customers) / 90_000 * rng.integers(180, 320)))
        self.gap = 0.95 / self.buyers
        self.price = int(rng.choice([2_500, 5_000, 10_000]))
        self.again = 0
        self.who = 0
        self.own(f"merchant:{stage.merchants.ids[self.merchant]}")

    def move(self, now: float) -> Iterable[Deed]:
        """A buyer, or the same one again."""
        if self.again == 0:
            self.who = self.props.customer()
            self.again = int(self.rng.integers(4, 11)) if self.props.chance(1 / 6) else 1
            self.buyers -= 1
        self.again -= 1
        self.done = self.again == 0 and self.buyers <= 0
        pause = float(self.rng.exponential(self.gap)) if self.again == 0 else float(self.rng.uniform(25, 90)) * SECOND
        self.next = now + pause
        card, machine = self.props.owner(self.who)
        yield self.props.charge(
            now,
            merchant=self.merchant,
            amount=self.price,
            customer=self.stage.customers.ids[self.who],
            card=card,
            machine=machine,
            age=float(self.stage.customers.age[self.who]),
        )._replace(distance=float(np.exp(1.6 + 0.9 * self.rng.standard_normal())))
