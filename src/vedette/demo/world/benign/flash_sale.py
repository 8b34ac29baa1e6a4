"""A flash sale: hundreds of people who never bought here before pay nearly the same at one shop within the hour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Card, Machine, Stage


class FlashSale(Player):
    """New accounts, new cards and new devices, but each its own, and from where people are."""

    kind: ClassVar[str] = "flash_sale"
    honest: ClassVar[bool] = True

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        ranked = stage.merchants.ranked()
        self.merchant = int(rng.choice(ranked[len(ranked) // 20 : len(ranked) // 3]))
        self.left = int(len(stage.customers) / 90_000 * rng.integers(450, 800))
        self.gap = float(rng.uniform(0.03, 0.06)) / max(1, self.left)
        self.price = self.props.amount(self.merchant)
        self.own(f"merchant:{stage.merchants.ids[self.merchant]}")

    def move(self, now: float) -> Iterable[Deed]:
        """Somebody buys."""
        self.next = now + float(self.rng.exponential(self.gap))
        self.left -= 1
        self.done = self.left <= 0
        yield self._known(now) if self.props.chance(0.4) else self._new(now)

    def _known(self, now: float) -> Draft:
        who = self.props.customer()
        card, machine = self.props.owner(who)
        return self._pay(now, self.stage.customers.ids[who], card, machine, float(self.stage.customers.age[who]))

    def _new(self, now: float) -> Draft:
        machine = self.props.machine()
        if self.props.chance(0.4):
            machine = machine._replace(address=self.props.roaming(machine.place))
        prefix = int(self.rng.choice(self.stage.customers.card_bin))
        card = Card(self.props.mint.id("tok"), prefix, machine.place)
        return self._pay(now, self.props.mint.id("cus"), card, machine, float(self.rng.exponential(0.3)))

    def _pay(self, now: float, customer: str, card: Card, machine: Machine, age: float) -> Draft:
        amount = int(self.price * (1 + int(self.rng.integers(0, 3)) * 0.5))
        draft = self.props.charge(
            now,
            merchant=self.merchant,
            amount=amount,
            customer=customer,
            card=card,
            machine=machine,
            age=age,
            fails=0.015,
        )
        return draft._replace(distance=float(np.exp(2.4 + 1.1 * self.rng.standard_normal())))
