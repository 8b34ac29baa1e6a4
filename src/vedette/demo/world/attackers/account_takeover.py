"""Account takeover: somebody gets into a customer's account and spends with the card that is kept there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed, Line
from vedette.demo.world.nouns import Answer, Outcome
from vedette.demo.world.places import PLACES
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND


class AccountTakeover(Player):
    """Guesses the password, or has phished it; changes the address for mail; then buys until declined thrice."""

    kind: ClassVar[str] = "account_takeover"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        customers = stage.customers
        victim = self.props.customer()
        self.customer = customers.ids[victim]
        self.age = float(customers.age[victim])
        self.card, _ = self.props.owner(victim)
        self.shop = int(customers.favourites[victim, 0])
        self.machine = self.props.machine(self.card.place if self.props.chance(0.55) else None)
        phished = self.props.chance(0.35)
        self.guesses = int(rng.integers(0, 2)) if phished else int(rng.integers(4, 16))
        self.entered = False
        self.left = int(rng.integers(3, 9))
        self.declined = 0
        self.greed = float(rng.normal(0.5, 0.35))
        self.own(f"customer:{self.customer}", f"device:{self.machine.device}", f"ip:{self.machine.address}")
        self.own(f"card:{self.card.token}")

    def move(self, now: float) -> Iterable[Deed]:
        """Guesses, enters, or buys."""
        if self.guesses > 0:
            self.guesses -= 1
            self.next = now + (8 + float(self.rng.exponential(25))) * SECOND
            yield self._line(now, "login.failed")
        elif not self.entered:
            self.entered = True
            self.next = now + (60 + float(self.rng.exponential(400))) * SECOND
            yield self._line(now, "login.succeeded")
            if self.props.chance(0.8):
                yield self._line(now + 40 * SECOND, "email.changed")
            if self.props.chance(0.4):
                yield self._line(now + 55 * SECOND, "password.changed")
        else:
            yield self._buy(now)

    def _buy(self, now: float) -> Draft:
        merchant = self.props.merchant(liked=True) if self.props.chance(0.7) else self.shop
        self.left -= 1
        self.done = self.left <= 0
        self.next = now + (45 + float(self.rng.exponential(500))) * SECOND
        return self.props.charge(
            now,
            merchant=merchant,
            amount=self.props.amount(merchant, self.greed),
            customer=self.customer,
            card=self.card,
            machine=self.machine,
            age=self.age,
        )

    def _line(self, now: float, kind: str) -> Line:
        return self.event(
            now,
            kind,
            merchant=self.stage.merchants.ids[self.shop],
            customer=self.customer,
            device=self.machine.device,
            ip=self.machine.address,
            ip_country=PLACES[self.machine.place].code,
        )

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """Asks for less when declined."""
        if outcome.status is not Answer.CAPTURED:
            self.declined += 1
            self.greed -= 0.5
            self.done = self.done or self.declined >= 3
