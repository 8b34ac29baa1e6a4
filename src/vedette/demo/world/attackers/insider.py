"""An insider: a member of the support staff who reads records of customers that nobody asked about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.deeds import Deed, Line
from vedette.demo.world.logs.product import viewed
from vedette.demo.world.places import HOUR, MINUTE
from vedette.demo.world.player import Player
from vedette.demo.world.stage import Stage


class Insider(Player):
    """Reads quickly and exports, or slowly and never much more than colleagues do."""

    kind: ClassVar[str] = "insider"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        staff = stage.staff.of("support")
        self.person = staff[int(rng.integers(len(staff)))]
        self.time = self.person.begins * HOUR + int(rng.integers(0, 5 * HOUR))
        self.next = stage.tide.tide(self.time)
        self.patient = self.props.chance(0.35)
        self.left = int(rng.integers(60, 110)) if self.patient else int(rng.integers(180, 420))
        self.pause = (4 if self.patient else 0.35) * MINUTE
        self.tickets = float(rng.uniform(0.1, 0.5)) if self.patient else 0.04
        self.own(f"user:{self.person.email}", f"device:{self.person.laptop}")

    def move(self, now: float) -> Iterable[Deed]:
        """Reads one record."""
        customers = self.stage.customers.ids
        customer = customers[int(self.rng.integers(len(customers)))]
        record = viewed(self.props.mint.id("evt"), self.person, customer, self.stage.staff.address(self.person))
        if self.props.chance(self.tickets):
            record["ticket"] = f"T-{self.rng.integers(100_000, 180_000)}"
        yield Line(self.time, "product", record)
        self.left -= 1
        self.time += int(self.rng.exponential(self.pause)) + MINUTE // 20
        self.next = self.stage.tide.tide(self.time)
        if self.left <= 0 or self.next >= 1:
            self.done = True
            if not self.patient and self.next < 1:
                yield self.event(
                    self.next,
                    "customers.exported",
                    user=self.person.email,
                    role=self.person.role,
                    device=self.person.laptop,
                    ip=self.stage.staff.address(self.person),
                    rows=int(self.rng.integers(200, 5_000)),
                )
