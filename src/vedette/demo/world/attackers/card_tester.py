"""Card testing: many small payments to learn which stolen cards still work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed
from vedette.demo.world.nouns import Answer, Outcome
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND

FAILS = 0.3
"""Share of tested cards whose security code is wrong."""
CHEAP = -0.9
"""Small amounts hurt nobody, so nobody looks."""


class CardTester(Player):
    """Tests cards of one issuer prefix at one merchant; when declined it slows down and changes what it shows.

    A careful one takes a new machine for nearly every card and waits for minutes; a greedy one does neither.
    """

    kind: ClassVar[str] = "card_testing"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self.care = float(rng.beta(1.2, 2.0))
        """0 greedy, 1 careful."""
        self.left = int(rng.integers(25, 110) * (1 - 0.5 * self.care))
        self.gap = float(np.exp(rng.normal(3.4 + 2.2 * self.care, 0.4))) * SECOND
        self.patience = int(rng.integers(6, 16))
        self.declined = 0
        """In a row."""
        self.prefix = int(rng.choice(stage.customers.card_bin))
        self._new_machine()
        self._new_merchant()
        self._new_account()

    def _new_machine(self) -> None:
        self.machine = self.props.machine()
        self.own(f"device:{self.machine.device}", f"ip:{self.machine.address}")

    def _new_merchant(self) -> None:
        self.merchant = self.props.merchant(liked=self.props.chance(0.6))
        self.own(f"merchant:{self.stage.merchants.ids[self.merchant]}")

    def _new_account(self) -> None:
        self.account = self.props.mint.id("cus")
        self.age = float(self.rng.exponential(0.05 + 8 * self.care))
        self.own(f"customer:{self.account}")

    def move(self, now: float) -> Iterable[Deed]:
        """Tests one card."""
        if self.props.chance(0.05 + 0.6 * self.care):
            self._new_machine()
        if self.props.chance(0.25 + 0.5 * self.care):
            self._new_account()
        card = self.props.card(self.prefix if self.props.chance(0.8 - 0.5 * self.care) else None)
        self.own(f"card:{card.token}")
        habit = CHEAP + 0.7 * self.care
        yield self.props.charge(
            now,
            merchant=self.merchant,
            amount=self.props.amount(self.merchant, habit),
            customer=self.account,
            card=card,
            machine=self.machine,
            age=self.age,
            fails=FAILS * (1 - 0.6 * self.care),
        )
        self.left -= 1
        self.done = self.left <= 0
        self.next = now + float(self.rng.exponential(self.gap)) + SECOND

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """Slows down and changes machine, then issuer and merchant; gives up in the end."""
        if outcome.status is Answer.UNAUTHORIZED:
            self.done = True
        elif outcome.status is Answer.CAPTURED:
            self.declined = 0
        else:
            self.declined += 1
            self.gap = min(self.gap * 1.15, 0.02)
            if self.declined % 2 == 0:
                self._new_machine()
                self._new_account()
            if self.declined % 4 == 0:
                self.prefix = int(self.rng.choice(self.stage.customers.card_bin))
                self._new_merchant()
            self.done = self.done or self.declined >= self.patience
