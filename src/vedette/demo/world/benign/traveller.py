"""A customer on a journey: the own card and telephone, but a foreign address, and larger amounts than at home."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.deeds import Deed
from vedette.demo.world.places import PLACES
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND


class Traveller(Player):
    """Buys a few times abroad, from the hotel's and from mobile addresses."""

    kind: ClassVar[str] = "travelling_customer"
    honest: ClassVar[bool] = True

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self.who = self.props.customer()
        self.card, own = self.props.owner(self.who)
        abroad = [place for place in range(len(PLACES)) if place != own.place]
        place = int(rng.choice(abroad))
        self.machine = own._replace(address=self.props.mint.address(place), place=place)
        self.far = float(np.exp(rng.normal(7.6, 0.5)))
        self.left = int(rng.integers(3, 9))
        self.own(f"customer:{stage.customers.ids[self.who]}", f"card:{self.card.token}")

    def move(self, now: float) -> Iterable[Deed]:
        """Buys once."""
        self.left -= 1
        self.done = self.left <= 0
        self.next = now + (600 + float(self.rng.exponential(4_000))) * SECOND
        merchant = self.props.merchant(liked=self.props.chance(0.4))
        address = self.props.roaming(self.machine.place) if self.props.chance(0.4) else self.machine.address
        yield self.props.charge(
            now,
            merchant=merchant,
            amount=self.props.amount(merchant, 0.25),
            customer=self.stage.customers.ids[self.who],
            card=self.card,
            machine=self.machine._replace(address=address),
            age=float(self.stage.customers.age[self.who]),
            fails=0.03,
        )._replace(distance=self.far)
